"""PixTools behind nginx as docs/reverse-proxy.md sets it up: what clients send and get passes unchanged."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import make_photo
from tests.support.deployment import ROOT, ApiClient, Deployment, embedded, free_port

NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(NGINX is None, reason="no nginx on this machine: docs/reverse-proxy.md is NOT tested"),
]

AROUND = """
{user}
daemon off;
error_log stderr;
pid {folder}/nginx.pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {server}
}}
"""


def nginx_configuration(folder: Path, port: int, upstream: int) -> str:
    """The block of the page, without TLS and on other ports."""
    (server,) = re.findall(r"```nginx\n(.*?)```", (ROOT / "docs" / "reverse-proxy.md").read_text(), re.DOTALL)
    server = re.sub(r"\n *ssl_[^\n]*", "", server).replace("listen 443 ssl;", f"listen 127.0.0.1:{port};")
    assert "ssl" not in server
    server = server.replace("127.0.0.1:8000", f"127.0.0.1:{upstream}")
    user = "user root;" if os.getuid() == 0 else ""  # the folders of tests are their user's alone
    return AROUND.format(user=user, folder=folder, server=server)


@pytest.fixture(scope="module")
def public() -> str:
    """The address of the proxy; the server behind it knows it."""
    return f"http://127.0.0.1:{free_port()}"


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory, public: str) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("proxied")
    running = embedded(folder, PIXTOOLS_PUBLIC_URL=public)
    running.start()
    file = folder / "nginx.conf"
    file.write_text(nginx_configuration(folder, int(public.rpartition(":")[2]), running.port))
    with (folder / "nginx.log").open("wb") as log:
        nginx = subprocess.Popen([NGINX or "", "-p", str(folder), "-c", str(file), "-e", "stderr"], stderr=log)
    try:
        await_proxy(public, folder / "nginx.log")
        yield running
    finally:
        nginx.terminate()
        nginx.wait(10)
        running.stop()


def await_proxy(public: str, log: Path) -> None:
    deadline = time.monotonic() + 20
    while not _is_ready(public):
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def _is_ready(public: str) -> bool:
    try:
        return httpx.get(f"{public}/health/ready", timeout=30).is_success
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def proxied(deployment: Deployment, public: str) -> Iterator[ApiClient]:
    headers = {"Authorization": f"Bearer {deployment.new_key()}"}
    with httpx.Client(base_url=public, timeout=60, headers=headers) as http:
        yield ApiClient(http)


def test_a_client_of_the_proxy_is_not_a_local_one(deployment: Deployment, public: str) -> None:
    refused = httpx.get(f"{public}/jobs", timeout=30)
    assert (refused.status_code, refused.json()["code"]) == (401, "missing_key")


def test_uploads_of_megabytes_and_waiting_answers_pass(proxied: ApiClient, public: str) -> None:
    photo = make_photo(900, 700, format_="TIFF")
    assert len(photo) > 1_100_000, "more than nginx takes by default"
    answer = proxied.process(photo, ["convert_webp"], filename="photo.tif", headers={"Prefer": "wait=30"})
    assert (answer.status_code, answer.json()["status"]) == (200, "completed")
    (result,) = answer.json()["results"]
    assert result["url"].startswith(f"{public}/")
    assert proxied.download(result).content[:4] == b"RIFF"


def test_too_large_an_upload_gets_our_own_answer(proxied: ApiClient) -> None:
    refused = proxied.process(b"\0" * 50_500_000, ["convert_webp"])
    assert (refused.status_code, refused.json()["code"]) == (413, "upload_too_large")


def test_live_events_are_not_held_back(proxied: ApiClient) -> None:
    with proxied.http.stream("GET", "/events/stream") as stream:
        lines = stream.iter_lines()
        assert next(line for line in lines if line.startswith("id:"))
        job = proxied.accepted(make_photo(300, 200), ["convert_webp"])
        assert any(job["id"] in line for line in lines if line.startswith("data:"))  # after those of other tests
