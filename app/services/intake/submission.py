"""Accepts submissions: all checks come first, then storage, then one transaction."""

import asyncio
import hashlib
import io
import logging
import time
from collections.abc import AsyncIterator, Iterator, Mapping
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
    InvalidOutput,
    InvalidParameter,
    InvalidUpload,
    JobExpired,
    JobNotFound,
    NoRoom,
    PixToolsError,
    ResultNotFound,
    StoreNotFound,
    StoreUnavailable,
    TooManyOpenJobs,
)
from app.formats import FORMATS
from app.imaging.probe import ImageHeader, probe
from app.imaging.responsive.breakpoints import ANY_WIDTH
from app.models import DEFAULT_PRIORITY, PRIORITIES, Job
from app.services import dead_letters, idempotency, jobs, stores
from app.services.access.limits import TenantLimits
from app.services.access.principal import Principal
from app.services.dag_builder import Node, Plan, PlannedResult, plan
from app.services.idempotency import Idempotency, Scope
from app.services.intake.assets import Assets
from app.services.intake.costs import parts
from app.services.intake.findings import Findings
from app.services.intake.json_request import SOURCE_BYTES, JsonRequest, read_request
from app.services.intake.keeping import Keeping, read_keeping
from app.services.intake.memory import check_memory
from app.services.intake.operation_tree import TreeLimits, parse_tree
from app.services.intake.outputs import parse_output, read_output
from app.services.intake.rules import FILE_POINTER, ImageLimits
from app.services.intake.sources import DataSource
from app.services.intake.trees import Chosen, choose, read_params
from app.services.intake.uploads import FormLimits, Gate, ReceivedForm, Upload, receive
from app.services.job_views import job_view
from app.services.jobs import NewJob
from app.services.monitoring.disk_space import Room
from app.services.outputs import Output, clash
from app.services.sources import Source, StoreSource, UrlSource, filename_of
from app.services.storage.filenames import FALLBACK
from app.services.storage.keys import input_key, job_prefix
from app.services.storage.links import DownloadLinks
from app.services.storage.object_store import ObjectStore
from app.services.webhooks.egress import Egress

log = logging.getLogger(__name__)


TREES_KEPT = 64  # parsed trees in the cache: clients send the same few trees repeatedly
FULL_SECONDS = 1.0  # a tenant counts as full for so long after a refusal; asking each time would cost too much
LONGEST_KEPT = 4096  # characters of a tree in the cache
PARALLEL_STORES = 4  # uploads that one process stores at a time: its memory stays bounded, whatever the clients do
DATA_POINTER = "#/input/url"
#: extensions of results that keep the format of their input
KEPT_AS = sorted({FORMATS[each.written_as or each.name].extension for each in FORMATS.values() if each.is_input})


@dataclass(frozen=True, kw_only=True)
class Request:
    """The context of a request."""

    idempotency_key: str | None
    principal: Principal
    base_url: str


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """The response: the job as it was accepted, and whether this is a replay."""

    job_id: UUID
    body: dict[str, Any]
    replayed: bool = False


@dataclass(frozen=True, kw_only=True)
class Order:
    """The content of a request besides the file, from a form or from JSON."""

    #: the operation tree as JSON text; None: a template supplies it
    operations: str | None
    webhook_url: str | None
    priority: int
    template: str | None = None
    #: values for the template
    params: Mapping[str, Any] | None = None
    keeping: Keeping = field(default_factory=Keeping)
    output: Output | None = None
    #: the whole of a JSON request, for its fingerprint; None: a form, whose parts are used for that
    canonical: dict[str, Any] | None = None


