"""What goes over the wire, and the operation tree."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from app.models import EventType
from app.operations import Operation
from app.parameters import Params


@dataclass(frozen=True, kw_only=True)
class Node:
    """One checked node of the operation tree."""

    #: path in the tree: `0.1` is the second `then` entry of the first branch
    id: str
    operation: Operation
    params: Params
    #: also a result although something continues from it; every leaf is a result anyway
    keep: bool = False
    #: name of the result chosen by the client
    name: str | None = None
    #: JSON pointer to the node, for errors found later
    pointer: str
    then: tuple["Node", ...] = field(default=())

    def walk(self) -> Iterator["Node"]:
        """This node and all below, in preorder."""
        yield self
        for child in self.then:
            yield from child.walk()


class Model(BaseModel):
    """Base of all response bodies."""

    model_config = ConfigDict(from_attributes=True, json_schema_serialization_defaults_required=True)


class ErrorRecord(Model):
    """Why a job or a step did not succeed."""

    code: str = Field(examples=["corrupt_image"])
    message: str = Field(examples=["The image data is corrupt and cannot be decoded."])
    retryable: bool = Field(description="Whether the same work may succeed when it is repeated.")


class InputView(Model):
    """The uploaded file."""

    filename: str = Field(examples=["photo.jpg"])
    format: str = Field(examples=["jpeg"])
    width: int = Field(description="Pixels, as stored: before the EXIF orientation is applied.", examples=[4000])
    height: int = Field(examples=[3000])
    bytes: int = Field(examples=[2193417])
    sha256: str


class StepView(Model):
    """One operation of the tree."""

    id: str = Field(description="Path in the tree: `0.1` is the second `then` entry of the first branch.")
    op: str = Field(examples=["resize"])
    status: str = Field(
        description="pending, running, succeeded, failed, skipped (what it continues from failed) or cancelled.",
        examples=["succeeded"],
    )
    attempts: int
    queue: str = Field(examples=["default_queue"])
    started_at: datetime | None
    seconds: float | None = Field(description="Duration; operations that run as one share it.", examples=[0.21])
    progress: float = Field(ge=0, le=1, description="Share that is done; counted during `denoise`.")
    seconds_left: float | None = Field(
        description="As long as this if it goes on as before; null where nothing is counted.", examples=[12.5]
    )
    report: dict[str, Any] | None = Field(
        description="What the operation found out about the image.", examples=[{"noise_sigma": 24.3, "skipped": False}]
    )
    error: ErrorRecord | None


class ResultView(Model):
    """One stored output."""

    name: str = Field(examples=["resize.convert_webp"])
    step: str = Field(description="Id of the step that made it.")
    format: str = Field(examples=["webp"])
    content_type: str = Field(examples=["image/webp"])
    width: int = Field(examples=[1280])
    height: int = Field(examples=[960])
    bytes: int = Field(examples=[115812])
    sha256: str
    filename: str = Field(examples=["photo-resize.convert_webp.webp"])
    url: str = Field(description="Absolute, signed, valid until `expires_at`. Get the job again for a fresh one.")
    expires_at: datetime


class JobLinks(Model):
    """Relative addresses of what belongs to the job."""

    self: str
    archive: str


class JobView(Model):
    """A job: what was sent, how far it is, what came out."""

    id: UUID
    status: str = Field(
        description="pending, processing, completed, completed_with_errors, failed or cancelled.",
        examples=["completed"],
    )
    created_at: datetime
    finished_at: datetime | None
    input: InputView
    operations: list[Any] = Field(description="The tree as it was sent.")
    steps: list[StepView]
    results: list[ResultView]
    error: ErrorRecord | None
    links: JobLinks


class JobPage(Model):
    """One page of a listing, newest first."""

    data: list[JobView]
    next_cursor: str | None = Field(description="Pass as `cursor` for the next page; null on the last one.")
    has_more: bool


class OperationView(Model):
    """One operation that a tree may use."""

    name: str
    description: str
    queue: str
    output_format: str | None = Field(description="Null: the format stays as it is.")
    params: dict[str, Any] = Field(description="JSON schema of the parameters.")
    example: dict[str, Any] | str


class OperationList(Model):
    """Every operation, with the limits that hold for trees and uploads."""

    operations: list[OperationView]
    limits: dict[str, int]


class EndpointView(Model):
    """A registered receiver of webhooks."""

    id: str
    url: str
    description: str
    events: list[EventType] = Field(description="Types of events that it gets; empty: all.")
    enabled: bool
    disabled_reason: str | None = Field(description="Why it was switched off, unless by a request.")
    created_at: datetime


class EndpointWithSecret(EndpointView):
    """An endpoint, and what its receiver checks signatures with: shown only in this answer."""

    secret: str = Field(examples=["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"])


class EndpointList(Model):
    """Every endpoint, oldest first."""

    data: list[EndpointView]


class Secret(Model):
    """A new key: shown only in this answer."""

    secret: str = Field(examples=["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"])


#: how a job ends: the types that can be asked for
Outcome = Literal["job.completed", "job.completed_with_errors", "job.failed", "job.cancelled"]


def _once(types: list[Outcome]) -> list[Outcome]:
    return sorted(set(types))


Outcomes = Annotated[list[Outcome], Field(max_length=4), AfterValidator(_once)]
Description = Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$")]  # PostgreSQL refuses text with a NUL


class NewEndpoint(BaseModel):
    """A receiver to register."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(examples=["https://example.org/hooks/pixtools"])
    events: Outcomes = Field([], description="Types of events that it gets; empty: all.")
    description: Description = ""


