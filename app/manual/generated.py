"""Generated pages: all error codes, from the tree of errors, and all settings."""

import re
from collections.abc import Iterator
from typing import Any

from pydantic_core import PydanticUndefined

from app.config import Settings
from app.errors import PixToolsError, StepFailed
from app.manual.cures import CURES, MORE

ERRORS_HEAD = """# Error codes

Every error is `application/problem+json`. Decide by its `code`, whose meaning never changes; `type` links to the code's
place on this page. `errors[].pointer` leads to the mistake, and `limit` and `value` say what was exceeded. Errors of
steps are in the job: `steps[].error` and `error`.
"""
CONFIGURATION_HEAD = """# Configuration

Every setting is an environment variable with the prefix `PIXTOOLS_`, or a line of the file `.env` in the working folder
of the process. Times are in seconds, sizes in bytes. Lists are separated by commas.
"""
SHOWN_DEFAULT = 60  # characters


def errors_page() -> str:
    """The Markdown page with cause and cure of every error code."""
    entries = {code: _entry(code, kind) for code, kind in sorted(_kinds())}
    more = {
        code: _section(code, "422" if code != "method_not_allowed" else "405", *advice) for code, advice in MORE.items()
    }
    return "\n".join([ERRORS_HEAD, *(text for _, text in sorted((entries | more).items()))])


def _kinds(kind: type[PixToolsError] = PixToolsError) -> Iterator[tuple[str, type[PixToolsError]]]:
    """All error codes, each with the error that is highest in the tree."""
    found: dict[str, type[PixToolsError]] = {}
    waiting = [kind]
    while waiting:
        one = waiting.pop(0)
        found.setdefault(one.code, one)
        waiting += one.__subclasses__()
    yield from found.items()


def _entry(code: str, kind: type[PixToolsError]) -> str:
    where = "in a job" if issubclass(kind, StepFailed) else str(kind.status)
    return _section(code, where + (", may pass by itself" if kind.retryable else ""), _cause(kind), cure_of(kind))


def _cause(kind: type[PixToolsError]) -> str:
    return re.sub(r"\s+", " ", kind.__doc__ or "").strip()


def cure_of(kind: type[PixToolsError]) -> str:
    """What to do about an error: its own entry, or that of its nearest ancestor."""
    codes = [each.code for each in kind.__mro__ if issubclass(each, PixToolsError)]
    return next(CURES[code] for code in codes if code in CURES)


def _section(code: str, where: str, cause: str, cure: str) -> str:
    return f"## {code}\n\n*{where}.* {cause}\n\n**What to do:** {cure}\n"


def configuration_page() -> str:
    """The Markdown page with a table of all settings."""
    rows = [_row(name, field) for name, field in Settings.model_fields.items()]
    return "\n".join([CONFIGURATION_HEAD, "| Setting | Default | |", "|---|---|---|", *rows, ""])


def _row(name: str, field: Any) -> str:
    about = (field.description or "").replace("|", "\\|")
    return f"| `PIXTOOLS_{name.upper()}` | {_default(name, field)} | {about} |"


def _default(name: str, field: Any) -> str:
    """The default as it would be set; empty if it depends on the machine or is a path of the package."""
    value = field.default
    if value is PydanticUndefined or name.endswith("_weights"):
        return ""
    if value is None or value == "":
        return "none"
    if isinstance(value, tuple | frozenset):
        value = ",".join(map(str, sorted(value) if isinstance(value, frozenset) else value))
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{text}`" if len(text) <= SHOWN_DEFAULT else ""
