"""Quality targets: a search for the quality at which a file is small enough, or similar enough to its original."""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyvips

from app.errors import TargetUnreachable
from app.imaging.ssim import ssim
from app.parameters import QualityTarget

WORST, BEST = 1, 100  # quality

Save = Callable[[pyvips.Image, Any, Path], None]
Load = Callable[[Path], pyvips.Image]


@dataclass(frozen=True)
class Encoded:
    """One trial encode."""

    path: Path
    #: None: the encoder has none
    quality: int | None
    bytes: int
    #: None: not asked for
    ssim: float | None


@dataclass
class _Trials:
    """The trial encodes of an image, at most one for each quality."""

    image: pyvips.Image
    params: QualityTarget
    path: Path
    save: Save
    load: Load
    done: dict[int | None, Encoded] = field(default_factory=dict)

    def at(self, quality: int | None) -> Encoded:
        if quality not in self.done:
            params = self.params if quality is None else self.params.model_copy(update={"quality": quality})
            path = self.path.with_name(f"{self.path.name}-{quality}")
            self.save(self.image, params, path)
            likeness = None if self.params.min_ssim is None else self._likeness(path)
            self.done[quality] = Encoded(path, quality, path.stat().st_size, likeness)
        return self.done[quality]

    def _likeness(self, path: Path) -> float:
        written = self.load(path)
        if written.height == self.image.height:
            return ssim(self.image, written)
        # WebP merges equal consecutive frames, so only the first one is compared
        height = written.get_page_height()
        return ssim(*(strip.crop(0, 0, strip.width, height) for strip in (self.image, written)))

    def fits(self, tried: Encoded) -> bool:
        return self.params.max_bytes is None or tried.bytes <= self.params.max_bytes

    def resembles(self, tried: Encoded) -> bool:
        return self.params.min_ssim is None or (tried.ssim or 0.0) >= self.params.min_ssim


def fulfil(image: pyvips.Image, params: QualityTarget, path: Path, save: Save, load: Load) -> dict[str, Any]:
    """Write a file that meets its target.

    With `max_bytes` alone, it has the best quality that fits, up to the requested one. With `min_ssim`, it is the
    smallest file that is similar enough; if it exceeds `max_bytes`, the target cannot be met. The quality is found by
    bisection, with at most eight encodes.

    Args:
        image: the image, in memory, since it is encoded more than once.
        params: parameters of the encoder.
        path: path of the file.
        save: the encoder.
        load: reads an encoded file.

    Returns:
        The measurements: `quality`, `bytes`, `ssim` and the number of `encodes`.

    Raises:
        TargetUnreachable: no quality meets the target.
    """
    trials = _Trials(image, params, path, save, load)
    quality: int | None = getattr(params, "quality", None)
    if quality is None or getattr(params, "lossless", False):
        found = trials.at(None)
    elif params.min_ssim is None:
        found = _highest(trials, quality)
    else:
        found = _lowest(trials)
    _check(trials, found)
    found.path.replace(path)
    for tried in trials.done.values():
        tried.path.unlink(missing_ok=True)
    measured = {"quality": found.quality, "bytes": found.bytes, "ssim": found.ssim and round(found.ssim, 4)}
    return {**{name: value for name, value in measured.items() if value is not None}, "encodes": len(trials.done)}


def _highest(trials: _Trials, most: int) -> Encoded:
    """The encode with the best quality that fits; with the worst quality if none fits."""
    if trials.fits(trials.at(most)):
        return trials.at(most)
    fitting = bisect_left(range(WORST, most), True, key=lambda quality: not trials.fits(trials.at(quality)))
    return trials.at(max(WORST, WORST + fitting - 1))


def _lowest(trials: _Trials) -> Encoded:
    """The encode with the lowest quality that is similar enough; with the best quality if none is."""
    unlike = bisect_left(range(WORST, BEST), True, key=lambda quality: trials.resembles(trials.at(quality)))
    return trials.at(WORST + unlike)


def _check(trials: _Trials, found: Encoded) -> None:
    if not trials.resembles(found):
        value = round(found.ssim or 0.0, 4)
        message = f"No quality reaches an SSIM of {trials.params.min_ssim}; the best one gives {value}."
        raise TargetUnreachable(message, limit=trials.params.min_ssim, value=value)
    if not trials.fits(found):
        why = "with that SSIM " if trials.params.min_ssim is not None else ""
        message = f"The file cannot have {trials.params.max_bytes} bytes or fewer; {why}it has {found.bytes}."
        raise TargetUnreachable(message, limit=trials.params.max_bytes, value=found.bytes)
