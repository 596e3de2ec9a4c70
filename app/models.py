"""The tables. The database is the only truth: the contents of the broker and of Redis can be rebuilt from it."""

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
    """pending -> processing -> one of the others; never back, but for an explicit retry."""

    #: accepted, nothing has started
    PENDING = "pending"
    #: at least one step has started
    PROCESSING = "processing"
    #: every step succeeded
    COMPLETED = "completed"
    #: some steps failed, and there are results
    COMPLETED_WITH_ERRORS = "completed_with_errors"
    #: there is no result
    FAILED = "failed"
    #: ended by the client
    CANCELLED = "cancelled"


class StepStatus(StrEnum):
    """pending -> running -> one of the others; back to pending only for another attempt."""

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
    #: given up: every attempt failed, or the receiver wants no more; can be replayed
    EXHAUSTED = "exhausted"


class EventType(StrEnum):
    COMPLETED = "job.completed"
    COMPLETED_WITH_ERRORS = "job.completed_with_errors"
    FAILED = "job.failed"
    CANCELLED = "job.cancelled"
    #: sent on request, to one endpoint
    TEST = "webhook.test"


class Scope(StrEnum):
    """What a key may do, to what its tenant owns."""

    JOBS_WRITE = "jobs:write"
    #: every GET except those below
    JOBS_READ = "jobs:read"
    #: templates and assets
    TEMPLATES_WRITE = "templates:write"
    STORES_WRITE = "stores:write"
    WEBHOOKS_WRITE = "webhooks:write"
    #: keys, usage and audit, including reading them
    KEYS_WRITE = "keys:write"
    #: the operator: everything, the state of the service and the keys of other tenants
    ADMIN = "admin"


JOB_OPEN = (JobStatus.PENDING, JobStatus.PROCESSING)
STEP_OPEN = (StepStatus.PENDING, StepStatus.RUNNING)
STEP_UNSUCCESSFUL = (StepStatus.FAILED, StepStatus.SKIPPED, StepStatus.CANCELLED)
UNNUMBERED = text("position IS NULL AND type <> 'webhook.test'")
PENDING = text("status = 'pending'")
LEASED = text("lease_until IS NOT NULL")
UNFINISHED = text("finished_at IS NULL")
IDENTIFIED = text("external_id IS NOT NULL")

PRIORITIES = range(10)  # the highest goes first, within a tenant
DEFAULT_PRIORITY = 5


class TenantRecord(Base):
    """A customer of the service: no tenant sees, changes or counts the data of another."""

    __tablename__ = "tenants"

    #: as `tenancy.TENANT_NAME`
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    created_at: Mapped[datetime]
    #: when erasing it began; its keys are refused from then on
    deleted_at: Mapped[datetime | None]
    #: this and the next ones are its limits; None: the default
    requests_per_minute: Mapped[int | None]
    max_open_jobs: Mapped[int | None]
    max_bytes_per_day: Mapped[int | None] = mapped_column(BigInteger)
    max_pixels_per_day: Mapped[int | None] = mapped_column(BigInteger)
    max_storage_bytes: Mapped[int | None] = mapped_column(BigInteger)
    max_keep_seconds: Mapped[int | None]
    #: whether its jobs name templates, and send no trees of their own
    templates_only: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    #: the day (UTC) that the next two are of
    counted_on: Mapped[date | None]
    bytes_today: Mapped[int] = mapped_column(BigInteger, default=0, server_default=text("0"))
    pixels_today: Mapped[int] = mapped_column(BigInteger, default=0, server_default=text("0"))
    #: of uploads and results; see `access.storage`
    stored_bytes: Mapped[int] = mapped_column(BigInteger, default=0, server_default=text("0"))


class ApiKey(Owned, Base):
    """A client's credential; the secret itself is stored nowhere."""

    __tablename__ = "api_keys"
    __table_args__ = (Index(None, "tenant", "id"),)

    #: the public part, which logs and listings may show
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64), ForeignKey("tenants.name", ondelete="CASCADE"))
    #: for people
    description: Mapped[str] = mapped_column(Text, default="")
    #: SHA-256 of the secret part in hex: 256 random bits need no slow hash
    secret_hash: Mapped[str] = mapped_column(String(64))
    #: values of `Scope`
    scopes: Mapped[list[Any]]
    #: id of the key that made it; None: the command line
    created_by: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime]
    #: None: never
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    #: to the minute
    last_used_at: Mapped[datetime | None]


class AuditEntry(Owned, Base):
    """An action of a key or an operator, or a refusal; the database refuses changes of it."""

    __tablename__ = "audit"
    __table_args__ = (Index(None, "tenant", "id"), Index(None, "at"))

    #: sorts by time
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    at: Mapped[datetime]
    #: id of a key, or as `audit.actor_of`
    actor: Mapped[str] = mapped_column(String(64))
    #: `key.created`
    action: Mapped[str] = mapped_column(String(64))
    #: id or name of the object of the action; for a refusal its code
    subject: Mapped[str] = mapped_column(String(255))
    details: Mapped[dict[str, Any]]
    #: of what several processes see and one writes: key, code and minute of a refusal
    once: Mapped[str | None] = mapped_column(String(160), unique=True)