def order_of(form: ReceivedForm, findings: Findings) -> Order:
    """The order in a form; an invalid field counts as missing if `findings` collects mistakes.

    Raises:
        InvalidParameter: a field does not have the right form, and `findings` does not collect mistakes.
    """
    fields = form.fields
    keeping, params, priority, output = Keeping(), None, DEFAULT_PRIORITY, None
    with findings.noting():
        params = read_params(fields.get("params"))
    with findings.noting():
        priority = read_priority(fields.get("priority"))
    with findings.noting():
        keeping = read_keeping(fields.get("tags"), fields.get("external_id"), fields.get("keep_seconds"))
    with findings.noting():
        output = parse_output(given, "#/output") if (given := fields.get("output")) else None
    return Order(
        operations=fields.get("operations"),
        template=fields.get("template") or None,  # forms of web pages send empty fields
        params=params,
        webhook_url=fields.get("webhook_url"),
        priority=priority,
        keeping=keeping,
        output=output,
    )


def order_of_json(wanted: JsonRequest) -> Order:
    """The order in a JSON body."""
    return Order(
        operations=wanted.operations,
        webhook_url=wanted.webhook_url,
        priority=wanted.priority,
        template=wanted.template,
        params=wanted.params,
        keeping=wanted.keeping,
        output=wanted.output,
        canonical=dict(wanted.sent),
    )


def _check_apart(output: Output, plan: Plan) -> None:
    """Refuse results that would overwrite each other, whatever the format of the input is."""
    planned = [task.result for task in plan.tasks if task.result]
    for kept in KEPT_AS:
        results = [file for one in planned for file in _files(one, kept)]
        if found := clash(output, results):
            one, other, key = found
            detail = (
                f"Results {one!r} and {other!r} would both be {key!r}; {{name}}.{{ext}} or {{sha256:12}} keep apart."
            )
            raise InvalidOutput(detail, pointer="#/output/key", value=output.key[:64])


def _files(result: PlannedResult, kept: str) -> Iterator[tuple[str, str]]:
    """The name and the extension of each file of a result.

    Args:
        result: a result of the plan.
        kept: extension of a result that keeps the format of its input.
    """
    if not result.is_bundle:
        yield result.name, FORMATS[result.format].extension if result.encoder else kept
        return
    for part in parts(result, None):  # one part per format, which represents all widths
        for suffix in dict.fromkeys((part.suffix, part.suffix.replace(ANY_WIDTH, "{another width}"))):
            yield result.name_of(suffix), FORMATS[part.format].extension


def _fingerprint(order: Order, new: NewJob) -> str:
    if order.canonical is not None or new.sha256 is None:
        return idempotency.fingerprint_of(order.canonical)
    operations, members = new.operations, dict(order.keeping.members)
    if order.template is not None:
        operations, members = [], {**members, "template": order.template, "params": order.params or {}}
    if order.output is not None:
        members["output"] = order.output.to_json()
    return idempotency.fingerprint(new.sha256, operations, new.webhook_url, new.priority, members)


class _AnsweredElsewhere(Exception):
    """Another request with the same idempotency key has stored its job first."""


@dataclass(frozen=True)
class Tree:
    """A checked tree, and its plans by format of the upload; immutable."""

    operations: list[Any]
    branches: tuple[Node, ...]
    _plans: dict[str | None, Plan] = field(default_factory=dict)

    def plan(self, format_: str | None) -> Plan:
        if format_ not in self._plans:
            self._plans[format_] = plan(self.branches, format_)
        return self._plans[format_]


def _tree(text: str, limits: TreeLimits) -> Tree:
    return _kept_tree(text, limits) if len(text) <= LONGEST_KEPT else Tree(*parse_tree(text, limits))


@lru_cache(maxsize=TREES_KEPT)
def _kept_tree(text: str, limits: TreeLimits) -> Tree:
    return Tree(*parse_tree(text, limits))


@dataclass(frozen=True, kw_only=True)
class Checked:
    """An order that has passed all checks which do not need the input."""

    chosen: Chosen
    tree: Tree
    #: names and SHA-256 of the assets in the tree
    assets: tuple[tuple[str, str], ...]
    output: Output | None
    kept_seconds: int


