"""Keeps the window of work in the broker filled, and decides how much its process may send directly.

Any number of processes may run a dispatcher, but only one at a time chooses the next work. A dispatcher sleeps while
nothing is sent and nothing is due.
"""

import logging
import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import replace

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.database import Database
from app.operations import Queue
from app.services.outbox import START_JOB, Message, Send, keep, publish
from app.services.scheduling import due
from app.services.scheduling.due import LANES, Lane, Turn
from app.services.scheduling.window import ALL, Depths, Look, Places, Sizes

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.25  # interval at which the queues are read while work is sent directly
AWAY_SECONDS = 2.0  # pause before the next attempt while the broker or the database is away
REST = 2.0  # least pause after a choice, as a multiple of the time it took: choosing must not keep the database busy


class Dispatcher:
    """Fills the window, in a separate thread."""

    def __init__(self, database: Database, send: Send, look: Look, sizes: Sizes, *, pause: float) -> None:
        """Set up without starting the thread.

        Args:
            database: database with the due work.
            send: sends a message to the broker.
            look: reads the depths of the broker's queues.
            sizes: sizes of the window.
            pause: seconds between two readings while work is due.
        """
        self._database = database
        self._send = self.sender(send)
        self._look = look
        self._sizes = sizes
        self._pause = pause
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._due = set(ALL)  # queues in which something waits for its turn; all, until that is known
        self._looked_at = self._again_at = float("-inf")
        self.places = Places(self._wake.set)
        self._thread = threading.Thread(target=self._run, name="dispatcher", daemon=True)

    def start(self) -> None:
        """Start; from now on, work that the process sends takes places in the window or waits for its turn."""
        self._database.hooks.window = self.places
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        self._database.hooks.window = None
        self._stopping.set()
        self._wake.set()
        self._thread.join(timeout)

    def sender(self, send: Send) -> Send:
        """Wrap `send`: messages that start a tree take little time, and go to the spare processes if there are any."""

        def routed(message: Message) -> None:
            starts = message.task == START_JOB and message.queue == Queue.DEFAULT.value
            send(replace(message, queue=Queue.SMALL.value) if starts and self.places.has_spare else message)

        return routed

    def _run(self) -> None:
        self._update(self._look() or {}, ())
        pause: float | None = 0.0
        while not self._stopping.is_set():
            self._wake.wait(pause)
            self._wake.clear()
            try:
                pause = self._next()
            except SQLAlchemyError as error:
                log.warning("dispatcher_database_unavailable", extra={"error": type(error).__name__})
                pause = self._put_off()
            except Exception:  # a thread that died would look like one with nothing to do
                log.exception("dispatcher_failed")
                pause = self._put_off()

    def _put_off(self) -> float:
        self._due, self._again_at = set(ALL), time.monotonic() + AWAY_SECONDS
        return AWAY_SECONDS

    def _next(self) -> float | None:
        """Do all work that is due now; returns the seconds until the next call, or None to wait for a notification."""
        self._due |= self.places.taken_notes()
        early = (self._again_at if self._due else self._looked_at + LOOK_SECONDS) - time.monotonic()
        if early > 0:
            return early
        if not self._due:
            self._update(self._look() or {}, ())
            return None
        pause = self.top_up()
        self._again_at = time.monotonic() + (pause or 0.0)
        return pause

    def top_up(self) -> float | None:
        """Send due work as far as there is room; returns the seconds until the next call, or None if nothing is due."""
        if self._is_full():  # the rows need not be counted
            return self._pause
        with self._database.session(read_only=True) as session:
            waiting = due.waiting(session)
        self._due = set(waiting)
        if not waiting and not self.places.is_any_closed():
            return None
        depths = self._look()
        if depths is None:
            self._due = set(ALL)
            return AWAY_SECONDS
        self._update(depths, waiting)
        return self._send_due(depths, waiting) if waiting else None

    def _send_due(self, depths: Depths, waiting: Collection[str]) -> float:
        """Choose and send the next work; returns the seconds until the next choice."""
        started = time.monotonic()
        turns = self._claim(depths, waiting)
        took = time.monotonic() - started
        if turns is None:  # another process is choosing
            return LOOK_SECONDS
        sent = [self._send_all(lane, found) for lane, found in turns.items()]
        if not all(sent):
            return AWAY_SECONDS
        return max(self._pause, REST * took)

    def _is_full(self) -> bool:
        """Whether work waits, but none of its queues has room."""
        if self._due == ALL:
            return False  # unknown: perhaps nothing waits
        depths = self._look()
        if depths is None or self._open_lanes(depths, self._due):
            return False
        self._update(depths, self._due)
        return True

    def _update(self, depths: Depths, waiting: Collection[str]) -> None:
        self._looked_at = time.monotonic()
        rooms = {name: self._sizes.room(Queue(name), depth) for name, depth in depths.items()}
        spare = depths.get(Queue.SMALL)
        self.places.update(rooms, waiting, has_spare=bool(spare and spare.workers))

    def _claim(self, depths: Depths, waiting: Collection[str]) -> dict[Lane, list[Turn]] | None:
        """Claim the next work; None while another process chooses."""
        if not self._open_lanes(depths, waiting):
            return {}
        with self._database.session() as session:
            if not due.may_choose(session):
                return None
            depths = self._look() or {}  # again: another process may have chosen and sent work meanwhile
            return {lane: self._choose(session, lane, room) for lane, room in self._open_lanes(depths, waiting).items()}

    def _open_lanes(self, depths: Depths, waiting: Collection[str]) -> dict[Lane, int]:
        """The room of each lane that has room and waiting work."""
        lanes = [lane for lane in LANES if lane.queue.value in waiting and lane.queue.value in depths]
        rooms = {lane: self._sizes.room(lane.queue, depths[lane.queue]) for lane in lanes}
        return {lane: room for lane, room in rooms.items() if room > 0}

    def _send_all(self, lane: Lane, turns: Sequence[Turn]) -> bool:
        """Send these turns; returns False if the broker does not accept one, after releasing the claims on the rest."""
        taken = self._send_in_order(lane, turns)
        self._finish(lane, turns[:taken], turns[taken:])
        return taken == len(turns)

    def _send_in_order(self, lane: Lane, turns: Sequence[Turn]) -> int:
        """Send turns until the broker does not accept one; returns the number of sent or unwanted ones."""
        for number, turn in enumerate(turns):
            if turn.wanted and not publish(self._send, turn.message(lane.queue.value)):
                return number
        return len(turns)

    def _choose(self, session: Session, lane: Lane, room: int) -> list[Turn]:
        return due.claim(session, lane, room)

    def _finish(self, _lane: Lane, sent: Sequence[Turn], unsent: Sequence[Turn]) -> None:
        with self._database.session() as session:
            if sent:
                due.settle(session, sent)
            if unsent:
                due.release(session, unsent)


class LocalDispatcher(Dispatcher):
    """The dispatcher of a single process with its broker in memory.

    Work needs no claim: the transaction that chooses a row removes it. If the process dies, the broker ends with it,
    and the next process resumes all jobs.
    """

    def _choose(self, session: Session, lane: Lane, room: int) -> list[Turn]:
        return due.take_out(session, lane, room)

    def _finish(self, lane: Lane, _sent: Sequence[Turn], unsent: Sequence[Turn]) -> None:
        if unsent:
            keep(self._database, [turn.message(lane.queue.value) for turn in unsent])