class UsageDay(Owned, Base):
    """The usage of a tenant's jobs that ended on a day, by key and template."""

    __tablename__ = "usage_days"

    tenant: Mapped[str] = mapped_column(String(64), primary_key=True)
    #: UTC
    day: Mapped[date] = mapped_column(primary_key=True)
    #: empty: without a key
    key_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    #: empty: without a template
    template: Mapped[str] = mapped_column(String(160), primary_key=True)
    jobs: Mapped[int] = mapped_column(BigInteger)
    #: this and the following: of the steps that succeeded
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

    #: UUIDv7: sorts by time of acceptance, which is the order of listings
    id: Mapped[UUID] = mapped_column(primary_key=True)
    #: one of `PRIORITIES`
    priority: Mapped[int] = mapped_column(SmallInteger, default=DEFAULT_PRIORITY, server_default=str(DEFAULT_PRIORITY))
    #: the client's own name for it
    external_id: Mapped[str | None] = mapped_column(String(255))
    #: as they were sent; `JobTag` has them for searches
    tags: Mapped[dict[str, str] | None] = mapped_column(JSON(none_as_null=True))
    #: id of the API key that it came with
    key_id: Mapped[str | None] = mapped_column(String(64))
    #: name and version, `shop@2`; `operations` has the tree that came of it
    template: Mapped[str | None] = mapped_column(String(160))
    status: Mapped[str] = mapped_column(String(24), default=JobStatus.PENDING)
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    #: of a job that has ended; until then no more than the earliest that it can be
    expires_at: Mapped[datetime]
    #: from its end; None: accepted by an earlier version, which has counted from the acceptance
    kept_seconds: Mapped[int | None]
    #: when work was last sent to the broker; the reconciler resends the work of silent jobs
    dispatched_at: Mapped[datetime]
    #: 1, and one more for each retry by the client: events of another run are other events
    run: Mapped[int] = mapped_column(default=1)
    operations: Mapped[list[Any]]
    #: `dag_builder.Plan` as data: a deployment in the middle of a job must not change its plan
    plan: Mapped[dict[str, Any]]
    webhook_url: Mapped[str | None] = mapped_column(Text)
    #: the address by which the client reached the API; base of absolute URLs in events
    base_url: Mapped[str] = mapped_column(Text)
    #: `tracing.carrier` of the request that it came with
    context: Mapped[dict[str, str] | None] = mapped_column(JSON(none_as_null=True))
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    #: where copies of its results are written, `outputs.Output` as data
    output: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))

    input_key: Mapped[str] = mapped_column(Text)
    input_filename: Mapped[str] = mapped_column(Text)
    #: where the input is fetched from; None: it came with the request
    input_source: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    #: this and the following: None until the source has been fetched
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
    """A record that a job existed, after it has expired."""

    __tablename__ = "job_tombstones"
    __table_args__ = (Index(None, "expired_at"),)

    job_id: Mapped[UUID] = mapped_column(primary_key=True)
    expired_at: Mapped[datetime]


class Template(Owned, Base):
    """A name for trees. Its row stays when it is deleted, since no version number is ever used twice."""

    __tablename__ = "templates"

    tenant: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    #: the number of the last version that was made
    latest: Mapped[int]
    deleted_at: Mapped[datetime | None]


class TemplateVersion(Owned, Base):
    """A tree with placeholders for parameters; never changed."""

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
    """A stored file that has a name as an asset, or had one and is still needed by a job."""

    __tablename__ = "asset_objects"

    tenant: Mapped[str] = mapped_column(String(64), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    bytes: Mapped[int] = mapped_column(BigInteger)
    #: when a name was last given to it or taken away; it stays for a while, for a request that has just read its name
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
    #: pixels; None: it is not an image
    width: Mapped[int | None]
    height: Mapped[int | None]
    bytes: Mapped[int] = mapped_column(BigInteger)
    updated_at: Mapped[datetime]


class JobAsset(Owned, Base):
    """The file that a job uses for a name, even if the name gets another file later."""

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
    #: preorder number
    position: Mapped[int]
    op: Mapped[str] = mapped_column(String(64))
    #: id of the planned task that runs this step: the id of the task's last step
    task: Mapped[str] = mapped_column(String(128))
    queue: Mapped[str] = mapped_column(String(64))
    status: Mapped[str] = mapped_column(String(16), default=StepStatus.PENDING)
    #: number of starts, including those that died; with `lease_owner` it fences off late writers
    attempts: Mapped[int] = mapped_column(default=0)
    lease_owner: Mapped[str | None] = mapped_column(String(64))
    lease_until: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    #: share of the current attempt that is done, where the operation reports it
    progress: Mapped[float] = mapped_column(default=0.0, server_default=text("0"))
    #: the report of the operation about the image
    report: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    #: this and the next ones are the usage of the successful attempt; only the last step of a task has them
    cpu_seconds: Mapped[float | None] = mapped_column(Float)
    #: of the image that the task began with, over all frames
    pixels: Mapped[int | None] = mapped_column(BigInteger)
    bytes_in: Mapped[int | None] = mapped_column(BigInteger)
    bytes_out: Mapped[int | None] = mapped_column(BigInteger)
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))


