"""How a command ends before its work is done: by Ctrl-C, by SIGTERM, or because its output is not read."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

from app.commands.terminal import INTERRUPTED


@contextmanager
def tidily() -> Iterator[None]:
    """End by SIGTERM as by an error, and leave no unfinished file in either case."""
    from pixtools_client.protocol import remove_unfinished

    def end(number: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    ours = threading.current_thread() is threading.main_thread() and (
        signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    )
    if ours:
        signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        remove_unfinished()
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def leave_interrupted() -> NoReturn:
    """End now, without waiting for threads."""
    from pixtools_client.protocol import remove_unfinished

    remove_unfinished()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(INTERRUPTED)


def end_unread() -> NoReturn:
    """End as `cat` does when no process reads its output: by SIGPIPE, without a message."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGPIPE)
    os._exit(128 + signal.SIGPIPE)
