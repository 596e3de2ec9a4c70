"""A reader of server-sent events that disconnects at random times, and resumes after its last event."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

PAUSE = 0.05  # seconds between attempts to reach a server that is down


async def events_of(response: httpx.Response) -> AsyncIterator[dict[str, str]]:
    """The fields of each event; those without data have only an id."""
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        elif fields:
            yield fields
            fields = {}


@dataclass
class Breaking:
    """Listens to the log of events, with frequent disconnections, its own and those of killed servers."""

    urls: Sequence[str]
    chance: random.Random
    #: seconds between two disconnections, on average
    hold: float = 0.2
    cursor: str | None = "0"
    breaks: int = 0
    seen: list[str] = field(default_factory=list)

    async def listen(self, http: httpx.AsyncClient, most: int, done: asyncio.Event) -> None:
        """Listen until there were `most` disconnections and `done` is set."""
        while self.breaks < most or not done.is_set():
            try:
                await self._once(http, 0.02 + self.chance.random() * 2 * self.hold)
            except (httpx.HTTPError, TimeoutError):
                await asyncio.sleep(PAUSE)
            self.breaks += 1

    async def finish(self, http: httpx.AsyncClient, last: str) -> None:
        """Read the remaining events, up to this one."""
        while last not in self.seen:
            await self._finish_once(http, last)

    async def _finish_once(self, http: httpx.AsyncClient, last: str) -> None:
        try:
            await self._once(http, 5, last)
        except (httpx.HTTPError, TimeoutError):
            await asyncio.sleep(PAUSE)

    async def _once(self, http: httpx.AsyncClient, seconds: float, last: str | None = None) -> None:
        headers = {"Last-Event-ID": self.cursor} if self.cursor else {}
        url = f"{self.chance.choice(self.urls)}/events/stream"
        async with asyncio.timeout(seconds), http.stream("GET", url, headers=headers) as response:
            assert response.status_code in {200, 503}, response.status_code
            async for event in events_of(response):
                self._take(event)
                if last and self.cursor == last:
                    return

    def _take(self, event: dict[str, str]) -> None:
        self.cursor = event.get("id", self.cursor)
        if "data" in event:
            shown: dict[str, Any] = json.loads(event["data"])
            assert shown["id"] == event["id"]
            self.seen.append(shown["id"])
