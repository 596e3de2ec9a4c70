"""A disk that is filled and freed under load: clients get an error, and no accepted job is lost or fails."""

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.config import Settings
from app.doctor import examine
from app.errors import NoRoom, StoreUnavailable
from app.services import steps
from app.services.monitoring.checks import Health
from app.services.monitoring.disk_space import Room
from tests.conftest import make_photo
from tests.support.deployment import ROOT, ApiClient, Deployment, cluster, embedded
from tests.support.processes import frozen, pixel_processes
from tests.support.small_disk import INSIDE, CannotMount, filled, run_in_namespace, small_disk
from tests.support.work import accept, claimed, messages, step_of

TREE = ["convert_png", {"op": "resize", "width": 300, "then": ["convert_webp"]}]
SLOW = [{"op": "resize", "width": 1000, "enlarge": True, "then": [{"op": "convert_webp", "effort": 6}]}]
RESULTS = [["convert_png", "resize.convert_webp"], ["resize.convert_webp"]]
MEGABYTES = 64
NOTICED = 30.0  # seconds until the service must have seen what has become of its disk
FULL_SECONDS = 4.0  # longer than all attempts at a step and their pauses would take if they counted
PATIENCE = 120.0  # seconds until what waited has ended
REFUSALS = {"no_room", "storage_unavailable", "database_unavailable"}
SETTINGS = {"PIXTOOLS_MIN_FREE_BYTES": "4000000", "PIXTOOLS_STEP_MAX_ATTEMPTS": "2"}


@dataclass
class Load:
    """Clients that upload again and again, and keep what they were answered."""

    url: str
    clients: int = 2
    most: int = 0
    accepted: list[str] = field(default_factory=list)
    refused: list[httpx.Response] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Load":
        self._threads = [threading.Thread(target=self._upload, args=(n,)) for n in range(self.clients)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join()

    def _upload(self, number: int) -> None:
        photo = make_photo(320, 240, seed=number)
        with httpx.Client(base_url=self.url, timeout=60) as http:
            while not self.stop.wait(0.4):
                if len(self.accepted) >= self.most:
                    continue
                data = {"operations": json.dumps(TREE)}
                answer = http.post("/process", data=data, files={"file": ("photo.jpg", photo)})
                self._note(answer)

    def _note(self, answer: httpx.Response) -> None:
        if answer.status_code == 202:
            self.accepted.append(answer.json()["id"])
        elif answer.status_code == 503 and "retry-after" in answer.headers and answer.json()["code"] in REFUSALS:
            self.refused.append(answer)
        else:
            self.wrong.append(f"{answer.status_code} {answer.text}")


@dataclass(frozen=True)
class Service:
    """A running service and the disk below it."""

    deployment: Deployment
    disk: Path

    def ready(self) -> int:
        return httpx.get(f"{self.deployment.url}/health/ready", timeout=10).status_code


@pytest.fixture(params=["embedded", pytest.param("cluster", marks=pytest.mark.full)])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service | None]:
    """None: the test has run in a namespace."""
    with ExitStack() as stack:
        try:
            disk = stack.enter_context(small_disk(tmp_path / "disk", MEGABYTES))
        except CannotMount as reason:
            _elsewhere(request, reason)
            yield None
            return
        deployment = _deployment(request, tmp_path, disk)
        stack.callback(deployment.stop)
        deployment.start()
        yield Service(deployment, disk)


def _elsewhere(request: pytest.FixtureRequest, reason: CannotMount) -> None:
    if INSIDE in os.environ or request.param != "embedded":  # the servers of a cluster need users of their own
        pytest.skip(f"NOT TESTED: no disk can be mounted here ({reason}); run the tests as root")
    done = run_in_namespace(request.node.nodeid.partition("@")[0])  # without its group
    if "unshare:" in done.stderr:
        pytest.skip(f"NOT TESTED: no disk can be mounted here ({reason}; {done.stderr.strip()}); run the tests as root")
    assert done.returncode == 0, done.stdout


def _deployment(request: pytest.FixtureRequest, folder: Path, disk: Path) -> Deployment:
    if request.param == "embedded":
        running = embedded(folder, **SETTINGS)
        running.environment["PIXTOOLS_DATA_DIR"] = str(disk / "data")
        return running
    settings = {**SETTINGS, "PIXTOOLS_SPOOL_DIR": str(disk / "spool"), "PIXTOOLS_RECONCILE_SECONDS": "2"}
    servers = request.getfixturevalue("cluster_servers")
    settings["PIXTOOLS_STORAGE_URL"] = (disk / "objects").as_uri()
    return cluster(folder, servers, ["default_queue"], **settings)


def await_(what: Callable[[], bool], seconds: float, why: str) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, why
        time.sleep(0.1)


@pytest.mark.timeout(300)
def test_a_disk_that_is_filled_and_freed_under_load_costs_no_job(service: Service | None) -> None:
    if service is None:
        return
    _fill_and_free(service, rounds=1)


@pytest.mark.full
@pytest.mark.timeout(600)
def test_a_disk_that_is_filled_and_freed_again_and_again_costs_no_job(service: Service | None) -> None:
    if service is None:
        return
    _fill_and_free(service, rounds=4)


