"""The script that makes nodes, run with stand-ins for AWS and K3s, and with a real PostgreSQL."""

import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import yaml
from psycopg import sql

from tests.support.server import HOST, MissingProgram
from tests.support.servers import PostgreSQL

from .conftest import INFRA

STUBS = Path(__file__).parent / "stubs"
BOOT = INFRA / "templates" / "boot.sh"
DATABASE = "database.example"
ADMINISTRATOR = "arn:rds!administrator"
VERSION = "v1.36.4+k3s1"
SECRETS = ("server-token", "agent-token", "database-k3s", "database-pixtools")

pytestmark = pytest.mark.skipif(not shutil.which("jq"), reason="no jq: the script of nodes is NOT tested")


class Rds(PostgreSQL):
    """A cluster whose owner is not the role that clients manage it by, as in RDS."""

    name = "rds"
    USER = "rdsadmin"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rds]:
    try:
        server = Rds(tmp_path_factory.mktemp("rds"))
        server.start()
    except MissingProgram as error:
        pytest.skip(f"{error}: the script of nodes is NOT tested")
    with server.connect() as connection:
        connection.execute("CREATE ROLE postgres LOGIN CREATEROLE CREATEDB PASSWORD 'administrator'")
    yield server
    server.stop()


def connect(server: Rds, *, user: str, password: str, database: str) -> psycopg.Connection:
    return psycopg.connect(host=HOST, port=server.port, user=user, password=password, dbname=database, autocommit=True)


@dataclass
class Node:
    """One instance: what AWS knows in `state`, its own files in `root`."""

    state: Path
    root: Path
    script: Path
    environment: dict[str, str]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", self.script, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def config(self) -> dict[str, object]:
        path = self.root / "etc/rancher/k3s/config.yaml"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        content: dict[str, object] = yaml.safe_load(path.read_text())
        return content

    def secret(self, name: str) -> str:
        return (self.state / "secrets" / f"trial_{name}").read_text()

    def set_secret(self, name: str, value: str) -> None:
        (self.state / "secrets" / name).write_text(value)

    def commands(self) -> list[str]:
        path = self.state / "commands"
        return path.read_text().splitlines() if path.exists() else []

    def results(self) -> list[str]:
        """What the node told its group."""
        return [line.split()[-1] for line in self.commands() if "complete-lifecycle-action" in line]


def make_node(folder: Path, node_class: str, **environment: str) -> Node:
    state, root = folder / "state", folder / "root"
    for name in ("secrets", "parameters", "metadata", "instances"):
        (state / name).mkdir(parents=True, exist_ok=True)
    (root / "tmp").mkdir(parents=True, exist_ok=True)
    metadata = {
        "instance-id": "i-0aaa",
        "availability-zone": "us-east-1a",
        "local-ipv4": "10.20.0.9",
        "local-hostname": "ip-10-20-0-9.ec2.internal ip-10-20-0-9.example",
    }
    parameters = {
        "api-address": "balancer.example",
        "database-address": DATABASE,
        "database-administrator": ADMINISTRATOR,
        "manifest-bucket": "trial-manifests",
    }
    for kind, values in (("metadata", metadata), ("parameters", parameters)):
        for name, value in values.items():
            (state / kind / name).write_text(value)
    shutil.copy(STUBS / "k3s", state / "k3s")
    settings = {
        "CLUSTER": "trial",
        "REGION": "us-east-1",
        "NODE_CLASS": node_class,
        "K3S_VERSION": VERSION,
        "K3S_BINARY": "k3s",
        "K3S_SHA256": hashlib.sha256((state / "k3s").read_bytes()).hexdigest(),
    }
    script = folder / "part-001"
    header = "".join(f"readonly {name}='{value}'\n" for name, value in settings.items())
    script.write_text(f"#!/usr/bin/env bash\n{header}\n{BOOT.read_text()}")
    variables = {
        "PATH": f"{STUBS}:{os.environ['PATH']}",
        "STATE": str(state),
        "ROOT": str(root),
        "PAUSE": "0.1",
        **environment,
    }
    return Node(state, root, script, variables)


@pytest.fixture
def server(tmp_path: Path, database: Rds) -> Iterator[Node]:
    psql = shutil.which("psql")
    if psql is None:
        pytest.skip("no psql: the script of servers is NOT tested")
    node = make_node(tmp_path, "server", TEST_PSQL=psql, TEST_PGHOST=HOST, TEST_PGPORT=str(database.port))
    node.set_secret(ADMINISTRATOR, json.dumps({"username": "postgres", "password": "administrator"}))
    yield node
    with database.connect() as connection:
        for name in ("k3s", "pixtools"):
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))
            connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)))


def test_a_server_installs_fills_configures_and_reports(server: Node) -> None:
    result = server.run()
    assert result.returncode == 0, result.stderr
    assert server.results() == ["CONTINUE"]
    assert all(re.fullmatch("[0-9a-f]{64}", server.secret(name)) for name in SECRETS)
    assert len({server.secret(name) for name in SECRETS}) == len(SECRETS)
    config = server.config()
    assert config["token"] == server.secret("server-token")
    assert config["agent-token"] == server.secret("agent-token")
    password = server.secret("database-k3s")
    assert config["datastore-endpoint"] == f"postgres://k3s:{password}@{DATABASE}:5432/k3s?sslmode=verify-full"
    assert config["tls-san"] == ["balancer.example"]
    assert config["node-name"] == "ip-10-20-0-9.ec2.internal"
    assert config["node-label"] == ["pixtools.io/node-class=server"]
    assert config["kubelet-arg"] == ["provider-id=aws:///us-east-1a/i-0aaa"]
    assert "node-taint" not in config
    assert "ExecStart=/usr/local/bin/k3s server" in (server.root / "etc/systemd/system/k3s.service").read_text()
    assert "systemctl enable --now pixtools-upkeep.timer" in server.commands()
    assert (server.root / "var/lib/rancher/k3s/server/manifests/pixtools/addon.yaml").read_text() == (
        "from s3://trial-manifests/addons/\n"
    )


