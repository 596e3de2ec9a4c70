"""Public ids: a type prefix and a UUIDv7."""

import re
from dataclasses import dataclass

from uuid_utils.compat import uuid7

from app.errors import DeliveryNotFound, EndpointNotFound, NotFound


def new_id(prefix: str) -> str:
    """An id that sorts behind those before it."""
    return f"{prefix}_{uuid7().hex}"


def pattern_of(prefix: str) -> str:
    """Of an id with this prefix, as a regular expression."""
    return f"^{prefix}_[0-9a-f]{{32}}$"


@dataclass(frozen=True)
class Kind:
    """What clients name by id."""

    prefix: str
    noun: str
    missing: type[NotFound]

    def new(self) -> str:
        """An id for another one."""
        return new_id(self.prefix)

    @property
    def pattern(self) -> str:
        """Of an id, as a regular expression."""
        return pattern_of(self.prefix)

    def is_one(self, id_: str) -> bool:
        """Whether it looks like an id; PostgreSQL refuses text with a NUL."""
        return re.fullmatch(self.pattern, id_) is not None

    def checked(self, id_: str) -> str:
        """What looks like an id.

        Raises:
            NotFound: it does not, so there is nothing with it.
        """
        if not self.is_one(id_):
            raise self.unknown(id_)
        return id_

    def unknown(self, id_: str) -> NotFound:
        """The error for an id that nothing has."""
        return self.missing(f"There is no {self.noun} {id_[:64]!r}.")


ENDPOINT = Kind("ep", "endpoint", EndpointNotFound)
DELIVERY = Kind("dlv", "delivery", DeliveryNotFound)
