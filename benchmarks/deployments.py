"""Deployments to measure, with servers and data of their own."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.deployment import Deployment, cluster, embedded
from tests.support.fixtures import ServerPool


@contextmanager
def deployed(mode: str = "cluster", **settings: str) -> Iterator[Deployment]:
    """One mode, running; servers are started for a cluster only."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pool = ServerPool(folder / "servers")
        try:
            deployment = (
                embedded(folder, **settings) if mode == "embedded" else cluster(folder, pool.cluster(), **settings)
            )
            try:
                deployment.start()
                yield deployment
            finally:
                deployment.kill()
        finally:
            pool.stop()
