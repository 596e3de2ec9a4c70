"""Checkpoints are read without running what they bring along; a wrong one is refused in one line that says why."""

import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.config import WEIGHTS
from app.errors import InvalidWeights
from app.ml import dncnn
from app.ml.weights import MAX_FILE_BYTES, load_state_dict
from tests.support.checkpoints import Saved, random_weights, write_archive, write_checkpoint


def refused(path: Path) -> str:
    with pytest.raises(InvalidWeights) as caught:
        dncnn.load(path)
    assert "\n" not in caught.value.message
    assert str(path) in caught.value.message
    return caught.value.message


def test_the_weights_of_the_project_load() -> None:
    state = dncnn.load(WEIGHTS)
    assert len(state) == 2 * dncnn.DEPTH
    numbers = np.concatenate([np.frombuffer(tensor.data, np.float32) for tensor in state.values()])
    assert numbers.size == 668_227
    assert np.isfinite(numbers).all()


@pytest.mark.parametrize("how", [{}, {"folder": "dncnn_color_blind"}, {"legacy": True}])
def test_numbers_arrive_unchanged(tmp_path: Path, how: Any) -> None:
    weights = random_weights()
    state = dncnn.load(write_checkpoint(tmp_path / "w.pth", weights, **how))
    assert list(state) == list(dncnn.shapes())
    for name, array in weights.items():
        assert state[name].shape == array.shape
        assert (np.frombuffer(state[name].data, np.float32).reshape(array.shape) == array).all()


def test_the_order_in_the_file_does_not_matter(tmp_path: Path) -> None:
    weights = dict(reversed(random_weights().items()))
    assert dncnn.load(write_checkpoint(tmp_path / "w.pth", weights)).keys() == dncnn.shapes().keys()


def without_layer(weights: dict[str, Any]) -> None:
    del weights["model.20.bias"]


def one_layer_more(weights: dict[str, Any]) -> None:
    weights["model.40.weight"] = weights["model.38.weight"]


def for_grey_images(weights: dict[str, Any]) -> None:
    weights["model.0.weight"] = weights["model.0.weight"][:, :1].copy()


def half_precision(weights: dict[str, Any]) -> None:
    weights["model.0.weight"] = weights["model.0.weight"].astype(np.float16)


def transposed(weights: dict[str, Any]) -> None:
    weights["model.2.weight"] = np.asfortranarray(weights["model.2.weight"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without_layer, "'model.20.bias' does not fit"),
        (one_layer_more, "'model.40.weight' does not fit"),
        (for_grey_images, "model.0.weight has the shape (64, 1, 3, 3) instead of (64, 3, 3, 3)"),
        (half_precision, "HalfStorage"),
        (transposed, "not contiguous"),
    ],
)
def test_another_network_is_refused(tmp_path: Path, change: Any, says: str) -> None:
    weights = random_weights()
    change(weights)
    assert says in refused(write_checkpoint(tmp_path / "w.pth", weights))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "There is no file" in refused(tmp_path / "nothing.pth")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x02}q\x00.", b"PK\x03\x04" + bytes(100)])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    assert "checkpoint" in refused(path)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("missing", [4, 1000, 1_000_000, 2_600_000])
def test_a_truncated_file_is_refused(tmp_path: Path, legacy: bool, missing: int) -> None:
    path = write_checkpoint(tmp_path / "w.pth", random_weights(), legacy=legacy)
    path.write_bytes(path.read_bytes()[:-missing])
    refused(path)


@pytest.mark.parametrize("position", [0.1, 0.3, 0.5, 0.9])
def test_flipped_bits_are_noticed(tmp_path: Path, position: float) -> None:
    path = write_checkpoint(tmp_path / "w.pth", random_weights())
    content = bytearray(path.read_bytes())
    content[int(len(content) * position)] ^= 0x10
    path.write_bytes(content)
    assert "BadZipFile" in refused(path)


def test_a_saved_model_is_no_state_dict(tmp_path: Path) -> None:
    assert "not a state dict" in refused(write_checkpoint(tmp_path / "w.pth", ["model"]))
    assert "not a state dict" in refused(write_archive(tmp_path / "v.pth", pickle.dumps({"epoch": 3}), {}))


class Hostile:
    """Creates a file when it is unpickled by a reader that allows it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("wrap", [lambda evil: evil, lambda evil: OrderedDict(weight=evil), lambda evil: [[evil]]])
def test_nothing_in_the_file_is_run(tmp_path: Path, wrap: Any) -> None:
    trap = tmp_path / "trap"
    path = write_archive(tmp_path / "w.pth", pickle.dumps(wrap(Hostile(trap))), {})
    assert "wants to load pathlib" in refused(path)
    assert not trap.exists()
    pickle.loads(pickle.dumps(Hostile(trap)))
    assert trap.exists(), "the trap works where it is not guarded against"


@pytest.mark.parametrize(
    "name", [b"builtins\neval", b"os\nsystem", b"torch\nload", b"collections\nOrderedDict.fromkeys"]
)
def test_other_names_are_out_of_reach(tmp_path: Path, name: bytes) -> None:
    pickled = b"c" + name + b"\n(S'1'\ntR."
    refused(write_archive(tmp_path / "w.pth", pickled, {}))


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(200 * 1024 * 1024))
    assert path.stat().st_size < 1_000_000
    assert "data.pkl has 209715200 bytes" in refused(path)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    assert str(MAX_FILE_BYTES) in refused(path)


def test_numbers_that_are_missing_are_noticed(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "w.pth", random_weights())
    with zipfile.ZipFile(path) as archive:
        pickled = archive.read("archive/data.pkl")
        data = {name.rpartition("/")[2]: archive.read(name) for name in archive.namelist() if "/data/" in name}
    data["0"] = data["0"][:-4]
    assert "storage 0 has 6908 bytes instead of 6912" in refused(write_archive(path, pickled, data))


def test_a_tensor_beyond_its_storage_is_refused(tmp_path: Path) -> None:
    class Beyond(Saved):
        offset = 1

    path = write_checkpoint(
        tmp_path / "w.pth", random_weights() | {"model.0.bias": np.zeros(64, np.float32)}, kind=Beyond
    )
    assert "beyond its storage" in refused(path)


def test_any_float32_state_dict_can_be_read(tmp_path: Path) -> None:
    state = load_state_dict(write_checkpoint(tmp_path / "w.pth", {"a": np.float32([1.5]).reshape(())}))
    assert (state["a"].shape, struct.unpack("<f", state["a"].data)) == ((), (1.5,))
