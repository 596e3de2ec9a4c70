"""What the server answers, as types of plain dictionaries: members that only a later server knows stay in them."""

from typing import Any, TypedDict


class ErrorRecord(TypedDict):
    """Why a job or a step did not succeed."""

    code: str
    message: str
    retryable: bool


class Input(TypedDict):
    """The file that a job began with."""

    filename: str
    format: str | None
    width: int | None
    height: int | None
    bytes: int | None
    sha256: str | None


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


class Job(TypedDict):
    """A job: what was sent, how far it is, what came out."""

    id: str
    status: str
    created_at: str
    finished_at: str | None
    priority: int
    input: Input
    operations: list[Any]
    steps: list[Step]
    results: list[Result]
    error: ErrorRecord | None
    links: dict[str, str]


class Event(TypedDict):
    """A stored event; of one that concerns a job, `data` is the job."""

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
    """An event on its way to a receiver."""

    id: str
    event: str
    job_id: str | None
    endpoint_id: str | None
    status: str
    attempt_count: int
    created_at: str
    error: str | None


class Asset(TypedDict):
    """An image or a font that trees name."""

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
