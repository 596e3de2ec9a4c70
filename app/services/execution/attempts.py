"""Attempts at tasks of any kind: claim a task, keep its lease, and record the outcome."""

import logging
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Generic, TypeVar
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from app import disk, metrics
from app.database import Database
from app.errors import PixToolsError, UnexpectedFailure, WorkspaceFailed, WorkspaceFull
from app.services import steps
from app.services.execution.leases import LeaseKeeper
from app.services.steps import Claim
from app.services.storage.object_store import ObjectStore

log = logging.getLogger(__name__)

TASK_FOLDER = "task-"  # prefix of folder names in the spool
PROGRESS_SECONDS = 1.0  # between two writes of the same task's progress

#: called with the share of work done, or None where it is unknown; raises when the work is to end
Monitored = Callable[[float | None], None]
Work = TypeVar("Work")


class LeaseLost(Exception):
    """The work is no longer wanted, because the job was cancelled or another attempt has begun."""


class HandedBack(Exception):
    """The worker has to stop, and another worker will do the work."""


@dataclass(frozen=True, kw_only=True)
class Attempts(ABC, Generic[Work]):
    """Makes attempts at tasks of one kind."""

    database: Database
    storage: ObjectStore
    spool: Path
    lease_seconds: float
    max_attempts: int
    #: True once this worker has to stop
    must_stop: Callable[[], bool] = lambda: False

    @abstractmethod
    def _work(self, held: Claim, folder: Path, progress: Monitored) -> Work:
        """Do the work in a folder of its own.

        Raises:
            PixToolsError: the attempt has failed.
            LeaseLost, HandedBack: raised by `progress`.
        """

    @abstractmethod
    def _succeed(self, held: Claim, work: Work) -> str:
        """Record the success; returns the outcome as a label for metrics."""

    @abstractmethod
    def _discard(self, held: Claim) -> None:
        """Remove files that attempts have stored for steps that are no longer wanted."""

    def run(self, job_id: UUID, task_id: str, owner: str) -> None:
        """Make an attempt at a task, unless there is nothing left to do; failures are recorded, not raised.

        Args:
            job_id: id of the job.
            task_id: id of the planned task.
            owner: owner of the lease; the same for every delivery of a message, so that a redelivery continues at once.
        """
        held = self.database.retry(
            steps.claim,
            self.must_stop,
            job_id,
            task_id,
            owner=owner,
            lease_seconds=self.lease_seconds,
            max_attempts=self.max_attempts,
        )
        if held is not None:
            started = time.monotonic()
            became = self._attempt(held)
            metrics.count_step(held.task.steps[-1].op, held.task.queue, became, time.monotonic() - started)

    def _attempt(self, held: Claim) -> str:
        """Do the work and record its outcome, which is returned as a label for metrics."""
        log.debug("task_started", extra=fields_of(held))
        try:
            self.spool.mkdir(parents=True, exist_ok=True)
            with (
                self._leases.keep(partial(self.renew, held)) as lost,
                tempfile.TemporaryDirectory(dir=self.spool, prefix=TASK_FOLDER) as folder,
            ):
                work = self._work(held, Path(folder), _Progress(partial(self.renew, held), self.must_stop, lost))
        except LeaseLost:
            log.info("task_abandoned", extra=fields_of(held))
            self._discard(held)
            return "abandoned"
        except HandedBack:
            self.database.retry(steps.hand_back, self.must_stop, held)
            log.info("task_handed_back", extra=fields_of(held))
            return "handed_back"
        except PixToolsError as error:
            return self._put_off(held, error) if error.waits else self._fail(held, error)
        except OSError as error:
            log.warning(
                "workspace_failed", extra={**fields_of(held), "error": type(error).__name__, "errno": error.errno}
            )
            return self._put_off(held, WorkspaceFull()) if disk.is_full(error) else self._fail(held, WorkspaceFailed())
        except Exception:
            log.exception("task_crashed", extra=fields_of(held))
            return self._fail(held, UnexpectedFailure())
        return self._succeed(held, work)

    @cached_property
    def _leases(self) -> LeaseKeeper:
        return LeaseKeeper(self.lease_seconds / 3)

    def renew(self, held: Claim, **values: Any) -> bool:
        """Extend the lease; returns False if it is lost, but not if the database is merely away for a moment."""
        try:
            with self.database.session() as session:
                return steps.renew(session, held, self.lease_seconds, **values)
        except SQLAlchemyError as error:
            log.warning("lease_not_renewed", extra={**fields_of(held), "error": type(error).__name__})
            return True

    def _put_off(self, held: Claim, error: PixToolsError) -> str:
        """Postpone a task until there is room or the storage is back; such a passing fault must not fail a job."""
        delay = self.database.retry(steps.put_off, self.must_stop, held, error)
        if delay is None:
            return "outdated"
        log.warning("task_put_off", extra={**fields_of(held), "code": error.code, "seconds": round(delay, 1)})
        metrics.STEP_ERRORS.labels(error.code).inc()
        return "put_off"

    def _fail(self, held: Claim, error: PixToolsError) -> str:
        counted = self.database.retry(steps.fail, self.must_stop, held, error, max_attempts=self.max_attempts)
        log.warning("task_failed", extra={**fields_of(held), "code": error.code, "counted": counted})
        metrics.STEP_ERRORS.labels(error.code).inc()
        return "failed" if counted else "outdated"


@dataclass
class _Progress:
    """Records the progress of a task at intervals, and ends the task if it is no longer wanted."""

    renew: Callable[..., bool]
    must_stop: Callable[[], bool]
    lost: threading.Event
    share: float = 0.0
    written_at: float = field(default_factory=time.monotonic)

    def __call__(self, share: float | None) -> None:
        self.share = self.share if share is None else share
        now = time.monotonic()
        if now - self.written_at >= PROGRESS_SECONDS:
            self.written_at = now
            if not self.renew(progress=self.share):
                self.lost.set()
        if self.lost.is_set():
            raise LeaseLost
        if self.must_stop():
            raise HandedBack


def fields_of(held: Claim) -> dict[str, object]:
    """The fields of an attempt's log line."""
    return {"job_id": str(held.job.id), "task": held.task.id, "op": held.task.name, "attempt": held.attempt}
