"""The database tables. They are the source of truth: the contents of broker and Redis can be rebuilt from them."""

from datetime import date, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    JSON,
    BigInteger,
    Double,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    SmallInteger,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.database import Base
from app.tenancy import Owned


class JobStatus(StrEnum):
    """The state of a job: pending -> processing -> one of the others. Only an explicit retry leads back to pending."""

    #: accepted; no step has started
    PENDING = "pending"
    #: at least one step has started
    PROCESSING = "processing"
    #: every step succeeded
    COMPLETED = "completed"
    #: some steps failed, but there are results
    COMPLETED_WITH_ERRORS = "completed_with_errors"
    #: there is no result
    FAILED = "failed"
    #: cancelled by the client
    CANCELLED = "cancelled"


class StepStatus(StrEnum):
    """The state of a step: pending -> running -> one of the others; back to pending only for another attempt."""

    PENDING = "pending"
    #: a worker holds the lease
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    #: a step on which it depends failed
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


class DeliveryStatus(StrEnum):
    #: an attempt is under way or still to come
    PENDING = "pending"
    #: the receiver has accepted it
    DELIVERED = "delivered"
    #: given up: every attempt failed, or the receiver refused further ones; a replay is possible
    EXHAUSTED = "exhausted"


class EventType(StrEnum):
    COMPLETED = "job.completed"
    COMPLETED_WITH_ERRORS = "job.completed_with_errors"
    FAILED = "job.failed"
    CANCELLED = "job.cancelled"
    #: sent on request, to one endpoint
    TEST = "webhook.test"


class Scope(StrEnum):
    """A permission of a key. It covers only the data of the key's tenant."""

    JOBS_WRITE = "jobs:write"
    #: every GET that no scope below covers
    JOBS_READ = "jobs:read"
    #: templates and assets
    TEMPLATES_WRITE = "templates:write"
    STORES_WRITE = "stores:write"
    WEBHOOKS_WRITE = "webhooks:write"
    #: keys, usage and audit, including reading them
    KEYS_WRITE = "keys:write"
    #: for operators: everything, including the state of the service and the keys of other tenants
    ADMIN = "admin"


JOB_OPEN = (JobStatus.PENDING, JobStatus.PROCESSING)
STEP_OPEN = (StepStatus.PENDING, StepStatus.RUNNING)
STEP_UNSUCCESSFUL = (StepStatus.FAILED, StepStatus.SKIPPED, StepStatus.CANCELLED)
UNNUMBERED = text("position IS NULL AND type <> 'webhook.test'")
PENDING = text("status = 'pending'")
LEASED = text("lease_until IS NOT NULL")
UNFINISHED = text("finished_at IS NULL")
IDENTIFIED = text("external_id IS NOT NULL")

PRIORITIES = range(10)  # within a tenant the highest number goes first
DEFAULT_PRIORITY = 5


class TenantRecord(Base):
    """A tenant: a customer of the service, who cannot see or change the data of other tenants."""

    __tablename__ = "tenants"

    #: matches `tenancy.TENANT_NAME`
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    created_at: Mapped[datetime]
    #: start of the tenant's erasure; its keys are refused from then on
    deleted_at: Mapped[datetime | None]
    #: from here to `max_keep_seconds`: the tenant's limits; None: the default
    requests_per_minute: Mapped[int | None]
    max_open_jobs: Mapped[int | None]
    max_bytes_per_day: Mapped[int | None] = mapped_column(BigInteger)
    max_pixels_per_day: Mapped[int | None] = mapped_column(BigInteger)
    max_storage_bytes: Mapped[int | None] = mapped_column(BigInteger)
    max_keep_seconds: Mapped[int | None]
    #: True: jobs must name a template and may not send operations of their own
    templates_only: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    #: the day (UTC) that `bytes_today` and `pixels_today` count
    counted_on: Mapped[date | None]
    bytes_today: Mapped[int] = mapped_column(BigInteger, default=0, server_default=text("0"))
    pixels_today: Mapped[int] = mapped_column(BigInteger, default=0, server_default=text("0"))
    #: size of uploads, results and assets; see `access.storage`
    stored_bytes: Mapped[int] = mapped_column(BigInteger, default=0, server_default=text("0"))


