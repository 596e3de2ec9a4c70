"""Models of requests and answers."""

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from app.errors import (
    InvalidSource,
    InvalidUpload,
    LimitExceeded,
    StepFailed,
    TenantLimit,
    Unavailable,
    codes_of,
)
from app.formats import FORMATS
from app.models import DEFAULT_PRIORITY, PRIORITIES, DeliveryStatus, EventType, JobStatus, Scope, StepStatus
from app.operations import FETCH, OPERATIONS, Queue


class Model(BaseModel):
    """Base of all response bodies."""

    model_config = ConfigDict(from_attributes=True, json_schema_serialization_defaults_required=True)


def one_of(values: Iterable[str]) -> dict[str, Any]:
    """A schema with an enumeration of this version's values; values that another version stored are valid as well."""
    return {"enum": sorted(values)}


#: includes the refusals of a form, since they fail the step of an input that is fetched
STEP_CODES = codes_of(StepFailed, Unavailable, InvalidSource, InvalidUpload, LimitExceeded, TenantLimit)

RESULT_FORMATS = [format_.name for format_ in FORMATS.values() if format_.is_result]
INPUT_FORMATS = [format_.name for format_ in FORMATS.values() if format_.is_input]

ResultFormat = Annotated[str, Field(json_schema_extra=one_of(RESULT_FORMATS))]
InputFormat = Annotated[str, Field(json_schema_extra=one_of(INPUT_FORMATS))]
ContentType = Annotated[str, Field(json_schema_extra=one_of(format_.media_type for format_ in FORMATS.values()))]
OperationName = Annotated[str, Field(json_schema_extra=one_of([*OPERATIONS, FETCH]))]
Sha256 = Annotated[str, Field(json_schema_extra={"pattern": "^[0-9a-f]{64}$"})]
Count = Annotated[int, Field(ge=0)]


def without_query(url: str) -> str:
    """The URL without its query, which may contain a token."""
    return re.split("[?#]", url, maxsplit=1)[0]


ShownUrl = Annotated[
    str, AfterValidator(without_query), Field(description="URL without its query, which may be secret.")
]


def left_out(schema: dict[str, Any]) -> None:
    """Change the schema of a member that may be missing but is never null."""
    schema.pop("default", None)


class ErrorRecord(Model):
    """Why a job or a step did not succeed."""

    code: str = Field(examples=["corrupt_image"], json_schema_extra=one_of(STEP_CODES))
    message: str = Field(examples=["The image data is corrupt and cannot be decoded."])
    retryable: bool = Field(description="Whether the same work may succeed if it is repeated.")


class InputView(Model):
    """The input file of the job; all members except its name are null until it has been fetched."""

    filename: str = Field(examples=["photo.jpg"])
    format: InputFormat | None = Field(examples=["jpeg"])
    width: int | None = Field(description="Pixels of the upright image, after the EXIF orientation.", examples=[4000])
    height: int | None = Field(examples=[3000])
    bytes: int | None = Field(examples=[2193417])
    sha256: Sha256 | None
    source: dict[str, str] | None = Field(
        description="Where it is fetched from, as in `input` of the request, without queries and headers; null: it "
        "came with the request.",
        examples=[{"url": "https://images.example/1.jpg"}],
    )


class StepView(Model):
    """One operation of the tree."""

    id: str = Field(
        description="Path in the tree: `0.1` is the second `then` entry of the first branch. The step `input` fetches "
        "the input."
    )
    op: OperationName = Field(examples=["resize"])
    status: StepStatus = Field(description="`skipped`: the step before it failed.", examples=["succeeded"])
    attempts: Count
    queue: Queue = Field(examples=["default_queue"])
    started_at: datetime | None
    seconds: float | None = Field(description="Duration; steps that run as one task have the same.", examples=[0.21])
    progress: float = Field(
        ge=0, le=1, description="Share that is done; only `denoise` and `web` report it as they run."
    )
    seconds_left: float | None = Field(
        description="Estimated seconds until the end; null for operations without progress.", examples=[12.5]
    )
    report: dict[str, Any] | None = Field(
        description="What the operation reports about the image.", examples=[{"noise_sigma": 24.3, "skipped": False}]
    )
    error: ErrorRecord | None


