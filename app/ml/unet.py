"""The network of the profiles `fast` and `camera`: a residual U-Net with the strength of the noise as an input.

It works at half the resolution: a block of 2x2 pixels becomes one position with 12 channels. It has only convolutions
and ReLU, so that the result for a pixel depends on the pixels within `Shape.halo`. The numbers of channels and residual
blocks are read from the checkpoint; its keys are those of `training/networks.py`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from app.errors import InvalidWeights
from app.ml.weights import Tensor, load_state_dict

BLOCK = 2  # pixels along each axis that become one position
COLOURS = 3
PLANES = COLOURS * BLOCK * BLOCK
KERNEL = 3
MAX_LEVELS = 4  # resolutions
MAX_BLOCKS = 32  # residual blocks at each resolution
INPUT, OUTPUT = "input_range", "output_range"  # tensors of a quantized layer: its smallest and its largest value


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The numbers that determine a network's structure."""

    #: channels at half the resolution, and after each further halving
    channels: tuple[int, ...]
    #: residual blocks before downsampling and after upsampling, at each resolution but the lowest
    outer: int
    #: residual blocks at the lowest resolution
    inner: int

    @property
    def levels(self) -> int:
        """The number of times that the resolution is halved after the first halving."""
        return len(self.channels) - 1

    @property
    def align(self) -> int:
        """The number of pixels of which the sides of inputs and the offsets of tiles must be multiples."""
        return BLOCK << self.levels

    @property
    def halo(self) -> int:
        """The radius of the receptive field in pixels, rounded up to a multiple of `align`.

        Each 3x3 layer adds one position of its resolution: the first and the last convolution, two per residual block,
        and the averaging of the noise map. Downsampling adds up to `align - 1` pixels, since pixels share positions.
        """
        seen = 2 * BLOCK + 2 * self.inner * self.align
        seen += sum(4 * self.outer * (BLOCK << level) for level in range(self.levels))
        seen += BLOCK  # the averaging of the noise map
        return -(-(seen + self.align - 1) // self.align) * self.align

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor in the state dict."""
        first, lowest = self.channels[0], self.channels[-1]
        found = _convolution("head", PLANES + COLOURS, first) | _convolution("tail", first, PLANES)
        for level, (upper, lower) in enumerate(zip(self.channels, self.channels[1:], strict=False)):
            for part in (f"before.{level}", f"after.{level}"):
                found |= _blocks(part, upper, self.outer)
            found |= _convolution(f"down.{level}", upper, lower, 2) | _convolution(f"up.{level}", lower, 4 * upper, 1)
        return found | _blocks("inner", lowest, self.inner)

    def ranges(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the additional tensors of a quantized network: all layers but the first and the last are int8.

        The first convolution of a block has no output range: its output goes only to the second one, which has an input
        range.
        """
        layers = {name.rpartition(".")[0] for name in self.shapes()} - {"head", "tail"}
        kinds = ((layer, kind) for layer in sorted(layers) for kind in (INPUT, OUTPUT))
        return {f"{layer}.{kind}": (2,) for layer, kind in kinds if kind == INPUT or not layer.endswith(".first")}


def load(path: Path, *, quantized: bool = False) -> dict[str, Tensor]:
    """Load the weights of a network, and the ranges of a quantized one.

    Raises:
        InvalidWeights: the file is not a checkpoint, or belongs to another network.
    """
    state = load_state_dict(path)
    shape = shape_of(state)
    expected = shape.shapes() | (shape.ranges() if quantized else {})
    wrong = [name for name in expected if name not in state] + [name for name in state if name not in expected]
    wrong += [name for name in expected if name in state and state[name].shape != expected[name]]
    if wrong:
        kind = "quantized residual" if quantized else "residual"
        raise InvalidWeights(f"{path} is not a {kind} U-Net for denoising: {wrong[0]!r} does not fit.")
    return state


def quantized_file(weights: Path) -> Path:
    """The path of a network's quantized form, which may not exist."""
    return weights.with_name(f"{weights.stem}_int8{weights.suffix}")


def shape_of(state: Mapping[str, Tensor]) -> Shape:
    """Derive the structure from names and shapes of a few tensors; the others must be checked by `Shape.shapes`."""
    levels = _count(state, "down.{}.weight", MAX_LEVELS)
    layers = ["head", *(f"down.{level}" for level in range(levels))]
    outputs = [state[f"{layer}.weight"].shape[:1] if f"{layer}.weight" in state else () for layer in layers]
    channels = tuple(first for shape in outputs for first in shape or (0,))
    return Shape(
        channels=channels,
        outer=_count(state, "before.0.{}.first.weight", MAX_BLOCKS),
        inner=_count(state, "inner.{}.first.weight", MAX_BLOCKS),
    )


def _count(state: Mapping[str, Tensor], pattern: str, most: int) -> int:
    found: Iterator[int] = (number for number in range(most) if pattern.format(number) not in state)
    return next(found, most)


def _blocks(part: str, channels: int, count: int) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for block in range(count):
        for layer in ("first", "second"):
            found |= _convolution(f"{part}.{block}.{layer}", channels, channels)
    return found


def _convolution(name: str, inputs: int, outputs: int, kernel: int = KERNEL) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs, kernel, kernel), f"{name}.bias": (outputs,)}
