"""Folders as stores: nothing outside of them is reached, whatever lies in the way."""

import os
import threading
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.config import Settings
from app.errors import InvalidStore
from app.services import stores
from app.services.storage import folders
from app.services.storage.folders import DRAFT, Folder
from app.services.storage.places import Places

SECRET = b"of others"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Next to it is a file that is not for its users, and in it every way there that a file system has."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    for folder in (root / "own" / "real", outside):
        folder.mkdir(parents=True)
    (outside / "secret.jpg").write_bytes(SECRET)
    (root / "own" / "real" / "photo.jpg").write_bytes(b"a photo")
    (root / "own" / "file.jpg").symlink_to(outside / "secret.jpg")
    (root / "own" / "inside.jpg").symlink_to("real/photo.jpg")
    (root / "own" / "folder").symlink_to(outside)
    (root / "own" / "nowhere.jpg").symlink_to(outside / "new.jpg")
    (root / "linked").symlink_to(outside)
    os.mkfifo(root / "own" / "pipe.jpg")
    return root


@pytest.fixture
def own(root: Path) -> Folder:
    return Folder(root, ("own",))


@pytest.fixture
def result(tmp_path: Path) -> Path:
    path = tmp_path / "result"
    path.write_bytes(b"a result")
    return path


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize(
    "key",
    [
        *("file.jpg", "inside.jpg", "folder/secret.jpg", "nowhere.jpg", "pipe.jpg", "real", "real/photo.jpg/x"),
        *(
            "../outside/secret.jpg",
            "real/../../own/real/photo.jpg",
            "./real/photo.jpg",
            "/etc/hostname",
            "real//photo.jpg",
        ),
        *("real/photo.jpg/", "real/photo.jpg\0", "real/" + "x" * 256),
    ],
)
def test_only_regular_files_below_are_read(own: Folder, key: str) -> None:
    with pytest.raises(FileNotFoundError):
        own.read(key)


def test_a_file_is_read(own: Folder) -> None:
    reading = own.read("real/photo.jpg")
    assert (reading.size, b"".join(reading.pieces)) == (7, b"a photo")
    reading.close()


@pytest.mark.parametrize(
    "key", ["folder/new.jpg", "folder/below/new.jpg", "file.jpg/new.jpg", "real/photo.jpg/new.jpg"]
)
def test_nothing_is_written_through_a_link_or_a_file(own: Folder, tmp_path: Path, result: Path, key: str) -> None:
    before = names(tmp_path)
    with pytest.raises(PermissionError):
        own.write(key, result, replace=True)
    assert names(tmp_path) == before


@pytest.mark.parametrize("key", ["../new.jpg", "real/../../new.jpg", "x/./new.jpg", ""])
def test_nothing_is_written_elsewhere(own: Folder, tmp_path: Path, result: Path, key: str) -> None:
    with pytest.raises(FileNotFoundError):
        own.write(key, result, replace=True)
    assert not list(tmp_path.rglob("new.jpg"))


def test_a_link_in_the_place_of_a_file_is_replaced_itself(
    own: Folder, root: Path, tmp_path: Path, result: Path
) -> None:
    with pytest.raises(FileExistsError):
        own.write("nowhere.jpg", result, replace=False)
    for name in ("file.jpg", "nowhere.jpg"):
        own.write(name, result, replace=True)
        assert not (root / "own" / name).is_symlink()
        assert (root / "own" / name).read_bytes() == b"a result"
    assert (tmp_path / "outside" / "secret.jpg").read_bytes() == SECRET
    assert names(tmp_path / "outside") == {"secret.jpg"}


def test_a_folder_that_becomes_a_link_while_a_file_is_written_leads_nowhere(
    own: Folder, root: Path, tmp_path: Path, result: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = folders._copy

    def swapping(*arguments: object) -> None:
        copy(*arguments)  # type: ignore[arg-type]
        (root / "own" / "real").rename(tmp_path / "moved")
        (root / "own" / "real").symlink_to(tmp_path / "outside")

    monkeypatch.setattr(folders, "_copy", swapping)
    own.write("real/new.jpg", result, replace=True)
    assert names(tmp_path / "outside") == {"secret.jpg"}
    assert (tmp_path / "moved" / "new.jpg").read_bytes() == b"a result"


def test_a_file_is_there_whole_or_not_at_all(
    own: Folder, root: Path, result: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def failing(number: int) -> None:
        seen.extend(names(root / "own" / "real"))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OSError, match="No space"):
        own.write("real/new.jpg", result, replace=False)
    (draft,) = set(seen) - {"photo.jpg"}
    assert draft.endswith(DRAFT)
    assert names(root / "own" / "real") == {"photo.jpg"}


@pytest.mark.parametrize(("mode", "of_file"), [(0o2775, 0o664), (0o700, 0o600)])
def test_what_is_made_has_the_rights_of_its_folder(
    own: Folder, root: Path, result: Path, mode: int, of_file: int
) -> None:
    (root / "own").chmod(mode)
    own.write("new/below/1.jpg", result, replace=False)
    assert (root / "own" / "new" / "below").stat().st_mode & 0o7777 == mode
    assert (root / "own" / "new" / "below" / "1.jpg").stat().st_mode & 0o7777 == of_file


def test_folders_are_made_by_many_at_once(own: Folder, root: Path, result: Path) -> None:
    begin = threading.Barrier(8)

    def write(number: int) -> None:
        begin.wait()
        own.write(f"a/b/c/{number}.jpg", result, replace=False)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list((root / "own" / "a" / "b" / "c").iterdir())) == 8


def test_a_folder_is_connected_to_below_a_root_only(root: Path, tmp_path: Path) -> None:
    assert stores.folder((root / "own").as_uri(), [root]).url == (root / "own").as_uri()
    assert stores.folder(root.as_uri(), [tmp_path / "other", root]).url == root.as_uri()
    for url in (
        (tmp_path / "outside").as_uri(),
        (root / "linked").as_uri(),
        (root / "own" / "folder").as_uri(),
        (root / "not there").as_uri(),
        f"{root.as_uri()}/../outside",
        f"{root.as_uri()}/own/%2e%2e/%2e%2e/outside",
        *("file://host/srv", "file:relative", "s3://bucket", f"file://{root}/own%00"),
    ):
        with pytest.raises(InvalidStore):
            stores.folder(url, [root])
    with pytest.raises(InvalidStore, match="none"):
        stores.folder((root / "own").as_uri(), [])


def test_a_root_that_is_no_longer_one_is_not_entered(root: Path) -> None:
    connection = stores.folder((root / "own").as_uri(), [root])
    with pytest.raises(PermissionError):
        Places().read(connection, "real/photo.jpg")


@pytest.mark.parametrize("name", ["", "data", "data/objects", "spool/below"])
def test_a_root_holds_nothing_of_the_servers_own(tmp_path: Path, name: str) -> None:
    own = {"data_dir": tmp_path / "data", "spool_dir": tmp_path / "spool"}
    assert Settings(**own, file_store_roots=f"{tmp_path}/a, {tmp_path}/b").file_store_roots == (
        tmp_path / "a",
        tmp_path / "b",
    )
    with pytest.raises(ValidationError, match="server's own"):
        Settings(**own, file_store_roots=str(tmp_path / name))
    with pytest.raises(ValidationError, match="absolute"):
        Settings(**own, file_store_roots="relative")
