"""All of infra/ created, looked at and destroyed in a simulator of AWS. Minutes: `make infra-test` runs it."""

import base64
import gzip
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.support.deployment import free_port

from .conftest import ROOT, VARIABLES, Terraform, differences, tool
from .policies import allows

APPLY = ("-auto-approve", "-input=false", "-no-color", "-parallelism=30")
# What moto gives back otherwise than it got it, by type of resource.
ECHOES = {
    "aws_autoscaling_lifecycle_hook": {"notification_target_arn", "role_arn"},
    "aws_db_instance": {
        "performance_insights_enabled",
        "performance_insights_kms_key_id",
        "performance_insights_retention_period",
    },
    "aws_db_parameter_group": {"parameter"},
    "aws_launch_template": {"tag_specifications"},
    "aws_vpc_security_group_egress_rule": {"description"},
    "aws_vpc_security_group_ingress_rule": {"description"},
}
VERIFIED = "sslmode=verify-full&sslrootcert=/etc/pixtools/database/ca.pem"
Aws = Callable[..., str]
Resources = Mapping[str, Mapping[str, Any]]

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif("INFRA_SIMULATOR" not in os.environ, reason="`make infra-test` applies infra/ in a simulator"),
]


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    url = f"http://127.0.0.1:{(port := free_port())}"
    log = (tmp_path_factory.mktemp("simulator") / "log").open("wb")
    process = subprocess.Popen(
        [tool("python"), Path(__file__).parent / "simulator.py", "-H", "127.0.0.1", "-p", str(port)],
        env=os.environ | {"MOTO_IAM_LOAD_MANAGED_POLICIES": "true"},
        stdout=log,
        stderr=log,
    )
    try:
        wait_for(f"{url}/moto-api/")
        yield url
    finally:
        process.terminate()
        process.wait(20)
        log.close()


