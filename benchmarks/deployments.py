"""Deployments to measure, with their own servers and data."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.deployment import ROOT, Deployment, cluster, embedded
from tests.support.fixtures import ClusterServers, ServerPool

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "pixtools-bench"  # packages of the peers
EMBEDDED, CLUSTER = "PixTools, one process", "PixTools, cluster"


@contextmanager
def cluster_servers() -> Iterator[tuple[Path, ClusterServers]]:
    """A folder for deployments, and servers that they share."""
    with tempfile.TemporaryDirectory() as name:
        pool = ServerPool(Path(name) / "servers")
        try:
            yield Path(name), pool.cluster()
        finally:
            pool.stop()


def of_checkout(folder: Path, checkout: Path) -> Deployment:
    """An embedded deployment with the code of another checkout; modules that it lacks come from this one."""
    deployment = embedded(folder)
    deployment.environment |= {"PYTHONPATH": f"{checkout.absolute()}:{ROOT}", "PYTHONSAFEPATH": "1"}
    return deployment


def as_in_production(deployment: Deployment) -> Deployment:
    """The deployment with the same allocator setting as in `make run` and the images."""
    deployment.environment["MALLOC_ARENA_MAX"] = "2"
    return deployment


@contextmanager
def deployed(mode: str = "cluster", **settings: str) -> Iterator[Deployment]:
    """A running deployment of a mode; a cluster has its own servers."""
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
