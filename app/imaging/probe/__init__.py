"""Says what an uploaded file is, without decoding it.

Pure Python on purpose: this runs in the API process, and no native codec may touch hostile bytes there. The structure
of the file is walked by seeking, so that a large file costs a few reads, and a file that ends early is refused at once
instead of failing in a worker. Pixels are not looked at: broken pixels in a sound structure pass here and fail in
`pipeline`. So does not everything that is odd: what browsers, Pillow and libvips show whole passes.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import BinaryIO

from app.errors import EmptyFile, UnsupportedImage
from app.imaging.probe.formats import read_png, read_webp
from app.imaging.probe.gif import read_gif
from app.imaging.probe.heif import read_heif
from app.imaging.probe.jpeg import read_jpeg
from app.imaging.probe.reader import Reader, Shape
from app.imaging.probe.tiff import read_tiff

ANIMATED = {"gif", "webp"}  # formats whose frames are one picture in motion; of others, one frame or page is read


@dataclass(frozen=True)
class ImageHeader:
    """What a file claims to be."""

    #: a key of `CONTENT_TYPES`
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
        return self.frames if self.format in ANIMATED else 1


_READERS: dict[str, Callable[[Reader], Shape]] = {
    "jpeg": read_jpeg,
    "png": read_png,
    "webp": read_webp,
    "gif": read_gif,
    "tiff": read_tiff,
    "avif": read_heif,
}

_SIGNATURES = {
    b"\xff\xd8\xff": "jpeg",
    b"\x89PNG\r\n\x1a\n": "png",
    b"GIF87a": "gif",
    b"GIF89a": "gif",
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
    b"II+\0\x08\0\0\0": "tiff",  # 64-bit offsets
    b"MM\0+\0\x08\0\0": "tiff",
}


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
    name = _format(reader.prefix)
    shape = _READERS[name](reader)
    if not (shape.width and shape.height and shape.frames):
        raise UnsupportedImage("The image is empty: it has no width, no height or no frame.")
    return ImageHeader(**{**asdict(shape), "format": shape.format or name})


def _format(prefix: bytes) -> str:
    if prefix[:4] == b"RIFF" and prefix[8:12] == b"WEBP":
        return "webp"
    if prefix[4:8] == b"ftyp":
        return "avif"
    for signature, name in _SIGNATURES.items():
        if prefix.startswith(signature):
            return name
    raise UnsupportedImage
