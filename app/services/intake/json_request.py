"""The JSON body of `POST /process`: read strictly, and checked member by member.

The allowed members are in a table: a new member needs a field in `JsonRequest` and a line in `MEMBERS`.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from app.errors import InvalidJson, InvalidParameter
from app.models import DEFAULT_PRIORITY, PRIORITIES
from app.services.intake import strict_json
from app.services.intake.findings import Findings
from app.services.intake.keeping import Keeping, checked_external_id, checked_keep_seconds, checked_tags
from app.services.intake.outputs import read_output
from app.services.intake.sources import DATA_BYTES, DataSource, read_source
from app.services.intake.strict_json import NotStrict
from app.services.intake.trees import checked_params
from app.services.intake.validation import escaped, short
from app.services.outputs import Output
from app.services.sources import Source

SOURCE_BYTES = 3 * DATA_BYTES  # longest `data:` URL in a body: each byte of its content may be written as %XX
MAX_REPORTED = 20  # mistakes in one answer


@dataclass(frozen=True, kw_only=True)
class JsonRequest:
    """A body whose members have the right form; their contents have not been checked yet."""

    input: DataSource | Source
    #: the operation tree as JSON text; None: a template supplies it
    operations: str | None = None
    template: str | None = None
    #: values for the template
    params: Mapping[str, Any] | None = None
    tags: dict[str, str] | None = None
    external_id: str | None = None
    keep_seconds: int | None = None
    webhook_url: str | None = None
    priority: int = DEFAULT_PRIORITY
    output: Output | None = None
    #: the whole body as it was sent
    sent: Mapping[str, Any]

    @property
    def keeping(self) -> Keeping:
        return Keeping(tags=self.tags, external_id=self.external_id, keep_seconds=self.keep_seconds)


def _read_operations(value: Any, _pointer: str) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _read_text(value: Any, pointer: str) -> str:
    if isinstance(value, str):
        return value
    raise refused(f"{_name(pointer)} must be a string.", pointer, value)


def _read_priority(value: Any, pointer: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value in PRIORITIES:
        return value
    detail = f"The priority is a whole number, {PRIORITIES[0]} to {PRIORITIES[-1]}."
    raise refused(detail, pointer, value)


Reader = Callable[[Any, str], Any]
#: parses a member: called with the value that was sent and a pointer to it; null counts as a missing member
MEMBERS: dict[str, Reader] = {
    "input": read_source,
    "operations": _read_operations,
    "webhook_url": _read_text,
    "priority": _read_priority,
    "template": _read_text,
    "params": checked_params,
    "tags": checked_tags,
    "external_id": checked_external_id,
    "keep_seconds": checked_keep_seconds,
    "output": read_output,
}
REQUIRED = ("input",)


def read_request(body: bytes, findings: Findings | None = None, members: Mapping[str, Reader] = MEMBERS) -> JsonRequest:
    """Read and check the body of a request.

    Args:
        body: the bytes that were sent.
        findings: collects mistakes in members, which then count as missing; None: the first mistake is raised.
        members: parses each member.

    Raises:
        InvalidJson: the body is not JSON, or has a duplicate key or a number that cannot be stored.
        InvalidParameter: the body is not an object, lacks a member or has an unknown one.
        PixToolsError: a member does not have the right form; `pointer` leads to it.
    """
    findings = findings or Findings()
    sent = _read_object(body)
    given = {name: value for name, value in sent.items() if value is not None}
    with findings.noting():
        _check_names(sent, given)
    read: dict[str, Any] = {"input": None}
    for name, value in given.items():
        with findings.noting():
            if name in members:
                read[name] = members[name](value, f"#/{name}")
    return JsonRequest(**read, sent=sent)


def _read_object(body: bytes) -> dict[str, Any]:
    try:
        sent = strict_json.read(body)
    except NotStrict as error:
        raise InvalidJson(f"The body is not valid JSON{error.args[0]}.") from None
    if not isinstance(sent, dict):
        raise refused("The body must be a JSON object with `input` and `operations` or `template`.", "#", sent)
    return sent


def _check_names(sent: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    known = ", ".join(MEMBERS)
    unknown = [name for name in sent if name not in MEMBERS][:MAX_REPORTED]
    mistakes = [_mistake(f"There is no member {name[:64]!r}; there are {known}.", name) for name in unknown]
    mistakes += [_mistake(f"{name} is missing.", name) for name in REQUIRED if name not in given]
    if mistakes:
        raise InvalidParameter(mistakes[0]["detail"], extra={"errors": mistakes})


def _mistake(detail: str, name: str) -> dict[str, str]:
    return {"detail": detail, "pointer": f"#/{escaped(name)}"}


def refused(detail: str, pointer: str, value: Any) -> InvalidParameter:
    """The error for a member that does not have the right form."""
    return InvalidParameter(detail, pointer=pointer, value=short(value))


def _name(pointer: str) -> str:
    return pointer.rpartition("/")[2]
