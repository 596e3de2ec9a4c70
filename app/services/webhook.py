"""Telling the client how a job ended: one event per outcome, sent until it is taken or the attempts are used up."""

import asyncio
import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

import httpx
from sqlalchemy import select
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from app.database import Database, from_now
from app.errors import InvalidWebhookUrl
from app.models import DeliveryStatus, Job, JobStatus, OutboxMessage, WebhookDelivery
from app.services import outbox
from app.services.job_views import LOAD_VIEW, job_view
from app.services.links import DownloadLinks

log = logging.getLogger(__name__)

RETRY_DELAYS = (5, 60, 300, 1800)  # seconds after the first, second, … failed attempt
MAX_URL = 2048  # characters
MAX_ERROR = 200  # characters kept of what went wrong


def check_url(url: str) -> str:
    """Refuse what no event can be sent to.

    Raises:
        InvalidWebhookUrl: with the reason.
    """
    if len(url) > MAX_URL:
        detail = f"The webhook URL has {len(url)} characters, the limit is {MAX_URL}."
        raise InvalidWebhookUrl(detail, pointer="#/webhook_url", limit=MAX_URL, value=len(url))
    try:
        parts = urlsplit(url)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        httpx.URL(url).raw_host.decode("ascii")  # a name that no resolver could be asked for
    except (ValueError, httpx.InvalidURL):
        valid = False
    if not valid or parts.username is not None or not url.isprintable() or " " in url:
        raise InvalidWebhookUrl(pointer="#/webhook_url")
    return url


def announce(session: Session, job: Job) -> None:
    """Write the event of a job that has just ended, in the transaction that ends it."""
    if not job.webhook_url:
        return
    delivery = WebhookDelivery(
        id=f"msg_{uuid7().hex}",
        job_id=job.id,
        run=job.run,
        event=f"job.{JobStatus(job.status).value}",
        url=job.webhook_url,
        created_at=from_now(),
    )
    session.add(delivery)
    session.flush()
    outbox.enqueue(session, outbox.DELIVER_WEBHOOK, [delivery.id])


@dataclass(frozen=True)
class WebhookSender:
    """Makes one attempt at a delivery."""

    database: Database
    links: DownloadLinks
    timeout_seconds: float

    def attempt(self, delivery_id: str) -> None:
        """Send one event if it is still to be sent; a failure is written down and tried again later."""
        with self.database.session(read_only=True) as session:
            delivery = session.get(WebhookDelivery, delivery_id)
            if delivery is None or delivery.status != DeliveryStatus.PENDING:
                return
            body = self._body(session, delivery)
        code, error = self._post(delivery, body)
        with self.database.session() as session:
            _record(session, delivery_id, code, error)

    def _body(self, session: Session, delivery: WebhookDelivery) -> bytes:
        job = session.scalars(select(Job).where(Job.id == delivery.job_id).options(*LOAD_VIEW)).one()
        data = job_view(job, self.links).model_dump(mode="json")
        timestamp = (job.finished_at or delivery.created_at).isoformat().replace("+00:00", "Z")
        return json.dumps({"type": delivery.event, "timestamp": timestamp, "data": data}).encode()

    def _post(self, delivery: WebhookDelivery, body: bytes) -> tuple[int | None, str | None]:
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "PixTools",
            "webhook-id": delivery.id,
            "webhook-timestamp": str(int(datetime.now(UTC).timestamp())),
        }
        try:
            code = asyncio.run(self._status(delivery.url, body, headers))
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, UnicodeError) as error:
            return None, type(error).__name__[:MAX_ERROR]
        return code, None if 200 <= code < 300 else f"answered {code}"

    async def _status(self, url: str, body: bytes, headers: dict[str, str]) -> int:
        # asynchronous, because only so a limit holds for the whole: httpx's own is for each read, and a receiver that
        # sends a byte now and then would never reach it
        async with (
            asyncio.timeout(self.timeout_seconds),
            httpx.AsyncClient(timeout=self.timeout_seconds, follow_redirects=False, trust_env=False) as client,
            client.stream("POST", url, content=body, headers=headers) as response,
        ):
            return response.status_code


def resume(session: Session) -> int:
    """Ask for every delivery that is still to be made, at the start of a process whose broker was memory."""
    pending = session.scalars(select(WebhookDelivery.id).where(WebhookDelivery.status == DeliveryStatus.PENDING))
    waiting = session.scalars(select(OutboxMessage.args).where(OutboxMessage.task == outbox.DELIVER_WEBHOOK))
    lost = set(pending) - {args[0] for args in waiting}
    for delivery_id in sorted(lost):
        outbox.enqueue(session, outbox.DELIVER_WEBHOOK, [delivery_id])
    return len(lost)


def _record(session: Session, delivery_id: str, code: int | None, error: str | None) -> None:
    delivery = session.get(WebhookDelivery, delivery_id, with_for_update=True)
    if delivery is None or delivery.status != DeliveryStatus.PENDING:
        return
    delivery.attempts += 1
    delivery.last_status_code, delivery.last_error = code, error
    if error is None:
        delivery.status, delivery.delivered_at = DeliveryStatus.DELIVERED, from_now()
    elif delivery.attempts > len(RETRY_DELAYS):
        delivery.status = DeliveryStatus.EXHAUSTED
        log.warning("webhook_exhausted", extra={"delivery_id": delivery_id, "error": error})
    else:
        delay = RETRY_DELAYS[delivery.attempts - 1]
        outbox.enqueue(session, outbox.DELIVER_WEBHOOK, [delivery_id], delay=delay)
