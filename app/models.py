"""The tables. The database is the truth; broker, Redis and chord are only means."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    JSON,
    BigInteger,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.database import Base


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
    #: a step that it needs failed
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


class DeliveryStatus(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    #: every attempt failed
    EXHAUSTED = "exhausted"


JOB_OPEN = (JobStatus.PENDING, JobStatus.PROCESSING)
STEP_OPEN = (StepStatus.PENDING, StepStatus.RUNNING)
STEP_UNSUCCESSFUL = (StepStatus.FAILED, StepStatus.SKIPPED, StepStatus.CANCELLED)


class Job(Base):
    """One accepted upload with its operation tree."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index(None, "status", "id"),
        Index("ix_jobs_open", "dispatched_at", postgresql_where=text("finished_at IS NULL")),
        Index(None, "expires_at"),
    )

    #: UUIDv7: sorts by time of acceptance, which is the order of listings
    id: Mapped[UUID] = mapped_column(primary_key=True)
    status: Mapped[str] = mapped_column(String(24), default=JobStatus.PENDING)
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    expires_at: Mapped[datetime]
    #: when work was last sent to the broker; the reconciler sends again what stays silent
    dispatched_at: Mapped[datetime]
    #: 1, and one more for each retry by the client: events of another run are other events
    run: Mapped[int] = mapped_column(default=1)
    operations: Mapped[list[Any]]
    #: `dag_builder.Plan` as data: a deployment in the middle of a job must not change its plan
    plan: Mapped[dict[str, Any]]
    webhook_url: Mapped[str | None] = mapped_column(Text)
    #: how the client reached the API; base of absolute URLs in events
    base_url: Mapped[str] = mapped_column(Text)
    #: `tracing.carrier` of the request that it came with
    context: Mapped[dict[str, str] | None] = mapped_column(JSON(none_as_null=True))
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))

    input_key: Mapped[str] = mapped_column(Text)
    input_filename: Mapped[str] = mapped_column(Text)
    input_format: Mapped[str] = mapped_column(String(16))
    input_width: Mapped[int]
    input_height: Mapped[int]
    input_frames: Mapped[int]
    input_bytes: Mapped[int] = mapped_column(BigInteger)
    input_sha256: Mapped[str] = mapped_column(String(64))

    steps: Mapped[list["Step"]] = relationship(order_by="Step.position", lazy="raise", passive_deletes=True)
    results: Mapped[list["Result"]] = relationship(order_by="Result.position", lazy="raise", passive_deletes=True)


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
    #: counts starts, also those that died; with `lease_owner` the fence against a late writer
    attempts: Mapped[int] = mapped_column(default=0)
    lease_owner: Mapped[str | None] = mapped_column(String(64))
    lease_until: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    #: share of the current attempt that is done, where the operation tells
    progress: Mapped[float] = mapped_column(default=0.0, server_default=text("0"))
    #: what the operation found out about the image
    report: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))


class StepAttempt(Base):
    """One start of a task, and what became of it; for people who ask what happened."""

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
    #: succeeded, failed, or lost: its worker was never heard of again
    outcome: Mapped[str | None] = mapped_column(String(16))
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))


class Result(Base):
    """One stored output of a job."""

    __tablename__ = "job_results"
    __table_args__ = (
        ForeignKeyConstraint(["job_id", "step_id"], ["job_steps.job_id", "job_steps.id"], ondelete="CASCADE"),
        UniqueConstraint("job_id", "name"),
    )

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    step_id: Mapped[str] = mapped_column(String(128), primary_key=True)
    position: Mapped[int]
    name: Mapped[str] = mapped_column(Text)
    #: deterministic: a step that runs twice writes the same object
    key: Mapped[str] = mapped_column(Text)
    filename: Mapped[str] = mapped_column(Text)
    format: Mapped[str] = mapped_column(String(16))
    content_type: Mapped[str] = mapped_column(String(64))
    width: Mapped[int]
    height: Mapped[int]
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))


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
    #: `tracing.carrier` of who wrote it
    context: Mapped[dict[str, str] | None] = mapped_column(JSON(none_as_null=True))


class IdempotencyKey(Base):
    """The stored answer to one `Idempotency-Key`; written in the job's own transaction."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index(None, "expires_at"), Index(None, "job_id"))

    caller: Mapped[str] = mapped_column(String(64), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    response: Mapped[dict[str, Any]]
    expires_at: Mapped[datetime]


class WebhookDelivery(Base):
    """One event for one URL; its id is the `webhook-id`, the same over all attempts."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (UniqueConstraint("job_id", "run", "event"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    run: Mapped[int]
    event: Mapped[str] = mapped_column(String(64))
    url: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(String(16), default=DeliveryStatus.PENDING)
    attempts: Mapped[int] = mapped_column(default=0)
    last_status_code: Mapped[int | None]
    last_error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]
    delivered_at: Mapped[datetime | None]


class DeadLetter(Base):
    """Work that was given up because it ended what worked on it, or that nobody could make sense of."""

    __tablename__ = "dead_letters"
    __table_args__ = (Index(None, "input_sha256"),)

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
    #: the upload and what was to be done with it: the same again is refused
    input_sha256: Mapped[str | None] = mapped_column(String(64))
    operations: Mapped[list[Any]]
    message: Mapped[str] = mapped_column(Text)
    #: when it was sent again
    redriven_at: Mapped[datetime | None]
