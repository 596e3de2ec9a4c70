"""The timeline of one job, as text, from the records in the database."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from app.models import (
    JOB_OPEN,
    DeadLetter,
    DueTask,
    Event,
    Job,
    OutboxMessage,
    Step,
    StepAttempt,
    StepStatus,
    WebhookDelivery,
)
from app.services import jobs
from app.services.dag_builder import Plan, PlannedTask
from app.services.scheduling.due import WHOLE

LATER = 10_000  # messages of the outbox among which the job's are searched
SAID = {
    StepStatus.PENDING: "waits",
    StepStatus.RUNNING: "runs",
    StepStatus.SUCCEEDED: "succeeded",
    StepStatus.FAILED: "failed",
    StepStatus.SKIPPED: "was skipped, because what it continues from failed",
    StepStatus.CANCELLED: "was cancelled",
}


@dataclass(frozen=True, order=True)
class Moment:
    """An event in the timeline."""

    at: datetime
    what: str


def describe(session: Session, job_id: UUID) -> list[str]:
    """The timeline as lines of text: request, events with their times, current state, and what the job waits for.

    Raises:
        JobNotFound: there is no such job.
    """
    job = jobs.get(session, job_id)
    now = [
        *_opening(job),
        "",
        *_timeline(job, sorted(_moments(session, job))),
        "",
        *(_standing(job, task) for task in Plan.from_json(job.plan).tasks),
    ]
    awaited = list(_awaited(session, job))
    return [*now, "", *awaited] if awaited else now


def _input(job: Job) -> str:
    if job.input_sha256 is None:
        return "not fetched yet"
    frames = f", {job.input_frames} frames" if (job.input_frames or 1) > 1 else ""
    size = f"{job.input_width}x{job.input_height}{frames}, {job.input_bytes} bytes"
    return f"{job.input_format}, {size}, sha256 {job.input_sha256[:12]}…"


def _opening(job: Job) -> Iterator[str]:
    yield f"Job {job.id} is {job.status}{f', run {job.run}' if job.run > 1 else ''}."
    yield f"It came with {job.input_filename!r}: {_input(job)}"
    known = job.context or {}
    if request := known.get("request_id"):
        yield f"In the logs: request_id {request}{_trace(known)}."
    if job.error:
        yield f"Its error is {_error(job.error)}"


def _trace(known: dict[str, str]) -> str:
    parts = known.get("traceparent", "").split("-")
    return f", trace_id {parts[1]}" if len(parts) == 4 else ""


def _error(error: dict[str, Any]) -> str:
    return f"{error['code']}: {error['message']}"


def _timeline(job: Job, moments: Sequence[Moment]) -> Iterator[str]:
    yield f"{job.created_at:%Y-%m-%d %H:%M:%S} UTC; seconds from there:"
    for moment in moments:
        yield f"{(moment.at - job.created_at).total_seconds():>10.3f}  {moment.what}"


def _moments(session: Session, job: Job) -> Iterator[Moment]:
    yield Moment(job.created_at, "accepted")
    if job.finished_at:
        yield Moment(job.finished_at, f"ended: {job.status}")
    for attempt in session.scalars(select(StepAttempt).where(StepAttempt.job_id == job.id)):
        yield from _attempt(job, attempt)
    for event in session.scalars(select(Event).where(Event.job_id == job.id)):
        yield Moment(event.created_at, f"{event.type} written down as {event.id}")
        yield from _deliveries(session, event)
    for letter in session.scalars(select(DeadLetter).where(DeadLetter.job_id == job.id)):
        yield Moment(letter.created_at, f"dead letter {letter.id}: {letter.reason}")
        if letter.redriven_at:
            yield Moment(letter.redriven_at, f"dead letter {letter.id} sent again")


def _deliveries(session: Session, event: Event) -> Iterator[Moment]:
    query = select(WebhookDelivery).where(WebhookDelivery.event_id == event.id)
    for delivery in session.scalars(query.options(selectinload(WebhookDelivery.tries))):
        to = delivery.endpoint_id or "the URL of the job"
        for attempt in delivery.tries:
            said = attempt.error or "taken"
            yield Moment(attempt.at, f"webhook {delivery.id} to {to}: attempt {attempt.number} {said}")


def _attempt(job: Job, attempt: StepAttempt) -> Iterator[Moment]:
    run = f" of run {attempt.run}" if job.run > 1 else ""
    name = f"{_operations(job, attempt.task)}: attempt {attempt.number}{run}"
    yield Moment(attempt.started_at, f"{name} started by {attempt.owner}")
    if attempt.finished_at:
        said = "was never heard of again" if attempt.outcome == "lost" else attempt.outcome
        reason = f", {_error(attempt.error)}" if attempt.error else ""
        yield Moment(attempt.finished_at, f"{name} {said}{reason}")


def _operations(job: Job, task_id: str) -> str:
    task = next((task for task in Plan.from_json(job.plan).tasks if task.id == task_id), None)
    return _name(task) if task else task_id


def _name(task: PlannedTask) -> str:
    return f"{task.id} {'+'.join(step.op for step in task.steps)}"


def _standing(job: Job, task: PlannedTask) -> str:
    step = next(step for step in job.steps if step.id == task.id)
    said = SAID[StepStatus(step.status)]
    progress = f" ({step.progress:.0%})" if step.status == StepStatus.RUNNING and step.progress else ""
    reason = f": {_error(step.error)}" if step.error else ""
    results = ", ".join(f"{result.name} ({result.bytes} bytes)" for result in job.results if result.step_id == task.id)
    return f"{_name(task)} on {task.queue} {said}{progress}{reason}{f', result {results}' if results else ''}"


def _awaited(session: Session, job: Job) -> Iterator[str]:
    for message in _messages(session, job):
        attempts = f", {message.attempts} attempts to send it" if message.attempts else ""
        times = f"since {message.created_at:%H:%M:%S}, due {message.available_at:%H:%M:%S}"
        yield f"In the outbox: {message.task} {times}{attempts}."
    if job.status not in JOB_OPEN:
        return
    for step in _leaders(job, StepStatus.RUNNING):
        yield f"{step.id} {step.op} is held by {step.lease_owner}, whose lease ends {step.lease_until:%H:%M:%S}."
    due = set(session.scalars(select(DueTask.task).where(DueTask.job_id == job.id)))
    if due:
        yield f"Waits for its turn, with priority {job.priority}: {', '.join(sorted(due - {WHOLE})) or 'all of it'}."
    pending = [step for step in _leaders(job, StepStatus.PENDING) if _can_start(job, step)]
    waiting = [step for step in pending if not due & {step.id, WHOLE}]
    for queue in sorted({step.queue for step in waiting}):
        ids = ", ".join(f"{step.id} {step.op}" for step in waiting if step.queue == queue)
        yield f"Waiting for a worker of {queue}: {ids}; last sent {job.dispatched_at:%H:%M:%S}."


def _messages(session: Session, job: Job) -> Iterable[OutboxMessage]:
    query = select(OutboxMessage).order_by(OutboxMessage.id).limit(LATER)
    return (message for message in session.scalars(query) if message.args and message.args[0] == str(job.id))


def _leaders(job: Job, status: StepStatus) -> list[Step]:
    """One step for each task: the step whose id is that of the task."""
    return [step for step in job.steps if step.status == status and step.id == step.task]


def _can_start(job: Job, step: Step) -> bool:
    task = Plan.from_json(job.plan).task(step.task)
    parent = next((other for other in job.steps if other.id == task.parent), None)
    return parent is None or parent.status == StepStatus.SUCCEEDED