def test_each_database_has_its_own_role_which_no_other_enters(server: Node, database: Rds) -> None:
    assert server.run().returncode == 0
    passwords = {name: server.secret(f"database-{name}") for name in ("k3s", "pixtools")}
    for name, password in passwords.items():
        with connect(database, user=name, password=password, database=name) as connection:
            connection.execute("CREATE TABLE kept (id int)")
    for name, other in (("k3s", "pixtools"), ("pixtools", "k3s")):
        with pytest.raises(psycopg.OperationalError, match="permission denied"):
            connect(database, user=name, password=passwords[name], database=other)


def test_a_second_server_finds_everything_made(server: Node, database: Rds) -> None:
    assert server.run().returncode == 0
    first = {name: server.secret(name) for name in SECRETS}
    with connect(database, user="k3s", password=first["database-k3s"], database="k3s") as connection:
        connection.execute("CREATE TABLE kept (id int)")
    result = server.run()
    assert result.returncode == 0, result.stderr
    assert {name: server.secret(name) for name in SECRETS} == first
    with connect(database, user="k3s", password=first["database-k3s"], database="k3s") as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_no_secret_is_on_a_command_line_or_in_the_output(server: Node) -> None:
    result = server.run()
    seen = "\n".join([*server.commands(), result.stdout, result.stderr])
    for name in SECRETS:
        assert server.secret(name) not in seen
    assert "'administrator'" not in seen
    assert "password" not in seen
    assert sum("verify-full" in line for line in server.commands() if line.startswith("psql")) == 2


def test_an_agent_waits_for_its_token_and_lands_on_spot(tmp_path: Path) -> None:
    node = make_node(tmp_path, "ml")
    process = subprocess.Popen(
        ["bash", node.script], env=node.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    for _ in range(300):
        if sum("agent-token" in line for line in node.commands()) >= 3:
            break
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.1)
    assert node.results() == []
    node.set_secret("trial_agent-token", "joined")
    assert process.wait(30) == 0
    config = node.config()
    assert (config["server"], config["token"]) == ("https://balancer.example:6443", "joined")
    assert config["node-label"] == ["pixtools.io/node-class=ml"]
    assert config["node-taint"] == ["pixtools.io/spot=true:NoSchedule"]
    assert node.results() == ["CONTINUE"]
    asked = {line.split("--secret-id ")[1].split()[0] for line in node.commands() if "--secret-id" in line}
    assert asked == {"trial/agent-token"}


def test_another_binary_than_the_pinned_one_is_never_run(tmp_path: Path) -> None:
    node = make_node(tmp_path, "standard")
    node.set_secret("trial_agent-token", "joined")
    with (node.state / "k3s").open("a") as binary:
        binary.write("# changed\n")
    result = node.run()
    assert result.returncode == 1
    assert "another checksum" in result.stderr
    assert node.results() == ["ABANDON"]
    assert not (node.root / "usr/local/bin/k3s").exists()
    assert not any(line.startswith("systemctl") for line in node.commands())


def test_a_node_without_its_parameters_is_given_up(tmp_path: Path) -> None:
    node = make_node(tmp_path, "standard")
    node.set_secret("trial_agent-token", "joined")
    (node.state / "parameters" / "api-address").unlink()
    assert node.run().returncode != 0
    assert node.results() == ["ABANDON"]


def node_object(name: str, instance: str, ready: str, provider: str = "aws:///us-east-1a/") -> dict[str, object]:
    return {
        "metadata": {"name": name},
        "spec": {"providerID": f"{provider}{instance}"},
        "status": {"conditions": [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": ready}]},
    }


def test_upkeep_forgets_nodes_whose_instance_is_gone_and_no_others(tmp_path: Path) -> None:
    node = make_node(tmp_path, "server")
    installed = node.root / "usr/local/bin"
    installed.mkdir(parents=True)
    shutil.copy(STUBS / "k3s", installed / "k3s")
    (node.root / "var/lib/rancher/k3s/server/manifests/pixtools").mkdir(parents=True)
    nodes = [
        node_object("works", "i-1", "True"),
        node_object("terminated", "i-2", "Unknown"),
        node_object("unknown-to-aws", "i-3", "False"),
        node_object("restarts", "i-4", "False"),
        node_object("nobody-can-ask", "i-5", "Unknown"),
        node_object("elsewhere", "box", "Unknown", provider="k3s://"),
    ]
    (node.state / "nodes.json").write_text(json.dumps({"items": nodes}))
    # No file for i-5: the question fails.
    for instance, state in (("i-1", "running"), ("i-2", "terminated"), ("i-3", ""), ("i-4", "running")):
        (node.state / "instances" / instance).write_text(state)
    result = node.run("upkeep")
    assert result.returncode == 0, result.stderr
    deleted = [line.split()[4] for line in node.commands() if line.startswith("k3s kubectl delete node")]
    assert deleted == ["terminated", "unknown-to-aws"]
    assert node.results() == []
