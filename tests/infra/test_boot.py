"""The script that makes nodes, run with stand-ins for AWS and K3s, and with a real PostgreSQL."""

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import yaml
from psycopg import sql

from tests.support.server import HOST, MissingProgram
from tests.support.servers import PostgreSQL

from .nodes import ADMINISTRATOR, AUTHORITY, DATABASE, Node, make_node

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
    assert config["node-label"] == [
        "pixtools.io/node-class=server",
        "topology.kubernetes.io/region=us-east-1",
        "topology.kubernetes.io/zone=us-east-1a",
    ]
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
    node.set_secret("trial_authority", "0123")
    assert process.wait(30) == 0
    config = node.config()
    assert (config["server"], config["token"]) == ("https://balancer.example:6443", "K100123::node:joined")
    assert config["node-label"] == [
        "pixtools.io/node-class=ml",
        "topology.kubernetes.io/region=us-east-1",
        "topology.kubernetes.io/zone=us-east-1a",
    ]
    assert config["node-taint"] == ["pixtools.io/spot=true:NoSchedule"]
    assert node.results() == ["CONTINUE"]
    asked = {line.split("--secret-id ")[1].split()[0] for line in node.commands() if "--secret-id" in line}
    assert asked == {"trial/agent-token", "trial/authority"}


@pytest.mark.parametrize("artifact", ["k3s", "k3s-images.tar.zst"])
def test_what_is_not_what_terraform_has_put_there_is_never_run(tmp_path: Path, artifact: str) -> None:
    node = make_node(tmp_path, "standard")
    node.let_join()
    with (node.state / "artifacts" / artifact).open("a") as file:
        file.write("# changed\n")
    result = node.run()
    assert result.returncode == 1
    assert f"{artifact} has another checksum" in result.stderr
    assert node.results() == ["ABANDON"]
    assert not any(line.startswith("systemctl") for line in node.commands())


def test_a_node_asks_nobody_but_aws(server: Node) -> None:
    assert server.run().returncode == 0
    asked = {line.split()[-1] for line in server.commands() if line.startswith("curl")}
    assert all(url.startswith("http://169.254.169.254/") for url in asked)
    fetched = [line.split()[4] for line in server.commands() if line.startswith("aws s3 cp")]
    assert [url.rsplit("/", 1)[1] for url in fetched] == ["k3s", "k3s-images.tar.zst", "rds-ca.pem"]
    assert all(url.startswith("s3://trial-manifests/artifacts/") for url in fetched)
    images = server.root / "var/lib/rancher/k3s/agent/images/k3s-images.tar.zst"
    assert images.read_bytes() == (server.state / "artifacts" / "k3s-images.tar.zst").read_bytes()


def test_a_process_that_grows_too_large_ends_alone(tmp_path: Path) -> None:
    node = make_node(tmp_path, "standard")
    node.let_join()
    assert node.run().returncode == 0
    kubelet = yaml.safe_load((node.root / "var/lib/rancher/k3s/agent/etc/kubelet.conf.d/50-pixtools.conf").read_text())
    assert kubelet == {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "singleProcessOOMKill": True,
    }


@pytest.mark.parametrize("mirror", ["", "https://mirror.example/docker"])
def test_docker_hub_is_asked_through_a_mirror_where_there_is_one(tmp_path: Path, mirror: str) -> None:
    node = make_node(tmp_path, "standard", settings={"MIRROR": mirror})
    node.let_join()
    assert node.run().returncode == 0
    path = node.root / "etc/rancher/k3s/registries.yaml"
    assert path.exists() == bool(mirror)
    if mirror:
        assert yaml.safe_load(path.read_text()) == {"mirrors": {"docker.io": {"endpoint": [mirror]}}}


def test_servers_say_which_authority_agents_may_trust(server: Node) -> None:
    assert server.run().returncode == 0
    assert server.secret("authority") == hashlib.sha256(AUTHORITY.encode()).hexdigest()
    server.set_secret("trial_authority", "of another cluster")
    result = server.run()
    assert result.returncode == 1
    assert "another certificate authority" in result.stderr
    assert server.results() == ["CONTINUE", "ABANDON"]


def test_a_node_without_its_parameters_is_given_up(tmp_path: Path) -> None:
    node = make_node(tmp_path, "standard")
    node.let_join()
    (node.state / "parameters" / "api-address").unlink()
    assert node.run().returncode != 0
    assert node.results() == ["ABANDON"]
