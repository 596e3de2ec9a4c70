"""The noise of a camera, made from a finished photograph.

The photograph is taken back to what the sensor saw (tone curve, gamma, colour matrix and white balance inverted, one
colour kept at each pixel), gets the sensor's noise, and is developed again: white balance, demosaicing, colour matrix,
gamma, tone curve, 8 bit, JPEG. After Brooks et al., "Unprocessing Images for Learned Raw Denoising", CVPR 2019, whose
line through the shot and read noise of real cameras is used here.

What the network is to give back is the same development without noise and JPEG, so it need not undo the demosaicing.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from app.ml.noise_level import noise_level
from training.data import Pixels, eight_bit, through_jpeg
from training.noise import Noise, Sample, Values

ISO = (100, 12_800)  # drawn evenly over the logarithm
SHOT_AT_ISO_100 = 1e-4  # variance of the noise at full light, which is 1; grows with the ISO
READ_SLOPE, READ_BASE, READ_SPREAD = (
    2.18,
    1.20,
    0.26,
)  # logarithm of the read noise's variance over that of the shot noise
RED_GAIN = (1.9, 2.4)  # of the white balance
BLUE_GAIN = (1.5, 1.9)
COLOUR_MIXING = (0.05, 0.35)  # what the matrix takes of the other two colours
JPEG_QUALITY = (60, 95)
DEMOSAICINGS = (cv2.COLOR_BayerRGGB2RGB, cv2.COLOR_BayerRGGB2RGB_EA)  # bilinear, edge aware
SENSOR_MAX = 65_535
SEEN = 192  # pixels; the level of the noise cannot be found in much less
BLACK = 4096  # of those: so that noise below black is kept

Light = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Camera:
    """How one photograph is taken and developed."""

    shot: float
    read: float
    #: white balance of red, green, blue
    gains: tuple[float, float, float]
    mixing: float
    demosaicing: int

    def sensor(self, photograph: Pixels) -> Light:
        """The light at each pixel in 0..1, of the one colour that the pixel sees."""
        light = _linear(photograph.astype(np.float64) / 255) @ np.linalg.inv(self._matrix()).T
        return _mosaic(np.clip(light, 0, 1) / self.gains)

    def noisy(self, sensor: Light, random: np.random.Generator) -> Light:
        return sensor + random.standard_normal(sensor.shape) * np.sqrt(self.shot * sensor + self.read)

    def developed(self, sensor: Light) -> Values:
        """The photograph in 0..255, not rounded."""
        numbers = np.clip(np.rint(sensor * (SENSOR_MAX - BLACK) + BLACK), 0, SENSOR_MAX).astype(np.uint16)
        colours = (cv2.demosaicing(numbers, self.demosaicing).astype(np.float64) - BLACK) / (SENSOR_MAX - BLACK)
        light = np.clip(colours * self.gains, 0, 1) @ self._matrix().T
        return (_finished(np.clip(light, 0, 1)) * 255).astype(np.float32)

    def _matrix(self) -> Light:
        """From the sensor's colours to those of the screen; grey stays grey."""
        return np.eye(3) * (1 + 3 * self.mixing) - self.mixing


def any_camera(random: np.random.Generator) -> Camera:
    return at_iso(math.exp(random.uniform(*np.log(ISO))), random)


def at_iso(iso: float, random: np.random.Generator) -> Camera:
    shot = SHOT_AT_ISO_100 * iso / 100
    read = math.exp(READ_SLOPE * math.log(shot) + READ_BASE + READ_SPREAD * random.standard_normal())
    return Camera(
        shot=shot,
        read=read,
        gains=(random.uniform(*RED_GAIN), 1.0, random.uniform(*BLUE_GAIN)),
        mixing=random.uniform(*COLOUR_MIXING),
        demosaicing=int(random.choice(DEMOSAICINGS)),
    )


def taken(camera: Camera, photograph: Pixels, random: np.random.Generator) -> tuple[Values, Pixels]:
    """Without noise, and as the file that the camera writes; both (height, width, 3) in 0..255."""
    sensor = camera.sensor(photograph)
    file = through_jpeg(eight_bit(camera.developed(camera.noisy(sensor, random))), JPEG_QUALITY, random)
    return camera.developed(sensor), file


def _camera(photograph: Pixels, random: np.random.Generator) -> Sample:
    """A photograph as any camera takes it; the network gets what the service finds in such a file.

    That is less than the noise: demosaicing and JPEG take the high frequencies, by which it is measured.
    """
    clean, file = taken(any_camera(random), photograph, random)
    return Sample(clean=clean, noisy=file.astype(np.float32), level=noise_level(file))


def _mosaic(light: Light) -> Light:
    sensor = light[:, :, 1].copy()
    sensor[::2, ::2] = light[::2, ::2, 0]
    sensor[1::2, 1::2] = light[1::2, 1::2, 2]
    return sensor


def _finished(light: Light) -> Light:
    """Gamma of sRGB, then the tone curve: a smooth step."""
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 1e-8) ** (1 / 2.4) - 0.055)
    return encoded**2 * (3 - 2 * encoded)


def _linear(finished: Light) -> Light:
    """The light that `_finished` makes this of."""
    encoded = 0.5 - np.sin(np.arcsin(1 - 2 * finished) / 3)
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


CAMERA = Noise(make=_camera, seen=SEEN)
