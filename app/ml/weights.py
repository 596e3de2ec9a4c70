"""Reads PyTorch checkpoints without PyTorch, and without running code from them.

A `.pth` file contains a pickle with the structure, and the raw numbers of each tensor. Since PyTorch 1.6 these are
members of a ZIP archive; before, they followed one after the other. A pickle can call any function that its reader can
import. This reader allows only the three names that a plain state dict needs.
"""

import hashlib
import io
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from app.errors import InvalidWeights

FLOAT_BYTES = 4
MAX_FILE_BYTES = 64 * 1024 * 1024  # a DnCNN has 2.7 MB
MAX_PICKLE_BYTES = 1024 * 1024
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # first pickle of a file from before PyTorch 1.6
LEGACY_PREFACE = 2  # pickles between the magic number and the structure: a version, and properties of the machine


@dataclass(frozen=True)
class Tensor:
    """A float32 tensor: `data` is little-endian and in row-major order."""

    shape: tuple[int, ...]
    data: bytes


def fingerprint(file: Path) -> str:
    """The SHA-256 of a file of weights; reports contain it, to show which weights produced an image.

    Raises:
        InvalidWeights: the file cannot be read.
    """
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        raise InvalidWeights(f"There is no file {file}.") from None


def load_state_dict(path: Path) -> dict[str, Tensor]:
    """The float32 tensors of a checkpoint by name.

    Raises:
        InvalidWeights: the file is missing, damaged, or not a plain state dict.
    """
    try:
        with path.open("rb") as file:
            return _state_dict(file)
    except FileNotFoundError:
        raise InvalidWeights(f"There is no file {path}.") from None
    except InvalidWeights as error:
        raise InvalidWeights(f"{path} cannot be used: {error.message}") from None
    except Exception as error:  # noqa: BLE001 - a hostile pickle can raise anything
        raise InvalidWeights(f"{path} is damaged or no PyTorch checkpoint ({type(error).__name__}).") from None


def _state_dict(file: BinaryIO) -> dict[str, Tensor]:
    size = file.seek(0, io.SEEK_END)
    if size > MAX_FILE_BYTES:
        raise InvalidWeights(f"it has {size} bytes; a DnCNN has fewer than {MAX_FILE_BYTES}.")
    is_archive = zipfile.is_zipfile(file)
    file.seek(0)
    state, storages = _read_archive(file) if is_archive else _read_legacy(file)
    if not isinstance(state, Mapping) or not all(isinstance(value, _View) for value in state.values()):
        raise InvalidWeights("it is not a state dict; save `model.state_dict()`, not the model.")
    return {str(name): view.tensor(storages) for name, view in state.items()}


def _read_archive(file: BinaryIO) -> tuple[Any, dict[str, bytes]]:
    """The unpickled structure, and the raw numbers by storage key."""
    with zipfile.ZipFile(file) as archive:
        pickled = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickled) != 1:
            raise InvalidWeights("the archive has no data.pkl.")
        folder = pickled[0].removesuffix("data.pkl")
        unpickler = _Unpickler(io.BytesIO(_member(archive, pickled[0], MAX_PICKLE_BYTES)))
        state = unpickler.load()
        return state, {key: _member(archive, f"{folder}data/{key}", MAX_FILE_BYTES) for key in unpickler.keys}


def _member(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    size = archive.getinfo(name).file_size
    if size > limit:  # checked before decompression: a member can unpack to gigabytes of zeros
        raise InvalidWeights(f"its {name} has {size} bytes, more than {limit}.")
    return archive.read(name)


def _read_legacy(file: BinaryIO) -> tuple[Any, dict[str, bytes]]:
    """The unpickled structure, and the raw numbers by storage key."""
    if _Unpickler(file).load() != LEGACY_MAGIC:
        raise InvalidWeights("it is not a PyTorch checkpoint.")
    for _ in range(LEGACY_PREFACE):
        _Unpickler(file).load()
    state = _Unpickler(file).load()
    storages = {}
    for key in _Unpickler(file).load():
        count = int.from_bytes(file.read(8), "little")
        storages[str(key)] = file.read(min(count, MAX_FILE_BYTES) * FLOAT_BYTES)
    return state, storages


@dataclass(frozen=True)
class _Storage:
    """The key of a storage, and its number of elements."""

    key: str
    count: int


@dataclass(frozen=True)
class _View:
    """A tensor whose elements have not been read yet."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]

    def tensor(self, storages: Mapping[str, bytes]) -> Tensor:
        data = storages.get(self.storage.key, b"")
        if len(data) != self.storage.count * FLOAT_BYTES:
            expected = self.storage.count * FLOAT_BYTES
            raise InvalidWeights(f"storage {self.storage.key} has {len(data)} bytes instead of {expected}.")
        begin, end = self.offset * FLOAT_BYTES, (self.offset + math.prod(self.shape)) * FLOAT_BYTES
        if not 0 <= begin <= end <= len(data):
            raise InvalidWeights("a tensor reaches beyond its storage.")
        return Tensor(self.shape, data[begin:end])


class _FloatStorage:
    """Replaces `torch.FloatStorage`, which a pickle names as the type of its numbers."""


class _Unpickler(pickle.Unpickler):
    """Builds plain data and views of tensors, and refuses everything else."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        #: keys of the storages that the pickle refers to
        self.keys: list[str] = []

    def find_class(self, module: str, name: str) -> Any:
        known: dict[tuple[str, str], Callable[..., Any]] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _view,
            ("torch", "FloatStorage"): _FloatStorage,
        }
        if (module, name) not in known:
            raise InvalidWeights(f"it wants to load {module}.{name}, which no float32 state dict needs.")
        return known[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        _, _, key, _, count, *_ = pid
        self.keys.append(str(key))
        return _Storage(str(key), int(count))


def _view(storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any) -> _View:
    """Replaces `torch._utils._rebuild_tensor_v2`; its further arguments matter only for training."""
    contiguous = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    if tuple(strides) != contiguous:
        raise InvalidWeights("a tensor is not contiguous; save `tensor.contiguous()`.")
    return _View(storage, offset, tuple(shape))
