"""`Idempotency-Key`, by draft-ietf-httpapi-idempotency-key-header.

The database decides: the key's row is written in the job's own transaction, and its primary key lets only one job win.
Redis, or the memory of a single process, marks keys whose first request is in progress. A repeated request then waits
for the first one instead of being processed too. Without Redis the guarantees are the same, but repeats take longer.
"""

import asyncio
import hashlib
import json
import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.absent_redis import REDIS_ERRORS, Pause, client
from app.backoff import Backoff
from app.database import Database, from_now, insertion
from app.errors import IdempotencyKeyInFlight, IdempotencyKeyReused, InvalidIdempotencyKey
from app.models import DEFAULT_PRIORITY, IdempotencyKey

log = logging.getLogger(__name__)

MAX_KEY = 255  # characters
IN_FLIGHT_SECONDS = 10  # life of a mark, if its process dies; marks are set when the upload has been received
REDIS_TIMEOUT = 0.5  # seconds
POLLS = Backoff(first=0.02, longest=0.5)  # between two checks while a repeat waits

QUOTED = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
BARE = re.compile(r"[\x21\x23-\x7e]([\x20\x21\x23-\x7e]*[\x21\x23-\x7e])?")


def key_of(headers: Sequence[str]) -> str | None:
    """The idempotency key of a request; None: the request has none.

    Args:
        headers: the values of all `Idempotency-Key` headers.

    Raises:
        InvalidIdempotencyKey: there are several keys, or the key is invalid.
    """
    if len(headers) > 1:
        raise InvalidIdempotencyKey("The request has several Idempotency-Key headers.", limit=1, value=len(headers))
    return parse_key(headers[0]) if headers else None


def parse_key(header: str) -> str:
    """Parse a header: a structured-field string, or the key without quotes, as many clients send it.

    Raises:
        InvalidIdempotencyKey: the value is neither, empty or too long.
    """
    header = header.strip()
    quoted = QUOTED.fullmatch(header)
    if quoted:
        key = re.sub(r"\\(.)", r"\1", quoted[1])
    elif BARE.fullmatch(header):
        key = header
    else:
        raise InvalidIdempotencyKey
    if not 1 <= len(key) <= MAX_KEY:
        raise InvalidIdempotencyKey(limit=MAX_KEY, value=len(key))
    return key


def fingerprint(
    sha256: str,
    operations: list[Any] | None,
    webhook_url: str | None,
    priority: int = DEFAULT_PRIORITY,
    members: Mapping[str, Any] | None = None,
) -> str:
    """The fingerprint of a payload: the file's bytes and the fields in canonical form; a multipart boundary is random.

    Args:
        sha256: hash of the file.
        operations: the tree as sent; None: the request names a template.
        webhook_url: the URL as sent.
        priority: priority of the job.
        members: all other members of the request by name.
    """
    payload: list[Any] = [sha256, operations, webhook_url]
    # absent from the fingerprints of an earlier version
    if priority != DEFAULT_PRIORITY:
        payload.append(priority)
    if members:
        payload.append(members)
    return fingerprint_of(payload)