class ApiKey(Owned, Base):
    """A client's API key; only a hash of the secret is stored."""

    __tablename__ = "api_keys"
    __table_args__ = (Index(None, "tenant", "id"),)

    #: the public part of the key, which logs and listings may show
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64), ForeignKey("tenants.name", ondelete="CASCADE"))
    #: free text
    description: Mapped[str] = mapped_column(Text, default="")
    #: hex SHA-256 of the secret part, which has 256 random bits and so needs no slow hash
    secret_hash: Mapped[str] = mapped_column(String(64))
    #: values of `Scope`
    scopes: Mapped[list[Any]]
    #: id of the key that created this one; None: created on the command line
    created_by: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime]
    #: None: never
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    #: accurate to a minute
    last_used_at: Mapped[datetime | None]


class AuditEntry(Owned, Base):
    """An action of a key or an operator, or a refused request. A trigger rejects updates of these rows."""

    __tablename__ = "audit"
    __table_args__ = (Index(None, "tenant", "id"), Index(None, "at"))

    #: sorts by time
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    at: Mapped[datetime]
    #: id of a key, or another value of `audit.actor_of`
    actor: Mapped[str] = mapped_column(String(64))
    #: for example `key.created`
    action: Mapped[str] = mapped_column(String(64))
    #: id or name of the object; for a refusal, the error code
    subject: Mapped[str] = mapped_column(String(255))
    details: Mapped[dict[str, Any]]
    #: key, code and minute of a refusal: if several processes report it, the constraint lets one write it
    once: Mapped[str | None] = mapped_column(String(160), unique=True)


class UsageDay(Owned, Base):
    """Usage per tenant, day, key and template, counted when jobs end."""

    __tablename__ = "usage_days"

    tenant: Mapped[str] = mapped_column(String(64), primary_key=True)
    #: UTC
    day: Mapped[date] = mapped_column(primary_key=True)
    #: empty: the request came without a key
    key_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    #: empty: the request named no template
    template: Mapped[str] = mapped_column(String(160), primary_key=True)
    jobs: Mapped[int] = mapped_column(BigInteger)
    #: this and the following columns count successful steps only
    bytes_in: Mapped[int] = mapped_column(BigInteger)
    bytes_out: Mapped[int] = mapped_column(BigInteger)
    pixels: Mapped[int] = mapped_column(BigInteger)
    cpu_seconds: Mapped[float] = mapped_column(Double)


