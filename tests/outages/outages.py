"""The outages: how each begins and ends, and the alerts that it must set off."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import httpx
import obstore
import psutil
from kombu import Connection

from app.operations import DEAD_LETTER_QUEUE
from app.tasks.celery_app import EXCHANGE
from tests.conftest import make_photo
from tests.outages.stage import MAX_OPEN_JOBS, Stage, upload
from tests.support.receiver import answer, receiving

FIRES_WITHIN = 90.0  # seconds
SHOWN_WITHIN = 110.0
CLEARS_WITHIN = 150.0  # seconds
IMAGE_WORKER, ML_WORKER = 1, 2
CHILD = "app.imaging.child"
OBJECTS = ("dependency", "queue", "slo")  # labels that say what an alert is about


@dataclass(frozen=True)
class Outage:
    """An outage."""

    name: str
    begin: Callable[[Stage], object]
    end: Callable[[Stage], object]
    #: labels of the alerts that must fire, and clear after the end
    alerts: tuple[dict[str, str], ...]


@dataclass(frozen=True)
class Seen:
    """When an alert of an outage fired and cleared, in seconds since the beginning and the end of the outage."""

    outage: str
    alert: dict[str, str]
    fired: float | None
    #: when the receiver for its severity got it, since the beginning
    shown: float | None
    cleared: float | None

    @property
    def holds(self) -> bool:
        return None not in (self.fired, self.shown, self.cleared)

    def __str__(self) -> str:
        label = next((value for name, value in self.alert.items() if name in OBJECTS), "")
        spans = (self.fired, self.shown, self.cleared)
        times = (f"{seconds:.0f}" if seconds is not None else "never" for seconds in spans)
        return f"| {self.outage} | `{self.alert['alertname']}` {label} | {' | '.join(times)} |"


HEADING = "| Outage | Alert | fired after, s | received after, s | cleared after, s |\n|---|---|---:|---:|---:|"


def run(stage: Stage, outage: Outage) -> list[Seen]:
    began = time.monotonic()
    for receiver in stage.people.values():
        receiver.requests.clear()
    outage.begin(stage)
    fired = _await(stage.prometheus.firing, outage, True, FIRES_WITHIN, began)
    shown = _await(lambda: [*stage.shown("page"), *stage.shown("ticket")], outage, True, SHOWN_WITHIN, began)
    ended = time.monotonic()
    outage.end(stage)
    cleared = _await(stage.prometheus.firing, outage, False, CLEARS_WITHIN, ended)
    return [
        Seen(outage.name, alert, fired.get(number), shown.get(number), cleared.get(number))
        for number, alert in enumerate(outage.alerts)
    ]


def _await(
    look: Callable[[], list[dict[str, str]]], outage: Outage, there: bool, seconds: float, since: float
) -> dict[int, float]:
    """Wait until each alert is there, or gone; returns the seconds of each by its index."""
    found: dict[int, float] = {}
    while len(found) < len(outage.alerts) and time.monotonic() - since < seconds:
        now = look()
        for number, alert in enumerate(outage.alerts):
            if number not in found and any(alert.items() <= labels.items() for labels in now) == there:
                found[number] = time.monotonic() - since
        time.sleep(0.3)
    return found


def cut(proxy: str) -> Callable[[Stage], None]:
    return lambda stage: stage.proxies[proxy].cut()


def heal(proxy: str) -> Callable[[Stage], None]:
    return lambda stage: stage.proxies[proxy].heal()


def stop_ml_worker(stage: Stage) -> None:
    worker = stage.deployment.processes[ML_WORKER]
    worker.terminate()
    worker.wait(60)
    upload(stage.deployment.url, ["denoise"])


def flood(stage: Stage) -> None:
    stop_ml_worker(stage)
    for _ in range(MAX_OPEN_JOBS + 10):
        upload(stage.deployment.url, ["denoise"])


def start_ml_worker(stage: Stage) -> None:
    """Start the worker again, and cancel the jobs that wait for it, which would take minutes on this machine."""
    for job in httpx.get(f"{stage.deployment.url}/jobs", params={"limit": 100}, timeout=30).json()["data"]:
        if job["status"] in {"pending", "processing"}:
            httpx.post(f"{stage.deployment.url}/jobs/{job['id']}/cancel", timeout=30)
    stage.deployment.processes[ML_WORKER] = stage.deployment.restart(ML_WORKER)


def give_up_a_message(stage: Stage) -> None:
    """Publish a dead letter as RabbitMQ does for a message that crashed its workers; the real way takes 20 crashes."""
    with Connection(stage.deployment.environment["PIXTOOLS_BROKER_URL"]) as connection:
        connection.Producer().publish(
            [["no-job"], {}, {}],
            exchange=EXCHANGE,
            routing_key=DEAD_LETTER_QUEUE,
            headers={"id": "staged", "task": "pixtools.resize", "reason": "delivery_limit"},
        )


def purge_dead_letters(stage: Stage) -> None:
    command = [sys.executable, "-m", "app", "server", "dlq", "purge", "--all"]
    subprocess.run(command, env=stage.deployment.variables(), check=True, timeout=60, capture_output=True)


def pause_api(stage: Stage) -> None:
    os.killpg(stage.deployment.processes[0].pid, signal.SIGSTOP)


def resume_api(stage: Stage) -> None:
    os.killpg(stage.deployment.processes[0].pid, signal.SIGCONT)


@contextmanager
def waiting_jobs(stage: Stage) -> Iterator[None]:
    """Jobs were accepted and wait, since the worker for pixels stands still."""
    group = stage.deployment.processes[IMAGE_WORKER].pid
    os.killpg(group, signal.SIGSTOP)
    for number in range(12):  # each another image, since workers keep the last ones
        upload(stage.deployment.url, ["convert_webp"], image=make_photo(320, 241 + number))
    try:
        yield
    finally:
        os.killpg(group, signal.SIGCONT)


def lose_storage_under_work(stage: Stage) -> None:
    """No job fails because of that: they wait for the storage."""
    with waiting_jobs(stage):
        stage.proxies["storage"].cut()


def lose_objects(stage: Stage) -> None:
    """As a storage in memory does when it restarts: the jobs' uploads are gone."""
    with waiting_jobs(stage):
        for entries in obstore.list(stage.objects):
            obstore.delete(stage.objects, [entry["path"] for entry in entries])


