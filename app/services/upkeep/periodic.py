"""Periodic background work."""

import logging
import threading
from abc import ABC, abstractmethod
from typing import Any, ClassVar

log = logging.getLogger(__name__)


class Periodic(ABC):
    """A thread that repeats some work for ever; an error ends only the current turn, and is logged."""

    name: ClassVar[str]
    #: True: the first turn begins at once, not after a pause
    at_once: ClassVar[bool] = False
    #: the errors that mean that something it needs is away
    unavailable: ClassVar[tuple[type[Exception], ...]]

    def __init__(self, every_seconds: float) -> None:
        """Set up without starting the thread.

        Args:
            every_seconds: seconds between two turns.
        """
        self._every_seconds = every_seconds
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)

    @abstractmethod
    def run_once(self) -> Any:
        """Do one turn; a long one ends early when `stopping` is set."""

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """Start no further turn, and wait up to `timeout` seconds for the end of the current one."""
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
