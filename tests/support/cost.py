"""Counts the transactions and statements of one job: `python -m tests.support.cost DATABASE_URL FOLDER [WEBHOOK_URL]`.

With a URL, a second job is counted as well, with a webhook to this URL.

All parts of the service run in this process, so that every statement of a job passes through its engines. Timers are
set so long that none fires meanwhile. The output is a JSON array with an object per job.
"""

import asyncio
import io
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
from PIL import Image
from sqlalchemy import Connection, Engine, event

from app.config import Settings
from app.main import create_app
from app.services.access import door

NEVER = 100_000  # seconds
PATIENCE = 60.0  # seconds
QUIET_SECONDS = 2.0  # without a statement, after which nothing more is expected
LOOK_SECONDS = 0.1
RENEWAL = "renewal"


class Meter:
    """Counts statements and commits of all engines, except renewals of leases, which depend on the duration."""

    def __init__(self) -> None:
        self.statements: list[str] = []
        self.commits = 0
        self.changes = 0
        event.listen(Engine, "before_cursor_execute", self._execute)
        event.listen(Engine, "commit", self._commit)

    def _execute(self, connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        self.changes += 1
        connection.info[RENEWAL] = statement.startswith("UPDATE job_steps SET lease_until")
        if not (statement.startswith("BEGIN") or connection.info[RENEWAL]):
            self.statements.append(f"{threading.current_thread().name}: {' '.join(statement.split())[:110]}")

    def _commit(self, connection: Connection) -> None:
        self.changes += 1
        self.commits += not connection.info.get(RENEWAL)

    def reset(self) -> None:
        self.statements, self.commits = [], 0

    async def quiet(self) -> None:
        """Wait until there has been no statement for a while, in which this process was not stopped itself."""
        deadline, seen, looks = time.monotonic() + PATIENCE, self.changes, 0
        while looks * LOOK_SECONDS < QUIET_SECONDS and time.monotonic() < deadline:
            await asyncio.sleep(LOOK_SECONDS)
            seen, looks = self.changes, looks + 1 if self.changes == seen else 0


def _photo() -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((640, 480)).save(buffer, "JPEG")
    return buffer.getvalue()


async def _await_delivery(api: httpx.AsyncClient, job_id: str) -> None:
    for _ in range(round(PATIENCE / LOOK_SECONDS)):
        deliveries = (await api.get("/deliveries", params={"job": job_id})).json()["data"]
        if [delivery["status"] for delivery in deliveries] == ["delivered"]:
            return
        await asyncio.sleep(LOOK_SECONDS)


async def _measure(settings: Settings, *webhook_urls: str) -> list[dict[str, Any]]:
    door.KEPT_SECONDS = NEVER
    app, meter, photo = create_app(settings), Meter(), _photo()
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1")
    measured = []
    async with app.router.lifespan_context(app), client as api:
        ended = threading.Event()
        app.state.resources.database.hooks.ended = lambda _: ended.set()

        async def run(form: dict[str, str]) -> httpx.Response:
            ended.clear()
            data = {"operations": '["convert_webp"]', **form}
            answer = await api.post("/process", data=data, files={"file": ("photo.jpg", photo)})
            await asyncio.to_thread(ended.wait, PATIENCE)
            return answer

        forms = [{}, *({"webhook_url": url} for url in webhook_urls)]
        for form in forms:  # the first job of each kind, with empty pools and caches, is not counted
            answer = await run(form)
            if form:
                await _await_delivery(api, answer.json()["id"])
        await meter.quiet()
        for form in forms:
            await app.state.resources.door.is_open()  # remembered, so that no counted request queries it
            meter.reset()
            answer = await run(form)
            await meter.quiet()
            counted = {"commits": meter.commits, "statements": list(meter.statements)}
            job = (await api.get(f"/jobs/{answer.json()['id']}")).json()
            measured.append({**counted, "status": job["status"]})
    return measured


def main(database_url: str, folder: str, *webhook_urls: str) -> None:
    settings = Settings(
        database_url=database_url,
        broker_url="memory://",
        data_dir=Path(folder),
        relay_poll_seconds=NEVER,
        reconcile_seconds=NEVER,
        retention_seconds=NEVER,
        usage_seconds=NEVER,
        max_open_jobs=NEVER,
        log_level="ERROR",
    )
    json.dump(asyncio.run(_measure(settings, *webhook_urls)), sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
