"""ICC profiles for colours that a file describes by CICP codes: primaries and transfer of ITU-T H.273.

With such a profile attached, an image is converted or keeps its colours like any other. High dynamic range is tone
mapped to standard dynamic range by the curve of ITU-R BT.2390, channel by channel: exact below about half of white,
compressed above.
"""

import math
import struct
from collections.abc import Callable, Sequence
from functools import cache

D50, D65 = (0.3457, 0.3585), (0.3127, 0.3290)  # chromaticities (x, y) of white
UNSPECIFIED = 2
PRIMARIES = {  # chromaticities of red, green, blue and white
    1: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060), D65),
    4: ((0.67, 0.33), (0.21, 0.71), (0.14, 0.08), (0.310, 0.316)),
    5: ((0.64, 0.33), (0.29, 0.60), (0.15, 0.06), D65),
    6: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), D65),
    7: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), D65),
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), D65),
    11: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.314, 0.351)),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), D65),
    22: ((0.630, 0.340), (0.295, 0.605), (0.155, 0.077), D65),
}
NAMES = {9: "BT.2020", 11: "DCI P3", 12: "Display P3"}
AS_SRGB = {1, 6, 13, 14, 15}  # transfers that are treated as that of sRGB in still images, as browsers do
GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0}
PQ, HLG = 16, 18
HIGH_DYNAMIC_RANGE = {PQ: "PQ", HLG: "HLG"}
STEPS = 4096  # entries of a curve that is given as a table
PEAK, WHITE = 1000.0, 203.0  # cd/m2: nominal peak, and reference white of ITU-R BT.2408
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
BRADFORD = ((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296))

Vector = Sequence[float]
Matrix = Sequence[Vector]


def is_usual(primaries: int, transfer: int) -> bool:
    """Whether these codes mean sRGB, or leave the colours unspecified."""
    return primaries in {1, UNSPECIFIED} and transfer in {*AS_SRGB, UNSPECIFIED}


@cache
def profile(primaries: int, transfer: int) -> bytes | None:
    """An ICC profile, matrix and curves, for these codes; None for codes that are not supported."""
    primaries, transfer = (1 if primaries == UNSPECIFIED else primaries), (13 if transfer == UNSPECIFIED else transfer)
    curve = _curve(transfer)
    if primaries not in PRIMARIES or curve is None:
        return None
    *rgb, white = PRIMARIES[primaries]
    columns = list(zip(*_to_d50(rgb, white), strict=True))
    kind = HIGH_DYNAMIC_RANGE.get(transfer, "")
    tags = {
        b"desc": _text(f"{NAMES.get(primaries, f'CICP {primaries}')} {kind}".strip()),
        b"cprt": _text("No copyright, use freely"),
        b"wtpt": _xyz(_white(D50)),
        **{name: _xyz(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)},
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve),
    }
    return _assembled(tags)


def _curve(transfer: int) -> bytes | None:
    if transfer in AS_SRGB:
        return _parametric(3, *SRGB_CURVE)
    if transfer in GAMMAS:
        return _parametric(0, GAMMAS[transfer])
    shown = {PQ: _pq_light, HLG: _hlg_light}.get(transfer)
    return _table(shown) if shown else None


def _parametric(kind: int, *values: float) -> bytes:
    return b"para" + struct.pack(f">4xHxx{len(values)}i", kind, *(round(value * 65536) for value in values))


def _table(shown: Callable[[float], float]) -> bytes:
    shares = (_compressed(shown(step / (STEPS - 1))) / WHITE for step in range(STEPS))
    return b"curv" + struct.pack(f">4xI{STEPS}H", STEPS, *(round(65535 * min(1.0, share)) for share in shares))


def _pq_light(signal: float) -> float:
    """Luminance in cd/m2 of a PQ signal in 0..1, by SMPTE ST 2084."""
    power = signal ** (1 / 78.84375)
    ratio = max(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)
    return 10_000 * math.pow(ratio, 1 / 0.1593017578125)


def _pq_signal(light: float) -> float:
    power = (light / 10_000) ** 0.1593017578125
    return math.pow((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power), 78.84375)


def _hlg_light(signal: float) -> float:
    """Luminance in cd/m2 of an HLG signal in 0..1, by ITU-R BT.2100, on a display with a peak of `PEAK`."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = signal**2 / 3 if signal <= 0.5 else (math.exp((signal - c) / a) + b) / 12
    return PEAK * math.pow(scene, 1.2)


def _compressed(light: float) -> float:
    """Luminance in cd/m2, compressed from 0..PEAK to 0..WHITE by annex 5 of ITU-R BT.2390."""
    most = _pq_signal(PEAK)
    signal, target = min(1.0, _pq_signal(light) / most), _pq_signal(WHITE) / most
    knee = 1.5 * target - 0.5
    if signal > knee:
        t = (signal - knee) / (1 - knee)
        signal = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * target
    return _pq_light(signal * most)


def _to_d50(rgb: Sequence[Vector], white: Vector) -> Matrix:
    """The matrix from linear light of these primaries to the profile connection space: XYZ, adapted to D50."""
    primaries = list(zip(*map(_white, rgb), strict=True))
    shares = _times(_inverse(primaries), _white(white))
    to_xyz = [[value * share for value, share in zip(row, shares, strict=True)] for row in primaries]
    cones = zip(_times(BRADFORD, _white(D50)), _times(BRADFORD, _white(white)), strict=True)
    scaled = [[value * there / here for value in row] for row, (there, here) in zip(BRADFORD, cones, strict=True)]
    adaptation = _product(_inverse(BRADFORD), scaled)
    return _product(adaptation, to_xyz)


def _white(chromaticity: Vector) -> Vector:
    x, y = chromaticity
    return x / y, 1.0, (1 - x - y) / y


def _times(matrix: Matrix, vector: Vector) -> list[float]:
    return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix]


def _product(first: Matrix, second: Matrix) -> Matrix:
    return [_times(list(zip(*second, strict=True)), row) for row in first]


def _inverse(m: Matrix) -> Matrix:
    cofactors = [
        [
            m[(j + 1) % 3][(i + 1) % 3] * m[(j + 2) % 3][(i + 2) % 3]
            - m[(j + 1) % 3][(i + 2) % 3] * m[(j + 2) % 3][(i + 1) % 3]
            for j in range(3)
        ]
        for i in range(3)
    ]
    determinant = sum(m[0][j] * cofactors[j][0] for j in range(3))
    return [[value / determinant for value in row] for row in cofactors]


def _xyz(values: Vector) -> bytes:
    return b"XYZ " + struct.pack(">4x3i", *(round(value * 65536) for value in values))


def _text(text: str) -> bytes:
    encoded = text.encode("utf-16-be")
    return b"mluc" + struct.pack(">4xII4sII", 1, 12, b"enUS", len(encoded), 28) + encoded


def _assembled(tags: dict[bytes, bytes]) -> bytes:
    table, data, after = b"", b"", 128 + 4 + 12 * len(tags)
    places: dict[bytes, int] = {}
    for name, content in tags.items():
        if content not in places:
            places[content] = after + len(data)
            data += content + bytes(-len(content) % 4)
        table += struct.pack(">4sII", name, places[content], len(content))
    head = struct.pack(">I4xI4s4s4s12x4s", after + len(data), 0x04300000, b"mntr", b"RGB ", b"XYZ ", b"acsp")
    head = head.ljust(68, b"\0") + _xyz(_white(D50))[8:]
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data
