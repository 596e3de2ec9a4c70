"""The cosine of fdlibm, exact to the last bit: JavaScript engines use it, and the C library may round differently.

The last bit matters for the ThumbHash of an image with one colour, whose factors are only rounding errors. Based on
fdlibm's k_cos.c, k_sin.c and e_rem_pio2.c (Sun Microsystems, freely usable).
"""

import struct

COSINE = (
    *(4.16666666666666019037e-02, -1.38888888888741095749e-03, 2.48015872894767294178e-05),
    *(-2.75573143513906633035e-07, 2.08757232129817482790e-09, -1.13596475577881948265e-11),
)
SINE = (
    *(-1.66666666666666324348e-01, 8.33333333332248946124e-03, -1.98412698298579493134e-04),
    *(2.75573137070700676789e-06, -2.50507602534068634195e-08, 1.58969099521155010221e-10),
)
PER_QUARTER = 6.36619772367581382433e-01  # 2 / pi
#: pi / 2 in parts: its first 33 bits, and the rest; then the same of that rest
QUARTER, QUARTER_REST = 1.57079632673412561417e00, 6.07710050650619224932e-11
SECOND, SECOND_REST = 6.07710050630396597660e-11, 2.02226624879595063154e-21
LARGEST = 100.0  # angle for which these parts are precise enough


def cos(angle: float) -> float:
    """The cosine of an angle from 0 to 100."""
    if not 0 <= angle < LARGEST:
        raise ValueError(f"{angle} is not between 0 and {LARGEST}")
    quarters, rest, tail = _reduced(angle)
    value = _kernel_sine(rest, tail) if quarters & 1 else _kernel_cosine(rest, tail)
    return -value if quarters & 3 in {1, 2} else value


def _reduced(angle: float) -> tuple[int, float, float]:
    """The number of whole quarter turns, and the remaining angle in two parts."""
    if _high(angle) <= 0x3FE921FB:  # pi / 4
        return 0, angle, 0.0
    quarters = int(angle * PER_QUARTER + 0.5)
    rest, correction = angle - quarters * QUARTER, quarters * QUARTER_REST
    left = rest - correction
    if (_high(angle) >> 20) - (_high(left) >> 20 & 0x7FF) > 16:  # too many bits have cancelled out
        before, correction = rest, quarters * SECOND
        rest = before - correction
        correction = quarters * SECOND_REST - ((before - rest) - correction)
        left = rest - correction
    return quarters, left, (rest - left) - correction


def _kernel_cosine(x: float, tail: float) -> float:
    """The cosine of an angle of at most an eighth of a turn either way."""
    high = _high(x) & 0x7FFFFFFF
    z = x * x
    series = z * _polynomial(COSINE, z)
    if high < 0x3FD33333:  # 0.3
        return 1.0 - (0.5 * z - (z * series - x * tail))
    shift = 0.28125 if high > 0x3FE90000 else struct.unpack("<d", struct.pack("<Q", high - 0x00200000 << 32))[0]
    half = 0.5 * z - shift
    return float((1.0 - shift) - (half - (z * series - x * tail)))


def _kernel_sine(x: float, tail: float) -> float:
    z = x * x
    cubed = z * x
    series = _polynomial(SINE[1:], z)
    return x - ((z * (0.5 * tail - cubed * series) - tail) - cubed * SINE[0])


def _polynomial(coefficients: tuple[float, ...], z: float) -> float:
    value = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        value = coefficient + z * value
    return value


def _high(value: float) -> int:
    """The upper 32 bits of a float: sign, exponent and the first bits of the mantissa."""
    bits: int = struct.unpack("<Q", struct.pack("<d", value))[0]
    return bits >> 32
