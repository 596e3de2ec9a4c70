"""Fixtures of all tests: real servers, and PixTools itself in both modes."""

import gc
import io
import os
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import FunctionType, ModuleType

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from PIL import Image

from app import config
from app.services.execution.sandbox import worker_threads
from tests.support import commands
from tests.support.commands import Run
from tests.support.deployment import ApiClient, Deployment, cluster, embedded
from tests.support.fixtures import (  # noqa: F401 - pytest finds fixtures by their names here
    azurite,
    cluster_servers,
    object_store_server,
    patient_redis,
    postgresql,
    rabbitmq,
    redis_server,
    server_pool,
)
from tests.support.preloaded import forking
from tests.support.sampling import WHOLE, sampled
from tests.support.work import database, database_url, engines  # noqa: F401

# Tests start hundreds of processes, each of which would compile all of the code again where none may keep the result
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# As in pixel processes, since these processes are idle between tests too; libvips reads it when it is imported
os.environ.setdefault("VIPS_MAX_THREADS", str(worker_threads(os.cpu_count() or 1)))

# `make test` tries the same examples every time, `make test-full` new ones, and more of them
# A busy machine is no reason to fail: how long an example takes depends on what else runs
settings.register_profile(
    "seeded",
    derandomize=not WHOLE,
    max_examples=sampled(100),
    print_blob=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("seeded")

MODES = ("embedded", "cluster")
PAGE = "page"  # folder
ORIENTATION = 0x0112  # EXIF tag
SETTINGS = {
    "PIXTOOLS_MAX_UPLOAD_BYTES": "3000000",
    "PIXTOOLS_MAX_PIXELS": "4000000",
    "PIXTOOLS_MAX_SIDE": "4000",
    "PIXTOOLS_MAX_FRAMES": "5",
    "PIXTOOLS_MAX_NODES": "8",
    "PIXTOOLS_MAX_DEPTH": "4",
    "PIXTOOLS_IDEMPOTENCY_WAIT_SECONDS": "20",
    "PIXTOOLS_WORKER_CONCURRENCY": "2",  # as the workers of a cluster have, on a machine of many cores too
    "PIXTOOLS_WEBHOOK_RETRY_SECONDS": "1,300,1800",
}


def in_one_mode(fixture: str = "deployment", mode: str = "embedded") -> pytest.MarkDecorator:
    """Test in one mode alone what both decide alike; `make test-full` has the other as well.

    Args:
        fixture: name of the fixture whose parameter is the mode.
        mode: mode that `make test` has.
    """
    modes = [each if each == mode else pytest.param(each, marks=pytest.mark.full) for each in MODES]
    return pytest.mark.parametrize(fixture, modes, indirect=True)


HERE = Path(__file__).parent
# What `make test-fast` leaves out: by mark, by folder, and files with functions that start programs. Of a table of
# cases it has the first one; of tests that share a deployment those of one file, in the mode that needs no server.
SLOW = {"integration", "full", "slow"}
LEFT_OUT = {"benchmarks", "chaos", "contract", "damage", "hostile", "infra", "ml", "page", "processes"}
STARTERS = {"subprocess", "tests.support.deployment", "tests.support.preloaded", "tests.support.processes"}
CORE = HERE / "test_api.py"
_fast: set[str] = set()  # tests of which a case is marked


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave folders in which nothing is fast unread where only that is asked for."""
    is_left_out = collection_path.parent == HERE and collection_path.name in LEFT_OUT
    return True if is_left_out and config.option.markexpr == "fast" else None


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark what `make test-fast` runs."""
    if not isinstance(item, pytest.Function):
        return
    if _mode(item) is None:
        is_slow = SLOW & {mark.name for mark in item.iter_markers()}
        is_left_out = item.path.relative_to(HERE).parts[0] in LEFT_OUT
        is_fast = not (is_slow or is_left_out or _starts_programs(item.module))
    else:
        is_fast = _mode(item) == "embedded" and item.path == CORE
    test = item.nodeid.partition("[")[0]
    if is_fast and test not in _fast:
        _fast.add(test)
        item.add_marker("fast")


@cache
def _starts_programs(module: ModuleType) -> bool:
    return any(
        each.__name__ in STARTERS if isinstance(each, ModuleType) else each.__module__ in STARTERS
        for each in vars(module).values()
        if isinstance(each, ModuleType | FunctionType)
    )


@pytest.hookimpl(trylast=True)  # when the tests of one mode stand together
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Share the tests out among the processes of `pytest -n`: a file or `page` to each, and to one all those of a mode.

    Every process starts servers of its own when a test asks for them. What takes longest comes first.
    """
    if config.getoption("loadgroup", default=False):
        for item in items:
            # As xdist does it for its own mark, but in an attribute that pytest 9.2 no longer reads
            item._id = type(item.id).parse(f"{item.nodeid}@{_group(item)}")
    items.sort(key=lambda item: _group(item) not in {*MODES, PAGE})


def pytest_collection_finish() -> None:
    """Keep the garbage collector from looking at modules and tests again and again."""
    gc.collect()
    gc.freeze()


def _group(item: pytest.Item) -> str:
    mode, folder = _mode(item), item.path.parent.name
    if mode is None and folder == "chaos":  # one row takes as long as many a file
        return item.nodeid
    if mode is None and folder == PAGE:  # they share a browser
        return folder
    return mode or str(item.path.relative_to(HERE))


def _mode(item: pytest.Item) -> str | None:
    """Of the deployment that a test shares with others."""
    if not isinstance(item, pytest.Function) or not hasattr(item, "callspec"):
        return None
    found: str | None = item.callspec.params.get("deployment")
    return found


@pytest.fixture(scope="session", autouse=True)
def _forks() -> Iterator[None]:
    """Start processes of PixTools in half the time."""
    with forking():
        yield


@pytest.fixture(scope="session", params=MODES)
def deployment(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """PixTools in each mode; the same tests run against both."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "embedded":
        running = embedded(folder, **SETTINGS)
    else:
        running = cluster(folder, request.getfixturevalue("cluster_servers"), **SETTINGS)
    with running.running():
        yield running


@pytest.fixture
def api(deployment: Deployment) -> Iterator[ApiClient]:
    with deployment.client() as client:
        yield client


@cache
def make_photo(
    width: int = 640, height: int = 480, *, format_: str = "JPEG", orientation: int = 1, seed: int = 3
) -> bytes:
    """A picture with one corner that shows its orientation: red at the top left, as it is shown."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([x * 80 // width + 40, y * 120 // height + 60, (x + y) % 97 + 60], -1) + rng.normal(
        0, 3, (height, width, 3)
    )
    pixels[: height // 4, : width // 4] = (230, 20, 20)
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    if orientation == 6:
        image = image.transpose(Image.Transpose.ROTATE_90)
    exif = image.getexif()
    exif[ORIENTATION] = orientation
    buffer = io.BytesIO()
    image.save(buffer, format_, **({"quality": 90, "exif": exif} if format_ == "JPEG" else {}))
    return buffer.getvalue()


@pytest.fixture(scope="session")
def photo() -> bytes:
    return make_photo()


@pytest.fixture
def pixtools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Commands in this process, each with the data of this test."""
    monkeypatch.setenv("PIXTOOLS_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(config.current, "_settings", None)
    monkeypatch.setattr("app.private.keep_new_files_private", lambda: None)
    return commands.run
