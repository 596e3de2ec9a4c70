"""The operation `web`: one image in several widths and formats, with placeholders, a manifest and a `<picture>`."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyvips

from app.formats import FORMATS
from app.imaging.colours.colour import to_eight_bits, to_srgb, with_weighed_colours
from app.imaging.convert_jpeg import flattened
from app.imaging.metadata.losses import Result, losses
from app.imaging.picture import Picture
from app.imaging.recipe import Context, Part, Target
from app.imaging.responsive.breakpoints import (
    MANIFEST,
    PICTURE,
    Breakpoints,
    bounds,
    by_steps,
    fixed,
    height_of,
)
from app.imaging.responsive.markup import WebImage, WebSet
from app.imaging.responsive.placeholders import Placeholders
from app.imaging.writing import Written, write
from app.operations import ENCODERS
from app.parameters import AvifParams, JpegParams, WebParams, WebpParams


def save(picture: Picture, params: WebParams, target: Target, context: Context) -> tuple[Part, ...]:
    """Write every file of a set, the images from the largest to the smallest.

    Raises:
        TargetUnreachable: `bytes_step` needs more images than `max_images`, or no quality reaches `min_ssim`.
    """
    images = _Images(picture, params, target, context)
    breakpoints = _breakpoints(images, picture, params)
    made = [images.of(width, format_) for width, format_ in images.wanted(breakpoints)]
    images.remove_others(made)
    made.sort(key=lambda image: (params.formats.index(image.format), image.width))  # type: ignore[arg-type]
    found = WebSet(
        params=params,
        own=picture.size,
        has_alpha=bool(picture.first.hasalpha()),
        breakpoints=breakpoints,
        images=made,
        placeholders=Placeholders.of(images.smallest),
    )
    listed = Part(MANIFEST, "json"), Part(PICTURE, "html")
    for part, text in zip(listed, (found.manifest(), found.picture()), strict=True):
        target.path_of(part).write_text(text)
    _report(context, picture, breakpoints, images)
    return (*map(_part, made), *listed)


def _part(image: WebImage) -> Part:
    return Part(_suffix(image.width, image.format), image.format, image.width, image.height)


def _suffix(width: int, format_: str) -> str:
    return f"{width}.{FORMATS[format_].extension}"


def _breakpoints(images: "_Images", picture: Picture, params: WebParams) -> Breakpoints:
    found = fixed(params, picture.size[0])
    if found is not None or params.bytes_step is None:
        return found or Breakpoints(())
    least, most = bounds(params, picture.size[0])
    first = params.formats[0]
    widths = by_steps(lambda width: images.of(width, first).bytes, least, most, params.bytes_step, params.most_images)
    asked = sorted({bound for bound in (params.min_width, params.max_width) if bound and bound > picture.size[0]})
    return Breakpoints(widths, tuple(asked))


def _report(context: Context, picture: Picture, breakpoints: Breakpoints, images: "_Images") -> None:
    result = Result(images.params.formats[0], "none", 1, animated=True, bits=8)
    lost = losses(picture.origin, picture.first, result)
    if images.is_frugal:
        lost["chroma"] = {"reason": "memory"}
    context.report(
        widths=list(breakpoints.widths),
        **({"encodes": len(images.made)} if images.params.bytes_step is not None else {}),
        **({"capped": {"widths": list(breakpoints.capped), "to": picture.size[0]}} if breakpoints.capped else {}),
        **({"lost": lost} if lost else {}),
    )


@dataclass
class _Images:
    """Writes the image files of one picture, each only once."""

    picture: Picture
    params: WebParams
    target: Target
    context: Context
    made: dict[tuple[int, str], WebImage] = field(default_factory=dict)
    #: True: a file has coarser colours than requested, to save memory
    is_frugal: bool = False

    def __post_init__(self) -> None:
        # each image has half the width of the previous one and is made when needed
        self._halves = [to_eight_bits(self.picture.first)]
        self._scaled: tuple[int, pyvips.Image] | None = None

    def wanted(self, breakpoints: Breakpoints) -> Iterator[tuple[int, str]]:
        """Widths and formats, the largest first; reports the progress as they are made."""
        pairs = [(width, format_) for width in reversed(breakpoints.widths) for format_ in self.params.formats]
        pixels = [width * width for width, _ in pairs]
        for number, pair in enumerate(pairs):
            yield pair
            self.context.progress(sum(pixels[: number + 1]) / sum(pixels))

    def of(self, width: int, format_: str) -> WebImage:
        """The file with a width and a format."""
        if (width, format_) not in self.made:
            self.made[width, format_] = self._write(width, format_)
        return self.made[width, format_]

    def remove_others(self, wanted: list[WebImage]) -> None:
        """Remove files that were only trial encodes."""
        for width, format_ in self.made.keys() - {(image.width, image.format) for image in wanted}:
            self._path(width, format_).unlink()

    @property
    def smallest(self) -> pyvips.Image:
        """The image in the smallest width that was made."""
        return self._at(min(width for width, _ in self.made))

    def _path(self, width: int, format_: str) -> Path:
        return self.target.path_of(Part(_suffix(width, format_), format_))

    def _write(self, width: int, format_: str) -> WebImage:
        operation = ENCODERS[format_]
        params = self.params.of_encoder(format_)
        image, path = self._at(width), self._path(width, format_)
        if isinstance(params, JpegParams):
            image = flattened(image, params)
        written = write(image, operation, params, path)
        self.is_frugal = self.is_frugal or written.is_frugal
        return self._described(width, format_, params, written)

    def _described(
        self, width: int, format_: str, params: AvifParams | WebpParams | JpegParams, written: Written
    ) -> WebImage:
        return WebImage(
            file=f"{self.target.name}.{_suffix(width, format_)}",
            format=format_,
            width=width,
            height=height_of(width, self.picture.size),
            bytes=self._path(width, format_).stat().st_size,
            quality=written.measured.get("quality", params.quality),
            ssim=written.measured.get("ssim"),
        )

    def _at(self, width: int) -> pyvips.Image:
        """The image in a width, in sRGB and in memory, without metadata."""
        if self._scaled is None or self._scaled[0] != width:
            image, size = self._half(width), (width, height_of(width, self.picture.size))
            if (image.width, image.height) != size:
                image = image.thumbnail_image(size[0], height=size[1], size="force")
            image = self.picture.origin.onto(to_eight_bits(to_srgb(image)), "none", "")
            self._scaled = width, image.copy_memory()
        return self._scaled[1]

    def _half(self, width: int) -> pyvips.Image:
        """The picture, halved as often as possible while it stays at least twice as wide as `width`.

        libvips does the same before it resizes. So every width is made from an image with enough detail, and a small
        width does not need a pass over all pixels.
        """
        number = 0
        while self._halves[number].width // 2 >= 2 * width:
            number += 1
            if number == len(self._halves):
                self._halves.append(_halved(self._halves[-1]))
        return self._halves[number]


def _halved(image: pyvips.Image) -> pyvips.Image:
    half = with_weighed_colours(image, lambda weighed: weighed.shrink(2, 2, ceil=True))
    half = half.cast("uchar").copy(interpretation=image.interpretation)
    return half.copy_memory()
