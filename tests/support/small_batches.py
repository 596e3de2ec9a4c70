"""Runs a module in a process that replays few events in one transaction.

python -m tests.support.small_batches app serve
"""

import runpy
import sys

from app.services.webhooks import replays

BATCH = 20


def main() -> None:
    replays.BATCH = BATCH
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
