"""Quality targets: a search for the quality at which a file fits into its bytes, or is like enough to its original."""

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
    """One file that was tried."""

    path: Path
    #: None: the encoder has none
    quality: int | None
    bytes: int
    #: None: not asked for
    ssim: float | None


@dataclass
class _Trials:
    """Encodes an image as often as needed, and never twice with the same quality."""

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
    """Write the file that meets the target.

    With `max_bytes` alone that is the best quality that fits, up to the one that was asked for; with `min_ssim` the
    smallest file that is alike enough, which must then fit as well. Quality is bisected: at most eight files.

    Args:
        image: in memory, since it is encoded more than once.
        params: of the encoder.
        path: of the file.
        save: the encoder.
        load: reads back what it wrote.

    Returns:
        What was measured: `quality`, `bytes`, `ssim` and the number of `encodes`.

    Raises:
        TargetUnreachable: no quality keeps it.
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
    """The best quality that fits; the worst one if none does."""
    if trials.fits(trials.at(most)):
        return trials.at(most)
    fitting = bisect_left(range(WORST, most), True, key=lambda quality: not trials.fits(trials.at(quality)))
    return trials.at(max(WORST, WORST + fitting - 1))


def _lowest(trials: _Trials) -> Encoded:
    """The worst quality that is alike enough; the best one if none is."""
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