class Job(Owned, Base):
    """One accepted upload with its operation tree."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index(None, "tenant", "id"),
        Index(None, "tenant", "status", "id"),
        Index(
            "ix_jobs_external_id",
            *("tenant", "external_id"),
            unique=True,
            postgresql_where=IDENTIFIED,
            sqlite_where=IDENTIFIED,
        ),
        Index("ix_jobs_filename", "tenant", "input_filename", "id"),
        Index("ix_jobs_open", "dispatched_at", postgresql_where=text("finished_at IS NULL")),
        Index(None, "expires_at"),
    )

    #: UUIDv7, so listings in the order of ids are in the order of acceptance
    id: Mapped[UUID] = mapped_column(primary_key=True)
    #: one of `PRIORITIES`
    priority: Mapped[int] = mapped_column(SmallInteger, default=DEFAULT_PRIORITY, server_default=str(DEFAULT_PRIORITY))
    #: the client's own name for it
    external_id: Mapped[str | None] = mapped_column(String(255))
    #: the tags as sent; searches use `JobTag`
    tags: Mapped[dict[str, str] | None] = mapped_column(JSON(none_as_null=True))
    #: id of the API key of the request
    key_id: Mapped[str | None] = mapped_column(String(64))
    #: name and version, `shop@2`; `operations` holds the expanded tree
    template: Mapped[str | None] = mapped_column(String(160))
    status: Mapped[str] = mapped_column(String(24), default=JobStatus.PENDING)
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    #: when an ended job is deleted; for an open job the earliest possible time
    expires_at: Mapped[datetime]
    #: retention after the end; None: accepted by an earlier version, where retention began at acceptance
    kept_seconds: Mapped[int | None]
    #: when work was last sent to the broker; the reconciler resends the work of silent jobs
    dispatched_at: Mapped[datetime]
    #: starts at 1; each retry by the client adds one, so that every run has events of its own
    run: Mapped[int] = mapped_column(default=1)
    operations: Mapped[list[Any]]
    #: `dag_builder.Plan` as JSON, stored so that a deployment does not change the plan of an open job
    plan: Mapped[dict[str, Any]]
    webhook_url: Mapped[str | None] = mapped_column(Text)
    #: address at which the client reached the API; base of absolute URLs in events
    base_url: Mapped[str] = mapped_column(Text)
    #: trace context of the request, see `tracing.carrier`
    context: Mapped[dict[str, str] | None] = mapped_column(JSON(none_as_null=True))
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    #: destination for copies of the results: `outputs.Output` as JSON
    output: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))

    input_key: Mapped[str] = mapped_column(Text)
    input_filename: Mapped[str] = mapped_column(Text)
    #: source from which the input is fetched; None: the request contained the file
    input_source: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    #: this and the following columns are None until the source has been fetched
    input_format: Mapped[str | None] = mapped_column(String(16))
    input_width: Mapped[int | None]
    input_height: Mapped[int | None]
    input_frames: Mapped[int | None]
    input_bytes: Mapped[int | None] = mapped_column(BigInteger)
    input_sha256: Mapped[str | None] = mapped_column(String(64))

    steps: Mapped[list["Step"]] = relationship(order_by="Step.position", lazy="raise", passive_deletes=True)
    results: Mapped[list["Result"]] = relationship(order_by="Result.position", lazy="raise", passive_deletes=True)


class JobTag(Owned, Base):
    """One tag of a job, for searches."""

    __tablename__ = "job_tags"
    __table_args__ = (Index(None, "tenant", "name", "value", "job_id"),)

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[str] = mapped_column(String(255))


class JobTombstone(Owned, Base):
    """A record of an expired job."""

    __tablename__ = "job_tombstones"
    __table_args__ = (Index(None, "expired_at"),)

    job_id: Mapped[UUID] = mapped_column(primary_key=True)
    expired_at: Mapped[datetime]


class Template(Owned, Base):
    """A named tree of operations. The row of a deleted template stays, so that no version number is used twice."""

    __tablename__ = "templates"

    tenant: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    #: the highest version number so far
    latest: Mapped[int]
    deleted_at: Mapped[datetime | None]


class TemplateVersion(Owned, Base):
    """A tree with placeholders for parameters; immutable."""

    __tablename__ = "template_versions"

    tenant: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    created_at: Mapped[datetime]
    operations: Mapped[list[Any]]
    #: JSON schema of the parameters that callers may set
    params: Mapped[dict[str, Any]]
    output: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))


class AssetObject(Owned, Base):
    """The stored file of one or several assets; it stays while a job needs it, even if no asset names it any more."""

    __tablename__ = "asset_objects"

    tenant: Mapped[str] = mapped_column(String(64), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    bytes: Mapped[int] = mapped_column(BigInteger)
    #: when an asset last began or ceased to name it; unused files stay a while, for requests that just looked one up
    touched_at: Mapped[datetime]


class Asset(Owned, Base):
    """A name for a stored file."""

    __tablename__ = "assets"
    __table_args__ = (
        ForeignKeyConstraint(["tenant", "sha256"], ["asset_objects.tenant", "asset_objects.sha256"]),
        Index(None, "tenant", "sha256"),
    )

    tenant: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64))
    #: `image` or `font`
    kind: Mapped[str] = mapped_column(String(16))
    content_type: Mapped[str] = mapped_column(String(64))
    #: pixels; None: a font
    width: Mapped[int | None]
    height: Mapped[int | None]
    bytes: Mapped[int] = mapped_column(BigInteger)
    updated_at: Mapped[datetime]


class JobAsset(Owned, Base):
    """The file that a job uses for an asset name, even if the asset is replaced later."""

    __tablename__ = "job_assets"
    __table_args__ = (
        ForeignKeyConstraint(["tenant", "sha256"], ["asset_objects.tenant", "asset_objects.sha256"]),
        Index(None, "tenant", "sha256"),
    )

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64))


class Step(Base):
    """One node of the operation tree. The steps of one task start, succeed and fail together."""

    __tablename__ = "job_steps"
    __table_args__ = (
        Index(None, "job_id", "task"),
        Index(None, "lease_until", postgresql_where=text("status = 'running'")),
    )

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    #: path in the tree: `0.1` is the second `then` entry of the first branch
    id: Mapped[str] = mapped_column(String(128), primary_key=True)
    #: index in preorder
    position: Mapped[int]
    op: Mapped[str] = mapped_column(String(64))
    #: id of the planned task that runs this step: the id of the task's last step
    task: Mapped[str] = mapped_column(String(128))
    queue: Mapped[str] = mapped_column(String(64))
    status: Mapped[str] = mapped_column(String(16), default=StepStatus.PENDING)
    #: number of starts, including those whose worker died; with `lease_owner` it fences off late writers
    attempts: Mapped[int] = mapped_column(default=0)
    lease_owner: Mapped[str | None] = mapped_column(String(64))
    lease_until: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    #: progress of the current attempt, 0..1, if the operation reports it
    progress: Mapped[float] = mapped_column(default=0.0, server_default=text("0"))
    #: what the operation reports about the image
    report: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    #: from here to `bytes_out`: usage of the successful attempt, stored at the last step of each task
    cpu_seconds: Mapped[float | None] = mapped_column(Float)
    #: pixels of the task's input, summed over its frames
    pixels: Mapped[int | None] = mapped_column(BigInteger)
    bytes_in: Mapped[int | None] = mapped_column(BigInteger)
    bytes_out: Mapped[int | None] = mapped_column(BigInteger)
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))


class DueTask(Base):
    """Work that waits to be sent to the broker: one task that is ready to run, or the rest of a job."""

    __tablename__ = "due_tasks"

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    #: id of the planned task; empty: all that remains of the job
    task: Mapped[str] = mapped_column(String(128), primary_key=True)
    #: queue of the task; for a whole job the queue of its first task
    queue: Mapped[str] = mapped_column(String(64))
    #: True: the spare processes, which take only small work, may run it
    small: Mapped[bool]
    tenant: Mapped[str] = mapped_column(String(64))
    priority: Mapped[int] = mapped_column(SmallInteger)
    #: order within the job
    position: Mapped[int]
    #: Celery's name of the task to send
    name: Mapped[str] = mapped_column(String(128))
    #: when a task of the job was last sent; at first when the job was accepted
    served_at: Mapped[datetime]
    #: queue to which a process is sending the row
    lane: Mapped[str | None] = mapped_column(String(64))
    #: end of that process's claim, after which another one may send the row
    claimed_until: Mapped[datetime | None]


class TenantTurn(Base):
    """The time at which work of a tenant was last sent; the tenant that has waited longest is next."""

    __tablename__ = "tenant_turns"

    tenant: Mapped[str] = mapped_column(String(64), primary_key=True)
    served_at: Mapped[datetime]


class StepAttempt(Base):
    """One attempt at a task and its outcome, for the timeline."""

    __tablename__ = "step_attempts"

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    #: `Job.run`: the attempts of each run are numbered from 1
    run: Mapped[int] = mapped_column(primary_key=True)
    #: id of the planned task
    task: Mapped[str] = mapped_column(String(128), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(String(64))
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    #: `succeeded`, `failed`, or `lost` if the worker stopped renewing its lease
    outcome: Mapped[str | None] = mapped_column(String(16))
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))


class Result(Base):
    """One stored output of a job."""

    __tablename__ = "job_results"
    __table_args__ = (
        ForeignKeyConstraint(["job_id", "step_id"], ["job_steps.job_id", "job_steps.id"], ondelete="CASCADE"),
        Index(None, "job_id", "step_id"),
    )

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    #: a step may have several results
    step_id: Mapped[str] = mapped_column(String(128))
    position: Mapped[int]
    #: key in the object store; deterministic, so a step that runs twice writes the same object
    key: Mapped[str] = mapped_column(Text)
    filename: Mapped[str] = mapped_column(Text)
    format: Mapped[str] = mapped_column(String(16))
    content_type: Mapped[str] = mapped_column(String(64))
    #: pixels; None: the file is not an image
    width: Mapped[int | None]
    height: Mapped[int | None]
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    #: the copy in a tenant's store: store, key, URL, and whether it was written or another object was there
    output: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))


class OutboxMessage(Base):
    """A message to the broker, written in the transaction that causes it. The relay deletes it once it is sent."""

    __tablename__ = "outbox"
    __table_args__ = (Index(None, "available_at", "id"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)
    task: Mapped[str] = mapped_column(String(128))
    args: Mapped[list[Any]]
    queue: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime]
    #: earliest time of sending; a relay that claims the message moves it ahead, so that no other relay sends it too
    available_at: Mapped[datetime]
    attempts: Mapped[int] = mapped_column(default=0)
    #: trace context of the writer, see `tracing.carrier`
    context: Mapped[dict[str, str] | None] = mapped_column(JSON(none_as_null=True))


class IdempotencyKey(Owned, Base):
    """The stored response for one `Idempotency-Key`, written in the same transaction as the job."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (
        Index(None, "expires_at"),
        Index(None, "job_id"),
        Index("uq_idempotency_keys_tenant_key", "tenant", "key", unique=True),
    )

    #: the tenant; in rows of an earlier version a hash of the caller's credential
    caller: Mapped[str] = mapped_column(String(64), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    response: Mapped[dict[str, Any]]
    expires_at: Mapped[datetime]


class Event(Owned, Base):
    """An entry of the event log, written with the change that it reports. Webhooks send it, `GET /events` lists it."""

    __tablename__ = "events"
    __table_args__ = (
        Index(None, "job_id"),
        Index("ix_events_unlogged", "id", postgresql_where=UNNUMBERED, sqlite_where=UNNUMBERED),
        Index(None, "created_at"),
        Index(None, "tenant", "position"),
        Index(None, "tenant", "type", "position"),
    )

    #: the `webhook-id`, the same for every receiver and every attempt
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    #: position in the log, assigned by the first reader after the commit, so that no reader skips a slower transaction
    position: Mapped[int | None] = mapped_column(BigInteger, unique=True)
    type: Mapped[str] = mapped_column(String(64))
    #: None: the event concerns no job. No foreign key, since events outlive jobs
    job_id: Mapped[UUID | None]
    run: Mapped[int | None]
    created_at: Mapped[datetime]
    #: the job at that moment, without download URLs
    data: Mapped[dict[str, Any]]


class Counter(Base):
    """The last number used in a series. Its row lock lets only one transaction at a time assign numbers."""

    __tablename__ = "counters"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    value: Mapped[int] = mapped_column(BigInteger)


class WebhookEndpoint(Owned, Base):
    """A receiver of events, of all types or some of them."""

    __tablename__ = "webhook_endpoints"
    __table_args__ = (Index(None, "tenant", "id"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    url: Mapped[str] = mapped_column(Text)
    description: Mapped[str] = mapped_column(Text, default="")
    #: types to deliver; empty: all
    events: Mapped[list[Any]]
    enabled: Mapped[bool] = mapped_column(default=True)
    #: reason, if the service disabled it; None if its owner did
    disabled_reason: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]


class WebhookSecret(Owned, Base):
    """A signing key for webhooks. During a rotation, a receiver has two."""

    __tablename__ = "webhook_secrets"
    __table_args__ = (Index(None, "endpoint_id"),)

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)
    #: None: the key signs deliveries to the `webhook_url` of the tenant's jobs
    endpoint_id: Mapped[str | None] = mapped_column(ForeignKey("webhook_endpoints.id", ondelete="CASCADE"))
    #: encrypted, see `sealing`; HMAC needs the key itself, so a hash is not enough
    secret: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime]
    #: None: this is the current key
    expires_at: Mapped[datetime | None]


