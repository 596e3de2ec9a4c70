"""Tenants with one object of every kind, and the API within this process, to access them with the tenants' keys."""

import asyncio
import hashlib
import io
import re
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import Any, TypeVar
from uuid import UUID, uuid4

import httpx
from fastapi import FastAPI
from PIL import Image
from sqlalchemy import select
from uuid_utils.compat import uuid7

from app.config import Settings
from app.database import Base, Database
from app.main import app
from app.models import DeadLetter, Event, Job, JobTombstone, Result, Scope, WebhookDelivery
from app.operations import AssetKind
from app.services import stores
from app.services.access import audit, keys, tenants, usage
from app.services.intake import assets, templates
from app.services.intake.templates import Definition
from app.services.intake.uploads import Upload
from app.services.storage.destinations import Connection
from app.services.storage.keys import asset_key
from app.services.webhooks import endpoints, events, replays
from app.wiring import Resources

from .work import accept, run_task

T = TypeVar("T")

ALL_OF_A_TENANT = frozenset(Scope) - {Scope.ADMIN}
PORT = 8000
LOOPBACK = f"http://127.0.0.1:{PORT}"
TREE = ["convert_webp"]


CONNECTION = Connection(
    url="s3://photos",
    endpoint=None,
    region="eu-central-1",
    credentials={"access_key_id": "AK", "secret_access_key": "secret"},
)


@dataclass(frozen=True)
class Belongings:
    """The ids of the objects of one tenant."""

    tenant: str
    key: str
    key_id: str
    job: UUID
    open_job: UUID
    result: str
    endpoint: str
    delivery: str
    event: str
    replay: str
    #: an expired job
    expired: UUID
    #: name of the template and of the asset, and external id of the job
    name: str
    store: str
    #: dead letter of the open job
    letter: str

    @property
    def marks(self) -> set[str]:
        """The strings that answers to other tenants must not contain."""
        ids = {self.key_id, self.endpoint, self.delivery, self.event, self.replay, self.store, self.letter}
        return ids | {str(self.job), str(self.open_job), str(self.expired), self.tenant, self.host, self.name}

    @property
    def host(self) -> str:
        return f"hooks.{self.tenant}.test"


def new_key(database: Database, tenant: str, scopes: frozenset[Scope] = ALL_OF_A_TENANT, **more: Any) -> str:
    with database.session() as session:
        return keys.create(session, keys.NewKey(tenant=tenant, scopes=scopes, **more))[1]


def furnish(resources: Resources, tenant: str) -> Belongings:
    """Create a tenant with one object of every kind."""
    database = resources.database
    with database.session() as session:
        tenants.create(session, tenant)
    key = new_key(database, tenant)
    with database.session(tenant=tenant) as session:
        endpoint, _ = endpoints.create(
            session, url=f"http://hooks.{tenant}.test/", events=[], description=f"of {tenant}"
        )
        store, _ = stores.put(session, f"photos-{token_hex(4)}", CONNECTION)
    key_id = key.split("_")[1]
    name, expired = f"n{uuid4().hex}", uuid7()
    kept: dict[str, Any] = {"tags": {"owner": tenant}, "external_id": name}
    job = accept(database, TREE, tenant=tenant, content=tenant.encode(), key_id=key_id, **kept)
    _furnish_by_name(resources, tenant, name)
    run_task(database, job, "0")
    open_job = accept(database, TREE, tenant=tenant, content=b"open")
    with database.session() as session:
        session.add(JobTombstone(job_id=expired, tenant=tenant, expired_at=datetime.now(UTC)))
        audit.record(session, "endpoint.created", endpoint.id, tenant=tenant, actor=key_id)
        events.number(session)
        usage.aggregate(session)
        result = session.scalars(select(Result).where(Result.job_id == job)).one()
        result.key = f"jobs/{job}/{tenant}"
        assert resources.storage.folder
        path = resources.storage.folder / result.key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tenant.encode() * 100)
        result.bytes = path.stat().st_size
        event = session.scalars(select(Event).where(Event.job_id == job)).one()
        delivery = session.scalars(select(WebhookDelivery).where(WebhookDelivery.event_id == event.id)).one()
        replay = replays.start(
            session,
            replays.Wanted(endpoint_id=endpoint.id, since=event.created_at, until=None, missed_only=True),
        )
    return Belongings(
        letter=poison(database, open_job, "0" * 64),
        tenant=tenant,
        key=key,
        key_id=key_id,
        job=job,
        open_job=open_job,
        result=result.name,
        endpoint=endpoint.id,
        delivery=delivery.id,
        event=event.id,
        replay=replay.id,
        expired=expired,
        name=name,
        store=store.name,
    )