def fingerprint_of(payload: Any) -> str:
    """The fingerprint of a JSON payload; the order of members and white space make no difference."""
    canonical = json.dumps(payload, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Scope:
    """An idempotency key of a tenant, used for one payload; it is valid for all API keys of the tenant."""

    tenant: str
    key: str
    fingerprint: str

    @property
    def name(self) -> str:
        """A name of fixed length that does not contain the key, which may be personal data."""
        return hashlib.sha256(f"{self.tenant}\n{self.key}".encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Mark:
    """The mark of a request in progress."""

    fingerprint: str
    job_id: str


class Front(Protocol):
    """Marks keys whose first request is in progress."""

    async def mark(self, scope: Scope, job_id: UUID) -> Mark | None:
        """Mark the key; if another request has marked it, return that mark instead."""

    async def unmark(self, scope: Scope, job_id: UUID) -> None:
        """Remove the mark that this request has set."""


@dataclass
class MemoryFront:
    """A front in memory, for a single process."""

    _marks: dict[str, Mark] = field(default_factory=dict)

    async def mark(self, scope: Scope, job_id: UUID) -> Mark | None:
        mark = Mark(fingerprint=scope.fingerprint, job_id=str(job_id))
        there = self._marks.setdefault(scope.name, mark)
        return None if there is mark else there

    async def unmark(self, scope: Scope, job_id: UUID) -> None:
        there = self._marks.get(scope.name)
        if there and there.job_id == str(job_id):
            del self._marks[scope.name]


class RedisFront:
    """A front in Redis, for several processes. After a failure of Redis, the database alone decides for a while."""

    COMPARE_AND_DELETE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end"

    def __init__(self, url: str) -> None:
        self._redis = client(url, REDIS_TIMEOUT)
        self._pause = Pause(log, "idempotency_redis_unavailable")

    async def mark(self, scope: Scope, job_id: UUID) -> Mark | None:
        if self._pause.is_on:
            return None
        value = self._value(scope, job_id)
        try:
            if await self._redis.set(self._name(scope), value, nx=True, ex=IN_FLIGHT_SECONDS):
                return None
            there = await self._redis.get(self._name(scope))
        except REDIS_ERRORS as error:
            self._pause.begin(error)
            return None
        if not there:
            return await self.mark(scope, job_id)  # the other request ended between the two commands
        other, other_job = str(there).split(" ")
        return Mark(fingerprint=other, job_id=other_job)

    async def unmark(self, scope: Scope, job_id: UUID) -> None:
        if self._pause.is_on:
            return
        try:
            await self._redis.eval(self.COMPARE_AND_DELETE, 1, self._name(scope), self._value(scope, job_id))
        except REDIS_ERRORS as error:
            self._pause.begin(error)

    @staticmethod
    def _name(scope: Scope) -> str:
        return f"pixtools:idempotency:{scope.name}"

    @staticmethod
    def _value(scope: Scope, job_id: UUID) -> str:
        return f"{scope.fingerprint} {job_id}"

    async def close(self) -> None:
        await self._redis.aclose()


def stored_answer(session: Session, scope: Scope) -> dict[str, Any] | None:
    """The stored response for a key; None: no response is stored.

    Raises:
        IdempotencyKeyReused: the key was used with another payload.
    """
    query = select(IdempotencyKey).where(
        IdempotencyKey.tenant == scope.tenant, IdempotencyKey.key == scope.key, IdempotencyKey.expires_at > from_now()
    )
    row = session.scalar(query)
    if row is None:
        return None
    if row.fingerprint != scope.fingerprint:
        raise IdempotencyKeyReused
    return row.response


def store_answer(session: Session, scope: Scope, job_id: UUID, response: dict[str, Any], *, seconds: int) -> bool:
    """Store the key in the job's transaction. False: another job has it; roll back, and use that job's response."""
    expired = delete(IdempotencyKey).where(
        IdempotencyKey.tenant == scope.tenant, IdempotencyKey.key == scope.key, IdempotencyKey.expires_at <= from_now()
    )
    session.execute(expired)
    row = insertion(session, IdempotencyKey).values(
        tenant=scope.tenant,
        caller=scope.tenant,
        key=scope.key,
        fingerprint=scope.fingerprint,
        job_id=job_id,
        response=response,
        expires_at=from_now(seconds),
    )
    written = session.execute(row.on_conflict_do_nothing().returning(IdempotencyKey.job_id))
    return written.first() is not None


@dataclass(frozen=True)
class Idempotency:
    """Handles idempotency keys, by marks and the database."""

    front: Front
    database: Database
    wait_seconds: float

    async def begin(self, scope: Scope, job_id: UUID) -> dict[str, Any] | None:
        """Mark a request as the first one with this key, or wait for the first one.

        Returns:
            None for the first request, which must call `end` in any case; for a repeated one, the stored response.

        Raises:
            IdempotencyKeyReused: the key was used with another payload.
            IdempotencyKeyInFlight: the first request has not ended in time.
        """
        deadline = time.monotonic() + self.wait_seconds
        for pause in POLLS.pauses():
            mark = await self.front.mark(scope, job_id)
            answer = await self._stored(scope, job_id, mine=mark is None)
            if answer or mark is None:
                return answer
            if mark.fingerprint != scope.fingerprint:
                raise IdempotencyKeyReused
            if time.monotonic() >= deadline:
                raise IdempotencyKeyInFlight(retry_after=1, extra={"job_id": mark.job_id})
            await asyncio.sleep(pause)
        raise AssertionError("pauses have no end")

    async def _stored(self, scope: Scope, job_id: UUID, *, mine: bool) -> dict[str, Any] | None:
        """Read the stored response. This must follow the marking, since the first request may end in between."""
        answer, needed = None, False
        try:
            answer = await self.database.read(stored_answer, scope)
            needed = answer is None
        finally:
            if mine and not needed:
                await self.end(scope, job_id)
        return answer

    async def end(self, scope: Scope, job_id: UUID) -> None:
        """Remove the mark at the end of the first request, whether or not it has created a job."""
        await self.front.unmark(scope, job_id)
