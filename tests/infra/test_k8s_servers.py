"""RabbitMQ and Redis with the configuration, users and passwords of k8s/, as real servers."""

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import amqp
import httpx
import pytest
import redis

from app.config import Settings
from app.operations import Queue
from tests.support.server import HOST
from tests.support.servers import RabbitMQ, Redis

from .conftest import ROOT
from .manifests import K8S, Json, Pod, of_kind, pods_of

SECRET = {"username": "someone", "password": "secret1", "keda-username": "looker", "keda-password": "secret2"}
CONFIGURATION = (K8S / "rabbitmq" / "rabbitmq.conf").read_text()
COMPOSE = (ROOT / "docker-compose.yaml").read_text()
# Of Kubernetes, of newer versions than Debian's, and of a larger disk
NOT_HERE = ("cluster_formation", "cluster_partition", "quorum_queue", "disk_free_limit", "load_definitions")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not shutil.which("kubectl"), reason="no kubectl on this machine: k8s/ is NOT tested"),
]
BROKER = pytest.mark.full  # its start takes half a minute; `make infra-test` runs these tests


def pod(objects: list[Json], name: str) -> Pod:
    (found,) = (pod for pod in pods_of(objects) if pod.name == name)
    return found


def definitions(objects: list[Json], folder: Path) -> Path:
    """As the init container writes them."""
    (container,) = (found for found in pod(objects, "rabbitmq").containers() if found["name"] == "definitions")
    variables = {one["name"]: SECRET[one["valueFrom"]["secretKeyRef"]["key"]] for one in container["env"]}
    template, written = K8S / "rabbitmq" / "definitions.json", folder / "definitions.json"
    *shell, script = container["command"]
    for mounted, here in (("/etc/pixtools/definitions.json", template), ("/run/rabbitmq", folder)):
        assert mounted in script
        script = script.replace(mounted, str(here))
    subprocess.run([*shell, script], env={"PATH": "/usr/bin:/bin", **variables}, check=True)
    assert f"load_definitions = /run/rabbitmq/{written.name}\n" in CONFIGURATION
    return written


class Broker(RabbitMQ):
    """With the manifests' configuration, and the management API."""

    ports_needed = 5
    USER = SECRET["username"]

    def __init__(self, directory: Path, imported: Path) -> None:
        super().__init__(directory)
        self.password = SECRET["password"]
        self.imported = imported

    @property
    def api(self) -> str:
        return f"http://{HOST}:{self._ports[-1]}/api"

    def _prepare(self) -> None:
        kept = [line for line in CONFIGURATION.splitlines() if not line.startswith(NOT_HERE)]
        here = [
            f"listeners.tcp.1 = {HOST}:{self.port}",
            f"management.tcp.ip = {HOST}",
            f"management.tcp.port = {self._ports[-1]}",
            "disk_free_limit.absolute = 50MB",
            f"load_definitions = {self.imported}",
        ]
        (self.home / "rabbitmq.conf").write_text("\n".join([*kept, *here, ""]))
        (self.home / "enabled_plugins").write_text("[rabbitmq_management].\n")

    def _settings(self) -> dict[str, str]:
        *ports, management = self._ports
        self._ports = tuple(ports)
        try:
            return super()._settings()
        finally:
            self._ports = (*ports, management)


