"""Accepting an upload: every check first, then storage, then one transaction."""

import asyncio
import hashlib
import io
import logging
import time
from collections.abc import AsyncIterator, Mapping
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID

from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from app import metrics, tracing
from app.database import Database
from app.errors import (
    ExternalIdTaken,
    InvalidParameter,
    InvalidUpload,
    LimitExceeded,
    NoRoom,
    PixToolsError,
    StoreUnavailable,
    TooManyOpenJobs,
    UnsupportedImage,
)
from app.formats import FORMATS
from app.imaging.probe import ImageHeader, probe
from app.models import DEFAULT_PRIORITY, PRIORITIES, Job
from app.services import dead_letters, idempotency, jobs
from app.services.access.limits import TenantLimits
from app.services.access.principal import Principal
from app.services.dag_builder import Node, Plan, plan
from app.services.idempotency import Idempotency, Scope
from app.services.intake.assets import Assets
from app.services.intake.json_request import SOURCE_BYTES, read_request
from app.services.intake.keeping import Keeping, read_keeping
from app.services.intake.memory import check_memory
from app.services.intake.operation_tree import TreeLimits, parse_tree
from app.services.intake.trees import choose, read_params
from app.services.intake.uploads import FormLimits, Gate, ReceivedForm, Upload, receive
from app.services.job_views import job_view
from app.services.jobs import NewJob
from app.services.monitoring.disk_space import Room
from app.services.storage.filenames import FALLBACK
from app.services.storage.keys import input_key, job_prefix
from app.services.storage.links import DownloadLinks
from app.services.storage.object_store import ObjectStore
from app.services.webhooks.egress import Egress

log = logging.getLogger(__name__)


TREES_KEPT = 64  # of those last sent: clients send the same few again and again
FULL_SECONDS = 1.0  # that a tenant counts as having as many jobs as it may; asking costs more than the answer is worth
LONGEST_KEPT = 4096  # characters
PARALLEL_STORES = 4  # uploads of one process, so that its memory stays bounded however many clients there are
FILE_POINTER = "#/file"
DATA_POINTER = "#/input/url"
NO_HEIC = "HEIC is not supported by this server; please convert the image to JPEG or AVIF."


@dataclass(frozen=True, kw_only=True)
class ImageLimits:
    """What an upload's header may announce; pixels hold for one frame and for all together."""

    pixels: int
    side: int
    frames: int
    heic: bool

    def check(self, header: ImageHeader) -> None:
        """Refuse an image by its header alone.

        Raises:
            UnsupportedImage: it is HEIC, which not every deployment can decode.
            LimitExceeded: names the limit and the value.
        """
        if FORMATS[header.format].optional and not self.heic:
            raise UnsupportedImage(NO_HEIC, pointer=FILE_POINTER)
        side = max(header.width, header.height)
        if side > self.side:
            _refuse(f"The image is {header.width}x{header.height} pixels, the longest side allowed", self.side, side)
        frames = header.frames_read
        if frames > self.frames:
            _refuse(f"The image has {frames} frames, the limit", self.frames, frames)
        pixels = header.width * header.height * frames
        if pixels > self.pixels:
            over = f" over {frames} frames" if frames > 1 else ""
            _refuse(f"The image has {pixels} pixels{over}, the limit", self.pixels, pixels)


def _refuse(what: str, limit: int, value: int) -> None:
    raise LimitExceeded(f"{what} is {limit}.", pointer=FILE_POINTER, limit=limit, value=value)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What came with the form."""

    idempotency_key: str | None
    principal: Principal
    base_url: str


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """The answer: the job as it was when it was accepted, and whether this is a replay."""

    job_id: UUID
    body: dict[str, Any]
    replayed: bool = False


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be done, whichever way a request has said so."""

    #: the operation tree as JSON text; None: it comes of the template
    operations: str | None
    webhook_url: str | None
    priority: int
    template: str | None = None
    #: values for the template
    params: Mapping[str, Any] | None = None
    keeping: Keeping = field(default_factory=Keeping)
    #: all of a JSON request; a form is known by its parts
    canonical: dict[str, Any] | None = None


def _order(form: ReceivedForm) -> Order:
    fields = form.fields
    return Order(
        operations=fields.get("operations"),
        template=fields.get("template") or None,  # forms of web pages send empty fields
        params=read_params(fields.get("params")),
        webhook_url=fields.get("webhook_url"),
        priority=read_priority(fields.get("priority")),
        keeping=read_keeping(fields.get("tags"), fields.get("external_id"), fields.get("keep_seconds")),
    )


def _fingerprint(order: Order, new: NewJob) -> str:
    if order.canonical is not None:
        return idempotency.fingerprint_of(order.canonical)
    operations, members = new.operations, order.keeping.members
    if order.template is not None:
        operations, members = [], {**members, "template": order.template, "params": order.params or {}}
    return idempotency.fingerprint(new.sha256, operations, new.webhook_url, new.priority, members)


class _AnsweredElsewhere(Exception):
    """Another process has stored a job under the same key first."""


