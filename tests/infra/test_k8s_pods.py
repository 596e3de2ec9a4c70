"""The pods of k8s/ as processes of this machine: their commands, variables, probes and signals, over real servers."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
import yaml

from tests.support.deployment import ApiClient, free_port
from tests.support.fixtures import ClusterServers

from .conftest import ROOT
from .manifests import K8S, Json, Pod, kustomize, of_kind, pods_of

PATIENCE = 90.0  # seconds
NOWHERE = "/proc/nowhere"  # as closed to everybody as the image's root is
REMOVED = ("PIXTOOLS_", "RABBITMQ_", "PROMETHEUS_")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.full,  # half a minute; `make infra-test` runs it
    pytest.mark.timeout(600),
    pytest.mark.skipif(not shutil.which("kubectl"), reason="no kubectl on this machine: pods of k8s/ are NOT run"),
]


@dataclass
class Running:
    """One container, with what its pod would give it."""

    pod: Pod
    given: dict[str, str]
    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def container(self) -> Json:
        (container,) = self.pod.spec["containers"]
        return dict(container)

    def start(self) -> None:
        with (self.folder / f"{self.pod.name}.log").open("wb") as log:
            self.process = subprocess.Popen(
                self.command(self.container), env=self.environment(), cwd=ROOT, stdout=log, stderr=log
            )

    def run(self, container: Json) -> None:
        """One that ends by itself."""
        subprocess.run(self.command(container), env=self.environment(), cwd=ROOT, check=True, timeout=PATIENCE)

    def command(self, container: Json) -> list[str]:
        """With this environment's programs. All pods have one host here, so their names stand for its."""
        program, *arguments = container["command"]
        named = [part.replace("%h", self.pod.name) for part in arguments]
        return [str(Path(sys.executable).parent / program), *named]

    def environment(self) -> dict[str, str]:
        """Variables of the manifest last, and in their order, as Kubernetes expands them."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(REMOVED)}
        values = own | self._image() | self.given
        for variable in self.container["env"]:
            text = variable.get("value", values.get(variable["name"], ""))
            values.setdefault(variable["name"], re.sub(r"\$\((\w+)\)", lambda found: values[found[1]], text))
        return values

    def _image(self) -> dict[str, str]:
        """What the Dockerfile sets; files may only be written where a volume is mounted."""
        mounts = {mount["mountPath"] for mount in self.container["volumeMounts"]}
        spool = self.folder / self.pod.name
        return {
            "PIXTOOLS_HOST": "127.0.0.1",
            "PIXTOOLS_PORT": str(self.port),
            "PIXTOOLS_METRICS_PORT": str(free_port() if self.pod.component == "api" else self.port),
            "PIXTOOLS_DATA_DIR": NOWHERE,
            "PIXTOOLS_SPOOL_DIR": str(spool) if "/var/spool/pixtools" in mounts else NOWHERE,
            **({"PROMETHEUS_MULTIPROC_DIR": str(spool / "metrics")} if "worker" in self.pod.component else {}),
        }

    def passes(self, probe: str) -> bool:
        asked = self.container[probe]
        if "exec" in asked:
            program, *arguments = asked["exec"]["command"]
            named = [part.replace("{os.uname().nodename}", self.pod.name) for part in arguments]
            assert named != arguments
            command = [str(Path(sys.executable).parent / program), *named]
            return subprocess.run(command, env=self.environment(), cwd=ROOT, check=False).returncode == 0
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}{asked['httpGet']['path']}", timeout=5).is_success
        except httpx.HTTPError:
            return False


@pytest.fixture(scope="module")
def pods() -> list[Pod]:
    return [pod for pod in pods_of(list(yaml.safe_load_all(kustomize(K8S)))) if pod.ours]


@pytest.fixture(scope="module")
def given(cluster_servers: ClusterServers) -> dict[str, str]:
    """ConfigMap and Secret, with addresses of this machine for those of Services."""
    name = f"k8s-{uuid4().hex[:12]}"
    cluster_servers.object_store.create_bucket(name)
    objects = list(yaml.safe_load_all(kustomize(K8S)))
    (settings,) = (found["data"] for name_, found in of_kind(objects, "ConfigMap").items() if "pixtools-" in name_)
    return {
        **settings,
        "PIXTOOLS_RESULT_BACKEND": cluster_servers.redis.url,
        "PIXTOOLS_REDIS_URL": cluster_servers.redis.url,
        "PIXTOOLS_BROKER_URL": cluster_servers.rabbitmq.new_vhost(),
        "PIXTOOLS_DATABASE_URL": cluster_servers.postgresql.create_database(name),
        "PIXTOOLS_STORAGE_URL": f"s3://{name}",
        "PIXTOOLS_S3_ENDPOINT": cluster_servers.object_store.endpoint,
        "PIXTOOLS_S3_REGION": "us-east-1",
        "PIXTOOLS_S3_ACCESS_KEY": cluster_servers.object_store.access_key,
        "PIXTOOLS_S3_SECRET_KEY": cluster_servers.object_store.secret_key,
        "PIXTOOLS_SECRET_KEY": "s" * 64,
        "RABBITMQ_USERNAME": "unused",
        "RABBITMQ_PASSWORD": "unused",
        "REDIS_PASSWORD": "unused",
    }


@pytest.fixture(scope="module")
def cluster(
    pods: list[Pod], given: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Running]]:
    """Every Deployment once, after the Job."""
    folder = tmp_path_factory.mktemp("pods")
    settings = {name: value for name, value in given.items() if name != "PIXTOOLS_METRICS_PORT"}
    all_pods = [Running(pod, settings, folder) for pod in pods]
    (job,) = (found for found in all_pods if found.pod.owner["kind"] == "Job")
    deployments = [found for found in all_pods if found is not job]
    job.run(job.container)
    (schema,) = {yaml.safe_dump(found.pod.spec["initContainers"]) for found in deployments}
    deployments[0].run(yaml.safe_load(schema)[0])
    with ExitStack() as ends:
        for found in deployments:
            (folder / found.pod.name).mkdir()
            found.start()
            assert found.process
            ends.callback(found.process.wait, PATIENCE)
            ends.callback(found.process.kill)
        yield deployments


def until(happens: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_pods_become_ready_do_work_and_end_on_sigterm(cluster: list[Running], photo: bytes) -> None:
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        for running in cluster:
            until(lambda running=running, probe=probe: running.passes(probe))
    (api,) = (running for running in cluster if running.pod.component == "api")
    with httpx.Client(base_url=f"http://127.0.0.1:{api.port}", timeout=60) as http:
        job = ApiClient(http).run(photo, ["convert_webp", {"op": "resize", "width": 64, "then": ["denoise"]}])
    assert job["status"] == "completed", job
    assert {step["queue"] for step in job["steps"]} == {"default_queue", "ml_inference_queue"}
    for running in cluster:
        assert running.process
        assert running.process.poll() is None
        running.process.send_signal(signal.SIGTERM)
    for running in cluster:
        assert running.process
        assert running.process.wait(running.pod.spec["terminationGracePeriodSeconds"]) in {0, -signal.SIGTERM}