class Killer:
    """Kills pixel processes again and again, as the kernel does when memory is short."""

    def begin(self, stage: Stage) -> None:
        self._over = threading.Event()
        worker = psutil.Process(stage.deployment.processes[IMAGE_WORKER].pid)
        self._thread = threading.Thread(target=self._kill, args=(worker,), daemon=True)
        self._thread.start()

    def _kill(self, worker: psutil.Process) -> None:
        while not self._over.wait(0.03):
            for process in worker.children(recursive=True):
                with suppress(psutil.Error):
                    if CHILD in process.cmdline():
                        process.kill()

    def end(self, stage: Stage) -> None:
        self._over.set()
        self._thread.join()
        purge_dead_letters(stage)  # the load repeats the same image, which would be refused as poison


class FailingReceiver:
    """Refuses events until it recovers."""

    def fail(self, stage: Stage) -> None:
        self._receiver = stage.stack.enter_context(receiving(answer(500)))
        for _ in range(12):
            upload(stage.deployment.url, ["convert_webp"], webhook_url=self._receiver.url)

    def recover(self, _: Stage) -> None:
        self._receiver.behave(answer(204))


RECEIVER, KILLER = FailingReceiver(), Killer()
OUTAGES = [
    Outage(
        "Redis is lost",
        cut("redis"),
        heal("redis"),
        ({"alertname": "PixToolsRedisDown", "severity": "ticket"},),
    ),
    Outage(
        "the broker is lost",
        cut("broker"),
        heal("broker"),
        (
            {"alertname": "PixToolsDependencyDown", "dependency": "broker"},
            {"alertname": "PixToolsOutboxLag"},
        ),
    ),
    Outage(
        "no ML worker",
        stop_ml_worker,
        start_ml_worker,
        (
            {"alertname": "PixToolsNoMlWorker", "queue": "ml_inference_queue"},
            {"alertname": "PixToolsQueueBacklog", "queue": "ml_inference_queue"},
        ),
    ),
    Outage(
        "more jobs than are taken",
        flood,
        start_ml_worker,
        ({"alertname": "PixToolsWorkRefused"},),
    ),
    Outage(
        "a message is given up",
        give_up_a_message,
        purge_dead_letters,
        ({"alertname": "PixToolsDeadLetters"},),
    ),
    Outage(
        "the storage is lost while jobs run",
        lose_storage_under_work,
        heal("storage"),
        ({"alertname": "PixToolsDependencyDown", "dependency": "storage"},),
    ),
    Outage(
        "the storage loses its objects",
        lose_objects,
        lambda _: None,
        (
            {"alertname": "PixToolsBudgetBurnsFast", "slo": "job_success"},
            {"alertname": "PixToolsBudgetBurnsSlowly", "slo": "job_success"},
        ),
    ),
    Outage(
        "pixel processes are killed",
        KILLER.begin,
        KILLER.end,
        ({"alertname": "PixToolsStepsCrash"}, {"alertname": "PixToolsDeadLetters"}),
    ),
    Outage(
        "a receiver refuses its webhooks",
        RECEIVER.fail,
        RECEIVER.recover,
        ({"alertname": "PixToolsWebhookBreakerOpen"},),
    ),
    Outage("the API hangs", pause_api, resume_api, ({"alertname": "PixToolsDown"},)),
]
