"""The losses of a result compared with its source, and their reasons, in one form for all steps."""

from dataclasses import dataclass
from typing import Any

import pyvips

from app.formats import FORMATS, Block
from app.imaging.colours import icc
from app.imaging.colours.colour import PROFILE
from app.imaging.metadata.origin import Origin
from app.parameters import KeepMetadata

#: reasons
FORMAT = "format"  # the result's format cannot hold it
OPERATION = "operation"  # one of the operations works on the first frame only
KEEP_METADATA = "keep_metadata"  # the parameter `keep_metadata` excludes it
STALE = "stale"  # it fits only the pixels of the source
UNREAD = "unread"  # PixTools does not read it from files of the source's format
BROKEN = "broken"  # it cannot be parsed
TOO_LARGE = "too_large"

BLOCKS: tuple[Block, ...] = ("exif", "xmp", "iptc")

Losses = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Result:
    """The properties of a result, before it is written."""

    format: str
    keep: KeepMetadata
    frames: int
    #: True: the result can contain more than one frame
    animated: bool
    bits: int


def losses(origin: Origin, image: pyvips.Image, result: Result) -> Losses:
    """The losses by name, each with a `reason`.

    Args:
        origin: metadata of the upload.
        image: the image before its colours are converted to sRGB.
        result: properties of the result.
    """
    found = dict(origin.losses)
    found |= _frames(origin, result)
    if origin.gain_map:
        found["gain_map"] = {"reason": STALE}
    if origin.thumbnail:
        found["thumbnail"] = {"reason": STALE}
    for name in BLOCKS:
        if reason := _reason(origin, name, result):
            found[name] = reason
    if result.bits < origin.bits:
        found["depth"] = {"reason": FORMAT, "bits": origin.bits, "written": result.bits}
    return found | _colours(origin, image, result)


def _frames(origin: Origin, result: Result) -> Losses:
    if result.frames >= origin.frames:
        return {}
    source = FORMATS[origin.format]
    if not source.motion:
        return {"pages": {"reason": UNREAD, "pages": origin.frames, "written": 1}}
    reason = UNREAD if not source.animated else OPERATION if result.animated else FORMAT
    return {"animation": {"reason": reason, "frames": origin.frames, "written": result.frames}}


def _reason(origin: Origin, name: Block, result: Result) -> dict[str, Any] | None:
    field, written = f"{name}-data", FORMATS[result.format]  # libvips' name of the block
    size = origin.oversized.get(field) or len(origin.block(field))
    if not size:
        return None
    if result.keep != "all":
        return {"reason": KEEP_METADATA}
    if name not in written.blocks:
        return {"reason": FORMAT}
    kept = len(origin.clean_blocks.get(field, b""))
    too_large = written.max_block is not None and name != "xmp" and kept > written.max_block
    if field in origin.oversized or too_large:
        return {"reason": TOO_LARGE, "bytes": size}
    return None if kept else {"reason": BROKEN}


def _colours(origin: Origin, image: pyvips.Image, result: Result) -> Losses:
    if not origin.has_profile or "profile" in origin.losses:
        return {}
    profile = image.get(PROFILE) if image.get_typeof(PROFILE) else b""
    holds = FORMATS[result.format].profile
    if profile and result.keep in {"icc", "all"} and holds:
        return {}
    reason = {"reason": KEEP_METADATA if profile and holds else FORMAT, "name": origin.profile}
    return {"profile": reason, **({"wide_gamut": reason} if profile and icc.is_wide(profile) else {})}
