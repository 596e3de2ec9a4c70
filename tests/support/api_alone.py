"""Runs the API without background services, so that another process has to send its messages.

python -m tests.support.api_alone app api
"""

import runpy
import sys

from app import background


def main() -> None:
    background.services = lambda resources: []
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
