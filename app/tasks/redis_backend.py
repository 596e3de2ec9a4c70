"""Redis as the counter of running chords. The end of a job does not depend on it.

Celery's own Redis backend listens for the result of every task in a nested group until the process ends, although no
result is ever read. It also fails a task whose chord it cannot count.
"""

import logging
from typing import Any

from celery import maybe_signature
from celery.backends.redis import RedisBackend

log = logging.getLogger(__name__)


class CountingRedisBackend(RedisBackend):  # type: ignore[misc]  # untyped base
    """Counts the tasks of a chord that have ended, each once; results are neither kept nor awaited."""

    def add_pending_result(self, result: Any, weak: bool = False, start_drainer: bool = True) -> Any:
        return result

    def on_task_call(self, producer: Any, task_id: str) -> None:
        pass

    def apply_chord(self, header_result_args: Any, body: Any, **_: Any) -> None:
        pass  # the size is written by `set_chord_size`

    def on_chord_part_return(self, request: Any, state: str, result: Any, **_: Any) -> None:
        if not request.group or not request.chord:
            return
        try:
            is_last = self._count(request.group, request.id)
        except self.connection_errors as error:
            log.warning("chord_not_counted", extra={"error": type(error).__name__})
            return
        if is_last:
            maybe_signature(request.chord, app=self.app).delay()

    def _count(self, group_id: str, task_id: str) -> bool:
        ended = self.get_key_for_group(group_id, ".ended")
        with self.client.pipeline() as pipe:
            pipe.sadd(ended, task_id)
            pipe.expire(ended, self.app.conf.result_chord_expires)
            pipe.scard(ended)
            pipe.get(self.get_key_for_group(group_id, ".s"))
            *_, count, size = pipe.execute()
        return size is not None and count == int(size)
