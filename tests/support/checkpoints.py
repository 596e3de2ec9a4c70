"""Writes PyTorch checkpoints without PyTorch, for tests of their reader."""

import io
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.ml import dncnn, unet
from app.ml.weights import LEGACY_MAGIC

Array = NDArray[Any]
STORAGES = {"float32": "FloatStorage", "float16": "HalfStorage", "float64": "DoubleStorage"}


class Saved:
    """An object that is pickled like PyTorch's tensors, as a function and its arguments."""

    offset = 0  # index of its first number in its storage

    def __init__(self, array: Array, key: str) -> None:
        self.array, self.key = array, key

    def __reduce__(self) -> tuple[Any, ...]:
        torch: Any = sys.modules["torch"]
        storage = _Storage(getattr(torch, STORAGES[self.array.dtype.name]), self.key, self.array.size)
        strides = tuple(stride // self.array.itemsize for stride in self.array.strides)
        return torch._utils._rebuild_tensor_v2, (storage, self.offset, self.array.shape, strides, False, OrderedDict())


class _Storage:
    def __init__(self, kind: type, key: str, count: int) -> None:
        self.pid = ("storage", kind, key, "cpu", count)


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        return obj.pid if isinstance(obj, _Storage) else None


@contextmanager
def _torch_names() -> Iterator[None]:
    """Provide modules with PyTorch's names, in which pickle looks up classes and functions."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in STORAGES.values():
        setattr(torch, name, type(name, (), {"__module__": "torch"}))

    def _rebuild_tensor_v2(*_: Any) -> None: ...

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2  # type: ignore[attr-defined]
    torch._utils = utils  # type: ignore[attr-defined]
    before = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules.update({"torch": torch, "torch._utils": utils})
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def write_checkpoint(
    path: Path,
    content: Mapping[str, Array] | Any,
    *,
    folder: str = "archive",
    legacy: bool = False,
    kind: type[Saved] = Saved,
) -> Path:
    """Write a file as `torch.save` does, for a state dict of arrays or for any other object that can be pickled.

    Args:
        path: the file.
        content: the arrays by name, or another object.
        folder: folder within the archive; PyTorch derives it from the file's name.
        legacy: whether to write the format of PyTorch before 1.6.
        kind: class that pickles the tensors.
    """
    arrays: dict[str, Array] = {}
    if isinstance(content, Mapping):
        saved: Any = OrderedDict()
        for key, (name, array) in enumerate(content.items()):
            arrays[str(key)] = array
            saved[name] = kind(array, str(key))
    else:
        saved = content
    pickled = io.BytesIO()
    with _torch_names():
        _Pickler(pickled, protocol=2).dump(saved)
    numbers = {key: array.tobytes("A") for key, array in arrays.items()}
    if legacy:
        return _write_legacy(path, pickled.getvalue(), numbers)
    return write_archive(path, pickled.getvalue(), numbers, folder=folder)


def _write_legacy(path: Path, pickled: bytes, data: Mapping[str, bytes]) -> Path:
    with path.open("wb") as file:
        for preface in (LEGACY_MAGIC, 1001, {"little_endian": True, "protocol_version": 1001}):
            pickle.dump(preface, file, protocol=2)
        file.write(pickled)
        pickle.dump(list(data), file, protocol=2)
        for numbers in data.values():
            file.write((len(numbers) // 4).to_bytes(8, "little") + numbers)
    return path


def write_archive(path: Path, pickled: bytes, data: Mapping[str, bytes], *, folder: str = "archive") -> Path:
    """Write the ZIP archive with a pickle and the numbers of its tensors by storage key."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{folder}/data.pkl", pickled)
        for key, numbers in data.items():
            archive.writestr(f"{folder}/data/{key}", numbers)
    return path


def random_weights(seed: int = 0) -> dict[str, Array]:
    """Weights of an untrained DnCNN, whose output depends on every pixel of its receptive field."""
    return _random_weights(dncnn.shapes(), seed)


def random_unet(shape: unet.Shape, seed: int = 0) -> dict[str, Array]:
    """Weights of an untrained residual U-Net, whose output depends on every pixel of its receptive field."""
    return _random_weights(shape.shapes(), seed)


def _random_weights(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, Array]:
    random = np.random.default_rng(seed)
    weights = {}
    for name, shape in shapes.items():
        scale = np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else 0.01
        weights[name] = (random.standard_normal(shape) * scale).astype(np.float32)
    return weights
