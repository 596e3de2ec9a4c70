"""Public ids: a type prefix and a UUIDv7."""

import re
from dataclasses import dataclass

from uuid_utils.compat import uuid7

from app.errors import DeliveryNotFound, EndpointNotFound, NotFound


def new_id(prefix: str) -> str:
    """A new id; ids sort by the time of their creation."""
    return f"{prefix}_{uuid7().hex}"


def pattern_of(prefix: str) -> str:
    """A regular expression for an id with this prefix."""
    return f"^{prefix}_[0-9a-f]{{32}}$"


@dataclass(frozen=True)
class Kind:
    """The kinds of objects that have public ids."""

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
        """Whether a text has the form of an id of this kind. PostgreSQL would raise an error for a text with a NUL."""
        return re.fullmatch(self.pattern, id_) is not None

    def checked(self, id_: str) -> str:
        """Return the text if it has the form of an id.

        Raises:
            NotFound: the text cannot be the id of an object.
        """
        if not self.is_one(id_):
            raise self.unknown(id_)
        return id_

    def unknown(self, id_: str) -> NotFound:
        """The error for an unknown id."""
        return self.missing(f"There is no {self.noun} {id_[:64]!r}.")


ENDPOINT = Kind("ep", "endpoint", EndpointNotFound)
DELIVERY = Kind("dlv", "delivery", DeliveryNotFound)
