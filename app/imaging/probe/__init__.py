"""Identifies an uploaded file without decoding it.

This is pure Python on purpose: it runs in the API process, where no native codec may touch hostile bytes. The parser
seeks from one part of the file to the next, so that a large file takes only a few reads. A file that ends early is
refused at once, before a worker fails on it. Pixels are not checked: damaged pixels in an intact structure pass here
and fail in `pipeline`. Oddities are allowed: a file that browsers, Pillow and libvips show completely passes.
"""

from dataclasses import asdict, dataclass, field
from typing import BinaryIO

from app.errors import EmptyFile, UnsupportedImage
from app.formats import FORMATS, Format
from app.imaging.probe.reader import Reader, Shape
from app.references import resolve


@dataclass(frozen=True)
class ImageHeader:
    """The facts in the header of a file."""

    #: a key of `FORMATS`
    format: str
    #: pixels of the picture as it is displayed: cropped and upright
    width: int
    height: int
    #: frames of an animation, or pages of a document
    frames: int = 1
    #: index of the TIFF page that holds the picture, and of the sub-directory of that page, if the picture is in one
    page: int = 0
    sub_page: int | None = None
    #: position and length in bytes of the offset that links that page to the next one; None for the last page
    next_page: tuple[int, int] | None = field(default=None, compare=False)

    @property
    def frames_read(self) -> int:
        """Number of frames that are decoded and count towards limits."""
        return self.frames if FORMATS[self.format].animated else 1

    @property
    def pixels_read(self) -> int:
        """Pixels of these frames together."""
        return self.width * self.height * self.frames_read


def probe(file: BinaryIO) -> ImageHeader:
    """Read the header of a seekable file and check that the file is complete.

    Raises:
        EmptyFile: the file has no bytes.
        TruncatedImage: the file ends before its structure does.
        UnsupportedImage: the format is not supported, or the structure is damaged.
    """
    reader = Reader(file)
    if not reader.size:
        raise EmptyFile
    format_ = _format(reader.prefix)
    shape: Shape = resolve(str(format_.probe))(reader)
    if not (shape.width and shape.height and shape.frames):
        raise UnsupportedImage("The image is empty: it has no width, no height or no frame.")
    return ImageHeader(**{**asdict(shape), "format": shape.format or format_.name})


def _format(prefix: bytes) -> Format:
    for format_ in FORMATS.values():
        if format_.begins(prefix):
            return format_
    raise UnsupportedImage
