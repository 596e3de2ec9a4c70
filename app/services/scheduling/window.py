"""The window: the work in the broker, enough for the workers, but so little that other work soon has its turn."""

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from app.operations import Queue

SPARE_TAKES = 1  # messages that a spare process handles at a time
NETWORK_TAKES = 1
ALL = frozenset(queue.value for queue in (Queue.DEFAULT, Queue.SMALL, Queue.ML, Queue.FETCH))  # queues of due work


@dataclass(frozen=True, kw_only=True)
class Depth:
    """The state of one queue, as the broker reports it."""

    #: messages that have not been taken yet
    messages: int
    #: workers that take them
    workers: int


#: depths by the name of the queue
Depths = Mapping[str, Depth]
#: reads the depths of the queues; None when the broker does not answer
Look = Callable[[], Depths | None]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The sizes that determine the window. Messages that workers are processing are not part of it."""

    #: messages that a pixel worker works on at the same time
    worker_takes: int
    #: inputs that a worker fetches at the same time
    fetch_takes: int = 16
    #: number of workers up to which the window grows
    most_workers: int

    def room(self, queue: Queue, depth: Depth) -> int:
        """The number of messages that may be added to a queue."""
        if queue is Queue.SMALL and not depth.workers:
            return 0  # no worker would take the messages
        others = {Queue.SMALL: SPARE_TAKES, Queue.ML: NETWORK_TAKES, Queue.FETCH: self.fetch_takes}
        takes = others.get(queue, self.worker_takes)
        # Waiting and running messages are twice what the workers take: an autoscaler that counts both doubles them
        return max(0, takes * max(2, min(depth.workers, self.most_workers)) - depth.messages)


@dataclass
class Places:
    """The places that this process may use until the queues are read again; the `Window` of its transactions."""

    wake: Callable[[], None]
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _rooms: dict[str, int] = field(default_factory=dict)
    #: queues with work that waits for its turn: new work must not overtake it
    _closed: set[str] = field(default_factory=set)
    _has_spare: bool = False
    #: queues for which work has become due since the last call of `taken_notes`
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
        """The queues for which work has become due since the last call."""
        with self._lock:
            noted, self._noted = self._noted, set()
        return noted

    def is_any_closed(self) -> bool:
        """Whether work was due at the last reading of the queues."""
        return bool(self._closed)

    def update(self, rooms: Mapping[str, int], due: Collection[str], *, has_spare: bool) -> None:
        """Set the places after a reading of the queues.

        Args:
            rooms: free places by queue.
            due: queues with work that waits for its turn.
            has_spare: whether a spare process takes small work.
        """
        with self._lock:
            self._rooms, self._closed, self._has_spare = dict(rooms), set(due), has_spare