def _furnish_by_name(resources: Resources, tenant: str, name: str) -> None:
    """Create a template and an asset."""
    content = tenant.encode() * 10
    upload = Upload(
        file=io.BytesIO(content), filename="", size=len(content), sha256=hashlib.sha256(content).hexdigest()
    )
    with resources.database.session(tenant=tenant) as session:
        templates.put(session, name, Definition(operations=TREE, params={}))
        assets.reserve(session, name, upload.sha256, upload.size, resources.tenant_limits)
        assets.name_file(session, name, upload, assets.Facts(kind=AssetKind.IMAGE, content_type="image/png"))
    assert resources.storage.folder
    path = resources.storage.folder / asset_key(tenant, upload.sha256)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def shown(marks: Iterable[str], text: str) -> list[str]:
    """The marks that a text holds, as words: the name of a tenant may be a part of others, and of random ids."""
    return [mark for mark in marks if re.search(rf"\b{re.escape(mark)}\b", text)]


def everything(resources: Resources, whose: Belongings) -> set[tuple[str, ...]]:
    """All current rows and objects of a tenant."""
    marks = {form for mark in whose.marks for form in (mark, mark.replace("-", ""))}
    with resources.database.session(read_only=True) as session:
        found = {
            (table.name, *map(str, row))
            for table in Base.metadata.sorted_tables
            for row in session.connection().execute(table.select())
            if shown(marks, str(row))
        }
    objects = resources.storage.entries("")
    return found | {("object", key, str(size)) for key, size in objects if shown([whose.tenant], key)}


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "#336699").save(buffer, "PNG")
    return buffer.getvalue()


def use_engines(database: Database, owner: Database) -> None:
    """Let a database use the engines of another one with the same URL.

    `Database.aclose` closes all their connections, so that the next event loop can use them.
    """
    database.engine = owner.engine
    if not owner.is_sqlite:
        database.async_engine = owner.async_engine


class Service:
    """The API within this process, without background services: no worker takes accepted jobs."""

    def __init__(self, database_url: str, folder: Path, **settings: Any) -> None:
        settings.setdefault("listen_seconds", 0.3)  # answers are only visible here when they end
        self.settings = Settings(_env_file=None, database_url=database_url, data_dir=folder, **settings)
        self.app: FastAPI = app  # has built its routes; settings and state are in the resources
        #: for changes that a test makes without the API
        self.resources = Resources(self.settings)

    def ask(self, work: "Coroutine[Any, Any, T]") -> T:
        """Run requests with new resources, as in a process that has just started."""

        async def run() -> T:
            resources = self.app.state.resources = Resources(self.settings)
            use_engines(resources.database, self.resources.database)
            try:
                return await work
            finally:
                await resources.aclose()

        return asyncio.run(run())

    @asynccontextmanager
    async def client(
        self, key: str | None = None, *, peer: str = "127.0.0.1", headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[httpx.AsyncClient]:
        own = {**({"Authorization": f"Bearer {key}"} if key else {}), **(headers or {})}
        transport = httpx.ASGITransport(self.app, client=(peer, 50_000))
        async with httpx.AsyncClient(transport=transport, base_url=LOOPBACK, headers=own) as client:
            yield client


def poison(database: Database, job_id: UUID, sha256: str) -> str:
    """Record that an upload crashes every worker; returns the id of the dead letter."""
    letter = uuid4().hex
    with database.session() as session:
        job = session.get(Job, job_id)
        assert job
        session.add(
            DeadLetter(
                id=letter,
                tenant=job.tenant,
                created_at=job.created_at,
                reason="poison_input",
                queue="default_queue",
                task="task",
                args=[],
                job_id=job_id,
                input_sha256=sha256,
                operations=TREE,
                message="",
            )
        )
    return letter
