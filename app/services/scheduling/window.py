"""How much of the work the broker has: enough for its workers, and so little that other work soon has its turn."""

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from app.operations import Queue

SPARE_TAKES = 1  # message, at the same time
NETWORK_TAKES = 1
ALL = frozenset(queue.value for queue in (Queue.DEFAULT, Queue.SMALL, Queue.ML, Queue.FETCH))  # for whatever may be due


@dataclass(frozen=True, kw_only=True)
class Depth:
    """The state of one queue, as the broker reports it."""

    #: not yet taken
    messages: int
    #: that take them
    workers: int


#: by the queue's name
Depths = Mapping[str, Depth]
#: looks at the queues; None when the broker does not answer
Look = Callable[[], Depths | None]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Of the window; what is being worked on comes on top of it."""

    #: messages that a pixel worker works on at the same time
    worker_takes: int
    #: inputs that a worker fetches at the same time
    fetch_takes: int = 16
    #: more than so many workers do not make it larger
    most_workers: int

    def room(self, queue: Queue, depth: Depth) -> int:
        """How many messages may be added to a queue."""
        if queue is Queue.SMALL and not depth.workers:
            return 0  # they would never be taken
        others = {Queue.SMALL: SPARE_TAKES, Queue.ML: NETWORK_TAKES, Queue.FETCH: self.fetch_takes}
        takes = others.get(queue, self.worker_takes)
        # Together with what runs, twice what the workers take: so an autoscaler that counts both doubles them
        return max(0, takes * max(2, min(depth.workers, self.most_workers)) - depth.messages)


@dataclass
class Places:
    """What this process may send before it looks again; the `Window` of its transactions."""

    wake: Callable[[], None]
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _rooms: dict[str, int] = field(default_factory=dict)
    #: queues of which something waits for its turn: what comes now must not go before it
    _closed: set[str] = field(default_factory=set)
    _has_spare: bool = False
    #: queues that something has become due for since this was asked last
    _noted: set[str] = field(default_factory=set)

    @property
    def has_spare(self) -> bool:
        return self._has_spare

    def take(self, queue: str, places: int = 1) -> bool:
        with self._lock:
            free = queue not in self._closed and self._rooms.get(queue, 0) >= places
            if free:
                self._rooms[queue] -= places
        self.wake()
        return free

    def note_due(self, queues: Collection[str] = ALL) -> None:
        with self._lock:
            self._noted.update(queues)
            self._closed.update(queues if queues is not ALL else ())
        self.wake()

    def taken_notes(self) -> set[str]:
        """Queues that something has become due for since this was asked last."""
        with self._lock:
            noted, self._noted = self._noted, set()
        return noted

    def is_any_closed(self) -> bool:
        """Whether something was due at the last look."""
        return bool(self._closed)

    def update(self, rooms: Mapping[str, int], due: Collection[str], *, has_spare: bool) -> None:
        """Note what a look has shown.

        Args:
            rooms: by queue.
            due: queues of which something waits for its turn.
            has_spare: whether a process takes small work.
        """
        with self._lock:
            self._rooms, self._closed, self._has_spare = dict(rooms), set(due), has_spare
