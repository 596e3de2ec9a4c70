"""The receivers that docs/webhooks.md shows really run, take what is genuine and refuse what is not."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.services.webhooks import signing
from tests.conftest import in_one_mode
from tests.support.deployment import ApiClient, Deployment, free_port
from tests.support.processes import pixtools

pytestmark = pytest.mark.integration

DOCS = Path(__file__).parents[2] / "docs" / "webhooks.md"
COMMANDS = {"python": (sys.executable, "hook.py"), "javascript": ("node", "hook.cjs")}


@pytest.fixture(params=list(COMMANDS))
def language(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def secret(deployment: Deployment) -> str:
    return pixtools(deployment, "webhooks", "secret").stdout.strip()


@pytest.fixture
def receiver(language: str, secret: str, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Address and output of the documented receiver."""
    (code,) = re.findall(rf"```{language}\n(.*?)```", DOCS.read_text(), re.DOTALL)
    program, name = COMMANDS[language]
    (tmp_path / name).write_text(code)
    port, output = free_port(), tmp_path / "output"
    environment = {**os.environ, "PORT": str(port), "WEBHOOK_SECRET": secret}
    with output.open("wb") as out:
        process = subprocess.Popen([program, str(tmp_path / name)], env=environment, stdout=out, stderr=out)
    try:
        yield f"http://127.0.0.1:{port}/", output
    finally:
        process.kill()
        process.wait(10)


def await_answer(url: str) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            httpx.post(url, content=b"{}")
        except httpx.TransportError:
            assert time.monotonic() < deadline, "the receiver does not listen"
            time.sleep(0.05)
        else:
            return


@in_one_mode()
def test_a_documented_receiver_takes_what_is_genuine_and_nothing_else(
    receiver: tuple[str, Path], api: ApiClient, photo: bytes, secret: str
) -> None:
    url, output = receiver
    await_answer(url)
    job = api.run(photo, ["convert_png"], webhook_url=url)
    deadline = time.monotonic() + 20
    while not (found := api.http.get("/deliveries", params={"job": job["id"]}).json()["data"]) or (
        not found[0]["attempt_count"]
    ):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (delivery,) = found
    assert delivery["status"] == "delivered"
    assert f"job.completed {delivery['webhook_id']}" in output.read_text()

    forged = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(time.time())),
        "webhook-signature": "v1,AAAA v1,MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA=",
    }
    assert httpx.post(url, content=b'{"type":"forged"}', headers=forged, timeout=30).status_code == 401
    assert "forged" not in output.read_text()

    for age, status in ((0, 204), (400, 401), (-400, 401)):
        sent, body = int(time.time()) - age, json.dumps({"type": f"sent {age}"}).encode()
        signature = signing.sign([secret], message_id="msg_2", timestamp=sent, body=body)
        headers = {"webhook-id": "msg_2", "webhook-timestamp": str(sent), "webhook-signature": signature}
        assert httpx.post(url, content=body, headers=headers, timeout=30).status_code == status
        assert (f"sent {age}" in output.read_text()) == (status == 204)
