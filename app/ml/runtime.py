"""ONNX Runtime, with this project's settings."""

import os
from typing import Any

# Read during the import. The official builds send telemetry by default, with a permanent id of the machine.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime

PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")  # the first available one is used


def session(model: bytes, threads: int) -> Any:
    """Create an inference session for a model.

    Args:
        model: a serialized ONNX model.
        threads: number of threads; 0: one per core.
    """
    available = onnxruntime.get_available_providers()
    providers = [name for name in PROVIDERS if name in available]
    return onnxruntime.InferenceSession(model, _options(threads), providers=providers)


def _options(threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
    # Waiting threads must sleep: the cores may be shared with a server and with other workers
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors
    return options
