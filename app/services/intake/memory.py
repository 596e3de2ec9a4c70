"""Refuses submissions that no worker could encode within its memory."""

from collections.abc import Iterable

from app.errors import LimitExceeded
from app.imaging.memory import Work, attempts, too_much
from app.imaging.probe import ImageHeader
from app.imaging.responsive.breakpoints import largest
from app.operations import ENCODERS
from app.parameters import WebParams
from app.services.dag_builder import Node


def check_memory(branches: Iterable[Node], header: ImageHeader, most: int | None) -> None:
    """Refuse a tree with an encoder that needs more memory than a process has, judging by the header of the image.

    Raises:
        LimitExceeded: the error names the limit, the value and the node.
    """
    if most is None:
        return
    for node in (found for branch in branches for found in _of_full_size(branch)):
        for work in _work(node, header):
            least = min(attempt.needed for attempt in attempts(work))
            if least > most:
                message = too_much(work.op, work.pixels, least, most)
                raise LimitExceeded(message, pointer=node.pointer, limit=most, value=least)


def _work(node: Node, header: ImageHeader) -> Iterable[Work]:
    """The work of the encoders of a node."""
    operation, params = node.operation, node.params
    if isinstance(params, WebParams):
        width, height = largest(params, (header.width, header.height))
        for format_ in params.formats:
            yield Work(ENCODERS[format_].name, params.of_encoder(format_), width * height)
    elif operation.format:
        frames = header.frames if operation.animated else 1
        yield Work(operation.name, params, header.width * header.height * frames)


def _of_full_size(node: Node) -> Iterable[Node]:
    yield node
    if not node.operation.resizes:  # otherwise only the worker knows the size
        for following in node.then:
            yield from _of_full_size(following)
