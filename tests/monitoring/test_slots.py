"""Metrics of many processes in one folder."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app import slots
from tests.support.sampling import WHOLE

RECYCLED = 1000 if WHOLE else 200
TOGETHER = 4

FORKING = f"""
import os, sys
from prometheus_client import Gauge
from app import metrics

state = Gauge("state", "Of a process.", ["of"], registry=metrics.REGISTRY, multiprocess_mode="livemax")

running = 0
for number in range({RECYCLED}):
    if running == {TOGETHER}:
        os.wait()
        running -= 1
    if os.fork() == 0:
        metrics.EXPIRED_JOBS.inc()
        state.labels("it").set(number)
        os._exit(0)
    running += 1
while running:
    os.wait()
    running -= 1
metrics.EXPIRED_JOBS.inc(0.5)
sys.stdout.buffer.write(metrics.render("")[0])
"""

KILLED = """
import os, signal, sys, time
from prometheus_client import Gauge
from app import metrics

state = Gauge("state", "Of a process.", ["of"], registry=metrics.REGISTRY, multiprocess_mode="livemax")

if (child := os.fork()) == 0:
    metrics.EXPIRED_JOBS.inc(3)
    state.labels("it").set(1)
    os.write(1, metrics.render("")[0])
    os.kill(os.getpid(), signal.SIGKILL)
os.waitpid(child, 0)
os.write(1, b"\\0" + metrics.render("")[0])
"""


def run(script: str, folder: Path) -> str:
    environment = {**os.environ, slots.FOLDER: str(folder)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=True, timeout=120)
    return done.stdout.decode()


def values(text: str, name: str) -> list[float]:
    families = text_string_to_metric_families(text)
    return [sample.value for family in families for sample in family.samples if sample.name == name]


def test_hundreds_of_children_count_together_and_leave_a_handful_of_files(tmp_path: Path) -> None:
    text = run(FORKING, tmp_path / "metrics")
    assert values(text, "pixtools_expired_jobs_total") == [RECYCLED + 0.5]
    assert values(text, "state") == [], "the dead have no state"
    held = list((tmp_path / "metrics").glob("slot-*.lock"))
    assert len(held) <= TOGETHER + 2
    assert len(list((tmp_path / "metrics").iterdir())) <= 5 * len(held)


def test_a_killed_process_has_counted_and_has_no_state(tmp_path: Path) -> None:
    alive, dead = run(KILLED, tmp_path / "metrics").split("\0")
    assert values(alive, "state") == [1.0]
    assert values(alive, "pixtools_expired_jobs_total") == [3.0]
    assert values(dead, "state") == []
    assert values(dead, "pixtools_expired_jobs_total") == [3.0]


def test_folders_of_dead_commands_are_removed_and_others_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(slots.FOLDER, raising=False)
    (tmp_path / "metrics-1").mkdir()
    (tmp_path / "metrics-1" / "slot-0.lock").touch()
    (tmp_path / "images").mkdir()
    holding = (
        "import os, sys, signal; from app import slots; slots.current(); print('held', flush=True); signal.pause()"
    )
    environment = {**os.environ, slots.FOLDER: str(tmp_path / "metrics-2")}
    with subprocess.Popen([sys.executable, "-c", holding], env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        monkeypatch.setenv(slots.FOLDER, "")
        slots.share(tmp_path)
        process.send_signal(signal.SIGKILL)
    assert {path.name for path in tmp_path.iterdir()} == {"images", f"metrics-{os.getpid()}", "metrics-2"}
    assert slots.folder() == tmp_path / f"metrics-{os.getpid()}"


def test_metrics_are_in_memory_where_no_folder_is_named() -> None:
    code = "from app import metrics; metrics.EXPIRED_JOBS.inc(); print(metrics.render('')[0].decode())"
    environment = {name: value for name, value in os.environ.items() if name != slots.FOLDER}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True, timeout=60)
    assert values(done.stdout.decode(), "pixtools_expired_jobs_total") == [1.0]
    assert values(done.stdout.decode(), "process_open_fds") != []
