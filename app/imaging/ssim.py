"""Structural similarity of two images."""

import pyvips

from app.imaging.colours.colour import full_scale

WINDOW = 1.5  # standard deviation in pixels
LUMINANCE, CONTRAST = (0.01 * 255) ** 2, (0.03 * 255) ** 2  # keep the quotients finite
DIGITS = 6  # decimals of the index; further ones vary for equal images, from rounding of sums
COMPARED = 256  # approximate shorter side in pixels at which the index fits human perception best


def ssim(first: pyvips.Image, second: pyvips.Image) -> float:
    """Mean SSIM of lightness, -1..1; 1 for equal images.

    From Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity" (2004): Gaussian
    window, both images shrunk beforehand as the authors suggest. Transparent pixels count as if on white.

    Args:
        first: image in sRGB or grey.
        second: another image of the same size.
    """
    shrink = max(1, round(min(first.width, first.height) / COMPARED))
    x, y = _lightness(first, shrink), _lightness(second, shrink)
    mean_x, mean_y = _blurred(x), _blurred(y)
    variances = _blurred(x * x) - mean_x * mean_x + _blurred(y * y) - mean_y * mean_y
    covariance = _blurred(x * y) - mean_x * mean_y
    above = (mean_x * mean_y * 2 + LUMINANCE) * (covariance * 2 + CONTRAST)
    below = (mean_x * mean_x + mean_y * mean_y + LUMINANCE) * (variances + CONTRAST)
    return round(float((above / below).avg()), DIGITS)


def _lightness(image: pyvips.Image, shrink: int) -> pyvips.Image:
    if image.hasalpha():
        image = image.flatten(background=full_scale(image))
    return image.colourspace("b-w").shrink(shrink, shrink).cast("float")


def _blurred(image: pyvips.Image) -> pyvips.Image:
    return image.gaussblur(WINDOW, min_ampl=0.01, precision="float")
