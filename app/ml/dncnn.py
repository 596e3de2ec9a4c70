"""DnCNN in its blind version for colour images: 20 convolutions that predict the noise of an RGB image.

Zhang, Zuo, Chen, Meng, Zhang: "Beyond a Gaussian Denoiser: Residual Learning of Deep CNN for Image Denoising", IEEE
Transactions on Image Processing 26 (2017). 3x3 convolutions with bias and zero padding, ReLU between them, no batch
norm. The state dict has the keys of the authors' release, so that their `dncnn_color_blind.pth` can be used unchanged.
"""

from collections.abc import Mapping
from pathlib import Path

from app.errors import InvalidWeights
from app.ml import onnx_model
from app.ml.onnx_model import Kind
from app.ml.weights import Tensor, load_state_dict

DEPTH = 20  # convolutions
CHANNELS = 64
HALO = DEPTH  # radius of the receptive field in pixels: each 3x3 convolution adds one
INPUT = "noisy"  # float32, (1, 3, height, width), RGB in 0..1
OUTPUT = "noise"  # the same type and shape


def shapes() -> dict[str, tuple[int, ...]]:
    """The shapes of all tensors: `model.0.weight`, `model.0.bias`, `model.2.weight` ... `model.38.bias`."""
    found: dict[str, tuple[int, ...]] = {}
    for layer in range(DEPTH):
        inputs = 3 if layer == 0 else CHANNELS
        outputs = 3 if layer == DEPTH - 1 else CHANNELS
        found[f"model.{2 * layer}.weight"] = (outputs, inputs, 3, 3)
        found[f"model.{2 * layer}.bias"] = (outputs,)
    return found


def load(path: Path) -> dict[str, Tensor]:
    """Load the weights of a DnCNN.

    Raises:
        InvalidWeights: the file is not a checkpoint, or belongs to another network.
    """
    state = load_state_dict(path)
    expected = shapes()
    wrong = [name for name in expected if name not in state] + [name for name in state if name not in expected]
    if wrong:
        raise InvalidWeights(f"{path} is not a DnCNN of {DEPTH} layers for colour images: {wrong[0]!r} does not fit.")
    for name, shape in expected.items():
        if state[name].shape != shape:
            raise InvalidWeights(
                f"{path} is not a DnCNN of {DEPTH} layers for colour images: "
                f"{name} has the shape {state[name].shape} instead of {shape}."
            )
    return state


def to_onnx(state: Mapping[str, Tensor]) -> bytes:
    """The network as a serialized ONNX model, for images of any size."""
    nodes = []
    value = INPUT
    for layer in range(DEPTH):
        last = layer == DEPTH - 1
        names = [f"model.{2 * layer}.{kind}" for kind in ("weight", "bias")]
        convolved = OUTPUT if last else f"convolved_{layer}"
        nodes.append(onnx_model.node("Conv", [value, *names], convolved, kernel_shape=[3, 3], pads=[1] * 4))
        if not last:
            value = f"activated_{layer}"
            nodes.append(onnx_model.node("Relu", [convolved], value))
    size = (1, 3, "height", "width")
    return onnx_model.model(
        "dncnn",
        nodes,
        [onnx_model.images(INPUT, size)],
        [onnx_model.images(OUTPUT, size)],
        (onnx_model.tensor(name, Kind.FLOAT32, tensor.shape, tensor.data) for name, tensor in state.items()),
    )
