"""Chords without Redis: the `cache+memory://` backend of the embedded mode, which counts the leaves of nested groups.

Celery counts leaves only with Redis. Its other backends count the branches of a chord, start the body too early if a
branch ends in a group, and block a worker while they wait for the rest.
"""

from typing import Any

from celery import maybe_signature
from celery.backends.cache import CacheBackend


class MemoryBackend(CacheBackend):  # type: ignore[misc]  # untyped base
    """Keeps the counters of running chords; results of the header are never read, so they are not joined."""

    def set_chord_size(self, group_id: str, chord_size: int) -> None:
        self.set(self._size_key(group_id), chord_size)

    def on_chord_part_return(self, request: Any, state: str, result: Any, **_: Any) -> None:
        if not request.group or not request.chord:
            return
        ended = self.incr(self.get_key_for_chord(request.group))
        if ended == self.get(self._size_key(request.group)):
            maybe_signature(request.chord, app=self.app).delay()

    def _size_key(self, group_id: str) -> Any:
        return self.get_key_for_group(group_id, ".size")