class DueTask(Base):
    """Work that waits for its turn to be sent to the broker: a task that could run, or everything that a job needs."""

    __tablename__ = "due_tasks"

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    #: id of the planned task; empty: everything that the job still needs
    task: Mapped[str] = mapped_column(String(128), primary_key=True)
    #: of the task, or of the first one
    queue: Mapped[str] = mapped_column(String(64))
    #: whether it may go to the spare processes
    small: Mapped[bool]
    tenant: Mapped[str] = mapped_column(String(64))
    priority: Mapped[int] = mapped_column(SmallInteger)
    #: within the job
    position: Mapped[int]
    #: of the Celery task that is sent
    name: Mapped[str] = mapped_column(String(128))
    #: when the job's last task was sent; until then when it was accepted
    served_at: Mapped[datetime]
    #: the queue that it is being sent to, by a process that is to be done by then
    lane: Mapped[str | None] = mapped_column(String(64))
    claimed_until: Mapped[datetime | None]


class TenantTurn(Base):
    """When work of a tenant was last sent: the tenant served longest ago is next."""

    __tablename__ = "tenant_turns"

    tenant: Mapped[str] = mapped_column(String(64), primary_key=True)
    served_at: Mapped[datetime]


class StepAttempt(Base):
    """One attempt at a task and its outcome, for the timeline."""

    __tablename__ = "step_attempts"

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    #: as `Job.run`: a retry by the client counts its attempts anew
    run: Mapped[int] = mapped_column(primary_key=True)
    #: id of the planned task
    task: Mapped[str] = mapped_column(String(128), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(String(64))
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    #: succeeded, failed, or lost: its worker fell silent
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
    #: deterministic: a step that runs twice writes the same object
    key: Mapped[str] = mapped_column(Text)
    filename: Mapped[str] = mapped_column(Text)
    format: Mapped[str] = mapped_column(String(16))
    content_type: Mapped[str] = mapped_column(String(64))
    #: pixels; None: the file is not an image
    width: Mapped[int | None]
    height: Mapped[int | None]
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    #: its copy in a tenant's store: store, key, url, and whether it was written or another object was there
    output: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))


class OutboxMessage(Base):
    """A message to the broker, written in the transaction whose effect it announces; the relay deletes it when sent."""

    __tablename__ = "outbox"
    __table_args__ = (Index(None, "available_at", "id"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)
    task: Mapped[str] = mapped_column(String(128))
    args: Mapped[list[Any]]
    queue: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime]
    #: not before; a relay that is sending it moves this ahead, so that no other one sends it as well
    available_at: Mapped[datetime]
    attempts: Mapped[int] = mapped_column(default=0)
    #: `tracing.carrier` of its writer
    context: Mapped[dict[str, str] | None] = mapped_column(JSON(none_as_null=True))


