"""Periodic background work."""

import logging
import threading
from abc import ABC, abstractmethod
from typing import Any, ClassVar

log = logging.getLogger(__name__)


class Periodic(ABC):
    """A thread of its own that does one thing for ever; an error ends one turn of it, and is logged."""

    name: ClassVar[str]
    #: whether the first turn begins with the thread, not after a pause
    at_once: ClassVar[bool] = False
    #: when something that it needs is away
    unavailable: ClassVar[tuple[type[Exception], ...]]

    def __init__(self, every_seconds: float) -> None:
        """Nothing runs yet.

        Args:
            every_seconds: pause between two turns.
        """
        self._every_seconds = every_seconds
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)

    @abstractmethod
    def run_once(self) -> Any:
        """One turn; a long one ends when `stopping` is set."""

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """Begin no other turn, and wait for the end of this one for so many seconds."""
        self.stopping.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        if not self.at_once and self.stopping.wait(self._every_seconds):
            return
        while True:
            try:
                self.run_once()
            except self.unavailable as error:
                log.warning("periodic_interrupted", extra={"periodic": self.name, "error": type(error).__name__})
            except Exception:  # a thread that ends would not be noticed
                log.exception("periodic_failed", extra={"periodic": self.name})
            if self.stopping.wait(self._every_seconds):
                return
