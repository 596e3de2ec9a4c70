"""Structure of GIF files: images and extensions, each followed by small blocks of data, up to the trailer."""

from collections.abc import Iterator
from dataclasses import dataclass

from app.errors import TruncatedImage
from app.imaging.probe.reader import Reader, Shape, damaged

#: screen sizes that editors write for pictures of any size: libvips then uses the size of the first frame
_SCREENS = {(640, 480), (640, 512), (800, 600), (1024, 768), (1280, 1024), (1600, 1200)}
_LARGEST_SCREEN = 2048
_SECTIONS = {b",", b"!"}


@dataclass(frozen=True)
class _Image:
    """One image of the file."""

    left: int
    top: int
    width: int
    height: int
    #: position of its pixel data: a byte with the LZW code size, then blocks
    data: int


def read_gif(reader: Reader) -> Shape:
    size = _screen(reader)
    frames = 0
    for image in _images(reader):
        if not frames:
            size = max(size[0], image.left + image.width), max(size[1], image.top + image.height)
        frames += 1
    return Shape(*size, frames)


def gif_images(reader: Reader) -> Iterator[tuple[int, bytes]]:
    """The number of pixels of each image, and its data: a byte with the LZW code size, then the codes."""
    _screen(reader)
    for image in _images(reader):
        after, reader.position = reader.position, image.data
        yield image.width * image.height, reader.take(1) + reader.take_blocks()
        reader.position = after


def _images(reader: Reader) -> Iterator[_Image]:
    frames = 0
    while (kind := _section(reader, frames)) is not None:
        if kind == b",":
            yield _image(reader)
            frames += 1
        else:
            _extension(reader, frames)


def _screen(reader: Reader) -> tuple[int, int]:
    """The logical screen size in the header; (0, 0) if it does not give the size of the picture."""
    reader.skip(6)
    width, height, flags = reader.unpack("<HHBxx")
    reader.skip(_palette(flags))
    odd = (width, height) in _SCREENS or not (width and height) or max(width, height) > _LARGEST_SCREEN
    return (0, 0) if odd else (width, height)


def _section(reader: Reader, frames: int) -> bytes | None:
    """The type of the next section; None at the end of the images.

    After the first image, any other byte and the end of the file count as the trailer.
    """
    if frames and reader.position >= reader.size:
        return None
    kind = reader.take(1)
    if kind in _SECTIONS:
        return kind
    if not frames and kind != b";":
        raise damaged("GIF")
    return None


def _image(reader: Reader) -> _Image:
    """Read the descriptor of an image, and skip its data."""
    left, top, width, height, flags = reader.unpack("<HHHHB")
    reader.skip(_palette(flags))
    image = _Image(left, top, width, height, reader.position)
    reader.skip(1)  # LZW code size
    reader.skip_blocks()
    return image


def _extension(reader: Reader, frames: int) -> None:
    """Skip an extension; after an image it may be cut off."""
    try:
        reader.skip(1)  # its type
        reader.skip_blocks()
    except TruncatedImage:
        if not frames:
            raise
        reader.position = reader.size


def _palette(flags: int) -> int:
    """Length in bytes of the palette that follows."""
    return 3 << (flags & 0x07) + 1 if flags & 0x80 else 0
