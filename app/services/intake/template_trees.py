"""Places for parameters in trees: where `{"param": "width"}` stands, and how values are put there."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from app.services.intake.validation import escaped

PLACE = "param"
LEFT_OUT = object()  # of a parameter that has no value


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a value of a parameter goes."""

    pointer: str
    #: of the parameter; None: it is not written as a place is
    name: str | None


def places(value: Any, pointer: str) -> Iterator[Place]:
    """Every place in a tree, or in anything else."""
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
    """Puts values in places, and remembers where each of them went."""

    values: Mapping[str, Any]
    #: parameters by pointers into what came of it
    places: dict[str, str] = field(default_factory=dict)

    def fill(self, value: Any, pointer: str) -> Any:
        """The same with values; the member or entry of a parameter that has none is left out."""
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
    """The parameter whose value is at a place, or around it."""
    while pointer:
        if pointer in found:
            return found[pointer]
        pointer = pointer.rpartition("/")[0]
    return None
