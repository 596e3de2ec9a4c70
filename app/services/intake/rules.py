"""The rules for the input of a job, which is uploaded or fetched later."""

import json
from dataclasses import dataclass
from typing import Any

from app.errors import LimitExceeded, UnsupportedImage
from app.formats import FORMATS
from app.imaging.probe import ImageHeader
from app.services.intake.memory import check_memory
from app.services.intake.operation_tree import TreeLimits, parse_tree

FILE_POINTER = "#/file"
NO_HEIC = "HEIC is not supported by this server; please convert the image to JPEG or AVIF."
ANY_TREE = TreeLimits(nodes=100_000, depth=500, bytes=10**9)  # for trees of jobs that have been accepted already


@dataclass(frozen=True, kw_only=True)
class ImageLimits:
    """The limits for an upload's header; pixels are limited per frame and over all frames."""

    pixels: int
    side: int
    frames: int
    heic: bool

    def check(self, header: ImageHeader) -> None:
        """Refuse an image by its header alone.

        Raises:
            UnsupportedImage: the file is HEIC, which not every deployment can decode.
            LimitExceeded: the error names the limit and the value.
        """
        if FORMATS[header.format].optional and not self.heic:
            raise UnsupportedImage(NO_HEIC, pointer=FILE_POINTER)
        side = max(header.width, header.height)
        if side > self.side:
            _refuse(f"The image is {header.width}x{header.height} pixels, the longest side allowed", self.side, side)
        frames = header.frames_read
        if frames > self.frames:
            _refuse(f"The image has {frames} frames, the limit", self.frames, frames)
        pixels = header.pixels_read
        if pixels > self.pixels:
            over = f" over {frames} frames" if frames > 1 else ""
            _refuse(f"The image has {pixels} pixels{over}, the limit", self.pixels, pixels)


def _refuse(what: str, limit: int, value: int) -> None:
    raise LimitExceeded(f"{what} is {limit}.", pointer=FILE_POINTER, limit=limit, value=value)


@dataclass(frozen=True, kw_only=True)
class InputRules:
    """The checks that need only the header of an input and the operations."""

    image_limits: ImageLimits
    #: memory of one pixel process; None: no limit
    memory_bytes: int | None

    def check(self, operations: list[Any], header: ImageHeader) -> None:
        """Refuse the fetched input of an accepted job.

        Raises:
            UnsupportedImage, LimitExceeded: the same as for an upload.
        """
        self.image_limits.check(header)
        _, branches = parse_tree(json.dumps(operations), ANY_TREE)
        check_memory(branches, header, self.memory_bytes)
