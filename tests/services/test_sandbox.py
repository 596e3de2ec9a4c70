"""Pixel work in child processes: what goes wrong there ends there."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.errors import ImageTooLarge, PixelProcessDied, PixToolsError, StepTimedOut, UnsupportedImage, WorkspaceFailed
from app.imaging.recipe import Limits, Rendered, Stage, Target
from app.services.execution import sandbox as module
from app.services.execution.sandbox import Sandbox

LIMITS = Limits(pixels=5_000_000, side=4000)
LONG = 60.0  # seconds; no render here takes as long
SMALL = "small.png"
SLOW = {"effort": 9, "quality": 90}  # of an AVIF file, over ten seconds for the picture below


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A large picture, and next to it `SMALL`."""
    path = tmp_path_factory.mktemp("sandbox") / "source.png"
    pixels = np.random.default_rng(3).integers(0, 255, (1200, 1600, 3), np.uint8)
    Image.fromarray(pixels).save(path, compress_level=1)
    Image.fromarray(pixels[:120, :160]).save(path.with_name(SMALL))
    return path


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(processes=1) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def lasting() -> Iterator[Sandbox]:
    """A sandbox whose child no test ends."""
    with Sandbox(processes=1) as sandbox:
        yield sandbox


def _quick(sandbox: Sandbox, source: Path, name: str = "quick") -> list[Rendered]:
    target = Target(source.parent / name, "convert_jpeg", {})
    return sandbox.render(source.with_name(SMALL), [Stage("resize", {"width": 40})], [target], LIMITS, LONG)


def _slow(sandbox: Sandbox, source: Path, timeout: float = LONG) -> list[Rendered]:
    return sandbox.render(source, [], [Target(source.parent / "slow", "convert_avif", SLOW)], LIMITS, timeout)


def _pids(sandbox: Sandbox) -> list[int]:
    return [child._process.pid for child in sandbox._children]


