"""Opens uploads and intermediate files, each with the only loader for its format."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyvips

from app.formats import FORMATS, Format
from app.imaging.colours.colour import PROFILE, has_usable_profile, without_profile
from app.imaging.decoding import samples, tiff
from app.imaging.metadata.notes import notes_on
from app.imaging.metadata.origin import Origin
from app.imaging.probe import ImageHeader, probe
from app.imaging.recipe import INTERMEDIATE_SUFFIX
from app.references import resolve

FIELDS = (PROFILE, "orientation")  # header fields that apply to the pixels
SIDEWAYS = range(5, 9)  # EXIF orientations with width and height exchanged


@dataclass(frozen=True)
class ImageFile:
    """A file whose header has been read; its pixels are decoded on demand."""

    path: Path
    header: ImageHeader

    @classmethod
    def open(cls, path: Path) -> "ImageFile":
        """Read the header of a file.

        Raises:
            InvalidUpload: the file is not intact, or its format is not supported.
        """
        with path.open("rb") as file:
            return cls(path, probe(file))

    @cached_property
    def _first(self) -> pyvips.Image:
        if self._format.has_pages and self.path.suffix != INTERMEDIATE_SUFFIX:
            source = tiff.ending_with(self.path, self.header.next_page)
            return _understood(_opened(source, self._format, **_place(self.header)), self._format, self.path)
        return load(self.path, self.header.format)

    @property
    def _format(self) -> Format:
        return FORMATS[self.header.format]

    @cached_property
    def origin(self) -> Origin:
        return Origin.of(self._first, self.path, self.header, self._losses)

    @cached_property
    def _losses(self) -> dict[str, dict[str, Any]]:
        return notes_on(self._first) | ({} if self._has_colours else {"profile": {"reason": "broken"}})

    @cached_property
    def _has_colours(self) -> bool:
        """True if the image has no profile or a usable one."""
        return not self._first.get_typeof(PROFILE) or has_usable_profile(self._first)

    @cached_property
    def frames(self) -> int:
        """The number of frames of an animation; 1 for other images."""
        return self.header.frames if self._animated else 1

    @property
    def _animated(self) -> bool:
        return self._format.animated or self.path.suffix == INTERMEDIATE_SUFFIX

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of an upright frame in pixels."""
        width, height = self._first.width, self._first.height
        return (height, width) if _orientation(self._first) in SIDEWAYS else (width, height)

    def read(self, shrink: int = 1) -> pyvips.Image:
        """The first frame, upright and not decoded yet; divided by `shrink` if the decoder supports that."""
        return self._in_colour(_upright(self._decodable(shrink)))

    def _decodable(self, shrink: int) -> pyvips.Image:
        self._check(1)
        if by := self._format.pixels_by:
            pixels: pyvips.Image | None = resolve(by)(self.path, shrink)
            if pixels is not None:
                return _with_fields_of(self._first, pixels)
        return self._first if shrink == 1 else load(self.path, self.header.format, shrink=shrink)

    def _check(self, frames: int) -> None:
        if by := self._format.checked_by:
            resolve(by)(self.path, frames)

    def _in_colour(self, image: pyvips.Image) -> pyvips.Image:
        return image if self._has_colours else without_profile(image)

    def read_all(self) -> list[pyvips.Image]:
        """All frames, upright and decoded."""
        self._check(self.frames)
        strip = load(self.path, self.header.format, pages=self.frames).copy_memory()
        strip = self._in_colour(strip)
        height = strip.height // self.frames
        return [_upright(strip.crop(0, number * height, strip.width, height)) for number in range(self.frames)]


def _place(header: ImageHeader) -> dict[str, int]:
    """The loader's options to open the picture that the header names; empty for the first one."""
    if header.sub_page is not None:
        return {"page": header.page, "subifd": header.sub_page}
    return {"page": header.page} if header.page else {}


def load(path: Path, format_: str, *, shrink: int = 1, pages: int = 1) -> pyvips.Image:
    """Open an image, which is decoded on demand; several pages (-1: all) are stacked vertically."""
    kind = FORMATS[format_]
    if kind.opened_by:
        return _understood(resolve(kind.opened_by)(path), kind, path)
    options = _shrinking(kind, shrink)
    if pages != 1:
        options["n"] = pages
    stream = pyvips.Source.new_from_file(str(path))  # unlike an image's name, this holds no options
    return _understood(_opened(stream, kind, **options), kind, path)


def _shrinking(format_: Format, shrink: int) -> dict[str, float]:
    # Not by `thumbnail`: it ignores `fail_on` with a stream, and shrinks in the decoder only half as far as it could.
    if shrink == 1 or format_.shrinks_by is None:
        return {}
    return {format_.shrinks_by: shrink if format_.shrinks_by == "shrink" else 1 / shrink}


def _opened(source: pyvips.Source, format_: Format, **options: Any) -> pyvips.Image:
    """Open an image of this format, which is decoded on demand."""
    # A loader by name: libvips would not recognise an AVIF sequence, and must not think of another format than `probe`
    # does. Anything less than `fail_on` lets a damaged file pass as a picture: decoders warn about wrong pixel data and
    # go on in grey. What harmless files do (unknown TIFF tags, broken profiles, bytes after the end) is no warning.
    options = {"access": "sequential", "fail_on": format_.fail_on, **options}
    try:
        image = pyvips.Operation.call(format_.loader, source, **options)
    except pyvips.Error as error:
        raise (samples.unsupported() if samples.OUT_OF_RANGE in str(error) else error) from error
    image._references.append(source)  # noqa: SLF001 - as `new_from_source` does: what it reads from stays as long
    return image


def _understood(image: pyvips.Image, format_: Format, path: Path) -> pyvips.Image:
    return resolve(format_.understood_by)(image, path) if format_.understood_by else image


def _with_fields_of(header: pyvips.Image, pixels: pyvips.Image) -> pyvips.Image:
    """Copy the metadata fields of a header to the pixels, which are returned."""
    for name in FIELDS:
        if kind := header.get_typeof(name):
            pixels.set_type(kind, name, header.get(name))
    return pixels


def _upright(image: pyvips.Image) -> pyvips.Image:
    if _orientation(image) == 1:
        return image
    return image.copy_memory().autorot()  # rotation reads pixels in another order than the decoder yields them


def _orientation(image: pyvips.Image) -> int:
    return int(image.get("orientation")) if image.get_typeof("orientation") else 1
