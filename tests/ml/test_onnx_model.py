"""Models are written as the package `onnx` writes them."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from app.config import FAST_WEIGHTS, WEIGHTS
from app.ml import dncnn, onnx_model, unet, unet_graph
from app.ml.onnx_model import Kind

NUMBERS = {
    "float32": np.linspace(-1, 1, 300, dtype=np.float32).reshape(3, 100),
    "uint8": np.uint8(200),
    "int8": np.arange(-5, 5, dtype=np.int8),
    "int32": np.arange(-70_000, 70_000, 9_999, dtype=np.int32).reshape(3, 1, -1),
}
ATTRIBUTES = {"pads": [0, 1, 127, 128], "axis": 0, "blocksize": 300, "mode": "CRD", "kernel_shape": (3, 3)}


def test_a_graph_has_the_bytes_that_onnx_writes() -> None:
    size = ("batch", 3, "height", 1_000_000)
    theirs = helper.make_model(
        helper.make_graph(
            [helper.make_node("Concat", ["in", "float32"], ["out"], **ATTRIBUTES), helper.make_node("Relu", [], ["x"])],
            "graph",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name in ("in", "input")],
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, [])],
            [numpy_helper.from_array(np.asarray(values), name) for name, values in NUMBERS.items()],
        ),
        opset_imports=[helper.make_opsetid("", onnx_model.OPSET)],
        ir_version=onnx_model.IR_VERSION,
    )
    ours = onnx_model.model(
        "graph",
        [onnx_model.node("Concat", ["in", "float32"], "out", **ATTRIBUTES), onnx_model.node("Relu", [], "x")],
        [onnx_model.images(name, size) for name in ("in", "input")],
        [onnx_model.images("out", ())],
        [
            onnx_model.tensor(name, Kind[name.upper()], np.shape(values), np.asarray(values).tobytes())
            for name, values in NUMBERS.items()
        ],
    )
    assert ours == theirs.SerializeToString()


def test_the_networks_are_models_that_onnx_accepts_and_writes_alike() -> None:
    networks = [unet.load(FAST_WEIGHTS), unet.load(unet.quantized_file(FAST_WEIGHTS), quantized=True)]
    for model in (dncnn.to_onnx(dncnn.load(WEIGHTS)), *map(unet_graph.to_onnx, networks)):
        read = onnx.load_model_from_string(model)
        onnx.checker.check_model(read, full_check=True)
        assert read.SerializeToString() == model


def test_a_negative_number_is_refused() -> None:
    with pytest.raises(ValueError, match="-1"):
        onnx_model.node("Concat", ["in"], "out", axis=-1)