class EndpointChange(BaseModel):
    """What is left out stays as it is."""

    model_config = ConfigDict(extra="forbid")

    url: str | None = None
    events: Outcomes | None = None
    description: Description | None = None
    enabled: bool | None = None


class Rotation(BaseModel):
    """How a key is replaced."""

    model_config = ConfigDict(extra="forbid")

    overlap_seconds: int = Field(86_400, ge=0, le=30 * 86_400, description="How long the old key signs as well.")


def _utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("the year is out of range") from None


Moment = Annotated[AwareDatetime, AfterValidator(_utc)]


class ReplayRequest(BaseModel):
    """Which events an endpoint gets again."""

    model_config = ConfigDict(extra="forbid")

    since: Moment
    until: Moment | None = Field(None, description="Default: now.")
    missed_only: bool = Field(False, description="Leave out what the endpoint has taken.")


class ReplayView(Model):
    """Events that an endpoint gets again, one after the other."""

    id: str
    endpoint_id: str
    since: datetime
    until: datetime
    missed_only: bool
    events: int = Field(description="How many have been taken up so far.")
    created_at: datetime
    finished_at: datetime | None = Field(description="Null: there are more to come.")
    error: str | None = Field(description="Why it ended before all were sent.")


class ReplayList(Model):
    """Replays of an endpoint, newest first."""

    data: list[ReplayView]


class AttemptView(Model):
    """One request to a receiver."""

    number: int
    at: datetime
    seconds: float
    status_code: int | None
    error: str | None = Field(description="Null: the receiver has taken the event.")
    answer: str | None = Field(description="The beginning of the answer's body.")


class DeliverySummary(Model):
    """One event for one receiver."""

    id: str
    webhook_id: str = Field(description="The same in every attempt and for every receiver of the event.")
    event: EventType
    job_id: UUID | None
    endpoint_id: str | None = Field(description="Null: it goes to the `webhook_url` of the job.")
    url: str
    status: str = Field(description="pending, delivered or exhausted.", examples=["delivered"])
    attempt_count: int
    postponements: int = Field(description="How often in a row it was put off because its host had failed too often.")
    created_at: datetime
    next_attempt_at: datetime | None
    expires_at: datetime | None = Field(
        description="When it is given up, whatever it waits for; null: nobody has looked at it yet, or it has ended."
    )
    delivered_at: datetime | None
    error: str | None = Field(description="Why the last attempt failed, or why it was given up.")


class DeliveryView(DeliverySummary):
    """One event for one receiver, with everything that was tried."""

    attempts: list[AttemptView] = Field(description="The last 100 at most, oldest first.")


class DeliveryPage(Model):
    """One page of deliveries, newest first."""

    data: list[DeliverySummary]
    next_cursor: str | None = Field(description="Pass as `cursor` for the next page; null on the last one.")
    has_more: bool


class EventView(Model):
    """What a webhook says, with its `webhook-id`."""

    id: str = Field(description="The `webhook-id`.")
    type: EventType
    timestamp: datetime
    data: dict[str, Any] = Field(
        description="The job as it was then; URLs are fresh, null where a result is gone. Of a job "
        "that its client has deleted only `id`, `status` and `deleted`: true."
    )


class EventPage(Model):
    """A part of the log of events, oldest first."""

    data: list[EventView]
    next_after: str = Field(description="Pass as `after` to go on behind what this answer has looked at.")
    has_more: bool


class ProblemError(Model):
    """One mistake in the input."""

    model_config = ConfigDict(extra="allow")

    detail: str
    pointer: str | None = Field(None, description="JSON pointer to the mistake, as a URI fragment.")


class Problem(Model):
    """RFC 9457 problem details; decide by `code`, which never changes its meaning."""

    model_config = ConfigDict(extra="allow")

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    instance: str | None = None
    errors: list[ProblemError] | None = None