class OutputView(Model):
    """Where a result was also written."""

    store: str
    key: str
    url: str = Field(examples=["s3://my-photos/2026/1.webp"])
    written: bool = Field(description="False: another object was there, and was left as it is (`if_exists: skip`).")


class ResultView(Model):
    """One stored output."""

    name: str = Field(examples=["resize.convert_webp"])
    step: str = Field(description="Id of the step that made it.")
    format: ResultFormat = Field(examples=["webp"])
    content_type: ContentType = Field(examples=["image/webp"])
    width: int | None = Field(description="Pixels; null: the file is not an image.", examples=[1280])
    height: int | None = Field(examples=[960])
    bytes: int = Field(examples=[115812])
    sha256: Sha256
    filename: str = Field(examples=["photo-resize.convert_webp.webp"])
    url: str = Field(description="Absolute, signed, valid until `expires_at`. Fetch the job again for a fresh one.")
    expires_at: datetime
    output: OutputView | None = Field(description="Null: the request named no `output`.")


class JobLinks(Model):
    """Relative addresses of the job and its parts."""

    self: str
    events: str
    archive: str


class JobView(Model):
    """A job: its input and operations, its state, and its results."""

    id: UUID
    status: JobStatus = Field(examples=["completed"])
    created_at: datetime
    finished_at: datetime | None
    expires_at: datetime | None = Field(
        description="When the job and its results are removed; null until it has ended, as the time counts from then."
    )
    priority: int = Field(ge=PRIORITIES[0], le=PRIORITIES[-1], description="9 goes first.", examples=[DEFAULT_PRIORITY])
    tags: dict[str, str] = Field(description="The tags of the request.", examples=[{"sku": "7"}])
    external_id: str | None = Field(description="The client's own name for the job.", examples=["order-1234"])
    template: str | None = Field(description="Name and version of the template.", examples=["shop@2"])
    input: InputView
    operations: list[Any] = Field(description="The tree as it was sent, or as the template gave it.")
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
    queue: Queue
    output_format: ResultFormat | None = Field(description="Null: the format stays as it is.")
    bundle: bool = Field(description="Whether it gives several files; `output_format` is then that of the manifest.")
    params: dict[str, Any] = Field(description="JSON schema of the parameters.")
    example: dict[str, Any] | str


class OperationList(Model):
    """All operations, and the limits for trees and uploads."""

    operations: list[OperationView]
    limits: dict[str, int]


class EndpointView(Model):
    """A registered receiver of webhooks."""

    id: str
    url: ShownUrl
    description: str
    events: list[EventType] = Field(description="Event types that it receives; empty: all.")
    enabled: bool
    disabled_reason: str | None = Field(
        description="Why PixTools disabled it; null: it is enabled, or a request did it."
    )
    created_at: datetime


class EndpointWithSecret(EndpointView):
    """An endpoint, and the secret with which its receiver checks signatures: shown only in this answer."""

    secret: str = Field(examples=["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"])


class EndpointList(Model):
    """All endpoints, oldest first."""

    data: list[EndpointView]


class Secret(Model):
    """A new secret: shown only in this answer."""

    secret: str = Field(examples=["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"])


def _subscribable(type_: EventType) -> EventType:
    if type_ == EventType.TEST:
        raise ValueError("is sent on request only: see POST /webhooks/{id}/test")
    return type_


SUBSCRIBABLE = [type_.value for type_ in EventType if type_ != EventType.TEST]
Subscribable = Annotated[
    EventType, AfterValidator(_subscribable), WithJsonSchema({"type": "string", "enum": SUBSCRIBABLE})
]


def _once(types: list[Subscribable]) -> list[Subscribable]:
    return sorted(set(types))