def _fill_and_free(service: Service, rounds: int) -> None:
    with service.deployment.client() as api:
        with Load(service.deployment.url) as load:
            for _ in range(rounds):
                _fill_and_free_once(service, api, load)
        assert not load.wrong
        for job_id in load.accepted:
            _check(api, api.ended(job_id, timeout=PATIENCE))
        assert api.total_jobs() == len(load.accepted)
    log = service.deployment.log.read_text()
    assert '"task_put_off"' in log or '"database_away"' in log, "no work has met the full disk"
    assert "Traceback" not in log, log[log.index("Traceback") - 2000 :][:6000]


def _fill_and_free_once(service: Service, api: ApiClient, load: Load) -> None:
    _await_accepted(load, 3)
    with ExitStack() as full:
        _fill_during_work(service, api, load, full)
        load.most = sys.maxsize
        await_(lambda: service.ready() == 503, NOTICED, "a full disk is not noticed")
        refused = len(load.refused)
        until = time.monotonic() + FULL_SECONDS
        while time.monotonic() < until:
            failed = [job["error"] for job in map(api.job, list(load.accepted)) if job["status"] == "failed"]
            assert not failed
            assert service.ready() == 503
            time.sleep(0.5)
        await_(lambda: len(load.refused) > refused, NOTICED, "no upload is refused")
        load.most = 0
    await_(lambda: service.ready() == 200, NOTICED, "a free disk is not noticed")
    _await_accepted(load, 1)


def _fill_during_work(service: Service, api: ApiClient, load: Load, full: ExitStack) -> None:
    """Fill the disk while steps are running, which meet it when they end; `full` frees it."""
    photo = make_photo(320, 240, seed=99)
    for _ in range(5):
        slow = [api.accepted(photo, SLOW)["id"] for _ in range(2)]
        load.accepted += slow
        await_(partial(_runs, api, slow), PATIENCE, "no work is under way")
        with frozen(pixel_processes(service.deployment)):
            full.enter_context(filled(service.disk))
            if _runs(api, slow):
                return
            full.close()
    pytest.fail("all work had ended before the disk was full")


def _await_accepted(load: Load, more: int) -> None:
    load.most = len(load.accepted) + more
    await_(lambda: len(load.accepted) >= load.most or bool(load.wrong), PATIENCE, "too few jobs are accepted")
    assert not load.wrong


def _runs(api: ApiClient, jobs: list[str]) -> bool:
    return any(step["status"] == "running" for job_id in jobs for step in api.job(job_id)["steps"])


def _check(api: Any, job: dict[str, Any]) -> None:
    assert job["status"] == "completed", job["error"]
    assert sorted(result["name"] for result in job["results"]) in RESULTS
    for result in job["results"]:
        assert hashlib.sha256(api.download(result).content).hexdigest() == result["sha256"]


def test_a_step_waits_for_the_storage_and_uses_up_no_attempt(database: Any) -> None:
    job_id = accept(database, ["convert_png"])
    for _ in range(10):
        held = claimed(database, job_id, "0")
        assert held.attempt == 1
        with database.session() as session:
            assert steps.put_off(session, held, StoreUnavailable()) is not None
        step = step_of(database, job_id, "0")
        assert (step.status, step.attempts, step.error["code"]) == ("pending", 0, "storage_unavailable")
        [(task, args, delay)] = messages(database)
        assert (task, args, delay) == ("pixtools.start_job", [str(job_id), "0"], 2)
        with database.session() as session:
            assert steps.put_off(session, held, StoreUnavailable()) is None, "this attempt counts no more"


COUNTING = """
from pathlib import Path
from app import metrics
from tests.support.small_disk import filled
metrics.STEPS.labels("before", "succeeded").inc()
with filled(Path(DISK)):
    for number in range(9000):
        metrics.STEPS.labels(f"op-{number}", "succeeded").inc()
        metrics.STEP_SECONDS.labels(f"op-{number % 9}", "default_queue").observe(1)
    assert metrics.STEPS.labels("op-8999", "succeeded")._value.get() == 1
print("alive")
"""


@pytest.mark.parametrize("reserved", [True, False])
def test_a_process_survives_counting_on_a_full_disk(tmp_path: Path, reserved: bool) -> None:
    """Writing to a mapped file that has no blocks would end it by a signal, with all its work."""
    try:
        with small_disk(tmp_path / "disk", 2) as disk:
            before = "" if reserved else "from app import metric_files; metric_files._reserve = lambda *_: False\n"
            done = subprocess.run(
                [sys.executable, "-c", before + COUNTING.replace("DISK", repr(str(disk)))],
                cwd=ROOT,
                env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(disk / "metrics"), "PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
    except CannotMount as reason:
        pytest.skip(f"NOT TESTED: no disk can be mounted here ({reason}); run the tests as root")
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr


def test_a_disk_below_the_minimum_has_no_room(tmp_path: Path) -> None:
    Room((tmp_path / "new",), 1).probe()
    with pytest.raises(NoRoom) as error:
        Room((tmp_path,), 10**18).check()
    assert error.value.limit == 10**18
    assert error.value.retry_after
    assert str(tmp_path) not in error.value.message


def test_the_doctor_sees_a_disk_below_the_minimum(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, data_dir=tmp_path / "data", min_free_bytes=10**18)
    [finding] = [finding for finding in examine(settings) if finding.subject == "spool"]
    assert finding.health is Health.DOWN
    assert "PIXTOOLS_MIN_FREE_BYTES" in str(finding)
