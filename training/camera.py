"""A model of camera noise, applied to a finished photograph.

The photograph is converted back to sensor data (tone curve, gamma, colour matrix and white balance inverted, one colour
kept at each pixel). The sensor's noise is added, and the result is developed again: white balance, demosaicing, colour
matrix, gamma, tone curve, 8 bits, JPEG. The method is that of Brooks et al., "Unprocessing Images for Learned Raw
Denoising", CVPR 2019, including their linear fit of read noise to shot noise in real cameras.

The target of the network is the same development without noise and JPEG, so it need not undo the demosaicing.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from app.ml.noise_level import noise_level
from training.data import Pixels, eight_bit, through_jpeg
from training.noise import Noise, Sample, Values

ISO = (100, 12_800)  # range; the logarithm is drawn uniformly
SHOT_AT_ISO_100 = 1e-4  # variance of the shot noise at full light (1); proportional to the ISO value
READ_SLOPE, READ_BASE, READ_SPREAD = (
    2.18,
    1.20,
    0.26,
)  # fit of the logarithms of variances, read noise against shot noise: slope, intercept, standard deviation
RED_GAIN = (1.9, 2.4)  # range of the white balance; green has 1
BLUE_GAIN = (1.5, 1.9)
COLOUR_MIXING = (0.05, 0.35)  # range of the weight with which the colour matrix subtracts each of the other two colours
JPEG_QUALITY = (60, 95)
DEMOSAICINGS = (cv2.COLOR_BayerRGGB2RGB, cv2.COLOR_BayerRGGB2RGB_EA)  # bilinear, edge aware
SENSOR_MAX = 65_535
SEEN = 192  # side in pixels that `noise_level` sees; in much smaller patches it finds no reliable level
BLACK = 4096  # sensor value of black, above 0 so that noise below black is kept

Light = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Camera:
    """The parameters with which one photograph is taken and developed."""

    shot: float
    read: float
    #: white balance: factors for red, green, blue
    gains: tuple[float, float, float]
    mixing: float
    demosaicing: int

    def sensor(self, photograph: Pixels) -> Light:
        """The raw image in 0..1, (height, width): each pixel has one colour of the Bayer pattern."""
        light = _linear(photograph.astype(np.float64) / 255) @ np.linalg.inv(self._matrix()).T
        return _mosaic(np.clip(light, 0, 1) / self.gains)

    def noisy(self, sensor: Light, random: np.random.Generator) -> Light:
        return sensor + random.standard_normal(sensor.shape) * np.sqrt(self.shot * sensor + self.read)

    def developed(self, sensor: Light) -> Values:
        """The developed photograph in 0..255, not rounded."""
        numbers = np.clip(np.rint(sensor * (SENSOR_MAX - BLACK) + BLACK), 0, SENSOR_MAX).astype(np.uint16)
        colours = (cv2.demosaicing(numbers, self.demosaicing).astype(np.float64) - BLACK) / (SENSOR_MAX - BLACK)
        light = np.clip(colours * self.gains, 0, 1) @ self._matrix().T
        return (_finished(np.clip(light, 0, 1)) * 255).astype(np.float32)

    def _matrix(self) -> Light:
        """The matrix from the sensor's colours to those of the screen; grey stays grey."""
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
    """The photograph without noise, and the pixels of the camera's file; both (height, width, 3) in 0..255."""
    sensor = camera.sensor(photograph)
    file = through_jpeg(eight_bit(camera.developed(camera.noisy(sensor, random))), JPEG_QUALITY, random)
    return camera.developed(sensor), file


def _camera(photograph: Pixels, random: np.random.Generator) -> Sample:
    """A sample from a random camera, with the noise level that the service measures in such a file.

    The measured level is lower than the true one, since demosaicing and JPEG remove the high frequencies that it is
    measured by.
    """
    clean, file = taken(any_camera(random), photograph, random)
    return Sample(clean=clean, noisy=file.astype(np.float32), level=noise_level(file))


def _mosaic(light: Light) -> Light:
    sensor = light[:, :, 1].copy()
    sensor[::2, ::2] = light[::2, ::2, 0]
    sensor[1::2, 1::2] = light[1::2, 1::2, 2]
    return sensor


def _finished(light: Light) -> Light:
    """Linear light with the gamma of sRGB and then the tone curve 3x^2 - 2x^3, both in 0..1."""
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 1e-8) ** (1 / 2.4) - 0.055)
    return encoded**2 * (3 - 2 * encoded)


def _linear(finished: Light) -> Light:
    """The inverse of `_finished`."""
    encoded = 0.5 - np.sin(np.arcsin(1 - 2 * finished) / 3)
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


CAMERA = Noise(make=_camera, seen=SEEN)
