"""Public ids: a type prefix and a UUIDv7."""

import re
from dataclasses import dataclass

from uuid_utils.compat import uuid7

from app.errors import DeliveryNotFound, EndpointNotFound, NotFound


def new_id(prefix: str) -> str:
    """A new id; ids sort by the time they were made."""
    return f"{prefix}_{uuid7().hex}"


def pattern_of(prefix: str) -> str:
    """A regular expression for an id with this prefix."""
    return f"^{prefix}_[0-9a-f]{{32}}$"


@dataclass(frozen=True)
class Kind:
    """Kinds of things that clients name by id."""

    prefix: str
    noun: str
    missing: type[NotFound]

    def new(self) -> str:
        """A new id of this kind."""
        return new_id(self.prefix)

    @property
    def pattern(self) -> str:
        """A regular expression for an id of this kind."""
        return pattern_of(self.prefix)

    def is_one(self, id_: str) -> bool:
        """Whether a text looks like an id; PostgreSQL refuses text with a NUL."""
        return re.fullmatch(self.pattern, id_) is not None

    def checked(self, id_: str) -> str:
        """The text, if it looks like an id.

        Raises:
            NotFound: it does not, so there is nothing with this id.
        """
        if not self.is_one(id_):
            raise self.unknown(id_)
        return id_

    def unknown(self, id_: str) -> NotFound:
        """The error for an unknown id."""
        return self.missing(f"There is no {self.noun} {id_[:64]!r}.")


ENDPOINT = Kind("ep", "endpoint", EndpointNotFound)
DELIVERY = Kind("dlv", "delivery", DeliveryNotFound)
