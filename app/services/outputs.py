"""Where the results of a job are written to as well: a store of the tenant, under keys made by a template."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from app.errors import OutputFailed
from app.models import Job

PLACE = re.compile(r"\{([^{}]*)\}")
NAMES = ("input.dir", "input.stem", "name", "ext", "date", "job")
DIGEST = re.compile(r"sha256:([1-9]|[1-5][0-9]|6[0-4])")
MAX_KEY = 1024  # bytes; what S3 takes
#: places that differ between the results of a job
APART = re.compile(r"\{(name|sha256:\d+)\}")


@dataclass(frozen=True, kw_only=True)
class Output:
    """What a request says of its results."""

    store: str
    #: a template
    key: str
    #: replace, skip or fail
    if_exists: str = "replace"
    cache_control: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def keeps_apart(self) -> bool:
        """Whether several results of a job get several keys."""
        return APART.search(self.key) is not None

    @property
    def keeps_formats_apart(self) -> bool:
        """Whether files of one name get several keys by their formats."""
        found = [place[0] for place in APART.finditer(self.key)]
        return any(place != "{name}" for place in found) or (bool(found) and "{ext}" in self.key)


def unknown_places(template: str) -> list[str]:
    """Unknown places of a template, and braces that belong to no place."""
    found = [name for name in PLACE.findall(template) if name not in NAMES and not DIGEST.fullmatch(name)]
    return found + (["{", "}"] if set("{}") & set(PLACE.sub("", template)) else [])


def key_of(output: Output, job: Job, *, name: str, ext: str, sha256: str) -> str:
    """The key of one result: the same for every attempt.

    Raises:
        OutputFailed: it would be longer than keys may be, or empty.
    """
    values = {
        **_of_input(job),
        "name": name.removesuffix(f".{ext}"),
        "ext": ext,
        "date": job.created_at.date().isoformat(),
        "job": str(job.id),
    }
    filled = PLACE.sub(lambda place: _value(place[1], values, sha256), output.key)
    key = "/".join(part for part in filled.split("/") if part not in {"", ".", ".."})
    if not key or len(key.encode()) > MAX_KEY:
        raise OutputFailed(f"The key of the result {name!r} would have no byte, or more than {MAX_KEY}.")
    return key


def _value(place: str, values: Mapping[str, str], sha256: str) -> str:
    return sha256[: int(place.partition(":")[2])] if place.startswith("sha256:") else values[place]


def _of_input(job: Job) -> dict[str, str]:
    shown = (job.input_source or {}).get("shown", {})
    path = shown.get("key") or unquote(urlsplit(shown.get("url", "")).path)
    folder = str(PurePosixPath(path).parent).strip("/")
    return {"input.dir": "" if folder == "." else folder, "input.stem": PurePosixPath(job.input_filename).stem}