class WebhookDelivery(Owned, Base):
    """The delivery of one event to one receiver."""

    __tablename__ = "deliveries"
    __table_args__ = (
        UniqueConstraint("event_id", "endpoint_id"),
        Index(None, "endpoint_id", "id"),
        Index(None, "status", "id"),
        Index(None, "tenant", "id"),
        Index("ix_deliveries_due", "next_attempt_at", postgresql_where=PENDING, sqlite_where=PENDING),
        Index("ix_deliveries_leased", "lease_until", postgresql_where=LEASED, sqlite_where=LEASED),
    )

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    event_id: Mapped[str] = mapped_column(ForeignKey("events.id", ondelete="CASCADE"))
    #: None: the receiver is the job's `webhook_url`
    endpoint_id: Mapped[str | None] = mapped_column(ForeignKey("webhook_endpoints.id", ondelete="CASCADE"))
    #: last known destination; pending deliveries follow a change of the endpoint's URL
    url: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(String(16), default=DeliveryStatus.PENDING)
    #: number of attempts, over all replays
    attempts: Mapped[int] = mapped_column(default=0)
    #: number of attempts before the current schedule; a replay starts a new schedule
    attempts_before: Mapped[int] = mapped_column(default=0)
    #: how often in a row an attempt was postponed because its host was paused
    postponements: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime]
    next_attempt_at: Mapped[datetime]
    #: when the delivery is given up in any case; None: no worker has claimed it yet, so its schedule has not begun
    expires_at: Mapped[datetime | None]
    #: when the last message for it was written; if there is no progress, the sweep writes another one
    dispatched_at: Mapped[datetime]
    #: id of the message whose attempt is in progress
    lease_owner: Mapped[str | None] = mapped_column(String(64))
    lease_until: Mapped[datetime | None]
    last_status_code: Mapped[int | None]
    last_error: Mapped[str | None] = mapped_column(Text)
    delivered_at: Mapped[datetime | None]

    event: Mapped[Event] = relationship(lazy="raise")
    tries: Mapped[list["DeliveryAttempt"]] = relationship(
        order_by="DeliveryAttempt.number", lazy="raise", passive_deletes=True
    )


