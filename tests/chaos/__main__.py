"""`python -m tests.chaos [--jobs 200] [--rows worker] [--begin ROW] [--part 1/2]`: the fault matrix, as a table."""

import argparse
import sys
import tempfile
from itertools import dropwhile
from pathlib import Path

from tests.support.fixtures import ServerPool

from .matrix import CONTROL, FAULTS, HEADING, run, unique


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--rows", default="", help="only those whose name holds this")
    parser.add_argument("--begin", default="", help="the first row to run: its name holds this")
    parser.add_argument("--part", default="1/1", help="of the rows: 1/2 are the first, third, … of them")
    options = parser.parse_args()
    part, parts = map(int, options.part.split("/"))
    whole = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pool = ServerPool(folder / "servers")
        servers = pool.cluster()
        try:
            print(HEADING, flush=True)  # noqa: T201
            without, *faults = FAULTS  # the first one has no fault: all others must have its results
            faults = list(dropwhile(lambda fault: options.begin not in fault.name, faults))
            for fault in (without, *faults[part - 1 :: parts]):
                if options.rows in fault.name or fault is without:
                    row = run(fault, servers, unique(folder), options.jobs)
                    whole = whole and row.holds
                    print(row, flush=True)  # noqa: T201
            control = run(CONTROL, servers, unique(folder), options.jobs, end_within=30)
            whole = whole and control.ended < control.accepted
            print(control, flush=True)  # noqa: T201
        finally:
            pool.stop()
    sys.exit(0 if whole else 1)


if __name__ == "__main__":
    main()
