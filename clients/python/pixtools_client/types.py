"""Types of the server's responses, which are plain dictionaries and keep members that only later servers send."""

from typing import Any, NotRequired, TypedDict


class UrlSource(TypedDict):
    """An image that the server fetches from the web."""

    #: http, https or `data:`
    url: str
    #: of the request; they go to the origin of `url` only
    headers: NotRequired[dict[str, str]]


class StoreSource(TypedDict):
    """An object in a saved store."""

    store: str
    key: str


class ResultSource(TypedDict):
    """A result of another job."""

    job: str
    result: str


class Facts(TypedDict):
    """Facts about an image that is not sent; width and height are those of the upright image."""

    format: str
    width: int
    height: int
    bytes: int


class FactsSource(TypedDict):
    """Facts instead of an image, for a plan."""

    facts: Facts


class Output(TypedDict):
    """The place to which copies of results are written."""

    store: str
    #: with places such as `{input.stem}`, `{name}` and `{ext}`
    key: str
    #: `replace`, `skip` or `fail`
    if_exists: NotRequired[str]
    cache_control: NotRequired[str]


class ErrorRecord(TypedDict):
    """The reason why a job or a step did not succeed."""

    code: str
    message: str
    retryable: bool


class Input(TypedDict):
    """The input file of a job."""

    filename: str
    format: str | None
    width: int | None
    height: int | None
    bytes: int | None
    sha256: str | None
    #: where it was fetched from, without what may be a secret; None: it was uploaded
    source: dict[str, str] | None


class Step(TypedDict):
    """One operation of the tree."""

    id: str
    op: str
    status: str
    attempts: int
    queue: str
    started_at: str | None
    seconds: float | None
    #: 0 to 1
    progress: float
    seconds_left: float | None
    report: dict[str, Any] | None
    error: ErrorRecord | None


class Result(TypedDict):
    """One stored output."""

    name: str
    step: str
    format: str
    content_type: str
    width: int | None
    height: int | None
    bytes: int
    sha256: str
    filename: str
    url: str
    expires_at: str
    #: the object that it was written to as well
    output: dict[str, Any] | None


class Job(TypedDict):
    """A job: its input and operations, its state, and its results."""

    id: str
    status: str
    created_at: str
    finished_at: str | None
    #: None: it has not ended
    expires_at: str | None
    priority: int
    tags: dict[str, str]
    external_id: str | None
    #: name and version, `shop@2`
    template: str | None
    input: Input
    operations: list[Any]
    steps: list[Step]
    results: list[Result]
    error: ErrorRecord | None
    links: dict[str, str]


class PlannedStep(TypedDict):
    """One operation of a plan."""

    id: str
    op: str
    queue: str
    task: str


class PlannedResult(TypedDict):
    """An expected result; None: a value depends on the pixels, or on a source that is not fetched."""

    name: str
    step: str
    format: str | None
    width: int | None
    height: int | None
    bytes: int | None


class Plan(TypedDict):
    """The effects and the cost of a request that was not executed."""

    input: dict[str, Any]
    template: str | None
    operations: list[Any]
    steps: list[PlannedStep]
    results: list[PlannedResult]
    cpu_seconds: float | None
    memory_bytes: int | None
    bytes: int | None


class TemplateSummary(TypedDict):
    """A template, without its tree."""

    name: str
    version: int
    #: name and version, as requests name it
    template: str
    #: JSON schema
    params: dict[str, Any]
    built_in: bool
    created_at: str | None


class Template(TemplateSummary):
    """One version of a template; it never changes."""

    operations: list[Any]
    output: Output | None


class Store(TypedDict):
    """A connection to a bucket, without its credentials."""

    name: str
    url: str
    endpoint: str | None
    region: str
    created_at: str
    updated_at: str


class Event(TypedDict):
    """A stored event; if it is about a job, `data` is the job."""

    id: str
    type: str
    timestamp: str
    data: dict[str, Any]


class Endpoint(TypedDict):
    """A receiver of events."""

    id: str
    url: str
    description: str
    events: list[str]
    enabled: bool
    disabled_reason: str | None
    created_at: str


class Delivery(TypedDict):
    """The delivery of an event to a receiver."""

    id: str
    event: str
    job_id: str | None
    endpoint_id: str | None
    status: str
    attempt_count: int
    created_at: str
    error: str | None


class Asset(TypedDict):
    """An image or a font that trees can use."""

    name: str
    kind: str
    content_type: str
    width: int | None
    height: int | None
    bytes: int
    sha256: str
    updated_at: str


class Key(TypedDict):
    """An API key, without its secret."""

    id: str
    tenant: str
    description: str
    scopes: list[str]
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    last_used_at: str | None