@dataclass(frozen=True)
class _Tree:
    """A checked tree and its plans, by the format of the upload; nobody changes any of it."""

    operations: list[Any]
    branches: tuple[Node, ...]
    _plans: dict[str, Plan] = field(default_factory=dict)

    def plan(self, format_: str) -> Plan:
        if format_ not in self._plans:
            self._plans[format_] = plan(self.branches, format_)
        return self._plans[format_]


def _tree(text: str, limits: TreeLimits) -> _Tree:
    return _kept_tree(text, limits) if len(text) <= LONGEST_KEPT else _Tree(*parse_tree(text, limits))


@lru_cache(maxsize=TREES_KEPT)
def _kept_tree(text: str, limits: TreeLimits) -> _Tree:
    return _Tree(*parse_tree(text, limits))


@dataclass(frozen=True, kw_only=True)
class Submissions:
    """Everything that accepting needs."""

    database: Database
    storage: ObjectStore
    links: DownloadLinks
    idempotency: Idempotency
    egress: Egress
    assets: Assets
    spool: Path
    room: Room
    form_limits: FormLimits
    #: of a body, beside what its `data:` URL takes
    max_json_bytes: int
    tree_limits: TreeLimits
    image_limits: ImageLimits
    #: of one pixel process; None: any
    memory_bytes: int | None
    kept_seconds: int
    idempotency_seconds: int
    #: of tenants that have none of their own
    tenant_limits: TenantLimits
    _ready: set[Path] = field(default_factory=set)
    #: tenants that were refused a job a moment ago, when, and why
    _full: dict[str, tuple[float, TooManyOpenJobs]] = field(default_factory=dict)
    _gate: Gate = field(default_factory=Gate)

    @cached_property
    def _stores(self) -> asyncio.Semaphore:
        return asyncio.Semaphore(PARALLEL_STORES)

    def check_tenant(self, tenant: str) -> None:
        """Refuse a job before its upload is read, if its tenant has just been refused one: it can only be too much.

        Raises:
            TooManyOpenJobs: as a moment ago.
        """
        at, error = self._full.get(tenant, (float("-inf"), None))
        if error is not None and time.monotonic() - at < FULL_SECONDS:
            raise copy(error)
        self._full.pop(tenant, None)

    @property
    def json_bytes(self) -> int:
        """The longest JSON body that is read."""
        return self.max_json_bytes + SOURCE_BYTES

    async def submit(self, body: AsyncIterator[bytes], boundary: str, request: Request) -> Accepted:
        """Take one multipart form.

        Raises:
            PixToolsError: it is refused; no object, row or message is left behind.
        """
        form = await receive(body, boundary, self.form_limits, self._folder(), self._gate, self._check_room)
        started = time.perf_counter()
        try:
            accepted = await self._accept(_order(form), form, request)
        finally:
            form.close()
        metrics.ACCEPT_SECONDS.observe(time.perf_counter() - started)
        return accepted

    async def submit_json(self, body: bytes, request: Request) -> Accepted:
        """Take one JSON body.

        Raises:
            PixToolsError: it is refused; no object, row or message is left behind.
        """
        started = time.perf_counter()
        wanted = read_request(body)
        content = wanted.input.content
        upload = Upload(
            file=io.BytesIO(content),
            filename=FALLBACK,
            size=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
        )
        order = Order(
            operations=wanted.operations,
            webhook_url=wanted.webhook_url,
            priority=wanted.priority,
            template=wanted.template,
            params=wanted.params,
            keeping=wanted.keeping,
            canonical=dict(wanted.sent),
        )
        try:
            await asyncio.to_thread(self._check_room)
            accepted = await self._accept(order, upload, request)
        except PixToolsError as error:
            error.pointer = DATA_POINTER if error.pointer == FILE_POINTER else error.pointer
            raise
        metrics.ACCEPT_SECONDS.observe(time.perf_counter() - started)
        return accepted

    def _check_room(self) -> None:
        check_room(self.room)

    def _folder(self) -> Path:
        if self.spool not in self._ready:
            self.spool.mkdir(parents=True, exist_ok=True)
            self._ready.add(self.spool)
        return self.spool

    async def _accept(self, order: Order, upload: Upload, request: Request) -> Accepted:
        new = await self._check(order, upload, request)
        tracing.bind(job_id=str(new.id))
        if request.idempotency_key is None:
            return await self._store(upload.file, new, None)
        scope = Scope(
            tenant=request.principal.tenant,
            key=request.idempotency_key,
            fingerprint=_fingerprint(order, new),
        )
        answer = await self.idempotency.begin(scope, new.id)
        if answer is not None:
            return _replay(answer)
        try:
            return await self._store(upload.file, new, scope)
        finally:
            await self.idempotency.end(scope, new.id)

    async def _check(self, order: Order, upload: Upload, request: Request) -> NewJob:
        principal = request.principal
        most_kept = principal.max_keep_seconds or self.tenant_limits.max_keep_seconds
        order.keeping.check(most_kept)
        chosen = await choose(
            self.database.of(principal.tenant),
            operations=order.operations,
            template=order.template,
            params=order.params,
            templates_only=principal.templates_only,
        )
        with chosen.pointing():
            tree = _tree(chosen.operations, self.tree_limits)
            bound = await self.assets.bind(tree.branches, principal.tenant)
            webhook_url = order.webhook_url or None
            if webhook_url:
                await self.egress.check(webhook_url)
            header = await asyncio.to_thread(_probe, upload.file)
            self.image_limits.check(header)
            check_memory(tree.branches, header, self.memory_bytes)
        return NewJob(
            id=uuid7(),
            operations=tree.operations,
            branches=tree.branches,
            plan=tree.plan(header.format),
            webhook_url=webhook_url,
            base_url=request.base_url,
            filename=upload.filename,
            header=header,
            bytes=upload.size,
            sha256=upload.sha256,
            kept_seconds=order.keeping.keep_seconds or min(self.kept_seconds, most_kept),
            priority=order.priority,
            tenant=principal.tenant,
            key_id=principal.key_id,
            tags=order.keeping.tags,
            external_id=order.keeping.external_id,
            template=chosen.template,
            assets=bound,
        )

    async def _store(self, file: BinaryIO, new: NewJob, scope: Scope | None) -> Accepted:
        try:
            async with self._stores:
                await self.storage.upload_raw(input_key(new.id), file)
            body = await self.database.of(new.tenant).call(self._write, new, scope)
            metrics.UPLOAD_BYTES.labels(new.header.format).inc(new.bytes)
            metrics.UPLOAD_PIXELS.labels(new.header.format).inc(
                new.header.width * new.header.height * new.header.frames_read
            )
            return Accepted(job_id=new.id, body=body)
        except _AnsweredElsewhere:
            await self._clean_up(new.id)
            return await self._answer_of_another(scope)
        except BaseException as error:
            if isinstance(error, TooManyOpenJobs):
                self._full[new.tenant] = (time.monotonic(), error)
            # A commit whose answer was lost may have happened all the same: the object stays if the job is there.
            await asyncio.shield(self._clean_up_unless_accepted(new.id))
            raise

    def _write(self, session: Session, new: NewJob, scope: Scope | None) -> dict[str, Any]:
        dead_letters.refuse_known(session, new.sha256, new.plan, new.tenant)
        try:
            job: Job = jobs.accept(session, new, self.tenant_limits)
        except ExternalIdTaken as error:
            if scope and idempotency.stored_answer(session, scope) is not None:  # it was this very request
                raise _AnsweredElsewhere from None
            other = jobs.get(session, UUID(error.extra["job_id"]))
            error.extra["job"] = job_view(other, self.links).model_dump(mode="json")
            raise
        body = job_view(job, self.links).model_dump(mode="json")
        if scope and not idempotency.store_answer(session, scope, job.id, body, seconds=self.idempotency_seconds):
            raise _AnsweredElsewhere
        return body

    async def _answer_of_another(self, scope: Scope | None) -> Accepted:
        answer = await self.database.read(idempotency.stored_answer, scope) if scope else None
        if answer is None:
            raise StoreUnavailable("The request met another one with the same key; repeat it.")
        return _replay(answer)

    async def _clean_up_unless_accepted(self, job_id: UUID) -> None:
        try:
            if await self.database.read(jobs.status_of, job_id) is None:
                await self._clean_up(job_id)
        except Exception as error:  # noqa: BLE001 - the first failure is the one to report
            log.warning("upload_left_behind", extra={"job_id": str(job_id), "error": type(error).__name__})

    async def _clean_up(self, job_id: UUID) -> None:
        try:
            await self.storage.delete_prefix(job_prefix(job_id))
        except PixToolsError as error:
            log.warning("upload_left_behind", extra={"job_id": str(job_id), "error": error.code})


def check_room(room: Room) -> None:
    """Refuse an upload where a disk has no room for it.

    Raises:
        NoRoom: it has none, or cannot be used.
    """
    try:
        room.check()
    except OSError as error:
        log.warning("disk_unusable", extra={"error": type(error).__name__, "errno": error.errno})
        raise NoRoom from None


def read_priority(text: str | None) -> int:
    """The priority that a field of the form names; the usual one without.

    Raises:
        InvalidParameter: it names none.
    """
    if not text:
        return DEFAULT_PRIORITY
    if text not in set(map(str, PRIORITIES)):
        detail = f"The priority is one digit, {PRIORITIES[0]} to {PRIORITIES[-1]}."
        raise InvalidParameter(detail, pointer="#/priority", value=text)
    return int(text)


def _probe(file: BinaryIO) -> ImageHeader:
    file.seek(0)
    try:
        return probe(file)
    except InvalidUpload as error:
        error.pointer = error.pointer or FILE_POINTER
        raise


def _replay(answer: dict[str, Any]) -> Accepted:
    tracing.bind(job_id=answer["id"])
    return Accepted(job_id=UUID(answer["id"]), body=answer, replayed=True)
