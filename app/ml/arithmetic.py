"""Chooses the arithmetic of a network: float32, or int8 if the CPU computes it faster and correctly.

The file of a quantized network, `NAME_int8.pth`, is next to that of the float network. CPUs without instructions for
int8 dot products are not faster with it, and some older ones saturate the sums. A trial run detects both.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from app.ml import unet, unet_graph
from app.ml.runtime import session
from app.ml.weights import fingerprint

FLOAT, INT8 = "float32", "int8"
Mode = Literal["auto", "yes", "no"]

TRIED_SIDE = 160  # pixels
TRIES = 3
LEAST_GAIN = 1.3  # least speedup at which int8 is used; CPUs with such instructions reach about 3
MOST_DIFFERENCE = 0.15  # relative to the predicted noise; rounding alone causes about 0.05


@dataclass(frozen=True)
class Network:
    """A loaded network."""

    session: Any
    shape: unet.Shape
    #: SHA-256 of the file
    fingerprint: str
    arithmetic: str


#: True if int8 pays, by the fingerprints of both files and the number of threads: a process that switches between
#: networks compares each pair once, and from then on loads only the better one
_pays: dict[tuple[str, str, int], bool] = {}


def load(weights: Path, mode: Mode, threads: int) -> Network:
    """Load the residual U-Net from a file, or its quantized form.

    Args:
        weights: the file of the float network.
        mode: whether to use the quantized network, if there is one; `auto` measures whether it is faster.
        threads: number of threads; 0: one per core.

    Raises:
        InvalidWeights: a file does not contain such a network.
    """
    file = unet.quantized_file(weights)
    if mode == "no" or not file.exists():
        return _network(weights, FLOAT, threads)
    if mode == "yes":
        return _network(file, INT8, threads)
    tried = fingerprint(weights), fingerprint(file), threads
    if tried in _pays:
        return _network(file, INT8, threads) if _pays[tried] else _network(weights, FLOAT, threads)
    exact, quantized = _network(weights, FLOAT, threads), _network(file, INT8, threads)
    _pays[tried] = _is_better(exact.session, quantized.session)
    return quantized if _pays[tried] else exact


def _network(file: Path, arithmetic: str, threads: int) -> Network:
    state = unet.load(file, quantized=arithmetic == INT8)
    loaded = session(unet_graph.to_onnx(state), threads)
    return Network(loaded, unet.shape_of(state), fingerprint(file), arithmetic)


def _is_better(exact: Any, quantized: Any) -> bool:
    random = np.random.default_rng(0)
    y, x = np.mgrid[:TRIED_SIDE, :TRIED_SIDE]
    clean = np.stack([x, y, x + y]) / (2 * TRIED_SIDE)
    noisy = np.clip(clean + random.standard_normal(clean.shape) * 0.1, 0, 1).astype(np.float32)[None]
    level = np.zeros((1, unet.COLOURS, 1, 1), np.float32)
    given = {unet_graph.NOISY: noisy, unet_graph.SLOPE: level, unet_graph.BASE: level + np.float32(0.01)}

    expected, found = (network.run([unet_graph.OUTPUT], given)[0] for network in (exact, quantized))
    if np.square(found - expected).mean() > MOST_DIFFERENCE**2 * np.square(expected).mean():
        return False
    seconds: dict[int, list[float]] = {0: [], 1: []}
    for _ in range(TRIES):  # alternately, so that other load on the machine affects both
        for which, network in enumerate((exact, quantized)):
            start = time.perf_counter()
            network.run([unet_graph.OUTPUT], given)
            seconds[which].append(time.perf_counter() - start)
    return min(seconds[0]) >= LEAST_GAIN * min(seconds[1])