Subscription = Annotated[list[Subscribable], Field(max_length=len(SUBSCRIBABLE)), AfterValidator(_once)]
Description = Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$")]  # PostgreSQL refuses text with a NUL


class Body(BaseModel):
    """Base of all request bodies: unknown members are errors."""

    model_config = ConfigDict(extra="forbid")


#: only described here: the service checks it, with more precise errors
WebhookUrl = Annotated[
    str, Field(json_schema_extra={"format": "uri", "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://", "maxLength": 2048})
]
StrictBool = Annotated[bool, Field(strict=True)]


def _number(value: object) -> object:
    if isinstance(value, bool | str):
        raise ValueError("must be a whole number")  # noqa: TRY004 - pydantic turns only this one into a mistake
    return value


#: `1.0` is one as well, by JSON Schema
JsonNumber = Annotated[int, BeforeValidator(_number)]


class NewEndpoint(Body):
    """A receiver to register."""

    url: WebhookUrl = Field(examples=["https://hooks.example/pixtools"])
    events: Subscription = Field([], description="Event types that it receives; empty: all.")
    description: Description = ""


class EndpointChange(Body):
    """Members that are left out stay as they are."""

    url: WebhookUrl | None = None
    events: Subscription | None = None
    description: Description | None = None
    enabled: StrictBool | None = None


class NewStore(Body):
    """A connection to a bucket."""

    url: str = Field(
        max_length=255, description="`s3://bucket`, `gs://bucket` or `az://container`.", examples=["s3://my-photos"]
    )
    endpoint: str | None = Field(
        None, max_length=255, description="An endpoint that the operator has allowed; null: the provider's own."
    )
    region: str | None = Field(None, max_length=64, description="Region of S3; null: this server's default.")
    credentials: dict[str, str] = Field(
        description="For `s3://`: `access_key_id`, `secret_access_key`, `session_token`; for `gs://`: `client_email`, "
        "`private_key`, `private_key_id` of a service account's key file; for `az://`: `account`, `account_key`.",
        max_length=8,
    )


class StoreView(Model):
    """A connection to a bucket, without its credentials."""

    name: str
    url: str
    endpoint: str | None = Field(description="Null: the provider's own.")
    region: str = Field(description="Region of S3.")
    created_at: datetime
    updated_at: datetime


class StoreList(Model):
    """All stores, by name."""

    data: list[StoreView]


class Rotation(Body):
    """How a secret is replaced."""

    overlap_seconds: JsonNumber = Field(
        86_400, ge=0, le=30 * 86_400, description="Seconds for which the old secret signs as well."
    )


def _utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("the year is out of range") from None


def _timestamp(value: object) -> object:
    if not isinstance(value, str) or not TIMESTAMP.fullmatch(value):
        raise ValueError("must be a date and time with a time zone, such as 2026-11-28T12:00:00Z (RFC 3339)")
    return value


TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
Moment = Annotated[AwareDatetime, BeforeValidator(_timestamp), AfterValidator(_utc)]


DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


def _day(value: object) -> object:
    if isinstance(value, str) and not DAY.fullmatch(value):
        raise ValueError("must be a day, such as 2026-11-23")
    return value


Day = Annotated[date, BeforeValidator(_day)]


class NewApiKey(Body):
    """The key to make."""

    scopes: list[Scope] = Field(min_length=1, description="What the key may do; not more than the key that makes it.")
    description: Description = ""
    expires_at: Moment | None = Field(None, description="Time from which the key is refused; null: never.")
    tenant: str | None = Field(
        None, max_length=64, description="Default: your own; another tenant needs the scope `admin`."
    )


class ApiKeyView(Model):
    """A key, without the secret."""

    id: str = Field(description="The public part of the key.", examples=["8l0qhq5tsbxf"])
    tenant: str
    description: str
    scopes: list[str] = Field(examples=[["jobs:read", "jobs:write"]])
    created_by: str | None = Field(description="Id of the key that made it; null: the command line made it.")
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = Field(description="To the minute; null: not used yet.")


class ApiKeyWithSecret(ApiKeyView):
    """A new key."""

    key: str = Field(description="For `Authorization: Bearer …`; not shown again.")


