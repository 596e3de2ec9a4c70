"""The operation `denoise`, and the choice of its network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyvips

from app.ml.arithmetic import Mode
from app.ml.denoiser import Denoiser, DenoiserConfig, GuidedDenoiser
from app.ml.noise_level import NoiseLevel, noise_level
from app.ml.tiles import Pixels
from app.parameters import DenoiseParams

#: by profile: the measured noise level (0..255) at which half of the prediction is subtracted, and the steepness of the
#: curve there; lower for `camera`, because demosaicing and JPEG leave little of a camera's noise to measure
FAINT = {"fast": (2.0, 4), "camera": (0.7, 8)}


class Monitor(Protocol):
    """Receives progress and reports of the operation."""

    def progress(self, share: float) -> None: ...

    def report(self, **values: Any) -> None: ...


class Networks:
    """The networks of this process. One is loaded at a time, since two would need twice the configured memory."""

    def __init__(self, configs: Mapping[str, DenoiserConfig]) -> None:
        """Load the default network."""
        self._configs = configs
        self._exact: Denoiser | None = Denoiser(configs["exact"])
        self._guided: tuple[str, GuidedDenoiser] | None = None

    @property
    def exact(self) -> Denoiser:
        if not self._exact:
            self._guided = None
            self._exact = Denoiser(self._configs["exact"])
        return self._exact

    def guided(self, profile: str) -> GuidedDenoiser:
        """The network of the profile `fast` or `camera`."""
        if not self._guided or self._guided[0] != profile:
            self._exact = self._guided = None
            self._guided = profile, GuidedDenoiser(self._configs[profile])
        return self._guided[1]


_loaded: list[Networks] = []


def configure(weights: Mapping[str, str], memory_bytes: int, threads: int, int8: Mode = "no") -> None:
    """Set the networks of this process, and load the default one.

    Args:
        weights: file of weights by profile.
        memory_bytes: see `DenoiserConfig`.
        threads: see `DenoiserConfig`.
        int8: see `DenoiserConfig`.

    Raises:
        InvalidWeights: the file does not contain the default network.
    """
    configs = {
        profile: DenoiserConfig(weights=Path(file), memory_bytes=memory_bytes, threads=threads, int8=int8)
        for profile, file in weights.items()
    }
    _loaded[:] = [Networks(configs)]


def run(image: pyvips.Image, params: DenoiseParams, monitor: Monitor) -> pyvips.Image:
    """Remove the noise of an upright sRGB or grey image with 8 or 16 bits per channel; alpha is unchanged.

    Reports the standard deviation of the noise on the 8-bit scale, whether the image was left unchanged, and if not,
    which network was used.
    """
    pixels = _pixels(image)
    level = noise_level(pixels)
    if params.if_noisy is not None and level.sigma < params.if_noisy:
        monitor.report(noise_sigma=round(level.sigma, 1), skipped=True)
        return _image(pixels, image)
    profile = chosen(params.profile, level)
    (networks,) = _loaded
    network = networks.exact if profile == "exact" else networks.guided(profile)
    if isinstance(network, Denoiser):
        sigma = network.denoise(pixels, strength=params.strength, on_tile=monitor.progress)
    else:
        strength = params.strength * share_of_faint(profile, level.sigma)
        network.denoise(pixels, level, strength=strength, on_tile=monitor.progress)
        sigma = level.sigma
    monitor.report(
        noise_sigma=round(sigma, 1),
        skipped=False,
        profile=profile,
        weights=network.fingerprint,
        arithmetic=network.arithmetic,
    )
    return _image(pixels, image)


def share_of_faint(profile: str, sigma: float) -> float:
    """The share, 0..1, of the predicted noise to remove; `sigma` is the standard deviation on the 8-bit scale.

    It is small for faint noise: in a clean photograph the network would remove more fine texture than noise.
    """
    half, steepness = FAINT[profile]
    return sigma**steepness / (sigma**steepness + half**steepness)


def chosen(profile: str, level: NoiseLevel) -> str:
    """The given profile, or for `auto` the one that suits the noise."""
    if profile != "auto":
        return profile
    if level.is_smoothed:
        return "camera"
    return "fast" if level.varies else "exact"


def _pixels(image: pyvips.Image) -> Pixels:
    memory, shape = image.write_to_memory(), (image.height, image.width, image.bands)
    if image.format == "ushort":
        return np.frombuffer(memory, np.uint16).reshape(shape)
    return np.frombuffer(memory, np.uint8).reshape(shape)


def _image(pixels: Pixels, like: pyvips.Image) -> pyvips.Image:
    height, width, bands = pixels.shape
    image = pyvips.Image.new_from_memory(pixels.data, width, height, bands, like.format)
    return image.copy(interpretation=like.interpretation)
