"""Opens an uploaded file, or one between two tasks, by the one loader for its format."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyvips

from app.imaging.colours.colour import PROFILE, has_usable_profile, without_profile
from app.imaging.decoding import gif, heic, jpeg, samples, tiff
from app.imaging.decoding.heif_colours import with_meaning
from app.imaging.metadata.notes import notes_on
from app.imaging.metadata.origin import Origin
from app.imaging.probe import ANIMATED, ImageHeader, probe
from app.imaging.recipe import INTERMEDIATE_SUFFIX

# Anything less lets a damaged file pass as a picture: decoders warn about wrong pixel data and go on in grey. What
# harmless files do (unknown TIFF tags, broken profiles, bytes after the end) does not count as a warning. JPEG and GIF
# have checks of their own: libvips does not see all of their damage, and takes odd headers for some.
FAIL_ON = {"jpeg": "none", "gif": "none"}  # anything else: "warning"

# By name: libvips would not recognise an AVIF sequence, and must not think of another format than `probe` does.
LOADERS = {
    "jpeg": "jpegload_source",
    "png": "pngload_source",
    "webp": "webpload_source",
    "gif": "gifload_source",
    "tiff": "tiffload_source",
    "avif": "heifload_source",
}
# Not by `thumbnail`: it ignores `fail_on` with a stream, and shrinks in the decoder only half as far as it could.
SHRINKING: dict[str, Callable[[int], dict[str, float]]] = {
    "jpeg": lambda shrink: {"shrink": shrink},
    "webp": lambda shrink: {"scale": 1 / shrink},
}
FIELDS = (PROFILE, "orientation")  # of a header that belong to the pixels
SIDEWAYS = range(5, 9)  # EXIF orientations with width and height exchanged


@dataclass(frozen=True)
class ImageFile:
    """A file whose header is read; its pixels are not."""

    path: Path
    header: ImageHeader

    @classmethod
    def open(cls, path: Path) -> "ImageFile":
        """Read the header.

        Raises:
            InvalidUpload: it is not a sound file of a supported format.
        """
        with path.open("rb") as file:
            return cls(path, probe(file))

    @cached_property
    def _first(self) -> pyvips.Image:
        if self.header.format == "tiff" and self.path.suffix != INTERMEDIATE_SUFFIX:
            source = tiff.ending_with(self.path, self.header.next_page)
            return _opened(source, "tiff", **_place(self.header))
        return load(self.path, self.header.format)

    @cached_property
    def origin(self) -> Origin:
        return Origin.of(self._first, self.path, self.header, self._losses)

    @cached_property
    def _losses(self) -> dict[str, dict[str, Any]]:
        return notes_on(self._first) | ({} if self._has_colours else {"profile": {"reason": "broken"}})

    @cached_property
    def _has_colours(self) -> bool:
        """Whether its profile, should it have one, can be used."""
        return not self._first.get_typeof(PROFILE) or has_usable_profile(self._first)

    @cached_property
    def frames(self) -> int:
        """How many frames an animation has; 1 for anything else."""
        return self.header.frames if self._animated else 1

    @property
    def _animated(self) -> bool:
        return self.header.format in ANIMATED or self.path.suffix == INTERMEDIATE_SUFFIX

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of a frame, upright."""
        width, height = self._first.width, self._first.height
        return (height, width) if _orientation(self._first) in SIDEWAYS else (width, height)

    def read(self, shrink: int = 1) -> pyvips.Image:
        """The first frame, upright, yet to be decoded; divided by `shrink` where the decoder can do that."""
        return self._in_colour(_upright(self._decodable(shrink)))

    def _decodable(self, shrink: int) -> pyvips.Image:
        if self.header.format == "jpeg":
            return self._read_jpeg(shrink)
        if self.header.format == "gif":
            gif.check(self.path, 1)
        return self._first if shrink == 1 else load(self.path, self.header.format, shrink=shrink)

    def _in_colour(self, image: pyvips.Image) -> pyvips.Image:
        return image if self._has_colours else without_profile(image)

    def _read_jpeg(self, shrink: int) -> pyvips.Image:
        pixels = jpeg.load(self.path, shrink)
        if pixels is None:
            return self._first if shrink == 1 else load(self.path, "jpeg", shrink=shrink)
        return _with_fields_of(self._first, pixels)

    def read_all(self) -> list[pyvips.Image]:
        """Every frame."""
        if self.header.format == "gif":
            gif.check(self.path, self.frames)
        strip = load(self.path, self.header.format, pages=self.frames).copy_memory()
        strip = self._in_colour(strip)
        height = strip.height // self.frames
        return [_upright(strip.crop(0, number * height, strip.width, height)) for number in range(self.frames)]


def _place(header: ImageHeader) -> dict[str, int]:
    """Which of the pictures of a file is opened, where it is not the first."""
    if header.sub_page is not None:
        return {"page": header.page, "subifd": header.sub_page}
    return {"page": header.page} if header.page else {}


def load(path: Path, format_: str, *, shrink: int = 1, pages: int = 1) -> pyvips.Image:
    """The image, yet to be decoded; several pages (-1: all) stand one below the other."""
    if format_ == "heic":
        return with_meaning(heic.load(path), path)
    options = SHRINKING[format_](shrink) if format_ in SHRINKING and shrink > 1 else {}
    if pages != 1:
        options["n"] = pages
    stream = pyvips.Source.new_from_file(str(path))  # unlike an image's name, this holds no options
    image = _opened(stream, format_, **options)
    return with_meaning(image, path) if format_ == "avif" else image


def _opened(source: pyvips.Source, format_: str, **options: Any) -> pyvips.Image:
    """An image of this format, yet to be decoded."""
    options = {"access": "sequential", "fail_on": FAIL_ON.get(format_, "warning"), **options}
    try:
        image = pyvips.Operation.call(LOADERS[format_], source, **options)
    except pyvips.Error as error:
        raise (samples.unsupported() if samples.OUT_OF_RANGE in str(error) else error) from error
    image._references.append(source)  # noqa: SLF001 - as `new_from_source` does: what it reads from stays as long
    return samples.shown(image) if format_ == "tiff" else image


def _with_fields_of(header: pyvips.Image, pixels: pyvips.Image) -> pyvips.Image:
    """The pixels with what the file says about them."""
    for name in FIELDS:
        if kind := header.get_typeof(name):
            pixels.set_type(kind, name, header.get(name))
    return pixels


def _upright(image: pyvips.Image) -> pyvips.Image:
    if _orientation(image) == 1:
        return image
    return image.copy_memory().autorot()  # a turned image is read in another order than it is decoded


def _orientation(image: pyvips.Image) -> int:
    return int(image.get("orientation")) if image.get_typeof("orientation") else 1