@dataclass(frozen=True, kw_only=True)
class Submissions:
    """The service that accepts submissions."""

    database: Database
    storage: ObjectStore
    links: DownloadLinks
    idempotency: Idempotency
    egress: Egress
    #: the same as `egress`, but for the URLs of inputs
    fetch_egress: Egress
    assets: Assets
    spool: Path
    room: Room
    form_limits: FormLimits
    #: most bytes of a body, in addition to its `data:` URL
    max_json_bytes: int
    tree_limits: TreeLimits
    image_limits: ImageLimits
    #: memory of one pixel process; None: no limit
    memory_bytes: int | None
    kept_seconds: int
    idempotency_seconds: int
    #: defaults for tenants without limits of their own
    tenant_limits: TenantLimits
    _ready: set[Path] = field(default_factory=set)
    #: tenants that were recently refused a job, when, and why
    _full: dict[str, tuple[float, TooManyOpenJobs]] = field(default_factory=dict)
    _gate: Gate = field(default_factory=Gate)

    @cached_property
    def _stores(self) -> asyncio.Semaphore:
        return asyncio.Semaphore(PARALLEL_STORES)

    def check_tenant(self, tenant: str) -> None:
        """Refuse a job before its upload is read, if the tenant was just refused a job because of its open jobs.

        Raises:
            TooManyOpenJobs: the error of that refusal.
        """
        at, error = self._full.get(tenant, (float("-inf"), None))
        if error is not None and time.monotonic() - at < FULL_SECONDS:
            raise copy(error)
        self._full.pop(tenant, None)

    @property
    def json_bytes(self) -> int:
        """The limit on a JSON body in bytes."""
        return self.max_json_bytes + SOURCE_BYTES

    async def submit(self, body: AsyncIterator[bytes], boundary: str, request: Request) -> Accepted:
        """Accept a multipart form.

        Raises:
            PixToolsError: the request is refused; no object, row or message is left behind.
        """
        form = await self.receive(body, boundary)
        started = time.perf_counter()
        try:
            accepted = await self._accept(order_of(form, Findings()), form, request)
        finally:
            form.close()
        metrics.ACCEPT_SECONDS.observe(time.perf_counter() - started)
        return accepted

    async def receive(self, body: AsyncIterator[bytes], boundary: str) -> ReceivedForm:
        """Read a form; the caller must close it.

        Raises:
            PixToolsError: the form is refused; nothing is left on disk.
        """
        return await receive(body, boundary, self.form_limits, self._folder(), self._gate, self._check_room)

    async def submit_json(self, body: bytes, request: Request) -> Accepted:
        """Accept a JSON body.

        Raises:
            PixToolsError: the request is refused; no object, row or message is left behind.
        """
        started = time.perf_counter()
        wanted = read_request(body)
        order = order_of_json(wanted)
        if isinstance(wanted.input, DataSource):
            accepted = await self._accept_data(order, wanted.input, request)
        else:
            accepted = await self._accept_source(order, wanted.input, request)
        metrics.ACCEPT_SECONDS.observe(time.perf_counter() - started)
        return accepted

    async def _accept_data(self, order: Order, data: DataSource, request: Request) -> Accepted:
        digest = hashlib.sha256(data.content).hexdigest()
        file = io.BytesIO(data.content)
        upload = Upload(file=file, filename=FALLBACK, size=len(data.content), sha256=digest)
        try:
            await asyncio.to_thread(self._check_room)
            return await self._accept(order, upload, request)
        except PixToolsError as error:
            error.pointer = DATA_POINTER if error.pointer == FILE_POINTER else error.pointer
            raise

    async def _accept_source(self, order: Order, source: Source, request: Request) -> Accepted:
        """Accept a job whose input is fetched later; a replay is answered even if the source is no longer allowed."""
        job_id = uuid7()
        tracing.bind(job_id=str(job_id))
        if request.idempotency_key is None:
            return await self._write_new(await self._check_source(job_id, order, source, request), None)
        scope = Scope(
            tenant=request.principal.tenant,
            key=request.idempotency_key,
            fingerprint=idempotency.fingerprint_of(order.canonical),
        )
        answer = await self.idempotency.begin(scope, job_id)
        if answer is not None:
            return _replay(answer)
        try:
            return await self._write_new(await self._check_source(job_id, order, source, request), scope)
        finally:
            await self.idempotency.end(scope, job_id)

    async def _check_source(self, job_id: UUID, order: Order, source: Source, request: Request) -> NewJob:
        checked = await self._right(order, request.principal)
        return NewJob(
            id=job_id,
            plan=checked.tree.plan(None),
            filename=await self.check_source(source, request.principal.tenant),
            source=source,
            **_ordered(order, checked, request),
        )

    async def check_source(self, source: Source, tenant: str) -> str:
        """Check the source of an input; returns the file name."""
        if isinstance(source, UrlSource):
            await self.fetch_egress.check(source.url)
            return filename_of(source)
        if isinstance(source, StoreSource):
            await self._check_store(source.store, tenant, "#/input/store")
            return filename_of(source)
        try:
            found = await self.database.of(tenant).read(jobs.result, source.job, source.result)
        except (JobNotFound, JobExpired) as error:
            error.pointer = "#/input/job"
            raise
        except ResultNotFound as error:
            error.pointer = "#/input/result"
            raise
        return found.filename

    async def _check_store(self, name: str, tenant: str, pointer: str) -> None:
        try:
            await self.database.of(tenant).read(stores.get, name)
        except StoreNotFound as error:
            error.pointer = pointer
            raise

    async def _write_new(self, new: NewJob, scope: Scope | None) -> Accepted:
        try:
            body = await self.database.of(new.tenant).call(self._write, new, scope)
        except _AnsweredElsewhere:
            return await self._answer_of_another(scope)
        except TooManyOpenJobs as error:
            self._full[new.tenant] = (time.monotonic(), error)
            raise
        return Accepted(job_id=new.id, body=body)

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
        checked = await self._right(order, request.principal)
        header = await read_header(upload.file)
        self.check_input(checked, header, Findings())
        return NewJob(
            id=uuid7(),
            plan=checked.tree.plan(header.format),
            filename=upload.filename,
            header=header,
            bytes=upload.size,
            sha256=upload.sha256,
            **_ordered(order, checked, request),
        )

    async def _right(self, order: Order, principal: Principal) -> Checked:
        checked = await self.check_order(order, principal, Findings())
        if checked is None:
            raise AssertionError("what is wrong is raised at once")
        return checked

    async def check_order(self, order: Order, principal: Principal, findings: Findings) -> Checked | None:
        """Check an order, as far as that is possible without the input.

        Returns:
            None if `findings` has collected a mistake that leaves no tree to check.
        """
        most_kept = principal.max_keep_seconds or self.tenant_limits.max_keep_seconds
        with findings.noting():
            order.keeping.check(most_kept)
        if order.webhook_url:
            with findings.noting():
                await self.egress.check(order.webhook_url)
        with findings.noting():
            chosen = await choose(
                self.database.of(principal.tenant),
                operations=order.operations,
                template=order.template,
                params=order.params,
                templates_only=principal.templates_only,
            )
            with chosen.pointing():
                tree = _tree(chosen.operations, self.tree_limits)
                assets = await self.assets.bind(tree.branches, principal.tenant)
            output = await self._check_output(order, chosen, tree, principal)
            kept_seconds = order.keeping.keep_seconds or min(self.kept_seconds, most_kept)
            return Checked(chosen=chosen, tree=tree, assets=assets, output=output, kept_seconds=kept_seconds)
        return None

    async def _check_output(self, order: Order, chosen: Chosen, tree: Tree, principal: Principal) -> Output | None:
        """Check and return the place for copies of results, from the request or else from the template."""
        output = order.output
        if output is None and chosen.output is not None:
            with chosen.pointing():
                output = read_output(chosen.output, "#/output")
        if output is not None:
            await self._check_store(output.store, principal.tenant, "#/output/store")
            _check_apart(output, tree.plan(None))
        return output

    def check_input(self, checked: Checked, header: ImageHeader, findings: Findings) -> None:
        """Check the header of an image, and whether the operations can be applied to such an image."""
        with findings.noting():
            self.image_limits.check(header)
        with findings.noting(), checked.chosen.pointing():
            check_memory(checked.tree.branches, header, self.memory_bytes)

    async def _store(self, file: BinaryIO, new: NewJob, scope: Scope | None) -> Accepted:
        try:
            async with self._stores:
                await self.storage.upload_raw(input_key(new.id), file)
            body = await self.database.of(new.tenant).call(self._write, new, scope)
            _count(new)
            return Accepted(job_id=new.id, body=body)
        except _AnsweredElsewhere:
            await self._clean_up(new.id)
            return await self._answer_of_another(scope)
        except BaseException as error:
            if isinstance(error, TooManyOpenJobs):
                self._full[new.tenant] = (time.monotonic(), error)
            # A commit may have succeeded although its answer was lost: the object stays if the job exists
            await asyncio.shield(self._clean_up_unless_accepted(new.id))
            raise

    def _write(self, session: Session, new: NewJob, scope: Scope | None) -> dict[str, Any]:
        if new.sha256 is not None:
            dead_letters.refuse_known(session, new.sha256, new.plan, new.tenant)
        try:
            job: Job = jobs.accept(session, new, self.tenant_limits)
        except ExternalIdTaken as error:
            if scope and idempotency.stored_answer(session, scope) is not None:  # the other job is this request's own
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


