"""Open mode, and how long what the database says about keys is believed."""

import asyncio
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from app.database import Database
from app.errors import DatabaseUnavailable, MissingKey, RevokedKey
from app.models import Scope
from app.services.access import door as door_module
from app.services.access import keys
from app.services.access.door import KEPT_SECONDS, Door
from app.services.access.principal import ANYBODY
from app.tenancy import DEFAULT_TENANT
from tests.support.cost import Meter
from tests.support.tenants import new_key

HONOURED_SECONDS = 5.0  # what is promised of a revocation
LOCAL = {"host": "127.0.0.1:8000"}


def scope(peer: str | None = "127.0.0.1", **headers: str) -> dict[str, Any]:
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "client": (peer, 1) if peer else None, "headers": named}


def with_key(key: str, peer: str = "203.0.113.9") -> dict[str, Any]:
    return scope(peer, host="pixtools.test", authorization=f"Bearer {key}")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> "Clock":
    moved = Clock()
    monkeypatch.setattr(door_module.time, "monotonic", moved)
    return moved


class Clock:
    """That of a process, to be moved by hand."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Unlocked(Door):
    async def is_open(self) -> bool:
        return True


@pytest.mark.parametrize(
    "local",
    [
        scope(**LOCAL),
        scope(host="localhost"),
        scope(host="LocalHost.:80"),
        scope("::1", host="[::1]:8000"),
        scope("::ffff:127.0.0.1", host="127.9.9.9"),
    ],
)
def test_without_any_key_who_is_on_this_machine_needs_none(local: dict[str, Any]) -> None:
    assert asyncio.run(Unlocked(Database("sqlite://")).principal(local)) == ANYBODY
    assert ANYBODY.tenant == DEFAULT_TENANT
    assert all(map(ANYBODY.may, Scope))


@pytest.mark.parametrize(
    "foreign",
    [
        scope("203.0.113.9", **LOCAL),
        scope("10.0.0.1", **LOCAL),
        scope("testclient", **LOCAL),
        scope(None, **LOCAL),
        scope(host="pixtools.test"),
        scope(host="localhost.pixtools.test"),
        scope(host="0.0.0.0"),
        scope(),
        {**scope(), "headers": [(b"host", b"localhost"), (b"host", b"localhost")]},
        scope(**LOCAL, x_forwarded_for="127.0.0.1"),
        scope(**LOCAL, x_forwarded_proto="https"),
        scope(**LOCAL, forwarded="for=127.0.0.1"),
        scope(**LOCAL, x_real_ip="127.0.0.1"),
        scope(**LOCAL, via="1.1 proxy"),
    ],
)
def test_whoever_may_come_from_elsewhere_needs_a_key(foreign: dict[str, Any]) -> None:
    with pytest.raises(MissingKey):
        asyncio.run(Unlocked(Database("sqlite://")).principal(foreign))
    anybody = asyncio.run(Unlocked(Database("sqlite://"), open_access=True).principal(foreign))
    assert anybody == ANYBODY, "unless everybody is let in"


def test_the_first_key_closes_the_door_and_revoking_it_opens_nothing(database: Database, clock: Clock) -> None:
    async def enter() -> None:
        for door in (local, to_all):
            await door.principal(scope(**LOCAL))

    local, to_all = Door(database), Door(database, open_access=True)
    asyncio.run(_close_after(database, enter))
    key = new_key(database, DEFAULT_TENANT)
    clock.now += KEPT_SECONDS + 0.1
    assert KEPT_SECONDS < HONOURED_SECONDS
    with database.session() as session:
        keys.revoke(session, key.split("_")[1])
    for door in (local, to_all, Door(database), Door(database, open_access=True)):
        with pytest.raises(MissingKey):
            asyncio.run(_close_after(database, lambda door=door: door.principal(scope(**LOCAL))))
        assert not door.is_open_now()


async def _close_after(database: Database, work: Any) -> Any:
    try:
        return await work()
    finally:
        await database.aclose()


def test_a_revoked_key_opens_nothing_after_some_seconds_in_every_process(database: Database, clock: Clock) -> None:
    key = new_key(database, DEFAULT_TENANT)
    doors = [Door(database), Door(database)]

    def enter(door: Door) -> Any:
        return asyncio.run(_close_after(database, lambda: door.principal(with_key(key))))

    assert {enter(door).key_id for door in doors} == {key.split("_")[1]}
    with database.session() as session:
        keys.revoke(session, key.split("_")[1])
    clock.now += KEPT_SECONDS + 0.1
    for door in doors:
        with pytest.raises(RevokedKey):
            enter(door)


def test_a_key_costs_one_statement_and_then_none(database: Database, clock: Clock, meter: Meter) -> None:
    key, door = new_key(database, DEFAULT_TENANT), Door(database)

    async def enter() -> list[int]:
        counts = []
        for _ in range(3):
            meter.reset()
            await door.principal(with_key(key))
            counts.append(len(meter.statements))
        return counts

    assert asyncio.run(_close_after(database, enter)) == [1, 0, 0]
    clock.now += KEPT_SECONDS + 0.1
    assert asyncio.run(_close_after(database, enter)) == [1, 0, 0]


def test_the_use_of_keys_is_written_beside_the_requests(database: Database) -> None:
    key, door = new_key(database, DEFAULT_TENANT), Door(database)
    asyncio.run(_close_after(database, lambda: door.principal(with_key(key))))
    with database.session(read_only=True) as session:
        assert [each.last_used_at for each in keys.every(session)] == [None]
    assert (door.write_use(), door.write_use()) == (1, 0)
    with database.session(read_only=True) as session:
        (used,) = keys.every(session)
    assert used.last_used_at is not None


def test_what_is_known_of_keys_is_bounded(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_module, "MOST_KEPT", 3)
    made, door = [new_key(database, DEFAULT_TENANT) for _ in range(5)], Door(database)

    async def enter() -> None:
        for key in made:
            await door.principal(with_key(key))

    asyncio.run(_close_after(database, enter))
    assert len(door._kept) == 3


@pytest.mark.parametrize("hangs", [False, True])
@pytest.mark.parametrize("with_a_key", [False, True])
def test_who_asks_for_the_state_of_the_service_is_known_while_the_database_is_away(
    database: Database, monkeypatch: pytest.MonkeyPatch, with_a_key: bool, hangs: bool
) -> None:
    async def read(*_: object) -> None:
        if hangs:
            await asyncio.Event().wait()
        raise OperationalError("", None, OSError())

    async def ask() -> None:
        monkeypatch.setattr(door_module, "PATIENCE_SECONDS", 30)
        known = await door.operator(asked)
        with monkeypatch.context() as patched:
            patched.setattr(door_module, "PATIENCE_SECONDS", 0.1 if hangs else 30)
            patched.setattr(database, "read", read)
            for _ in range(3):
                assert await door.operator(asked) == known
            with pytest.raises(DatabaseUnavailable):
                await Door(database).operator(asked)
            if not hangs:
                with pytest.raises(OperationalError):
                    await door.principal(asked)
                with pytest.raises(MissingKey):
                    await door.operator(scope("203.0.113.9", **LOCAL))

    monkeypatch.setattr(door_module, "KEPT_SECONDS", 0.0)
    asked = with_key(new_key(database, DEFAULT_TENANT)) if with_a_key else scope(**LOCAL)
    door = Door(database)
    asyncio.run(_close_after(database, ask))
