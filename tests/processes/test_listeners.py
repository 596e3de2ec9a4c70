"""Listeners that are cut off, and API processes that are killed: no stored event is lost and none comes twice."""

import asyncio
import random
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.deployment import PLAIN, Deployment, cluster, embedded
from tests.support.sse import Breaking, events_of

pytestmark = pytest.mark.integration

SETTINGS = {"PIXTOOLS_MAX_LISTENERS": "500", "PIXTOOLS_TENANT_MAX_LISTENERS": "500"}
SHORT = {"listeners": 4, "breaks": 8, "kills": 1, "hold": 0.1, "pause": 0.15}
LEAST = 12  # events
LONG = {"listeners": 50, "breaks": 200, "kills": 20, "hold": 1.0, "pause": 0.03}  # seconds: the API has time for more


class Apis:
    """API processes over one database: one in the single process, two of a cluster without workers."""

    def __init__(self, deployments: list[Deployment]) -> None:
        self.deployments = deployments
        self.urls = [each.url for each in deployments]

    def start(self) -> None:
        for each in self.deployments:
            each.start()

    def kill_one(self, chance: random.Random) -> None:
        """As a power cut, and up again."""
        chosen = chance.choice(self.deployments)
        chosen.kill()
        chosen.start()

    def stop(self) -> None:
        for each in self.deployments:
            each.kill()


@pytest.fixture(params=[pytest.param("embedded", marks=pytest.mark.full), "cluster"])
def apis(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Apis]:
    if request.param == "embedded":
        deployments = [embedded(tmp_path, **SETTINGS)]
    else:
        first = cluster(tmp_path, request.getfixturevalue("cluster_servers"), (), **SETTINGS)
        (tmp_path / "second").mkdir()
        second = Deployment("cluster", tmp_path / "second", first.environment, [["app", "api"]])
        deployments = [first, second]
    running = Apis(deployments)
    try:
        running.start()
        yield running
    finally:
        running.stop()


async def _make_events(
    urls: list[str], image: bytes, http: httpx.AsyncClient, pause: float, done: asyncio.Event
) -> None:
    """Jobs that end at once, each with an event; a server that is away is passed over."""
    number = made = 0
    while not done.is_set() or made < LEAST:
        url = urls[number % len(urls)]
        number += 1
        files, data = {"file": ("a.png", image)}, {"operations": '["convert_png"]'}
        with suppress(httpx.HTTPError, KeyError, ValueError):
            job = (await http.post(f"{url}/process", data=data, files=files)).json()
            answer = await http.post(f"{url}/jobs/{job['id']}/cancel")
            made += answer.is_success or answer.status_code == httpx.codes.CONFLICT  # it has ended by itself
        await asyncio.sleep(pause)


def _log(url: str) -> list[str]:
    """Every stored event, by the pages of `GET /events`."""
    after, ids = "0", []
    while True:
        page = httpx.get(f"{url}/events", params={"after": after, "limit": 100}, verify=PLAIN, timeout=30).json()
        ids += [event["id"] for event in page["data"]]
        after = page["next_after"]
        if not page["has_more"]:
            return ids


async def _torment(apis: Apis, image: bytes, size: dict[str, Any]) -> list[Breaking]:
    done, chance = asyncio.Event(), random.Random(7)
    listening = [Breaking(apis.urls, random.Random(seed), size["hold"]) for seed in range(size["listeners"])]
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(timeout=20, verify=PLAIN, limits=limits) as http:
        making = asyncio.create_task(_make_events(apis.urls, image, http, size["pause"], done))
        tasks = [asyncio.create_task(each.listen(http, size["breaks"], done)) for each in listening]
        for _ in range(size["kills"]):
            await asyncio.sleep(10 * size["hold"])
            await asyncio.to_thread(apis.kill_one, chance)
        await asyncio.sleep(1)
        done.set()
        await making
        await asyncio.gather(*tasks)
        last = (await asyncio.to_thread(_log, apis.urls[0]))[-1]
        async with asyncio.timeout(120):
            await asyncio.gather(*(each.finish(http, last) for each in listening))
    return listening


def _hold(apis: Apis, image: bytes, size: dict[str, Any]) -> None:
    listening = asyncio.run(_torment(apis, image, size))
    stored = _log(apis.urls[0])
    assert len(stored) >= LEAST
    assert min(each.breaks for each in listening) >= size["breaks"]
    for each in listening:
        assert each.seen == stored


def test_no_event_is_lost_or_doubled_over_breaks_and_kills(apis: Apis, png: bytes) -> None:
    _hold(apis, png, SHORT)


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_no_event_is_lost_or_doubled_over_ten_thousand_breaks_of_fifty(apis: Apis, png: bytes) -> None:
    _hold(apis, png, LONG)


def test_a_server_that_stops_ends_its_streams_at_once(tmp_path: Path) -> None:
    deployment = embedded(tmp_path)
    deployment.start()
    try:
        asyncio.run(_stopped(deployment))
    finally:
        deployment.kill()


async def _stopped(deployment: Deployment) -> None:
    url = f"{deployment.url}/events/stream"
    async with httpx.AsyncClient(timeout=60, verify=PLAIN) as http, http.stream("GET", url) as response:
        shown = events_of(response)
        assert set(await anext(shown)) == {"retry", "id"}
        began = time.monotonic()
        deployment.processes[0].send_signal(signal.SIGTERM)
        assert [event async for event in shown] == []
        assert time.monotonic() - began < 9  # and not the grace of requests, 10 seconds


@pytest.fixture
def png() -> bytes:
    from tests.support.tenants import picture

    return picture()
