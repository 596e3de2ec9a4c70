"""What ends every process that takes it, in both modes."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import make_photo
from tests.support.deployment import cluster, embedded
from tests.support.processes import LONG, command, listed, pixel_processes
from tests.support.waiting import until


@pytest.mark.integration
@pytest.mark.parametrize("mode", [pytest.param("embedded", marks=pytest.mark.full), "cluster"])
def test_poison_is_given_up_listed_refused_and_redriven(
    tmp_path: Path, mode: str, request: pytest.FixtureRequest
) -> None:
    """Every pixel process that takes the task is killed, as the system does when memory is short."""
    settings = {"PIXTOOLS_STEP_MAX_ATTEMPTS": "2"}
    if mode == "embedded":
        deployment = embedded(tmp_path, **settings)
    else:
        deployment = cluster(tmp_path, request.getfixturevalue("cluster_servers"), ["default_queue"], **settings)
    photo, tree = make_photo(1000, 750), [LONG, "convert_png"]
    try:
        deployment.start()
        with deployment.client() as api:
            job_id = api.accepted(photo, tree)["id"]
            until(lambda: api.job(job_id)["steps"][1]["status"] == "succeeded")  # its process will not be killed

            def given_up() -> Any:
                step = api.job(job_id)["steps"][0]
                if step["status"] == "running":
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
            assert (shown["reason"], shown["operations"]) == ("poison_input", ["convert_avif"])

            refused = api.process(photo, tree)
            assert (refused.status_code, refused.json()["code"]) == (422, "known_poison")
            assert api.run(photo, ["convert_webp"])["status"] == "completed"

            assert "runs again" in command(deployment, "dlq", "redrive", letter_id).stdout
            until(lambda: api.job(job_id)["steps"][0]["status"] == "running")
            assert api.process(photo, tree).status_code == 202
            assert command(deployment, "dlq", "list").stdout == ""
            assert command(deployment, "dlq", "purge", "--all").stdout == "1 deleted\n"
    finally:
        deployment.kill()
