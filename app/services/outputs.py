"""Outputs: stores to which copies of a job's results are written, under keys made from a template."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from app.errors import OutputFailed
from app.models import Job

PLACE = re.compile(r"\{([^{}]*)\}")
NAMES = ("input.dir", "input.stem", "name", "ext", "date", "job")
DIGEST = re.compile(r"sha256:([1-9]|[1-5][0-9]|6[0-4])")
MAX_KEY = 1024  # bytes; the limit of S3


@dataclass(frozen=True, kw_only=True)
class Output:
    """The place for copies of a job's results."""

    store: str
    #: a template
    key: str
    #: replace, skip or fail
    if_exists: str = "replace"
    cache_control: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def unknown_places(template: str) -> list[str]:
    """The unknown placeholders in a template of keys, and braces that are not part of a placeholder."""
    found = [name for name in PLACE.findall(template) if name not in NAMES and not DIGEST.fullmatch(name)]
    return found + (["{", "}"] if set("{}") & set(PLACE.sub("", template)) else [])


def key_of(output: Output, job: Job, *, name: str, ext: str, sha256: str) -> str:
    """The key of a result, the same for all attempts.

    Raises:
        OutputFailed: the key would be too long or empty.
    """
    of_job = {**_of_input(job), "date": job.created_at.date().isoformat(), "job": str(job.id)}
    key = _filled(output.key, {**of_job, **_of_result(name, ext)}, sha256)
    if not key or len(key.encode()) > MAX_KEY:
        raise OutputFailed(f"The key of the result {name!r} would be empty, or longer than {MAX_KEY} bytes.")
    return key


def clash(output: Output, results: Sequence[tuple[str, str]]) -> tuple[str, str, str] | None:
    """The first two results of a job that would get the same key, and that key.

    Placeholders that have the same value for all results of a job are not replaced in the key.

    Args:
        output: place of the copies.
        results: name and extension of each result.
    """
    if any(DIGEST.fullmatch(place) for place in PLACE.findall(output.key)):
        return None  # one key is one content
    same = {place: f"{{{place}}}" for place in NAMES}
    names: dict[str, str] = {}
    for name, ext in results:
        key = _filled(output.key, {**same, **_of_result(name, ext)}, "")
        if key in names:
            return names[key], name, key
        names[key] = name
    return None


def _of_result(name: str, ext: str) -> dict[str, str]:
    return {"name": name.removesuffix(f".{ext}"), "ext": ext}


def _filled(template: str, values: Mapping[str, str], sha256: str) -> str:
    filled = PLACE.sub(lambda place: _value(place[1], values, sha256), template)
    return "/".join(part for part in filled.split("/") if part not in {"", ".", ".."})


def _value(place: str, values: Mapping[str, str], sha256: str) -> str:
    return sha256[: int(place.partition(":")[2])] if place.startswith("sha256:") else values[place]


def _of_input(job: Job) -> dict[str, str]:
    shown = (job.input_source or {}).get("shown", {})
    path = shown.get("key") or unquote(urlsplit(shown.get("url", "")).path)
    folder = str(PurePosixPath(path).parent).strip("/")
    return {"input.dir": "" if folder == "." else folder, "input.stem": PurePosixPath(job.input_filename).stem}
