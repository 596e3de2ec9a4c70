"""Refuses at submission what no worker could encode within its memory."""

from collections.abc import Iterable

from app.errors import LimitExceeded
from app.imaging.memory import Work, attempts, too_much
from app.imaging.probe import ImageHeader
from app.services.dag_builder import Node


def check_memory(branches: Iterable[Node], header: ImageHeader, most: int | None) -> None:
    """Refuse a tree of which an encoder needs more memory than a process has, as far as the header shows.

    Raises:
        LimitExceeded: names the limit, the value and the node.
    """
    if most is None:
        return
    for node in (found for branch in branches for found in _of_full_size(branch)):
        operation = node.operation
        frames = header.frames if operation.animated else 1
        work = Work(operation.name, node.params, header.width * header.height * frames)
        least = min(attempt.needed for attempt in attempts(work))
        if operation.format and least > most:
            message = too_much(operation.name, work.pixels, least, most)
            raise LimitExceeded(message, pointer=node.pointer, limit=most, value=least)


def _of_full_size(node: Node) -> Iterable[Node]:
    yield node
    if not node.operation.resizes:  # after which only the worker can know
        for following in node.then:
            yield from _of_full_size(following)
