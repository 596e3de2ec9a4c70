"""Webhooks: announces the end of a job to its receivers, and attempts deliveries."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ssl import SSLCertVerificationError, SSLError

import httpcore
from sqlalchemy.orm import Session

from app import metrics, tracing
from app.database import Database, from_now
from app.errors import InvalidWebhookUrl
from app.models import DeliveryStatus, Event, EventType, Job, WebhookDelivery
from app.services.storage.links import DownloadLinks
from app.services.webhooks import deliveries, endpoints, events, signing
from app.services.webhooks.breakers import Breakers, HostFailed, HostPaused
from app.services.webhooks.deliveries import AttemptResult, Due
from app.services.webhooks.egress import Answer, Egress
from app.services.webhooks.endpoints import Target
from app.services.webhooks.host_limits import HostLimits

log = logging.getLogger(__name__)

GONE = 410
DELIVERY_HEADER = "pixtools-delivery"  # PixTools also recognizes its own webhooks by it, and refuses them
MAX_KEPT = 1000  # characters of a receiver's answer that are stored
BROKEN = (OSError, UnicodeError, httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException)
EXPLANATIONS: dict[type[Exception], str] = {
    httpcore.ProtocolError: "the answer is not HTTP, or ends early",
    httpcore.ConnectError: "the connection was refused",
    httpcore.NetworkError: "the connection broke",
    Exception: "the host name does not resolve",
}
CRASHED = "the attempt ended unexpectedly"
LEASE_MARGIN = 15.0  # seconds beyond the time-out of an attempt


def announce(session: Session, job: Job) -> None:
    """Write the event of a job's end and its deliveries, in the transaction that ends the job."""
    event = events.record(session, job)
    for target in endpoints.targets(session, event.tenant, event.type, job.webhook_url):
        deliveries.create(session, event, target)


def send_test(session: Session, endpoint_id: str) -> WebhookDelivery:
    """Send a test event to one endpoint.

    Raises:
        EndpointNotFound: no endpoint has this id.
        EndpointDisabled: the endpoint is disabled.
    """
    endpoint = endpoints.enabled(session, endpoint_id)
    event = Event(
        id=events.new_id(),
        tenant=endpoint.tenant,
        type=EventType.TEST,
        created_at=from_now(),
        data={"endpoint": endpoint.id},
    )
    session.add(event)
    session.flush()
    delivery = deliveries.create(session, event, Target(endpoint_id=endpoint.id, url=endpoint.url))
    return deliveries.get(session, delivery.id)


class _AttemptFailed(HostFailed):
    def __init__(self, outcome: AttemptResult) -> None:
        super().__init__(outcome)
        self.outcome = outcome


