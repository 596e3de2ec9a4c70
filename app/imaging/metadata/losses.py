"""What of the source does not reach a result, and why: one shape for the reports of all steps."""

from dataclasses import dataclass
from typing import Any

import pyvips

from app.imaging.colours import icc
from app.imaging.colours.colour import PROFILE
from app.imaging.metadata.origin import Origin
from app.parameters import KeepMetadata

#: why something is lost
FORMAT = "format"  # the result's format cannot hold it
OPERATION = "operation"  # one of the operations looks at the first frame only
KEEP_METADATA = "keep_metadata"  # the parameter did not ask for it
STALE = "stale"  # it fits to the pixels of the source and to no others
UNREAD = "unread"  # it is not read from files of the source's format
BROKEN = "broken"  # it makes no sense
TOO_LARGE = "too_large"

HOLDERS = {  # formats that can hold a block
    "exif-data": {"jpeg", "png", "webp", "avif"},
    "xmp-data": {"jpeg", "png", "webp", "avif", "tiff"},
    "iptc-data": {"jpeg", "tiff"},
}
MAX_SEGMENT = 65_533  # bytes of EXIF or IPTC in a JPEG
MOVING = {"gif", "webp", "avif", "png"}  # formats whose frames are an animation; those of others are pages

Losses = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Result:
    """What is about to be written."""

    format: str
    keep: KeepMetadata
    frames: int
    #: whether the format could hold more of them
    animated: bool
    bits: int


def losses(origin: Origin, image: pyvips.Image, result: Result) -> Losses:
    """What is lost, by its name, each with a `reason`.

    Args:
        origin: of the image.
        image: in its own colours, before they are converted.
        result: what it becomes.
    """
    found = dict(origin.losses)
    found |= _frames(origin, result)
    if origin.gain_map:
        found["gain_map"] = {"reason": STALE}
    if origin.thumbnail:
        found["thumbnail"] = {"reason": STALE}
    for name in HOLDERS:
        if reason := _reason(origin, name, result):
            found[name.removesuffix("-data")] = reason
    if result.bits < origin.bits:
        found["depth"] = {"reason": FORMAT, "bits": origin.bits, "written": result.bits}
    return found | _colours(origin, image, result)


def _frames(origin: Origin, result: Result) -> Losses:
    if result.frames >= origin.frames:
        return {}
    if origin.format not in MOVING:
        return {"pages": {"reason": UNREAD, "pages": origin.frames, "written": 1}}
    reason = UNREAD if origin.format in {"png", "avif"} else OPERATION if result.animated else FORMAT
    return {"animation": {"reason": reason, "frames": origin.frames, "written": result.frames}}


def _reason(origin: Origin, name: str, result: Result) -> dict[str, Any] | None:
    size = origin.oversized.get(name) or len(origin.block(name))
    if not size:
        return None
    if result.keep != "all":
        return {"reason": KEEP_METADATA}
    if result.format not in HOLDERS[name]:
        return {"reason": FORMAT}
    kept = len(origin.clean_blocks.get(name, b""))
    too_large = result.format == "jpeg" and name != "xmp-data" and kept > MAX_SEGMENT
    if name in origin.oversized or too_large:
        return {"reason": TOO_LARGE, "bytes": size}
    return None if kept else {"reason": BROKEN}


def _colours(origin: Origin, image: pyvips.Image, result: Result) -> Losses:
    if not origin.has_profile or "profile" in origin.losses:
        return {}
    profile = image.get(PROFILE) if image.get_typeof(PROFILE) else b""
    if profile and result.keep in {"icc", "all"} and result.format != "gif":
        return {}
    reason = {"reason": KEEP_METADATA if profile and result.format != "gif" else FORMAT, "name": origin.profile}
    return {"profile": reason, **({"wide_gamut": reason} if profile and icc.is_wide(profile) else {})}
