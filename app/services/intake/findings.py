"""The mistakes in a request: raised at once, or collected for `POST /plan`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from app.errors import PixToolsError

MAX_REPORTED = 20  # mistakes in one answer
OF_THE_SERVER = 500  # statuses from here on say nothing about the request


@dataclass
class Findings:
    """The mistakes that checks of a request have found; each check runs within `noting`."""

    #: True: the first mistake ends the checks
    at_once: bool = True
    errors: list[PixToolsError] = field(default_factory=list)

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Collect a mistake of the block and continue; or raise it, if the first mistake is to end the checks."""
        try:
            yield
        except PixToolsError as error:
            if self.at_once or error.status >= OF_THE_SERVER:
                raise
            self.errors.append(error)

    def check(self) -> None:
        """Raise the collected mistakes, if any, as one error.

        Raises:
            PixToolsError: the first mistake, with an entry for each mistake.
        """
        if self.errors:
            raise combined(self.errors)


def combined(errors: Sequence[PixToolsError]) -> PixToolsError:
    """The first error, with entries for all errors."""
    first = errors[0]
    if len(errors) > 1:
        entries = [entry for error in errors for entry in _entries(error)]
        first.extra = {**first.extra, "errors": entries[:MAX_REPORTED]}
    return first


def _entries(error: PixToolsError) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = error.extra.get("errors", [])
    if found:
        return [{"code": error.code, **entry} for entry in found]
    entry = {"detail": error.message, "pointer": error.pointer or "#", "code": error.code}
    more = {name: value for name in ("limit", "value") if (value := getattr(error, name)) is not None}
    return [{**entry, **more}]
