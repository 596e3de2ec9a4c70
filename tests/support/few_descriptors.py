"""Runs a module in a process that may open 256 files and sockets.

python -m tests.support.few_descriptors app serve
"""

import resource
import runpy
import sys

MOST = 256


def main() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (MOST, MOST))
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
