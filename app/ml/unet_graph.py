"""The residual U-Net as an ONNX graph.

The noise is given as a line per colour: its variance as a function of brightness, on which it often depends. From this
the graph computes a noise map for the first layer, with the brightness averaged over 3x3 positions.

In a quantized network all convolutions but the first and the last are int8: the graph contains pairs of QuantizeLinear
and DequantizeLinear, and ONNX Runtime fuses them with the convolution into one integer operation.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.ml import onnx_model, quantization, unet
from app.ml.onnx_model import Kind
from app.ml.quantization import Affine
from app.ml.weights import Tensor

NOISY = "noisy"  # float32, (batch, 3, height, width), RGB in 0..1; sides are multiples of `Shape.align`
SLOPE, BASE = "slope", "base"  # float32, (1, 3, 1, 1): the variance of the noise is slope * brightness + base
OUTPUT = "noise"  # shaped as `noisy`


def to_onnx(state: Mapping[str, Tensor]) -> bytes:
    """The network as a serialized ONNX model, for images whose sides are multiples of `Shape.align`.

    It is quantized if the state dict contains the ranges of `unet.Shape.ranges`.
    """
    graph = _Graph(state)
    graph.build()
    size: tuple[int | str, ...] = ("batch", unet.COLOURS, "height", "width")
    level: tuple[int | str, ...] = (1, unet.COLOURS, 1, 1)
    return onnx_model.model(
        "unet",
        graph.nodes,
        [onnx_model.images(name, shape) for name, shape in ((NOISY, size), (SLOPE, level), (BASE, level))],
        [onnx_model.images(OUTPUT, size)],
        graph.constants,
    )


class _Graph:
    """Collects the nodes of the network in order, and their constants."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self.nodes: list[bytes] = []
        self.constants: list[bytes] = []
        self._shape = unet.shape_of(state)
        self._state = _reordered(state)
        self._ranges = quantization.ranges(state)
        self._constant("zero", np.float32(0))
        self._constant("one", np.float32(1))

    def build(self) -> None:
        noise_map = self._noise_map()
        value = self._node("SpaceToDepth", NOISY, blocksize=unet.BLOCK)
        value = self._convolved("head", self._node("Concat", value, noise_map, axis=1))
        kept = []
        for level in range(self._shape.levels):
            value = self._through(f"before.{level}", value, self._shape.outer)
            kept.append(value)
            value = self._convolved(f"down.{level}", value, kernel=2, stride=2)
        value = self._through("inner", value, self._shape.inner)
        for level in reversed(range(self._shape.levels)):
            value = self._grown(self._convolved(f"up.{level}", value, kernel=1))
            value = self._through(f"after.{level}", self._node("Add", value, kept[level]), self._shape.outer)
        self._grown(self._convolved("tail", value), name=OUTPUT)

    def _noise_map(self) -> str:
        """The standard deviation of the noise at each position, (batch, 3, height / 2, width / 2)."""
        light = self._node(
            "AveragePool", NOISY, kernel_shape=[unet.BLOCK, unet.BLOCK], strides=[unet.BLOCK, unet.BLOCK]
        )
        light = self._node("Clip", light, "zero", "one")
        light = self._node(
            "AveragePool", light, kernel_shape=[unet.KERNEL, unet.KERNEL], pads=[1] * 4, count_include_pad=0
        )
        variance = self._node("Add", self._node("Mul", light, SLOPE), BASE)
        return self._node("Sqrt", self._node("Relu", variance))

    def _through(self, part: str, value: str, count: int) -> str:
        for block in range(count):
            inner = self._node("Relu", self._convolved(f"{part}.{block}.first", value))
            value = self._node("Add", self._convolved(f"{part}.{block}.second", inner), value)
        return value

    def _convolved(self, layer: str, value: str, *, kernel: int = unet.KERNEL, stride: int = 1) -> str:
        sizes: dict[str, Any] = {
            "kernel_shape": [kernel] * 2,
            "strides": [stride] * 2,
            "pads": [kernel // 2 * (stride == 1)] * 4,
        }
        weight, bias = (_numbers(self._state[f"{layer}.{part}"]) for part in ("weight", "bias"))
        entering = self._ranges.get(f"{layer}.{unet.INPUT}")
        if entering is None:
            own = self._constant(f"{layer}.weight", weight), self._constant(f"{layer}.bias", bias)
            return self._node("Conv", value, *own, **sizes)
        steps, scales = quantization.signed(weight)
        of_bias = np.float32(entering.scale) * scales  # the scale of the int32 sums
        names = (
            self._as_bytes(f"{layer}.{unet.INPUT}", value, entering),
            self._dequantized(f"{layer}.weight", steps, scales),
            self._dequantized(f"{layer}.bias", np.rint(bias / of_bias).astype(np.int32), of_bias),
        )
        value = self._node("Conv", *names, **sizes)
        leaving = self._ranges.get(f"{layer}.{unet.OUTPUT}")
        return value if leaving is None else self._as_bytes(f"{layer}.{unet.OUTPUT}", value, leaving)

    def _as_bytes(self, name: str, value: str, range_: Affine) -> str:
        """The value after quantizing and dequantizing: rounded to the levels of a byte."""
        scale = self._constant(f"{name}.scale", np.float32(range_.scale))
        zero = self._constant(f"{name}.zero", np.uint8(range_.zero))
        return self._node("DequantizeLinear", self._node("QuantizeLinear", value, scale, zero), scale, zero)

    def _dequantized(self, name: str, steps: NDArray[Any], scales: NDArray[np.float32]) -> str:
        """A dequantized constant, with one scale per entry of its first axis."""
        names = self._constant(name, steps), self._constant(f"{name}.scale", scales)
        zero = self._constant(f"{name}.zero", np.zeros(scales.shape, steps.dtype))
        return self._node("DequantizeLinear", *names, zero, axis=0)

    def _constant(self, name: str, values: Any) -> str:
        numbers = np.asarray(values)
        kind = Kind[numbers.dtype.name.upper()]
        self.constants.append(onnx_model.tensor(name, kind, numbers.shape, numbers.tobytes()))
        return name

    def _grown(self, value: str, name: str = "") -> str:
        """The value at twice the resolution, which takes the four pixels of a block from four planes."""
        return self._node("DepthToSpace", value, name=name, blocksize=unet.BLOCK, mode="CRD")

    def _node(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        output = name or f"value_{len(self.nodes)}"
        self.nodes.append(onnx_model.node(kind, inputs, output, **attributes))
        return output


def _numbers(tensor: Tensor) -> NDArray[np.float32]:
    return np.frombuffer(tensor.data, np.float32).reshape(tensor.shape)


def _reordered(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict with the first layer's inputs in ONNX's order: by pixel within a block, then colour.

    PyTorch's pixel_unshuffle orders them by colour, then pixel.
    """
    weights = _numbers(state["head.weight"])
    planes = np.arange(unet.PLANES).reshape(unet.COLOURS, unet.BLOCK * unet.BLOCK).T.ravel()
    ordered = weights[:, [*planes, *range(unet.PLANES, unet.PLANES + unet.COLOURS)]]
    return {**state, "head.weight": Tensor(weights.shape, ordered.tobytes())}
