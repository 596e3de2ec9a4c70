"""Runs a server that gives requests in flight little time when it has to stop, for requests that never end.

python -m tests.support.little_grace app serve
"""

import runpy
import sys

from app import server

GRACE_SECONDS = 1


def main() -> None:
    assert GRACE_SECONDS < server.GRACE_SECONDS
    server.GRACE_SECONDS = GRACE_SECONDS
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