class DeliveryAttempt(Base):
    """One request to a receiver and its outcome."""

    __tablename__ = "delivery_attempts"

    delivery_id: Mapped[str] = mapped_column(ForeignKey("deliveries.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    seconds: Mapped[float]
    status_code: Mapped[int | None]
    error: Mapped[str | None] = mapped_column(Text)
    #: first part of the response body
    answer: Mapped[str | None] = mapped_column(Text)


class WebhookReplay(Base):
    """A replay: the events of a period are sent to an endpoint again, in batches."""

    __tablename__ = "webhook_replays"
    __table_args__ = (
        Index(None, "endpoint_id", "id"),
        Index("ix_webhook_replays_unfinished", "dispatched_at", postgresql_where=UNFINISHED, sqlite_where=UNFINISHED),
    )

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    endpoint_id: Mapped[str] = mapped_column(ForeignKey("webhook_endpoints.id", ondelete="CASCADE"))
    since: Mapped[datetime]
    until: Mapped[datetime]
    #: True: skip events that the endpoint has accepted
    missed_only: Mapped[bool]
    #: id of the last event processed; a message that names another one is a duplicate and is ignored
    after: Mapped[str] = mapped_column(String(64), default="")
    #: number of events sent again so far
    events: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime]
    #: when the last message for it was written; if there is no progress, the sweep writes another one
    dispatched_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    #: reason for an early end
    error: Mapped[str | None] = mapped_column(Text)


class Store(Owned, Base):
    """A connection to a tenant's bucket."""

    __tablename__ = "stores"
    __table_args__ = (UniqueConstraint("tenant", "name"),)

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(String(64))
    #: s3://bucket, gs://bucket or az://container; operators may also set up file:///folder
    url: Mapped[str] = mapped_column(Text)
    #: None: the provider's default endpoint
    endpoint: Mapped[str | None] = mapped_column(Text)
    region: Mapped[str] = mapped_column(String(64))
    #: JSON, encrypted
    credentials: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class DeadLetter(Owned, Base):
    """Work that was given up because it crashed its workers, or a message that could not be read."""

    __tablename__ = "dead_letters"
    __table_args__ = (Index(None, "input_sha256"), Index(None, "created_at"))

    #: id of the message; copies of it have the same one
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    created_at: Mapped[datetime]
    #: `poison_input`, or the broker's reason: `delivery_limit`, `rejected`, ...
    reason: Mapped[str] = mapped_column(String(64))
    queue: Mapped[str] = mapped_column(String(64))
    #: Celery's name of the task
    task: Mapped[str] = mapped_column(String(128))
    args: Mapped[list[Any]]
    #: None: the message names no job. The job itself may already be deleted
    job_id: Mapped[UUID | None]
    #: id of the planned task
    job_task: Mapped[str | None] = mapped_column(String(128))
    #: this upload together with `operations`: jobs with the same combination are refused
    input_sha256: Mapped[str | None] = mapped_column(String(64))
    operations: Mapped[list[Any]]
    message: Mapped[str] = mapped_column(Text)
    #: when the message was sent again
    redriven_at: Mapped[datetime | None]