def _eventually(condition: Callable[[], object]) -> bool:
    end = time.monotonic() + LONG
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def _is_running(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def _seconds_of_cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _is_working(sandbox: Sandbox) -> bool:
    """Whether the only child has started and is in the middle of its render."""
    return any(_seconds_of_cpu(pid) > 0.6 for pid in _pids(sandbox))


def test_renders(lasting: Sandbox, source: Path) -> None:
    assert _quick(lasting, source) == [Rendered("jpeg", 40, 30)]
    with Image.open(source.parent / "quick") as image:
        assert image.size == (40, 30)


def test_starts_nothing_before_it_is_needed(sandbox: Sandbox, source: Path) -> None:
    assert _pids(sandbox) == []
    _quick(sandbox, source)
    [pid] = _pids(sandbox)
    _quick(sandbox, source)
    assert _pids(sandbox) == [pid]


def test_a_killed_child_is_replaced_whether_it_works_or_not(sandbox: Sandbox, source: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(_slow, sandbox, source)
        assert _eventually(lambda: _is_working(sandbox))
        [victim] = _pids(sandbox)
        os.kill(victim, signal.SIGKILL)
        with pytest.raises(PixelProcessDied) as caught:
            future.result(timeout=LONG)
    assert caught.value.retryable
    assert _quick(sandbox, source) == [Rendered("jpeg", 40, 30)]

    [child] = sandbox._children
    assert child._process.pid != victim
    os.kill(child._process.pid, signal.SIGKILL)
    assert _eventually(lambda: not child.is_alive())
    assert _quick(sandbox, source) == [Rendered("jpeg", 40, 30)], "who asks for the next render notices nothing"


def test_a_slow_render_is_killed(sandbox: Sandbox, source: Path) -> None:
    _quick(sandbox, source)
    [pid] = _pids(sandbox)
    with pytest.raises(StepTimedOut, match=r"0\.3 seconds") as caught:
        _slow(sandbox, source, timeout=0.3)
    assert not caught.value.retryable
    assert not _is_running(pid)
    assert _quick(sandbox, source) == [Rendered("jpeg", 40, 30)]


def test_errors_arrive_as_they_were_raised(lasting: Sandbox, source: Path, tmp_path: Path) -> None:
    with pytest.raises(ImageTooLarge) as too_large:
        lasting.render(source, [], [], Limits(pixels=1000, side=4000), LONG)
    assert too_large.value.message == "The image has 1920000 pixels; the limit is 1000."
    assert (too_large.value.limit, too_large.value.value) == (1000, 1_920_000)
    with pytest.raises(WorkspaceFailed):
        lasting.render(tmp_path / "lost", [], [], LIMITS, LONG)
    (tmp_path / "broken").write_bytes(b"no image")
    with pytest.raises(UnsupportedImage):
        lasting.render(tmp_path / "broken", [], [], LIMITS, LONG)
    assert len(_pids(lasting)) == 1


def test_an_error_of_any_kind_can_arrive() -> None:
    """Also one whose initializer takes something else than a message."""
    for kind in module._error_classes(PixToolsError).values():
        answer = dict.fromkeys(("pointer", "limit", "value", "retry_after", "extra"))
        with pytest.raises(kind, match="so it was") as caught:
            module._raise({"error": kind.__name__, "message": "so it was", **answer})
        assert type(caught.value) is kind


def test_a_mistake_in_the_child_is_no_answer(sandbox: Sandbox, source: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(PixelProcessDied):
        sandbox.render(source, [Stage("no_such_operation", {})], [], LIMITS, LONG)
    assert "KeyError: 'no_such_operation'" in capfd.readouterr().err


def test_renders_run_side_by_side(source: Path) -> None:
    with Sandbox(processes=2) as sandbox, ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(_quick, sandbox, source, f"quick-{number}") for number in range(8)]
        assert [future.result() for future in futures] == [[Rendered("jpeg", 40, 30)]] * 8
        assert 1 <= len(_pids(sandbox)) <= 2


def test_the_last_child_is_started_when_all_others_are_busy(source: Path) -> None:
    with Sandbox(processes=3, reserve=True) as sandbox:
        _quick(sandbox, source)
        assert len(_pids(sandbox)) == 1
        with sandbox._child(), sandbox._child():
            assert len(_pids(sandbox)) == 3
            before = set(_pids(sandbox))
            _quick(sandbox, source)
            assert set(_pids(sandbox)) == before


def test_children_are_recycled(sandbox: Sandbox, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RENDERS_PER_CHILD", 2)
    _quick(sandbox, source)
    [first] = _pids(sandbox)
    _quick(sandbox, source)
    assert not _is_running(first)
    _quick(sandbox, source)
    assert _pids(sandbox) != [first]


def test_close_ends_busy_children(source: Path) -> None:
    sandbox = Sandbox(processes=1)
    with ThreadPoolExecutor(2) as pool:
        future, waiting = pool.submit(_slow, sandbox, source), pool.submit(_slow, sandbox, source)
        assert _eventually(lambda: _is_working(sandbox))
        [pid] = _pids(sandbox)
        sandbox.close()
        for render in (future, waiting):
            with pytest.raises(PixelProcessDied):
                render.result(timeout=LONG)
    assert not _is_running(pid)
    with pytest.raises(PixelProcessDied, match="shutting down"):
        _quick(sandbox, source)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux enforces the limit")
def test_memory_is_limited(source: Path) -> None:
    """The picture fits; enlarged to 324 MB it does not."""
    with Sandbox(processes=1, memory_bytes=400 * 1024 * 1024) as sandbox:
        assert _quick(sandbox, source) == [Rendered("jpeg", 40, 30)]
        grown = Stage("resize", {"width": 12_000, "enlarge": True})
        target = Target(source.parent / "grown", "convert_png", {})
        with pytest.raises((WorkspaceFailed, PixelProcessDied)) as caught:
            sandbox.render(source, [grown], [target], Limits(pixels=200_000_000, side=20_000), LONG)
        assert caught.value.retryable
        assert _quick(sandbox, source) == [Rendered("jpeg", 40, 30)]


def test_no_secret_reaches_a_child(sandbox: Sandbox, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXTOOLS_SECRET", "keep secret")
    _quick(sandbox, source)
    [pid] = _pids(sandbox)
    assert b"keep secret" not in Path(f"/proc/{pid}/environ").read_bytes()


def test_ctrl_c_does_not_reach_a_child(lasting: Sandbox, source: Path) -> None:
    _quick(lasting, source)
    [pid] = _pids(lasting)
    assert os.getpgid(pid) != os.getpgid(0)
    os.kill(pid, signal.SIGINT)
    _quick(lasting, source)
    assert _pids(lasting) == [pid]


def test_a_child_keeps_the_threads_of_libvips(lasting: Sandbox, source: Path) -> None:
    """A thread that ended when it was idle could take work with it."""
    lasting.warm()
    kept = module.worker_threads(lasting._arguments[0])
    assert _eventually(lambda: len(_libvips_threads(lasting)) == kept), "they start before there is work"
    first = _libvips_threads(lasting)
    _quick(lasting, source)
    assert _libvips_threads(lasting) == first


def _libvips_threads(sandbox: Sandbox) -> set[str]:
    [pid] = _pids(sandbox)
    names = Path(f"/proc/{pid}/task").glob("*/comm")
    return {name.parent.name for name in names if name.read_text().startswith("libvips")}


def test_a_child_dies_with_its_parent(source: Path) -> None:
    code = f"""
import threading, time
from pathlib import Path
from app.imaging.recipe import Limits, Target
from app.services.execution.sandbox import Sandbox
sandbox = Sandbox(1)
target = Target(Path({str(source.parent / "orphan")!r}), "convert_avif", {SLOW!r})
args = (Path({str(source)!r}), [], [target], Limits(5_000_000, 4000), 60)
threading.Thread(target=sandbox.render, args=args, daemon=True).start()
while not sandbox._children: time.sleep(0.01)
[child] = sandbox._children
print(child._process.pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        assert _eventually(lambda: _seconds_of_cpu(child) > 0.6)
        parent.kill()
    assert _eventually(lambda: not _is_running(child))


def test_a_child_imports_nothing_of_the_api() -> None:
    code = """
import json, sys, app.imaging.child
print(json.dumps([name for name in sys.modules if name.startswith("app.")]))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    allowed = ("disk", "errors", "fonts", "formats", "glyphs", "imaging", "operations", "parameters", "references")
    assert {name.split(".")[1] for name in json.loads(done.stdout)} <= set(allowed)


def test_the_parent_loads_no_codec() -> None:
    code = "import sys, app.services.execution.sandbox; sys.exit('pyvips' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