def wait_for(url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            httpx.get(url, trust_env=False)
        except httpx.TransportError:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        else:
            return


@pytest.fixture(scope="module")
def cloud(terraform: Terraform, simulator: str) -> Iterator[Terraform]:
    """infra/, applied."""
    environment = {
        "AWS_ENDPOINT_URL": simulator,
        "AWS_ACCESS_KEY_ID": "simulator",
        "AWS_SECRET_ACCESS_KEY": "simulator",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "PATH": f"{Path(tool('aws')).parent}:{os.environ['PATH']}",
    }
    shutil.copytree(ROOT / "k8s", terraform.folder.parent / "k8s")
    (terraform.folder / "terraform.tfvars").write_text(VARIABLES)
    applied = Terraform(terraform.folder, environment)
    applied("apply", *APPLY)
    try:
        yield applied
    finally:
        (terraform.folder / "terraform.tfvars").unlink()


@pytest.fixture(scope="module")
def aws(cloud: Terraform) -> Aws:
    def run(*arguments: str) -> str:
        done = subprocess.run(["aws", *arguments], env=cloud.variables(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


@pytest.fixture(scope="module")
def resources(cloud: Terraform) -> Resources:
    """By address, as Terraform's state has them."""
    state = json.loads(cloud("show", "-json").stdout)
    return {found["address"]: found["values"] for found in state["values"]["root_module"]["resources"]}


def test_a_second_plan_shows_nothing_but_what_the_simulator_echoes_wrongly(cloud: Terraform) -> None:
    cloud("plan", "-input=false", "-parallelism=30", "-out=again")
    plan = json.loads(cloud("show", "-json", "again").stdout)
    changes = [found for found in plan["resource_changes"] if found["mode"] == "managed"]
    assert {action for found in changes for action in found["change"]["actions"]} <= {"no-op", "update", "read"}
    unexpected = {}
    for found in changes:
        change = found["change"]
        paths = set(differences(change["before"], change["after"], change["after_unknown"]))
        if rest := {path for path in paths if path.split(".")[0] not in ECHOES.get(found["type"], ())}:
            unexpected[found["address"]] = rest
    assert unexpected == {}


def test_user_data_is_a_script_without_secrets(resources: Resources) -> None:
    templates = [values for address, values in resources.items() if address.startswith("aws_launch_template.")]
    assert len(templates) == 3
    for template in templates:
        script = gzip.decompress(base64.b64decode(template["user_data"])).decode()
        assert script.startswith("#!/usr/bin/env bash\n")
        assert "${" not in script.split("# shellcheck shell=bash")[0]
        checked = subprocess.run(
            [ROOT / ".venv/bin/shellcheck", "-"], input=script, capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, checked.stdout
        # Only the checksums of the three artifacts are long and random.
        assert len(set(re.findall(r"\b[0-9a-f]{32,}\b", script))) == 3


def test_buckets_refuse_what_is_not_tls(aws: Aws, cloud: Terraform) -> None:
    for output in ("image_bucket", "manifest_bucket"):
        bucket = cloud("output", "-raw", output).stdout
        answer = aws("s3api", "get-bucket-policy", "--bucket", bucket, "--query", "Policy", "--output", "text")
        statements = {found["Sid"]: found for found in json.loads(answer)["Statement"]}
        assert statements["TlsOnly"]["Effect"] == statements["NoOldTls"]["Effect"] == "Deny"
        assert statements["TlsOnly"]["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_addons_arrive_in_the_manifest_bucket_with_this_clusters_queue(aws: Aws, cloud: Terraform) -> None:
    bucket, queue = (cloud("output", "-raw", name).stdout for name in ("manifest_bucket", "drain_queue"))
    handler = aws("s3", "cp", f"s3://{bucket}/addons/termination-handler.yaml", "-")
    assert f"value: {queue}\n" in handler
    assert "k8s.io/cluster-autoscaler/pixtools\n" in aws(
        "s3", "cp", f"s3://{bucket}/addons/cluster-autoscaler.yaml", "-"
    )


def test_events_that_end_a_node_reach_the_queue(aws: Aws, resources: Resources) -> None:
    queue = resources["aws_sqs_queue.drain"]["arn"]
    rules = json.loads(aws("events", "list-rule-names-by-target", "--target-arn", queue))["RuleNames"]
    assert sorted(rules) == [
        "pixtools-node-terminating",
        "pixtools-scheduled-maintenance",
        "pixtools-spot-interruption",
    ]
    policy = json.loads(resources["aws_sqs_queue_policy.drain"]["policy"])
    senders = policy["Statement"][0]["Condition"]["ArnEquals"]["aws:SourceArn"]
    assert {sender.rsplit("/", 1)[1] for sender in senders} == set(rules)


def test_workers_may_read_one_secret_and_servers_no_more_than_boot_needs(resources: Resources) -> None:
    def secrets(address: str) -> set[str]:
        policy = json.loads(resources[address]["policy"])
        found = [
            statement for statement in policy["Statement"] if "secretsmanager:GetSecretValue" in statement["Action"]
        ]
        named = [statement["Resource"] for statement in found]
        return {arn for entry in named for arn in ([entry] if isinstance(entry, str) else entry)}

    def arns(*names: str) -> set[str]:
        return {resources[f'aws_secretsmanager_secret.this["{name}"]']["arn"] for name in names}

    assert secrets('aws_iam_role_policy.node["worker"]') == arns("agent-token", "authority")
    assert not arns("application-key", "alertmanager-key") & secrets("aws_iam_role_policy.server")


def test_eventbridge_may_publish_to_the_encrypted_topic(resources: Resources) -> None:
    """It says neither account nor rule when it asks for the topic's key."""
    key, topic = resources["aws_kms_key.this"]["policy"], resources["aws_sns_topic.alerts"]["arn"]
    events = {"service": "events.amazonaws.com"}
    for action in ("kms:GenerateDataKey", "kms:Decrypt"):
        assert allows(key, action, **events)
    policy = resources["aws_sns_topic_policy.alerts"]["policy"]
    rules = [found["arn"] for address, found in resources.items() if address.startswith("aws_cloudwatch_event_rule.")]
    assert len(rules) == 7
    assert all(allows(policy, "sns:Publish", topic, **events, aws_SourceArn=rule) for rule in rules)
    assert not allows(policy, "sns:Publish", topic, **events, aws_SourceArn=f"{rules[0]}-of-another")
    waiting = resources["aws_sqs_queue.undelivered"]["arn"]
    kept = resources["aws_sqs_queue_policy.undelivered"]["policy"]
    assert all(allows(kept, "sqs:SendMessage", waiting, **events, aws_SourceArn=rule) for rule in rules)


def test_cloudwatch_may_publish_for_this_account_only(resources: Resources) -> None:
    key, topic = resources["aws_kms_key.this"]["policy"], resources["aws_sns_topic.alerts"]["arn"]
    policy = resources["aws_sns_topic_policy.alerts"]["policy"]
    for account, may in (("123456789012", True), ("210987654321", False)):
        asked = {"service": "cloudwatch.amazonaws.com", "aws_SourceAccount": account}
        assert allows(key, "kms:GenerateDataKey", **asked) is may
        assert allows(policy, "sns:Publish", topic, **asked) is may


@pytest.mark.parametrize(
    ("bucket", "may"),
    [
        ("prod-registry-k8s-io-us-east-1", True),  # layers of registry.k8s.io: the cluster autoscaler's
        ("prod-us-east-1-starport-layer-bucket", True),  # layers of ECR
        ("al2023-repos-us-east-1-de612dc2", True),
        ("somebody-elses", False),
    ],
)
def test_nodes_reach_the_layers_of_their_images_and_no_strangers_bucket(
    resources: Resources, bucket: str, may: bool
) -> None:
    policy = resources["aws_vpc_endpoint.s3"]["policy"]
    assert allows(policy, "s3:GetObject", f"arn:aws:s3:::{bucket}/containers/images/sha256:0") is may
    assert not allows(policy, "s3:PutObject", f"arn:aws:s3:::{bucket}/stolen")


def test_every_node_may_read_what_it_is_made_of(aws: Aws, resources: Resources) -> None:
    manifests = resources['aws_s3_bucket.this["manifests"]']["arn"]
    objects = [found for address, found in resources.items() if address.startswith("aws_s3_object.artifact")]
    assert len(objects) == 3
    for role in ("server", "worker"):
        policy = resources[f'aws_iam_role_policy.node["{role}"]']["policy"]
        for found in objects:
            assert allows(policy, "s3:GetObject", f"{manifests}/{found['key']}")
        assert allows(
            policy, "kms:Decrypt", resources["aws_kms_key.this"]["arn"], kms_ViaService="s3.us-east-1.amazonaws.com"
        )
        assert not allows(policy, "s3:GetObject", f"{manifests}/addons/keda.yaml")
    for found in objects:
        content = (ROOT / "infra" / "tests" / "artifacts" / found["key"].rsplit("/", 1)[1]).read_text()
        assert aws("s3", "cp", f"s3://{found['bucket']}/{found['key']}", "-") == content.strip()


def test_alertmanager_gets_a_key_that_can_publish_and_no_more(
    aws: Aws, cloud: Terraform, resources: Resources, tmp_path: Path
) -> None:
    done = subprocess.run(
        [cloud.folder / "alertmanager.sh", "https://watchdog.example/ping"],
        env=cloud.variables(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    config = yaml.safe_load(done.stdout)
    receivers = {found["name"]: found for found in config["receivers"]}
    assert set(receivers) == {"page", "ticket", "watchdog"}
    topic = resources["aws_sns_topic.alerts"]["arn"]
    (page,) = receivers["page"]["sns_configs"]
    assert page["topic_arn"] == topic
    keys = json.loads(aws("iam", "list-access-keys", "--user-name", "pixtools-alertmanager"))["AccessKeyMetadata"]
    assert [key["AccessKeyId"] for key in keys] == [page["sigv4"]["access_key"]]
    policy = resources['aws_iam_group_policy.this["alertmanager"]']["policy"]
    assert allows(policy, "sns:Publish", topic)
    assert not allows(policy, "s3:GetObject", resources['aws_s3_bucket.this["images"]']["arn"] + "/jobs/1")
    aws("iam", "delete-access-key", "--user-name", "pixtools-alertmanager", "--access-key-id", keys[0]["AccessKeyId"])


def test_settings_name_everything_and_make_one_key_only(aws: Aws, cloud: Terraform) -> None:
    aws("secretsmanager", "put-secret-value", "--secret-id", "pixtools/database-pixtools", "--secret-string", "word")

    def settings() -> dict[str, str]:
        done = subprocess.run(
            [cloud.folder / "settings.sh"], env=cloud.variables(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return dict(line.split("=", 1) for line in done.stdout.splitlines())

    first = settings()
    address = cloud("output", "-raw", "database_address").stdout
    assert first["PIXTOOLS_DATABASE_URL"] == f"postgresql://pixtools:word@{address}:5432/pixtools?{VERIFIED}"
    assert first["PIXTOOLS_STORAGE_URL"] == f"s3://{cloud('output', '-raw', 'image_bucket').stdout}"
    assert first == settings()
    keys = json.loads(aws("iam", "list-access-keys", "--user-name", "pixtools-application"))["AccessKeyMetadata"]
    assert [key["AccessKeyId"] for key in keys] == [first["PIXTOOLS_S3_ACCESS_KEY"]]
    assert len(first["PIXTOOLS_S3_SECRET_KEY"]) == 40
    state = cloud("state", "pull").stdout
    assert first["PIXTOOLS_S3_SECRET_KEY"] not in state
    assert first["PIXTOOLS_S3_ACCESS_KEY"] not in state
    # moto cannot answer all that `force_destroy` asks of a user.
    aws("iam", "delete-access-key", "--user-name", "pixtools-application", "--access-key-id", keys[0]["AccessKeyId"])


def test_neither_state_nor_outputs_hold_the_databases_password(
    aws: Aws, cloud: Terraform, resources: Resources
) -> None:
    administrator = resources["aws_db_instance.this"]["master_user_secret"][0]["secret_arn"]
    value = aws(
        "secretsmanager",
        "get-secret-value",
        "--secret-id",
        administrator,
        "--query",
        "SecretString",
        "--output",
        "text",
    )
    password = json.loads(value)["password"]
    assert len(password) >= 8
    assert password not in cloud("state", "pull").stdout
    assert not any(found["sensitive"] for found in json.loads(cloud("output", "-json").stdout).values())


def test_destroy_leaves_nothing(cloud: Terraform, aws: Aws) -> None:
    """The last test of this file: the others need what it removes."""
    cloud("destroy", *APPLY)
    assert cloud("state", "list").stdout == ""
    assert json.loads(aws("s3api", "list-buckets"))["Buckets"] == []
    assert json.loads(aws("secretsmanager", "list-secrets"))["SecretList"] == []
    groups = json.loads(aws("autoscaling", "describe-auto-scaling-groups"))["AutoScalingGroups"]
    # Of RDS alone the command line does not take the endpoint from the environment.
    endpoint = cloud.environment["AWS_ENDPOINT_URL"]
    databases = json.loads(aws("rds", "describe-db-instances", "--endpoint-url", endpoint))["DBInstances"]
    assert groups == databases == []