class IdempotencyKey(Owned, Base):
    """The stored answer to one `Idempotency-Key`; written in the job's own transaction."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (
        Index(None, "expires_at"),
        Index(None, "job_id"),
        Index("uq_idempotency_keys_tenant_key", "tenant", "key", unique=True),
    )

    #: the tenant; in rows of an earlier version the caller's credential, hashed
    caller: Mapped[str] = mapped_column(String(64), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    response: Mapped[dict[str, Any]]
    expires_at: Mapped[datetime]


class Event(Owned, Base):
    """An event, written in the transaction that causes it: the log that webhooks deliver and `GET /events` shows."""

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
    #: in the log; given by the first reader after the commit, so that no reader passes over a slower transaction
    position: Mapped[int | None] = mapped_column(BigInteger, unique=True)
    type: Mapped[str] = mapped_column(String(64))
    #: None: it concerns no job; no foreign key, since an event outlives its job
    job_id: Mapped[UUID | None]
    run: Mapped[int | None]
    created_at: Mapped[datetime]
    #: the job as it was then, without download URLs
    data: Mapped[dict[str, Any]]


class Counter(Base):
    """The last number that was used; its row lock lets only one transaction assign numbers at a time."""

    __tablename__ = "counters"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    value: Mapped[int] = mapped_column(BigInteger)


class WebhookEndpoint(Owned, Base):
    """A receiver of every event of certain types."""

    __tablename__ = "webhook_endpoints"
    __table_args__ = (Index(None, "tenant", "id"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    url: Mapped[str] = mapped_column(Text)
    description: Mapped[str] = mapped_column(Text, default="")
    #: types of events; empty: all
    events: Mapped[list[Any]]
    enabled: Mapped[bool] = mapped_column(default=True)
    #: why it was disabled, unless by its owner
    disabled_reason: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]


class WebhookSecret(Owned, Base):
    """A key that signs; during a rotation a receiver has two."""

    __tablename__ = "webhook_secrets"
    __table_args__ = (Index(None, "endpoint_id"),)

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)
    #: None: signs what goes to the `webhook_url` of the tenant's jobs
    endpoint_id: Mapped[str | None] = mapped_column(ForeignKey("webhook_endpoints.id", ondelete="CASCADE"))
    #: encrypted, see `sealing`; HMAC needs the key itself, so it cannot be kept as a hash
    secret: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime]
    #: None: the current one
    expires_at: Mapped[datetime | None]


class WebhookDelivery(Owned, Base):
    """One event for one receiver."""

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
    #: None: to the `webhook_url` of the job
    endpoint_id: Mapped[str | None] = mapped_column(ForeignKey("webhook_endpoints.id", ondelete="CASCADE"))
    #: its destination, or the last one; if the URL of the endpoint changes, pending deliveries go to the new one
    url: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(String(16), default=DeliveryStatus.PENDING)
    #: number of all attempts
    attempts: Mapped[int] = mapped_column(default=0)
    #: how many there were when the current schedule began; a replay begins a new one
    attempts_before: Mapped[int] = mapped_column(default=0)
    #: how often in a row it was put off because its host was paused
    postponements: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime]
    next_attempt_at: Mapped[datetime]
    #: when it is given up, whatever it waits for; None: its schedule has not begun, since it was not claimed yet
    expires_at: Mapped[datetime | None]
    #: when its last message was written; the sweep writes another one for what stays silent
    dispatched_at: Mapped[datetime]
    #: the message whose attempt is under way
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
    """One request to a receiver, and its outcome."""

    __tablename__ = "delivery_attempts"

    delivery_id: Mapped[str] = mapped_column(ForeignKey("deliveries.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    seconds: Mapped[float]
    status_code: Mapped[int | None]
    error: Mapped[str | None] = mapped_column(Text)
    #: beginning of the answer's body
    answer: Mapped[str | None] = mapped_column(Text)


class WebhookReplay(Base):
    """The events of a period that an endpoint gets again, in batches."""

    __tablename__ = "webhook_replays"
    __table_args__ = (
        Index(None, "endpoint_id", "id"),
        Index("ix_webhook_replays_unfinished", "dispatched_at", postgresql_where=UNFINISHED, sqlite_where=UNFINISHED),
    )

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    endpoint_id: Mapped[str] = mapped_column(ForeignKey("webhook_endpoints.id", ondelete="CASCADE"))
    since: Mapped[datetime]
    until: Mapped[datetime]
    #: whether to leave out events that the endpoint has accepted
    missed_only: Mapped[bool]
    #: id of the last event that was looked at; a message that names another one is a copy, and does nothing
    after: Mapped[str] = mapped_column(String(64), default="")
    #: how many have been sent again so far
    events: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime]
    #: when its last message was written; the sweep writes another one for what stays silent
    dispatched_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    #: why it ended early
    error: Mapped[str | None] = mapped_column(Text)


class Store(Owned, Base):
    """A connection to a bucket of a tenant."""

    __tablename__ = "stores"
    __table_args__ = (UniqueConstraint("tenant", "name"),)

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(String(64))
    #: s3://bucket, gs://bucket, az://container; of the operator's making file:///folder
    url: Mapped[str] = mapped_column(Text)
    #: None: the provider's own
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

    #: of the message; the same for every copy
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    created_at: Mapped[datetime]
    #: `poison_input`, or why the broker gave the message up: `delivery_limit`, `rejected`, ...
    reason: Mapped[str] = mapped_column(String(64))
    queue: Mapped[str] = mapped_column(String(64))
    #: Celery's name of the task
    task: Mapped[str] = mapped_column(String(128))
    args: Mapped[list[Any]]
    #: None where the message names no job; the job itself may be gone
    job_id: Mapped[UUID | None]
    #: id of the planned task
    job_task: Mapped[str | None] = mapped_column(String(128))
    #: the upload and its operations: the same combination is refused
    input_sha256: Mapped[str | None] = mapped_column(String(64))
    operations: Mapped[list[Any]]
    message: Mapped[str] = mapped_column(Text)
    #: when it was sent again
    redriven_at: Mapped[datetime | None]
