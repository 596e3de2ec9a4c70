"""The command line against a running server."""

import json
import os
from pathlib import Path

import pytest

from tests.conftest import in_one_mode
from tests.support import commands
from tests.support.deployment import ApiClient, Deployment
from tests.support.preloaded import run
from tests.support.processes import pixtools

pytestmark = pytest.mark.integration


@pytest.fixture
def picture(tmp_path: Path, photo: bytes) -> Path:
    path = tmp_path / "beach.jpg"
    path.write_bytes(photo)
    return path


@in_one_mode()
def test_submit_waits_and_downloads(deployment: Deployment, picture: Path, tmp_path: Path) -> None:
    ended = pixtools(deployment, "submit", str(picture), "convert_webp,convert_png", "-o", str(tmp_path / "out"))
    assert ended.returncode == 0, ended.stderr
    files = {Path(line).name for line in ended.stdout.splitlines()}
    assert files == {"beach-convert_webp.webp", "beach-convert_png.png"}
    assert all((tmp_path / "out" / name).stat().st_size for name in files)
    assert "completed" in ended.stderr


@in_one_mode()
def test_submit_explains_a_mistake_and_fails(deployment: Deployment, picture: Path) -> None:
    ended = pixtools(deployment, "submit", str(picture), '[{"op": "resize", "width": -1}]')
    assert ended.returncode == 1
    assert "invalid_parameter" in ended.stderr
    assert "#/operations/0/width" in ended.stderr


@in_one_mode()
def test_jobs_are_listed_shown_cancelled_and_deleted(
    deployment: Deployment, api: ApiClient, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIXTOOLS_URL", deployment.url)
    job_id = api.run(photo, ["convert_png"])["id"]
    assert job_id in commands.run("jobs", "list").stdout
    assert json.loads(commands.run("jobs", "show", job_id).stdout)["status"] == "completed"
    assert "job_already_finished" in str(commands.run("jobs", "cancel", job_id).exception)
    assert "nothing_to_retry" in str(commands.run("jobs", "retry", job_id).exception)
    assert commands.run("jobs", "delete", job_id).exit_code == 0
    assert "job_not_found" in str(commands.run("jobs", "show", job_id).exception)


def test_a_server_that_is_not_there_is_named(picture: Path) -> None:
    ended = run(["app", "submit", str(picture), "convert_png", "--server", "http://127.0.0.1:9"], os.environ)
    assert ended.returncode == 3
    assert "http://127.0.0.1:9 does not answer" in ended.stderr
    assert "--server or PIXTOOLS_URL" in ended.stderr
