"""What ends every process that takes it, in both modes, and messages that no worker can take."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection
from uuid_utils.compat import uuid7

from app.operations import DEAD_LETTER_QUEUE
from tests.conftest import make_photo
from tests.support.deployment import Deployment, cluster, embedded
from tests.support.fixtures import ClusterServers
from tests.support.processes import command, pixel_processes
from tests.support.waiting import until


def listed(deployment: Deployment) -> list[str]:
    return command(deployment, "dlq", "list").stdout.splitlines()


@pytest.mark.integration
@pytest.mark.parametrize("mode", ["embedded", "cluster"])
def test_poison_is_given_up_listed_refused_and_redriven(
    tmp_path: Path, mode: str, request: pytest.FixtureRequest
) -> None:
    """Every pixel process that takes the task is killed, as the system does when memory is short."""
    settings = {"PIXTOOLS_STEP_MAX_ATTEMPTS": "2"}
    if mode == "embedded":
        deployment = embedded(tmp_path, **settings)
    else:
        deployment = cluster(tmp_path, request.getfixturevalue("cluster_servers"), **settings)
    photo, tree = make_photo(1500, 1500), ["denoise", "convert_png"]
    try:
        deployment.start()
        with deployment.client() as api:
            job_id = api.accepted(photo, tree)["id"]

            def given_up() -> Any:
                step = api.job(job_id)["steps"][0]
                if step["status"] == "running" and step["progress"] > 0:
                    for pid in pixel_processes(deployment):
                        os.kill(pid, signal.SIGKILL)
                return step["status"] == "failed" and step

            assert until(given_up, 90)["error"]["code"] == "poison_input"
            job = api.ended(job_id)
            assert job["status"] == "completed_with_errors"
            assert [result["name"] for result in job["results"]] == ["convert_png"]

            [line] = until(lambda: listed(deployment))
            letter_id = line.split()[0]
            assert job_id in line
            shown = json.loads(command(deployment, "dlq", "show", letter_id).stdout)
            assert (shown["reason"], shown["operations"]) == ("poison_input", ["denoise"])

            refused = api.process(photo, tree)
            assert (refused.status_code, refused.json()["code"]) == (422, "known_poison")
            assert api.run(photo, ["convert_webp"])["status"] == "completed"

            assert "runs again" in command(deployment, "dlq", "redrive", letter_id).stdout
            until(lambda: api.job(job_id)["steps"][0]["progress"] > 0)
            assert api.process(photo, tree).status_code == 202
            assert command(deployment, "dlq", "list").stdout == ""
            assert command(deployment, "dlq", "purge", "--all").stdout == "1 forgotten\n"
    finally:
        deployment.kill()


@pytest.mark.integration
def test_rabbitmq_gives_up_what_no_worker_can_take(tmp_path: Path, cluster_servers: ClusterServers) -> None:
    """A message of a task that no worker knows is rejected, and written down."""
    deployment = cluster(tmp_path, cluster_servers)
    try:
        deployment.start()
        with deployment.client() as api:
            api.run(make_photo(64, 64), ["convert_png"])  # then there is a worker, and its queues
        with Connection(deployment.environment["PIXTOOLS_BROKER_URL"]) as connection:
            producer = connection.Producer()
            headers = {"task": "pixtools.of_tomorrow", "id": "message-of-tomorrow", "lang": "py"}
            producer.publish(
                [[str(uuid7()), "0"], {}, {}],
                exchange="pixtools",
                routing_key="default_queue",
                headers=headers,
                serializer="json",
                delivery_mode=2,
            )
            [line] = until(lambda: listed(deployment))
            assert line.startswith("message-of-tomorrow")
            assert "rejected" in line
            with connection.channel() as channel:
                assert channel.queue_declare(DEAD_LETTER_QUEUE, passive=True).message_count == 0
    finally:
        deployment.kill()