def _ordered(order: Order, checked: Checked, request: Request) -> dict[str, Any]:
    """The fields of a new job that do not depend on its input."""
    return {
        "operations": checked.tree.operations,
        "branches": checked.tree.branches,
        "webhook_url": order.webhook_url or None,
        "base_url": request.base_url,
        "kept_seconds": checked.kept_seconds,
        "priority": order.priority,
        "tenant": request.principal.tenant,
        "key_id": request.principal.key_id,
        "tags": order.keeping.tags,
        "external_id": order.keeping.external_id,
        "output": checked.output,
        "template": checked.chosen.template,
        "assets": checked.assets,
    }


def check_room(room: Room) -> None:
    """Refuse an upload for which a disk has no room.

    Raises:
        NoRoom: a disk has no room, or cannot be used.
    """
    try:
        room.check()
    except OSError as error:
        log.warning("disk_unusable", extra={"error": type(error).__name__, "errno": error.errno})
        raise NoRoom from None


def _count(new: NewJob) -> None:
    """Count an accepted upload."""
    if new.header is not None:
        metrics.UPLOAD_BYTES.labels(new.header.format).inc(new.bytes or 0)
        metrics.UPLOAD_PIXELS.labels(new.header.format).inc(new.header.pixels_read)


def read_priority(text: str | None) -> int:
    """The priority in a field of the form; without one, the default.

    Raises:
        InvalidParameter: the text is not a priority.
    """
    if not text:
        return DEFAULT_PRIORITY
    if text not in set(map(str, PRIORITIES)):
        detail = f"The priority is one digit, {PRIORITIES[0]} to {PRIORITIES[-1]}."
        raise InvalidParameter(detail, pointer="#/priority", value=text)
    return int(text)


async def read_header(file: BinaryIO) -> ImageHeader:
    """The header of an upload.

    Raises:
        InvalidUpload: the file is not an intact image.
    """
    return await asyncio.to_thread(_probe, file)


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
