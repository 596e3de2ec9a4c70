"""Holds a running PixTools against its own `/openapi.json`: `python -m tests.contract embedded --seconds 600`.

Schemathesis invents addresses that the service would call, so it runs only where nothing but loopback can be reached.
What is excepted, and why, stands in `schemathesis.toml`.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.deployment import Deployment, cluster, embedded
from tests.support.fixtures import ServerPool
from tests.support.loopback import is_isolated, isolated
from tests.support.preloaded import forking

UPLOADS = re.compile(r'^pixtools_uploads_total\{outcome="(\w+)"\} (\S+)$', re.MULTILINE)
HERE = Path(__file__).parent
SETTINGS = {
    "PIXTOOLS_PREFER_WAIT_SECONDS": "1",
    "PIXTOOLS_LISTEN_SECONDS": "0.2",
    "PIXTOOLS_IDEMPOTENCY_WAIT_SECONDS": "1",
    "PIXTOOLS_WEBHOOK_TIMEOUT_SECONDS": "2",
    "PIXTOOLS_MAX_OPEN_JOBS": "1000000",
    "PIXTOOLS_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
}


def main() -> int:
    arguments = _arguments()
    if not is_isolated():
        return subprocess.run(isolated([sys.executable, "-m", "tests.contract", *sys.argv[1:]]), check=False).returncode
    with tempfile.TemporaryDirectory() as folder, forking(), _running(arguments.mode, Path(folder)) as deployment:
        key = deployment.new_key("default", "admin")
        code = _examine(deployment, arguments, key)
        print("Uploads by outcome:", _uploads(deployment, key))
        lost = [process.args for process in deployment.processes if process.poll() is not None]
        if lost:
            print(f"Processes ended: {lost}\n{deployment.log.read_text()[-4000:]}")
        return code or len(lost)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.contract", description=__doc__)
    parser.add_argument("mode", choices=["embedded", "cluster"])
    parser.add_argument("--seconds", type=int, help="Go on for so long.")
    parser.add_argument("--examples", type=int, default=50, help="Requests for each operation and phase.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--phases", default="examples,coverage,fuzzing,stateful")
    parser.add_argument("--share", type=int, default=1, help="Of the phase `coverage`, one case in so many.")
    return parser.parse_args()


def _uploads(deployment: Deployment, key: str) -> dict[str, int]:
    with deployment.client(key) as api:
        text = api.http.get("/metrics").text
    return {name: int(float(number)) for name, number in UPLOADS.findall(text)}


@contextmanager
def _running(mode: str, folder: Path) -> Iterator[Deployment]:
    pool = ServerPool(folder / "servers")
    deployment = None
    try:
        deployment = embedded(folder, **SETTINGS) if mode == "embedded" else cluster(folder, pool.cluster(), **SETTINGS)
        deployment.start()
        yield deployment
    finally:
        if deployment:
            deployment.stop()
        pool.stop()


def _examine(deployment: Deployment, arguments: argparse.Namespace, key: str) -> int:
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(HERE / "schemathesis.toml")),
        *("run", f"{deployment.url}/openapi.json", "--phases", arguments.phases),
        *("--max-examples", str(arguments.examples), "--seed", str(arguments.seed), "--no-color"),
        *("--continue-on-failure", "--generation-database", "none"),
        *("--header", f"Authorization: Bearer {key}"),
        *(["--max-time", str(arguments.seconds)] if arguments.seconds else []),
    ]
    own = {"SCHEMATHESIS_HOOKS": "tests.contract.hooks", "NO_PROXY": "*", "CONTRACT_SHARE": str(arguments.share)}
    return subprocess.run(command, env=os.environ | own, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
