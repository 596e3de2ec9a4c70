"""Errors for people: what is wrong, where, and what to do."""

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from app.commands.printing import escaped, similar

if TYPE_CHECKING:
    from pixtools_client import ClientError

#: what to do, by the code of an error
CURES = {
    "source_not_found": "check the address: the server found no file there",
    "source_denied": "use an address that needs no credentials, or send a header through the API",
    "source_url_refused": "download the file and send it, or allow the server to fetch from there",
    "source_unavailable": "try later: the host did not answer, or closed the connection too early",
    "unknown_template": "`pixtools templates list` shows all templates",
    "truncated_image": "the file ends too early: fetch or save it again",
    "corrupt_image": "the file is damaged: fetch or save it again",
    "unsupported_image": "save the image as JPEG, PNG, WebP, GIF, TIFF, AVIF or HEIC",
    "empty_file": "the file has no bytes: fetch or save it again",
    "known_poison": "the file has crashed every worker: see `pixtools dlq list`",
    "upload_too_large": "send a smaller file, or raise PIXTOOLS_MAX_UPLOAD_BYTES on the server",
    "limit_exceeded": "send a smaller image, or raise the limit on the server",
    "file_exists": "choose another folder or name, or add --if-exists replace, skip or rename",
    "missing_key": "set PIXTOOLS_KEY, or write the key to ~/.config/pixtools/key",
    "missing_scope": "use a key that has this scope",
    "target_unreachable": "allow more bytes, or a lower quality",
    "invalid_filename": "rename the file",
    "too_many_open_jobs": "wait until some have ended, then give the same command again",
    "daily_limit_reached": "give the same command again tomorrow: it continues where it stopped",
}
#: in place of the server's own sentences, which are for requests over HTTP
DETAILS = {
    "missing_key": "The server accepts only requests with a key.",
    "unknown_template": "There is no template {value!r}.",
}
#: pointer to a value that the sentence quotes
OF_THE_TEMPLATE = "#/template"
#: codes for keys that the server does not accept
OF_KEYS = {"key_refused", "malformed_key", "mistyped_key", "unknown_key", "expired_key", "revoked_key"}
CHOICE = re.compile(r"'(.*)' is not one of (.*?)\.?")


def cure_of(code: str) -> str:
    """What to do about an error; empty: the error's own text says that."""
    if code not in OF_KEYS:
        return CURES.get(code, "")
    from pixtools_client.environment import origin_of_key

    return f"the key comes from {origin_of_key()}; to use another one, set PIXTOOLS_KEY or PIXTOOLS_KEY_FILE"


def lines_of(error: "ClientError") -> list[str]:
    """An error of the client or the server, on lines that can be printed."""
    if error.problem:
        first = _detail({"detail": error.detail, **error.problem})
        lines = [f"{error.code}: {first}"]
        for each in error.errors:
            own = _detail({"code": error.code, "value": error.problem.get("value"), **each})
            more = f": {own}" if own and own != first else ""
            if "pointer" in each and (more or each["pointer"] != OF_THE_TEMPLATE):
                lines.append(f"  {each['pointer']}{more}")
    else:
        lines = [str(error)]
    cure = cure_of(error.code)
    return [escaped(line) for line in (*lines, *([f"  → {cure}"] if cure else []))]


def _detail(problem: dict[str, Any]) -> str:
    """The sentence of a problem or of one of its mistakes, in the words of the command line."""
    own = DETAILS.get(problem.get("code", ""))
    return own.format(value=problem.get("value")) if own else str(problem.get("detail", ""))


def show_usage(error: Any) -> None:
    """Print a mistake in the arguments, in the same words for commands, options and values."""
    if type(error).__name__ != "NoArgsIsHelpError":  # its text is the help
        error.message = escaped(error.message)
    if getattr(error, "possibilities", None):
        name, error.possibilities, names = error.option_name, None, error.possibilities
        error.message = f"No such option {escaped(name)!r}.{similar(name, names)}"
    error.message = error.message.removeprefix("Value error, ")
    choice = CHOICE.fullmatch(error.message)
    if choice:
        error.message = error.message.rstrip(".") + "." + similar(choice[1], re.findall(r"'([^']*)'", choice[2]))
    error.show(file=sys.stderr)


@contextmanager
def suggesting(name: str, names: Callable[[], Iterable[str]]) -> Iterator[None]:
    """Add a similar name to the error for a name that does not exist.

    Args:
        name: the name that was given.
        names: function that returns all names.
    """
    from pixtools_client import NotFound

    try:
        yield
    except NotFound as error:
        error.problem = {**error.problem, "detail": error.detail + similar(name, names())}
        raise