class ApiKeyList(Model):
    """Keys, oldest first."""

    data: list[ApiKeyView]


class TenantView(Model):
    """A tenant: a user of the service, separate from all others."""

    name: str
    created_at: datetime
    deleted_at: datetime | None = Field(description="When erasing it began.")
    keys: Count = Field(description="Number of valid keys.")


class TenantList(Model):
    """Tenants by name."""

    data: list[TenantView]


class LetterView(Model):
    """Work that was given up."""

    id: str
    created_at: datetime
    reason: str = Field(examples=["poison_input"])
    queue: str
    job_id: UUID | None
    operations: list[str] = Field(description="Operations of the task; empty: the message could not be read.")
    message: str


class LetterPage(Model):
    """One page of dead letters, newest first."""

    data: list[LetterView]
    next_cursor: str | None = Field(description="Pass as `cursor` for the next page; null on the last one.")
    has_more: bool


class RedriveView(Model):
    """The outcome of sending a dead letter again."""

    id: str
    done: str = Field(examples=["job 0198f3c2-… runs again"])


class TimelineView(Model):
    """The timeline of a job."""

    lines: list[str]


class ReplayRequest(Body):
    """The events that an endpoint gets again."""

    since: Moment
    until: Moment | None = Field(None, description="Default: now.")
    missed_only: StrictBool = Field(False, description="Leave out events that the endpoint has accepted.")


class ReplayView(Model):
    """A replay: events that an endpoint gets again, one after the other."""

    id: str
    endpoint_id: str
    since: datetime
    until: datetime
    missed_only: bool
    events: int = Field(description="Number of events so far.")
    created_at: datetime
    finished_at: datetime | None = Field(description="Null: more events will follow.")
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
    error: str | None = Field(description="Null: the receiver has accepted the event.")
    answer: str | None = Field(description="The beginning of the answer's body.")


class DeliverySummary(Model):
    """One event for one receiver."""

    id: str
    webhook_id: str = Field(description="The same in every attempt and for every receiver of the event.")
    event: EventType
    job_id: UUID | None
    endpoint_id: str | None = Field(description="Null: it goes to the `webhook_url` of the job.")
    url: ShownUrl
    status: DeliveryStatus = Field(examples=["delivered"])
    attempt_count: int
    postponements: int = Field(description="How often in a row it was postponed because its host failed too often.")
    created_at: datetime
    next_attempt_at: datetime | None
    expires_at: datetime | None = Field(
        description="Latest time at which it is given up; null before its first attempt and after its end."
    )
    delivered_at: datetime | None
    error: str | None = Field(description="Why the last attempt failed, or why it was given up.")


class DeliveryView(DeliverySummary):
    """One event for one receiver, with all its attempts."""

    attempts: list[AttemptView] = Field(description="The last 100 at most, oldest first.")


class DeliveryPage(Model):
    """One page of deliveries, newest first."""

    data: list[DeliverySummary]
    next_cursor: str | None = Field(description="Pass as `cursor` for the next page; null on the last one.")
    has_more: bool


class EventView(Model):
    """The content of a webhook, with its `webhook-id`."""

    id: str = Field(description="The `webhook-id`.")
    type: EventType
    timestamp: datetime
    data: dict[str, Any] = Field(
        description="The job as it was then; URLs are fresh, or null if the result is gone. For a job that its client "
        "has deleted it has only `id`, `status` and `deleted`: true."
    )


class EventPage(Model):
    """A part of the log of events, oldest first."""

    data: list[EventView]
    next_after: str = Field(
        description="Pass as `after` to continue after these events.", examples=["msg_0198f3c2a1b47c61a5d0c9e2f7b31d08"]
    )
    has_more: bool


