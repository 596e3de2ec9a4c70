"""All metrics, as constants. Each label has a closed set of values: never an id, a path or text from outside.

A single process keeps its metrics in memory. If a command starts several processes, it sets PROMETHEUS_MULTIPROC_DIR
before anything is imported, and they share that folder (see `slots`).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    values,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.values import MultiProcessValue

from app import slots
from app.errors import (
    OutputUnavailable,
    PixelProcessDied,
    PoisonInput,
    SourceUnavailable,
    TooMuchWork,
    UnexpectedFailure,
    WorkspaceFailed,
    kinds,
)
from app.metric_files import ReservedDict

SHORT = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)  # seconds
LONG = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)  # seconds
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER = "other"  # stands for values outside the closed set of a label
ACCEPTED, REPLAYED = "accepted", "replayed"

if slots.folder():
    values.MmapedDict = ReservedDict  # type: ignore[attr-defined]
    values.ValueClass = MultiProcessValue(slots.current)  # type: ignore[no-untyped-call]

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, of no use

REGISTRY = CollectorRegistry()
if not slots.folder():
    ProcessCollector(registry=REGISTRY)


def _counter(name: str, what: str, *labels: str) -> Counter:
    return Counter(name, what, labels, registry=REGISTRY)


def _histogram(name: str, what: str, *labels: str, buckets: tuple[float, ...] = LONG) -> Histogram:
    return Histogram(name, what, labels, buckets=buckets, registry=REGISTRY)


# Requests
HTTP_REQUESTS = _counter("pixtools_http_requests_total", "Answered requests.", "method", "route", "status")
HTTP_SECONDS = _histogram(
    "pixtools_http_request_seconds",
    "Time from the request's head to the response's end.",
    "method",
    "route",
    buckets=SHORT,
)
UPLOADS = _counter("pixtools_uploads_total", "Uploads: accepted, replayed, or the code of the refusal.", "outcome")
ACCEPT_SECONDS = _histogram(
    "pixtools_accept_seconds", "Time from an upload's last byte to its committed job.", buckets=SHORT
)
UPLOAD_BYTES = _counter("pixtools_upload_bytes_total", "Bytes of accepted uploads.", "format")
UPLOAD_PIXELS = _counter("pixtools_upload_pixels_total", "Pixels of accepted uploads, all frames.", "format")

# Listeners
LISTENERS = Gauge("pixtools_listeners", "Open streams of events: of a job or of the log.", ("kind",), registry=REGISTRY)
LISTENERS_ENDED = _counter("pixtools_listeners_ended_total", "Streams of events that ended, by the reason.", "reason")

# Tenants
LIMIT_REFUSALS = _counter("pixtools_limit_refusals_total", "Requests beyond a limit of their tenant.", "code")
RATES_ALONE = _counter(
    "pixtools_rates_alone_total", "Requests that this process counted by itself, since Redis was away."
)

# Jobs and steps
JOBS = _counter(
    "pixtools_jobs_total",
    "Ended jobs by status, and for errors by who caused them: the service or the client.",
    "status",
    "fault",
)
JOB_SECONDS = _histogram("pixtools_job_seconds", "Time from acceptance to the end, of jobs with this operation.", "op")
QUEUE_WAIT_SECONDS = _histogram(
    "pixtools_queue_wait_seconds", "Time from publishing a message to the start of its task.", "queue"
)
STEP_SECONDS = _histogram(
    "pixtools_step_seconds", "Duration of an attempt at a step, by its last operation.", "op", "queue"
)
STEPS = _counter("pixtools_steps_total", "Attempts at steps by outcome.", "op", "outcome")
STEP_ERRORS = _counter("pixtools_step_errors_total", "Failed attempts by the code of their error.", "code")
STEP_RETRIES = _counter("pixtools_step_retries_total", "Attempts at steps that are retried.", "op")
RESULT_BYTES = _counter("pixtools_result_bytes_total", "Bytes of stored results.", "format")
RESULT_PIXELS = _counter("pixtools_result_pixels_total", "Pixels of stored results, one frame.", "format")
FETCH_SECONDS = _histogram("pixtools_fetch_seconds", "Time that fetching an input took.", "source")
FETCH_BYTES = _counter("pixtools_fetch_bytes_total", "Bytes of inputs that have been fetched.", "source")
MODEL_LOAD_SECONDS = _histogram("pixtools_model_load_seconds", "Time to load the network, with its first image.")

SERVICE_FAULTS = frozenset(kind.code for kind in kinds() if kind.is_service_fault)

# Background work
OUTBOX_MESSAGES = _counter("pixtools_outbox_messages_total", "Messages published to the broker by outcome.", "outcome")
REPAIRS = _counter("pixtools_reconciler_repairs_total", "Lost work that the reconciler has restarted.", "kind")
EXPIRED_JOBS = _counter("pixtools_expired_jobs_total", "Jobs removed after their retention time.")
RETENTION_FAILURES = _counter(
    "pixtools_retention_failures_total", "Failed removals of expired jobs: their objects could not be deleted."
)
DEAD_LETTERS = _counter("pixtools_dead_letters_total", "Messages read from the dead letter queue.", "reason")
DEAD_LETTER_REASONS = frozenset({"poison_input", "delivery_limit", "rejected", "expired", "maxlen"})
WEBHOOK_ATTEMPTS = _counter("pixtools_webhook_attempts_total", "Attempts at a webhook by outcome.", "outcome")


# Series that alerts count exist from the start: Prometheus sees no increase in a series that appears with a value
for _outcome in ("sent", "failed"):
    OUTBOX_MESSAGES.labels(_outcome)
for _reason in (*DEAD_LETTER_REASONS, OTHER):
    DEAD_LETTERS.labels(_reason)
for _outcome in (ACCEPTED, REPLAYED, TooMuchWork.code):
    UPLOADS.labels(_outcome)
for _kind in OutputUnavailable, PixelProcessDied, PoisonInput, SourceUnavailable, UnexpectedFailure, WorkspaceFailed:
    STEP_ERRORS.labels(_kind.code)
for _status in "completed", "cancelled":
    JOBS.labels(_status, "none")
for _status in "completed_with_errors", "failed":
    for _fault in "service", "input":
        JOBS.labels(_status, _fault)


@dataclass(frozen=True)
class Scraped:
    """A gauge that is read from the database or the broker on request; only the API has it."""

    name: str
    what: str
    labels: tuple[str, ...] = ()

    def family(self, samples: Mapping[tuple[str, ...], float]) -> Metric:
        family = GaugeMetricFamily(self.name, self.what, labels=self.labels)
        for label_values, value in samples.items():
            family.add_metric(label_values, value)
        return family


OUTBOX_WAITING = Scraped("pixtools_outbox_waiting", "Due messages in the outbox.")
OUTBOX_LAG = Scraped("pixtools_outbox_lag_seconds", "Age of the oldest due message in the outbox.")
OPEN_JOBS = Scraped("pixtools_open_jobs", "Unfinished jobs.", ("status",))
TENANT_OPEN_JOBS = Scraped("pixtools_tenant_open_jobs_max", "Unfinished jobs of the tenant that has most of them.")
DUE_TASKS = Scraped("pixtools_due_tasks", "Tasks that wait in the database for their turn.", ("queue",))
QUEUE_AGE = Scraped("pixtools_queue_age_seconds", "Longest wait of a job that has no running task.", ("queue",))
STEPS_RUNNING = Scraped("pixtools_steps_running", "Operations currently running.", ("queue",))
DEAD_LETTERS_WAITING = Scraped("pixtools_dead_letters_waiting", "Dead letters that have not been redriven.")
WEBHOOKS_PENDING = Scraped("pixtools_webhooks_pending", "Pending webhook deliveries.")
WEBHOOK_BREAKERS = Scraped(
    "pixtools_webhook_breakers", "Webhook hosts by the state of their circuit breaker.", ("state",)
)
QUEUE_MESSAGES = Scraped("pixtools_queue_messages", "Messages ready in a broker queue.", ("queue",))
QUEUE_WORKERS = Scraped("pixtools_queue_workers", "Consumers of a broker queue.", ("queue",))
DEPENDENCY_UP = Scraped("pixtools_dependency_up", "1 if the dependency is healthy.", ("dependency",))
DEPENDENCY_SECONDS = Scraped(
    "pixtools_dependency_check_seconds", "Duration of the dependency's health check.", ("dependency",)
)


class Exposition:
    """All counters of this command's processes, and the gauges read for one scrape."""

    def __init__(self, scraped: Iterable[Metric] = ()) -> None:
        self._scraped = scraped

    def collect(self) -> Iterator[Metric]:
        if path := slots.folder():
            slots.bury_dead(path)
            yield from MultiProcessCollector(None, str(path)).collect()  # type: ignore[no-untyped-call]
        else:
            yield from REGISTRY.collect()
        yield from self._scraped


