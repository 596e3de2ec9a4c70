"""Says what an uploaded file is, without decoding it.

Pure Python on purpose: this runs in the API process, and no native codec may touch hostile bytes there. The structure
of the file is walked by seeking, so that a large file costs a few reads, and a file that ends early is refused at once
instead of failing in a worker. Pixels are not checked: broken pixels in an intact structure pass here and fail in
`pipeline`. Not everything odd is refused: a file that browsers, Pillow and libvips show completely passes.
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
    #: pixels of the picture that one sees: cut and upright
    width: int
    height: int
    #: of an animation, or pages of a document
    frames: int = 1
    #: which page of a document is the picture, and which of those below it, if it is one of them
    page: int = 0
    sub_page: int | None = None
    #: the place, and the length, of the offset that leads from that page to the next one, if one does
    next_page: tuple[int, int] | None = field(default=None, compare=False)

    @property
    def frames_read(self) -> int:
        """How many of the frames are ever decoded, and count for limits."""
        return self.frames if FORMATS[self.format].animated else 1

    @property
    def pixels_read(self) -> int:
        """Over those frames."""
        return self.width * self.height * self.frames_read


def probe(file: BinaryIO) -> ImageHeader:
    """Read the header of a seekable file and check that the file is complete.

    Raises:
        EmptyFile: there are no bytes.
        TruncatedImage: the file ends before its structure does.
        UnsupportedImage: this is not a sound file of a supported format.
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