class UsageView(Model):
    """Usage of the jobs that ended on a day, by key and template; sums over their steps."""

    day: date = Field(description="Day in UTC.", examples=["2026-11-23"])
    key_id: str = Field(description="Empty: the requests had no key.")
    template: str = Field(description="Name and version; empty: the requests named none.")
    jobs: Count
    bytes_in: Count = Field(description="Bytes that the tasks have read; several tasks may read the same upload.")
    bytes_out: Count = Field(description="Bytes of all results.")
    pixels: Count = Field(description="Pixels of the tasks' inputs, over all frames.")
    cpu_seconds: float = Field(ge=0, description="CPU time of the processes that worked on pixels.")


class UsagePage(Model):
    """A page of a tenant's usage, oldest first."""

    data: list[UsageView]
    next_cursor: str | None = Field(description="Pass as `cursor` for the next page; null on the last one.")
    has_more: bool


class NewTemplate(Body):
    """A tree with places for parameters."""

    operations: list[Any] = Field(
        min_length=1,
        description='An operation tree; {"param": "width"} may stand for any whole value.',
        examples=[[{"op": "resize", "width": {"param": "width"}, "then": ["convert_jpeg"]}]],
    )
    params: dict[str, Any] = Field(
        {},
        description="JSON schema of an object with the parameters. A parameter may have `type` (`string`, `integer`, "
        "`number`, `boolean`), `enum`, `minimum`, `maximum`, `maxLength`, `default`.",
        examples=[{"properties": {"width": {"type": "integer", "minimum": 16, "maximum": 2048, "default": 320}}}],
    )
    output: dict[str, Any] | None = Field(None, description="Where results are also written, as in `POST /process`.")


class TemplateSummary(Model):
    """A template, without its tree."""

    name: str = Field(examples=["shop"])
    version: int = Field(ge=1, examples=[2])
    template: str = Field(description="Name and version, as in requests.", examples=["shop@2"])
    params: dict[str, Any] = Field(description="JSON schema of the parameters.")
    built_in: bool = Field(description="Whether it comes with PixTools.")
    created_at: datetime | None = Field(description="When this version was stored; null: it comes with PixTools.")


class TemplateView(TemplateSummary):
    """A version of a template; it never changes."""

    operations: list[Any]
    output: dict[str, Any] | None


class TemplateList(Model):
    """The latest version of each template; those that come with PixTools first."""

    data: list[TemplateSummary]


class AssetView(Model):
    """An image or a font that trees can use."""

    name: str = Field(examples=["logo.png"])
    kind: str = Field(json_schema_extra=one_of(["image", "font"]))
    content_type: str = Field(examples=["image/png"])
    width: int | None = Field(description="Pixels; null: it is not an image.", examples=[400])
    height: int | None = Field(examples=[120])
    bytes: Count
    sha256: Sha256
    updated_at: datetime


class AssetList(Model):
    """Assets by name."""

    data: list[AssetView]


class PlannedInput(Model):
    """The known facts about the image; null if it would have to be fetched."""

    format: InputFormat | None
    width: int | None
    height: int | None
    bytes: int | None


class PlannedStepView(Model):
    """One operation that would run."""

    id: str = Field(description="Path in the tree.")
    op: OperationName
    queue: Queue
    task: str = Field(description="Steps of one task run together; the task has the id of its last step.")


class PlannedResultView(Model):
    """One planned result; values that depend on the pixels or on the source are null."""

    name: str = Field(description="If the widths of a set depend on the pixels, `{width}` stands for one.")
    step: str
    format: ResultFormat | None
    width: int | None
    height: int | None
    bytes: int | None = Field(description="An estimate from photographs of this size.")


class PlanView(Model):
    """What a request would do and cost; no job was made."""

    input: PlannedInput
    template: str | None = Field(description="Name and version of the template.")
    operations: list[Any] = Field(description="The tree as it was sent, or as the template gives it.")
    steps: list[PlannedStepView]
    results: list[PlannedResultView]
    cpu_seconds: float | None = Field(
        description="CPU time of all steps; null if it depends on the pixels or on the source."
    )
    memory_bytes: int | None = Field(description="Memory of the process that needs most.")
    bytes: int | None = Field(description="Size of all results; null if one is not known.")