def render(accept: str, scraped: Iterable[Metric] = ()) -> tuple[bytes, str]:
    """The body of a scrape and its media type."""
    encode, media_type = choose_encoder(accept)
    return encode(Exposition(scraped)), media_type


def count_request(method: str, route: str, status: int, seconds: float) -> None:
    """Count a request that has been answered."""
    answered, took = _of_route(method, route, status)
    answered.inc()
    took.observe(seconds)


@cache  # as many as there are series
def _of_route(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    return HTTP_REQUESTS.labels(method, route, str(status)), HTTP_SECONDS.labels(method, route)


def count_step(op: str, queue: str, became: str, seconds: float) -> None:
    """Count one attempt at a step, and its duration."""
    STEPS.labels(op, became).inc()
    STEP_SECONDS.labels(op, queue).observe(seconds)


def count_job(status: str, code: str | None, operations: Iterable[str], seconds: float | None) -> None:
    """Count a job that has ended.

    Args:
        status: final state of the job.
        code: code of the job's error; None: the job has no error.
        operations: names of all operations in the job's tree.
        seconds: time since the job was accepted; None for a job that was retried, whose age is not its duration.
    """
    fault = "none" if code is None else "service" if code in SERVICE_FAULTS else "input"
    JOBS.labels(status, fault).inc()
    if seconds is not None:
        for operation in operations:
            JOB_SECONDS.labels(operation).observe(seconds)


def count_repairs(kinds: Mapping[str, int]) -> None:
    """Count the repairs of one sweep, by kind."""
    for kind, number in kinds.items():
        REPAIRS.labels(kind).inc(number)


def known(value: str, closed: Iterable[str]) -> str:
    """The value of a label if it is in the label's closed set, or else `OTHER`."""
    return value if value in closed else OTHER
