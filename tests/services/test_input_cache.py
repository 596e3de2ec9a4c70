"""The cache of uploads: shared by threads and processes, bounded, and harmless when anything dies."""

import hashlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from app.services.execution.input_cache import LOCKS, MAX_IDLE_SECONDS, InputCache

KIB = 1024  # bytes


def content(number: int, size: int = KIB) -> bytes:
    return bytes([number]) * size


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Store:
    """Counts downloads."""

    def __init__(self) -> None:
        self.downloads = 0

    def of(self, data: bytes, seconds: float = 0) -> Callable[[Path], None]:
        def download(path: Path) -> None:
            self.downloads += 1
            time.sleep(seconds)
            path.write_bytes(data)

        return download


@pytest.fixture
def cache(tmp_path: Path) -> InputCache:
    return InputCache(tmp_path / "cache", 10 * KIB)


def fetch(cache: InputCache, store: Store, data: bytes, path: Path, **options: Any) -> bytes:
    cache.fetch(digest(data), len(data), path, store.of(data, **options))
    return path.read_bytes()


def entries(cache: InputCache) -> set[str]:
    return {entry.name for entry in cache.folder.iterdir() if entry.is_file()}


def test_the_second_fetch_downloads_nothing(cache: InputCache, tmp_path: Path) -> None:
    store = Store()
    for number in range(3):
        assert fetch(cache, store, content(1), tmp_path / f"task-{number}") == content(1)
    assert store.downloads == 1


def test_many_at_once_download_once(cache: InputCache, tmp_path: Path) -> None:
    store = Store()
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(fetch, cache, store, content(1), tmp_path / f"t{n}", seconds=0.2) for n in range(8)]
    assert {call.result() for call in calls} == {content(1)}
    assert store.downloads == 1


def _fetch_in_a_process(cache: InputCache, path: Path, started: Any, seconds: float) -> None:
    def download(target: Path) -> None:
        with (cache.folder.parent / "downloads").open("a") as log:
            log.write("x")
        target.write_bytes(b"half")
        started.set()
        time.sleep(seconds)
        target.write_bytes(content(1))

    cache.fetch(digest(content(1)), KIB, path, download)


def test_processes_share_it_and_one_that_is_killed_leaves_nothing_behind(cache: InputCache, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    started = context.Event()
    killed = context.Process(target=_fetch_in_a_process, args=(cache, tmp_path / "a", started, 60))
    killed.start()
    assert started.wait(30)
    assert killed.pid
    os.kill(killed.pid, signal.SIGKILL)
    killed.join()
    others = [
        context.Process(target=_fetch_in_a_process, args=(cache, tmp_path / f"b{number}", context.Event(), 0.3))
        for number in range(2)
    ]
    for process in others:
        process.start()
    for process in others:
        process.join(30)
    assert [(tmp_path / f"b{number}").read_bytes() for number in range(2)] == [content(1)] * 2
    assert (tmp_path / "downloads").read_text() == "xx"  # the killed one and one of the others
    assert entries(cache) == {digest(content(1))}


def test_the_least_recently_used_go_first_and_the_bound_holds(cache: InputCache, tmp_path: Path) -> None:
    store = Store()
    for number in range(10):
        fetch(cache, store, content(number), tmp_path / f"{number}")
        os.utime(cache.folder / digest(content(number)), (time.time() - 100 + number,) * 2)
    fetch(cache, store, content(0), tmp_path / "again")
    fetch(cache, store, content(77), tmp_path / "new")
    assert digest(content(0)) in entries(cache)
    assert digest(content(1)) not in entries(cache)
    assert len(entries(cache)) == 10
    assert (tmp_path / "1").read_bytes() == content(1)  # whose task still reads it


def test_what_is_larger_than_the_cache_passes_it_by(cache: InputCache, tmp_path: Path) -> None:
    store = Store()
    large = content(1, 11 * KIB)
    for number in range(2):
        assert fetch(cache, store, large, tmp_path / f"{number}") == large
    assert store.downloads == 2
    off = InputCache(tmp_path / "off", 0)
    fetch(off, store, content(1), tmp_path / "x")
    assert not (tmp_path / "off").exists()


def test_what_nobody_uses_goes(cache: InputCache, tmp_path: Path) -> None:
    store = Store()
    fetch(cache, store, content(1), tmp_path / "a")
    os.utime(cache.folder / digest(content(1)), (time.time() - MAX_IDLE_SECONDS - 1,) * 2)
    fetch(cache, store, content(2), tmp_path / "b")
    assert entries(cache) == {digest(content(2))}


def test_an_entry_without_its_bytes_is_fetched_again(cache: InputCache, tmp_path: Path) -> None:
    store = Store()
    fetch(cache, store, content(1), tmp_path / "a")
    (cache.folder / digest(content(1))).write_bytes(b"")
    assert fetch(cache, store, content(1), tmp_path / "b") == content(1)
    assert store.downloads == 2


def test_a_failed_download_is_no_entry(cache: InputCache, tmp_path: Path) -> None:
    def broken(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011 - the same one
        cache.fetch(digest(content(1)), KIB, tmp_path / "a", broken)
    assert entries(cache) == set()
    assert fetch(cache, Store(), content(1), tmp_path / "b") == content(1)


def test_without_hard_links_it_still_works(cache: InputCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    store = Store()
    for number in range(2):
        assert fetch(cache, store, content(1), tmp_path / f"{number}") == content(1)
    assert store.downloads == 2


@pytest.mark.slow
def test_locks_do_not_grow(cache: InputCache, tmp_path: Path) -> None:
    for number in range(300):
        data = number.to_bytes(2) * 8
        fetch(cache, Store(), data, tmp_path / "file")
        (tmp_path / "file").unlink()
    assert len(list((cache.folder / LOCKS).iterdir())) <= 256
