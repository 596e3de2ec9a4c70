"""SeaweedFS as docker-compose.lasting.yaml starts it, as a process of this machine: objects survive a restart."""

import json
import os
import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from obstore.exceptions import BaseError
from obstore.store import S3Store

from tests.support.deployment import free_port
from tests.support.server import MissingProgram
from tests.support.servers import _seaweedfs_program

from .conftest import ROOT

LASTING = ROOT / "docker-compose.lasting.yaml"
PATIENCE = 60.0  # seconds
KEY, SECRET = "pixtools", "for-development-only"


class _Loader(yaml.SafeLoader):
    """With Compose's own tags."""


_Loader.add_constructor("!reset", lambda *_: None)
_Loader.add_constructor("!override", lambda loader, node: loader.construct_mapping(node, deep=True))
STACK: dict[str, Any] = yaml.load(LASTING.read_text(), Loader=_Loader)

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif("INFRA_SIMULATOR" not in os.environ, reason="`make infra-test` starts and restarts SeaweedFS"),
]


def _low_port() -> int:
    """One that leaves room for the port of gRPC, 10,000 above it."""
    while (port := free_port()) > 50_000:
        pass
    return port


class Service:
    """The container's command, on ports and in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.program = _seaweedfs_program()
        self.service = STACK["services"]["seaweedfs"]
        self.ports = {name: _low_port() for name in ("master", "volume", "filer", "s3")}
        self.folder = folder
        (folder / "data").mkdir()
        written = STACK["configs"]["seaweedfs"]["content"]
        for name, value in (("ACCESS", KEY), ("SECRET", SECRET)):
            default = f"${{PIXTOOLS_S3_{name}_KEY:-{value}}}"
            assert default in written
            written = written.replace(default, value)
        json.loads(written)
        (folder / "s3.json").write_text(written)

    def command(self) -> list[str]:
        here = {
            "-dir=/data": f"-dir={self.folder / 'data'}",
            "-ip=seaweedfs": "-ip=127.0.0.1",
            "-ip.bind=0.0.0.0": "-ip.bind=127.0.0.1",
            "-s3.port=8333": f"-s3.port={self.ports['s3']}",
            "-s3.config=/etc/seaweedfs/s3.json": f"-s3.config={self.folder / 's3.json'}",
        }
        words = [here.pop(word, word) for word in self.service["command"]]
        assert not here
        return [
            str(self.program),
            *words,
            *(f"-{name}.port={self.ports[name]}" for name in ("master", "volume", "filer")),
        ]

    def start(self) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            running = subprocess.Popen(self.command(), stdout=log, stderr=log)
        deadline = time.monotonic() + PATIENCE
        while not self.healthy():
            assert time.monotonic() < deadline, (self.folder / "log").read_text()[-2000:]
            time.sleep(0.5)
        return running

    def healthy(self) -> bool:
        shell, script = self.service["healthcheck"]["test"]
        assert shell == "CMD-SHELL"
        script = script.replace("weed shell", f"{shlex.quote(str(self.program))} shell")
        for name, port in (("master", 9333), ("filer", 8888)):
            script = script.replace(f"seaweedfs:{port}", f"127.0.0.1:{self.ports[name]}")
        done = subprocess.run(["sh", "-c", script], timeout=30, capture_output=True, check=False)
        return done.returncode == 0


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    try:
        yield Service(tmp_path)
    except MissingProgram as error:
        pytest.skip(f"{error}: docker-compose.lasting.yaml is NOT tried")


def read(bucket: S3Store, key: str) -> bytes:
    """When the volumes are back, which is a little later than the bucket."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return bytes(bucket.get(key).bytes())
        except BaseError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


def test_its_health_check_makes_the_bucket_and_objects_survive_a_restart(service: Service) -> None:
    def bucket() -> S3Store:
        return S3Store(
            "pixtools",
            endpoint=f"http://127.0.0.1:{service.ports['s3']}",
            access_key_id=KEY,
            secret_access_key=SECRET,
            region="us-east-1",
            client_options={"allow_http": True},
        )

    for first in (True, False):
        running = service.start()
        try:
            if first:
                bucket().put("jobs/1/input", b"image")
            assert read(bucket(), "jobs/1/input") == b"image"
        finally:
            running.terminate()
            running.wait(30)
