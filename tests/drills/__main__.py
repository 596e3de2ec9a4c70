"""`make drills`: stages each failure on real servers, and prints its effects on health, metrics, log and jobs."""

import argparse
import json
import re
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

from tests.chaos.load import Submitted, submit_all
from tests.chaos.matrix import SETTINGS, Stage, ended, unique
from tests.support.deployment import cluster
from tests.support.fixtures import ClusterServers, ServerPool
from tests.support.receiver import receiving

from .drills import DRILLS, Drill, log_since, nothing

SHOWN = (
    "pixtools_dependency_up",
    "pixtools_outbox_lag_seconds",
    "pixtools_outbox_waiting",
    "pixtools_queue_workers",
    "pixtools_dead_letters_waiting",
)
TELLING = {"job_sent_again", "reconciled", "task_handed_back", "work_resumed", "dead_letter"}
END_WITHIN = 180.0  # seconds


def rehearse(drill: Drill, servers: ClusterServers, folder: Path, jobs: int) -> bool:
    """Run a drill; returns whether all jobs were accepted and have ended."""
    print(f"\n== {drill.name}", flush=True)
    with ExitStack() as stack:
        deployment = cluster(folder, servers, **{**SETTINGS, **drill.settings})
        stack.callback(deployment.kill)
        deployment.start()
        receiver = stack.enter_context(receiving())
        stage = Stage(servers, deployment, {})
        offset = deployment.log.stat().st_size
        drill.fail(stage)
        submitted: list[Submitted] = []
        client = threading.Thread(target=lambda: submitted.extend(submit_all(deployment.url, jobs, receiver.url)))
        client.start()
        time.sleep(drill.lasts)
        look(deployment.url)
        drill.repair(stage)
        repaired = time.monotonic()
        client.join()
        found = ended(deployment.url, submitted, END_WITHIN)
        print(f"the last job ended {time.monotonic() - repaired:.1f} s after the repair", flush=True)
        if drill.afterwards is not nothing:
            drill.afterwards(stage)
            found = ended(deployment.url, submitted, END_WITHIN)
        print(f"{len(submitted)} jobs accepted: {dict(Counter(job['status'] for job in found.values()))}")
        print(f"log: {events(log_since(deployment.log, offset))}", flush=True)
        return len(found) == len(submitted) == jobs


def look(url: str) -> None:
    """Print health and metrics during the failure."""
    try:
        health = httpx.get(f"{url}/health", timeout=20).json()
        metrics = httpx.get(f"{url}/metrics", timeout=20).text.splitlines()
    except httpx.HTTPError as error:
        print(f"/health: {type(error).__name__}")
        return
    print(f"/health: {health['status']}, {troubles(health)}")
    print(*(line for line in metrics if line.startswith(SHOWN) and not line.endswith(" 1.0")), sep="\n", flush=True)


def troubles(health: dict[str, Any]) -> dict[str, Any]:
    return {name: check for name, check in health["checks"].items() if check.get("status") != "ok"}


def events(log: str) -> dict[str, int]:
    """How often each log event occurs, most frequent first: warnings, errors and repairs."""
    seen: Counter[str] = Counter()
    for line in log.splitlines():
        if line.startswith("{"):
            entry = json.loads(line)
            name = entry["event"] if re.fullmatch("[a-z_]+", entry["event"]) else "by libraries"
            if entry.get("level") in {"warning", "error", "critical"} or name in TELLING:
                seen[name] += 1
    return dict(seen.most_common())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=16)
    parser.add_argument("--only", default="", help="drills whose name holds this")
    options = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pool = ServerPool(folder / "servers")
        servers = pool.cluster()
        try:
            for drill in DRILLS:
                if options.only in drill.name:
                    good = rehearse(drill, servers, unique(folder), options.jobs) and good
        finally:
            pool.stop()
    raise SystemExit(0 if good else 1)


if __name__ == "__main__":
    main()
