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
    """The mistakes that the checks of a request find; each check runs within `noting`."""

    #: True: the first mistake ends the checks
    at_once: bool = True
    errors: list[PixToolsError] = field(default_factory=list)

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Go on after a mistake, unless the first one is to end the checks."""
        try:
            yield
        except PixToolsError as error:
            if self.at_once or error.status >= OF_THE_SERVER:
                raise
            self.errors.append(error)

    def check(self) -> None:
        """Raise all mistakes that were noted.

        Raises:
            PixToolsError: the first mistake, with one entry for each.
        """
        if self.errors:
            raise combined(self.errors)


def combined(errors: Sequence[PixToolsError]) -> PixToolsError:
    """The first error, with the pointers of all of them."""
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
