"""`python -m tests.chaos [--jobs 200] [--rows worker]`: the whole fault matrix as a table."""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.support.fixtures import ClusterServers, ServerPool
from tests.support.servers import ObjectStoreServer, PostgreSQL, RabbitMQ, Redis

from .matrix import CONTROL, FAULTS, HEADING, run, unique


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--rows", default="", help="only those whose name holds this")
    options = parser.parse_args()
    whole = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pool = ServerPool(folder / "servers")
        servers = ClusterServers(
            rabbitmq=pool.get(RabbitMQ),
            redis=pool.get(Redis),
            postgresql=pool.get(PostgreSQL),
            object_store=pool.get(ObjectStoreServer),
        )
        try:
            print(HEADING, flush=True)  # noqa: T201
            for fault in FAULTS:
                if options.rows in fault.name or fault.name == "none":
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
