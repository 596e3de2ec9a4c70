"""The operation `denoise`, over one network for each process."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyvips

from app.ml.denoiser import ARITHMETIC, Denoiser, DenoiserConfig
from app.ml.noise_level import noise_level
from app.ml.tiles import Pixels
from app.parameters import DenoiseParams


class Monitor(Protocol):
    """Whom the operation tells how far it is, and what it found out."""

    def progress(self, share: float) -> None: ...

    def report(self, **values: Any) -> None: ...


_loaded: list[Denoiser] = []


def configure(weights: str, memory_bytes: int, threads: int) -> None:
    """Load the network that this process will use, as `DenoiserConfig` says.

    Raises:
        InvalidWeights: the file is not a DnCNN.
    """
    _loaded[:] = [Denoiser(DenoiserConfig(weights=Path(weights), memory_bytes=memory_bytes, threads=threads))]


def run(image: pyvips.Image, params: DenoiseParams, monitor: Monitor) -> pyvips.Image:
    """Remove the noise of an upright sRGB or grey image of 8 or 16 bit; alpha stays as it is.

    Reports the standard deviation of the noise on the scale of 8 bit, and whether the image was left alone; if not,
    what worked on it: the profile, the SHA-256 of its weights and the arithmetic.
    """
    (denoiser,) = _loaded
    pixels = _pixels(image)
    if params.if_noisy is not None:
        sigma = noise_level(pixels).sigma
        if sigma < params.if_noisy:
            monitor.report(noise_sigma=round(sigma, 1), skipped=True)
            return _image(pixels, image)
    sigma = denoiser.denoise(pixels, strength=params.strength, on_tile=monitor.progress)
    made_by = {"profile": params.profile, "weights": denoiser.fingerprint, "arithmetic": ARITHMETIC}
    monitor.report(noise_sigma=round(sigma, 1), skipped=False, **made_by)
    return _image(pixels, image)


def _pixels(image: pyvips.Image) -> Pixels:
    memory, shape = image.write_to_memory(), (image.height, image.width, image.bands)
    if image.format == "ushort":
        return np.frombuffer(memory, np.uint16).reshape(shape)
    return np.frombuffer(memory, np.uint8).reshape(shape)


def _image(pixels: Pixels, like: pyvips.Image) -> pyvips.Image:
    height, width, bands = pixels.shape
    image = pyvips.Image.new_from_memory(pixels.data, width, height, bands, like.format)
    return image.copy(interpretation=like.interpretation)