@pytest.fixture(scope="module")
def broker(objects: list[Json], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    folder = tmp_path_factory.mktemp("definitions")
    with Broker(tmp_path_factory.mktemp("k8s") / "rabbitmq", definitions(objects, folder)) as running:
        yield running


def connected(broker: Broker, user: str, password: str) -> amqp.Connection:
    return amqp.Connection(host=f"{HOST}:{broker.port}", userid=user, password=password, connect_timeout=5)


def test_passwords_are_read_by_nobody_else(objects: list[Json], tmp_path: Path) -> None:
    written = definitions(objects, tmp_path)
    assert written.stat().st_mode & 0o777 == 0o600
    assert not re.search(r"\$\w", written.read_text())


@BROKER
def test_pixtools_may_do_everything_but_administrate(broker: Broker) -> None:
    with connected(broker, broker.USER, broker.password) as connection:
        channel = connection.channel()
        channel.queue_declare(Queue.DEFAULT, durable=True, auto_delete=False)
        channel.basic_publish(amqp.Message("one"), routing_key=Queue.DEFAULT)
        message = channel.basic_get(Queue.DEFAULT)
        assert message.body == "one"
        channel.basic_reject(message.delivery_tag, requeue=True)
    assert httpx.get(f"{broker.api}/queues", auth=(broker.USER, broker.password), timeout=30).status_code == 401


@BROKER
def test_keda_sees_the_length_of_a_queue_and_can_change_nothing(broker: Broker) -> None:
    with connected(broker, broker.USER, broker.password) as connection:
        connection.channel().queue_declare(Queue.ML, durable=True, auto_delete=False)
    keda = (SECRET["keda-username"], SECRET["keda-password"])
    queue = f"{broker.api}/queues/%2F/{Queue.ML}"
    with httpx.Client(auth=keda) as client:
        seen = client.get(queue)
        assert seen.status_code == 200, seen.text
        assert seen.json()["name"] == Queue.ML
        take = {"count": 1, "ackmode": "ack_requeue_false", "encoding": "auto"}
        answers = {
            "delete": client.delete(queue),
            "purge": client.delete(f"{queue}/contents"),
            "take": client.post(f"{queue}/get", json=take),
            "send": client.post(
                f"{broker.api}/exchanges/%2F/amq.default/publish",
                json={"properties": {}, "routing_key": Queue.ML, "payload": "x", "payload_encoding": "string"},
            ),
            "user": client.put(f"{broker.api}/users/another", json={"password": "x", "tags": "administrator"}),
        }
    sent = answers.pop("send")
    assert sent.status_code == 400, sent.text
    assert "ACCESS_REFUSED" in sent.text
    assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(answers, 401)
    with connected(broker, *keda) as connection:
        for attempt in ("basic_get", "queue_purge", "queue_delete"):
            with pytest.raises(amqp.AccessRefused):
                getattr(connection.channel(), attempt)(Queue.ML)


def test_keda_logs_in_with_that_user(objects: list[Json]) -> None:
    (authentication,) = of_kind(objects, "TriggerAuthentication").values()
    found = {entry["parameter"]: (entry["name"], entry["key"]) for entry in authentication["spec"]["secretTargetRef"]}
    assert found == {
        "username": ("pixtools-rabbitmq", "keda-username"),
        "password": ("pixtools-rabbitmq", "keda-password"),
    }
    documented = (K8S / "README.md").read_text()
    assert all(f"--from-literal={key}=" in documented for _, key in found.values())


def test_a_message_is_held_for_as_long_as_its_work_may_take() -> None:
    longest = max(Settings.model_fields[f"{kind}_timeout_seconds"].default for kind in ("step", "denoise"))
    for text in (CONFIGURATION, COMPOSE):
        assert consumer_timeout(text) / 1000 >= 2 * longest


@BROKER
def test_the_broker_takes_that_time_from_its_configuration(broker: Broker) -> None:
    known = broker.ctl("eval", "application:get_env(rabbit, consumer_timeout).").strip()
    assert known == f"{{ok,{consumer_timeout(CONFIGURATION)}}}"


def consumer_timeout(text: str) -> int:
    """In milliseconds."""
    (milliseconds,) = re.findall(r"^ *consumer_timeout = (\d+)$", text, re.MULTILINE)
    return int(milliseconds)


class Counts(Redis):
    """With the manifests' command and password."""

    def __init__(self, directory: Path, command: Sequence[str]) -> None:
        super().__init__(directory)
        self.options = command[1:]

    def _command(self) -> Sequence[str | Path]:
        given = {"/data": str(self.data), "$(REDISCLI_AUTH)": SECRET["password"]}
        return [
            self._program,
            *(given.get(word, word) for word in self.options),
            "--bind",
            HOST,
            "--port",
            str(self.port),
        ]

    def _check(self) -> None:
        with redis.Redis(host=HOST, port=self.port, password=SECRET["password"]) as client:
            client.ping()


def test_redis_asks_for_its_password(objects: list[Json], tmp_path: Path) -> None:
    (container,) = pod(objects, "redis").containers()
    with Counts(tmp_path / "redis", container["command"]) as server:
        with redis.Redis(host=HOST, port=server.port) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
        *shell, script = container["readinessProbe"]["exec"]["command"]
        probe = script.replace("redis-cli", f"redis-cli -p {server.port}")
        for password, healthy in ((SECRET["password"], True), ("another", False)):
            environment = {"PATH": "/usr/bin:/bin", "REDISCLI_AUTH": password}
            assert (subprocess.run([*shell, probe], env=environment, check=False).returncode == 0) is healthy


def test_pods_know_the_password_of_redis(objects: list[Json]) -> None:
    for found in (found for found in pods_of(objects) if found.ours):
        variables = {one["name"]: one for one in found.spec["containers"][0]["env"]}
        assert variables["REDIS_PASSWORD"]["valueFrom"]["secretKeyRef"] == {"name": "pixtools-redis", "key": "password"}
        for name in ("PIXTOOLS_RESULT_BACKEND", "PIXTOOLS_REDIS_URL"):
            assert re.fullmatch(r"redis://:\$\(REDIS_PASSWORD\)@redis:6379/\d", variables[name]["value"])
