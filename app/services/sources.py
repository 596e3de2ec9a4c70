"""The source of a job's input, as stored in the database: a part that may be shown, and an encrypted part.

A record has the member `shown`. For a URL it also has `sealed`, since query and headers may be secrets. It has `etag`
once the input has been fetched from a source that sent one.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from app.database import keyring_of
from app.keyring import context_of
from app.models import Job
from app.schemas import without_query
from app.services.storage.filenames import usable_filename
from app.services.webhooks import sealing

SHOWN, SEALED, ETAG = "shown", "sealed", "etag"


@dataclass(frozen=True, kw_only=True)
class UrlSource:
    """A file on a web server."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def shown(self) -> dict[str, str]:
        return {"url": without_query(self.url)}

    @property
    def secret(self) -> dict[str, Any] | None:
        return {"url": self.url, "headers": dict(self.headers)}

    @property
    def path(self) -> str:
        """The path of the URL, from which the file gets its name."""
        return unquote(urlsplit(self.url).path)


@dataclass(frozen=True, kw_only=True)
class ResultSource:
    """A result of another job of the same tenant."""

    job: UUID
    result: str

    @property
    def shown(self) -> dict[str, str]:
        return {"job": str(self.job), "result": self.result}

    @property
    def secret(self) -> None:
        return None

    @property
    def path(self) -> str:
        return self.result


@dataclass(frozen=True, kw_only=True)
class StoreSource:
    """An object in a store of the tenant."""

    store: str
    key: str

    @property
    def shown(self) -> dict[str, str]:
        return {"store": self.store, "key": self.key}

    @property
    def secret(self) -> None:
        return None

    @property
    def path(self) -> str:
        return self.key


Source = UrlSource | ResultSource | StoreSource


def filename_of(source: Source) -> str:
    """The file name of an input, from the path in its source."""
    return usable_filename(PurePosixPath(source.path).name)


def sealed(session: Session, source: Source, *, job_id: UUID, tenant: str) -> dict[str, Any]:
    """The record of a source, for the row of a job."""
    record: dict[str, Any] = {SHOWN: source.shown}
    if source.secret is not None:
        text = json.dumps(source.secret, separators=(",", ":"))
        record[SEALED] = keyring_of(session).encrypt(text, _context(job_id, tenant))
    return record


def opened(session: Session, job: Job) -> Source:
    """The source of a job.

    Raises:
        UnreadableSecret: no key can decrypt the source.
    """
    record = job.input_source or {}
    if SEALED in record:
        return UrlSource(**json.loads(keyring_of(session).decrypt(record[SEALED], _context(job.id, job.tenant))))
    shown = record[SHOWN]
    if "store" in shown:
        return StoreSource(store=shown["store"], key=shown["key"])
    return ResultSource(job=UUID(shown["job"]), result=shown["result"])


def _context(job_id: UUID, tenant: str) -> str:
    return context_of(Job.__tablename__, job_id, tenant, "input_source")


def outdated(session: Session) -> int:
    """The number of sources that are not encrypted with the current key."""
    return sealing.count(session, _outdated(session))


def _outdated(session: Session) -> Select[Job]:
    stored = Job.input_source[SEALED].as_string()
    current = stored.startswith(keyring_of(session).prefix, autoescape=True)
    return select(Job).where(stored.is_not(None), ~current)


def rotate(session: Session, after: UUID | None = None) -> sealing.Rotation:
    """Encrypt a batch of outdated sources with the current key; `after` is `last` of the previous batch."""

    def encrypt_again(job: Job) -> None:
        anew = sealed(session, opened(session, job), job_id=job.id, tenant=job.tenant)
        job.input_source = {**(job.input_source or {}), **anew}

    return sealing.rotate_batch(session, _outdated(session), Job.id, after, encrypt_again)