@dataclass(frozen=True, kw_only=True)
class WebhookSender:
    """Makes attempts at deliveries."""

    database: Database
    links: DownloadLinks
    egress: Egress
    breakers: Breakers
    host_limits: HostLimits
    #: time-out of a whole attempt
    timeout_seconds: float
    #: pauses after the first, second, … failed attempt
    pauses: Sequence[float]
    #: True once this worker has to stop
    must_stop: Callable[[], bool] = lambda: False

    def attempt(self, delivery_id: str, owner: str) -> None:
        """Make an attempt if it is due; a failure is recorded, and the attempt repeated later.

        Args:
            delivery_id: id of the delivery.
            owner: owner of the lease; the same for every copy of a message, so that a redelivery continues at once.
        """
        lease = self.timeout_seconds + LEASE_MARGIN
        retry, stop = self.database.retry, self.must_stop
        due = retry(
            deliveries.claim, stop, delivery_id, self.links, owner=owner, lease_seconds=lease, pauses=self.pauses
        )
        if due is None:
            return
        try:
            outcome = self._guarded(due)
        except HostPaused as paused:
            retry(deliveries.postpone, stop, due, paused.seconds, grows=paused.grows)
            metrics.WEBHOOK_ATTEMPTS.labels("postponed").inc()
        else:
            status = retry(deliveries.finish, stop, due, outcome, self.pauses)
            metrics.WEBHOOK_ATTEMPTS.labels(_became(status)).inc()
            _log(due, outcome, status)

    def _guarded(self, due: Due) -> AttemptResult:
        try:
            with self.host_limits.one(due.origin), self.breakers.guard(due.origin), tracing.span("webhook"):
                return self._send(due)
        except _AttemptFailed as failed:
            return failed.outcome

    def _send(self, due: Due) -> AttemptResult:
        at, began = datetime.now(UTC), time.monotonic()
        if not due.body:
            raise _AttemptFailed(AttemptResult(at=at, seconds=0.0, error=CRASHED))
        try:
            headers = _headers(due, at)
            answer = asyncio.run(self.egress.post(due.url, due.body, headers, seconds=self.timeout_seconds))
        except InvalidWebhookUrl as error:
            return AttemptResult(at=at, seconds=_since(began), error=error.message)
        except BROKEN as error:
            raise _AttemptFailed(AttemptResult(at=at, seconds=_since(began), error=self._explain(error))) from None
        except Exception:
            # Whatever the error is, the attempt counts: otherwise it would be repeated for ever
            log.exception("webhook_attempt_crashed", extra={"delivery_id": due.delivery_id, "origin": due.origin})
            raise _AttemptFailed(AttemptResult(at=at, seconds=_since(began), error=CRASHED)) from None
        outcome = _outcome(answer, at, _since(began))
        if answer.status >= 500:
            raise _AttemptFailed(outcome)
        return outcome

    def _explain(self, error: Exception) -> str:
        if isinstance(error, TimeoutError | httpcore.TimeoutException):
            return f"no complete answer within {self.timeout_seconds:g} s"
        return _explain(error)


def _explain(error: Exception) -> str:
    """A description of a failure for clients, without text from exceptions of other libraries."""
    cause = error.args[0] if error.args else None  # httpcore keeps the cause there
    if isinstance(cause, SSLCertVerificationError):
        return f"the TLS certificate is not valid: {cause.verify_message}"
    if isinstance(cause, SSLError):
        return "TLS failed"
    return next(words for kind, words in EXPLANATIONS.items() if isinstance(error, kind))


def _headers(due: Due, at: datetime) -> dict[str, str]:
    timestamp = int(at.timestamp())
    return {
        "Content-Type": "application/json",
        "User-Agent": "PixTools",
        "Accept-Encoding": "identity",
        DELIVERY_HEADER: due.delivery_id,
        "webhook-id": due.message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signing.sign(due.secrets, message_id=due.message_id, timestamp=timestamp, body=due.body),
        **tracing.outgoing(),
    }


def _outcome(answer: Answer, at: datetime, seconds: float) -> AttemptResult:
    taken = 200 <= answer.status < 300
    redirect = "; redirects are not followed" if 300 <= answer.status < 400 else ""
    return AttemptResult(
        at=at,
        seconds=seconds,
        status_code=answer.status,
        error=None if taken else f"answered {answer.status}{redirect}",
        answer=answer.body.decode(errors="replace").replace("\0", "\ufffd")[:MAX_KEPT],
        retry_after=_retry_after(answer.headers.get("retry-after"), at),
        gone=answer.status == GONE,
    )


def _retry_after(value: str | None, now: datetime) -> float | None:
    """The seconds in a `Retry-After` header, which has a number or a date."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdecimal():
        return float(value[:12])
    try:
        return (parsedate_to_datetime(value) - now).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None


def _since(began: float) -> float:
    return round(time.monotonic() - began, 3)


def _became(status: DeliveryStatus | None) -> str:
    if status is None:
        return "outdated"
    return "failed" if status is DeliveryStatus.PENDING else status.value


def _log(due: Due, outcome: AttemptResult, status: DeliveryStatus | None) -> None:
    fields = {
        "delivery_id": due.delivery_id,
        "webhook_id": due.message_id,
        "job_id": str(due.job_id) if due.job_id else None,
        "origin": due.origin,
        "attempt": due.number,
        "status_code": outcome.status_code,
        "seconds": outcome.seconds,
        "error": outcome.error,
        "delivery": status,
    }
    log.log(logging.INFO if outcome.error is None else logging.WARNING, "webhook_attempt", extra=fields)
