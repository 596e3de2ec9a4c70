"""Placeholders for parameters in trees: finds `{"param": "width"}`, and replaces it by a value."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from app.services.intake.validation import escaped

PLACE = "param"
LEFT_OUT = object()  # stands for a parameter without a value


@dataclass(frozen=True, kw_only=True)
class Place:
    """A placeholder for the value of a parameter."""

    pointer: str
    #: name of the parameter; None: the placeholder is malformed
    name: str | None


def places(value: Any, pointer: str) -> Iterator[Place]:
    """All placeholders in a tree or another value."""
    if isinstance(value, dict) and PLACE in value:
        name = value[PLACE]
        yield Place(pointer=pointer, name=name if isinstance(name, str) and len(value) == 1 else None)
    elif isinstance(value, dict):
        for key, below in value.items():
            yield from places(below, f"{pointer}/{escaped(key)}")
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from places(below, f"{pointer}/{index}")


@dataclass
class Filling:
    """Replaces placeholders by values, and records the place of each value."""

    values: Mapping[str, Any]
    #: parameters by pointers into the filled tree
    places: dict[str, str] = field(default_factory=dict)

    def fill(self, value: Any, pointer: str) -> Any:
        """The tree with values; members and entries of parameters without a value are left out."""
        if isinstance(value, dict) and PLACE in value:
            self.places[pointer] = value[PLACE]
            return self.values.get(value[PLACE], LEFT_OUT)
        if isinstance(value, dict):
            filled = {key: self.fill(below, f"{pointer}/{escaped(key)}") for key, below in value.items()}
            return {key: below for key, below in filled.items() if below is not LEFT_OUT}
        if isinstance(value, list):
            return list(self._entries(value, pointer))
        return value

    def _entries(self, value: list[Any], pointer: str) -> Iterator[Any]:
        number = 0
        for below in value:
            filled = self.fill(below, f"{pointer}/{number}")
            if filled is not LEFT_OUT:
                yield filled
                number += 1


def param_at(found: Mapping[str, str], pointer: str) -> str | None:
    """The parameter whose value is at a pointer, or contains the place of the pointer."""
    while pointer:
        if pointer in found:
            return found[pointer]
        pointer = pointer.rpartition("/")[0]
    return None
