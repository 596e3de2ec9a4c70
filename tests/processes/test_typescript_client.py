"""The TypeScript client in Node: its page of documentation, and its own tests against a running server."""

import inspect
import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pixtools_client import AsyncClient, errors

from tests.conftest import make_photo
from tests.processes.test_client import signed
from tests.support.deployment import ROOT, Deployment, embedded, free_port
from tests.support.node import CLIENT, EXAMPLE, environment, installed, node
from tests.support.receiver import answer, hang, receiving
from tests.support.waiting import until

pytestmark = pytest.mark.integration

PAGE = ROOT / "docs" / "client-typescript.md"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with embedded(tmp_path_factory.mktemp("client")).running() as deployment:
        yield deployment


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a program runs: with photographs, and the client."""
    for name, width, height in (("photo", 320, 200), ("second", 300, 200), ("large", 1500, 1000)):
        (tmp_path / f"{name}.jpg").write_bytes(make_photo(width, height))
    return installed(tmp_path)


def examples() -> list[str]:
    return re.findall(EXAMPLE, PAGE.read_text(), re.DOTALL)


def test_every_example_of_the_page_runs(server: Deployment, folder: Path) -> None:
    assert len(examples()) >= 10
    run = [text for text in examples() if "document." not in text and "receiver" not in text]
    assert len(run) == len(examples()) - 2, "the page in a browser and the receiver have tests of their own"
    with receiving(answer(200, make_photo(320, 200))) as site:
        for number, text in enumerate(run):
            (folder / f"{number}.mjs").write_text(text.replace("https://images.example", site.origin))
        every = "\n".join(f'await import("./{number}.mjs");' for number in range(len(run)))
        (folder / "all.mjs").write_text(every)
        said = node("all.mjs", cwd=folder, PIXTOOLS_URL=server.url)
    for expected in (
        "small 320 x 200",
        "small webp 320 x 200",
        "shop@1 hero 100 x 6",
        "#/operations/0/width #/operations/1/op",
        "order-1234",
        "results/photo-convert_png-2.png",
        "invalid_parameter #/operations/0/width",
        "completed 1 of 1",
        "[ 'completed', 'completed' ]",
    ):
        assert expected in said
    assert (folder / "results" / "photo-convert_png.png").read_bytes() == b"mine"


def test_the_receiver_of_the_page_takes_what_is_genuine(folder: Path) -> None:
    [example] = [text for text in examples() if "receiver" in text]
    body, port = json.dumps({"type": "job.completed", "data": {"id": "7"}}).encode(), free_port()
    secret, headers = signed(body, int(time.time()))
    (folder / "hook.mjs").write_text(
        example.replace("8080", str(port)) + 'receiver.on("listening", () => console.log());'
    )
    own = environment(WEBHOOK_SECRET=secret)
    with (
        subprocess.Popen(["node", "hook.mjs"], cwd=folder, env=own, stdout=subprocess.PIPE, text=True) as receiver,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http,
    ):
        try:
            assert receiver.stdout
            assert receiver.stdout.readline() == "\n"
            _, old = signed(body, int(time.time()) - 400)
            for sent, text in ((old, body), (headers, body + b" "), ({}, body), ({**headers, "webhook-id": "2"}, body)):
                assert http.post("/", headers=sent, content=text).status_code == 401
            assert http.post("/", headers=headers, content=body).status_code == 204
            assert receiver.stdout.readline() == "job.completed 7\n"
        finally:
            receiver.kill()


@pytest.mark.parametrize("file", sorted(each.name for each in (CLIENT / "tests").glob("*.test.js")))
def test_its_own_tests_pass(file: str, server: Deployment, folder: Path) -> None:
    said = node("--test", "--test-reporter=tap", CLIENT / "tests" / file, cwd=folder, PIXTOOLS_URL=server.url)
    [passed] = re.findall(r"^# pass (\d+)$", said, re.MULTILINE)
    assert int(passed) > 10


FOLLOW = """
import { Client } from "pixtools-client/node";
const client = new Client(undefined, { patienceSeconds: 60 });
for await (const { status } of client.follow(await client.submit(process.env.SOURCE, ["flip"]))) {
  console.log(status);
}
"""


def test_a_job_is_followed_over_a_restart(server: Deployment, folder: Path) -> None:
    (folder / "follow.mjs").write_text(FOLLOW)
    with receiving(hang, answer(200, make_photo(320, 200))) as site:
        own = environment(PIXTOOLS_URL=server.url, SOURCE=f"{site.origin}/a.jpg")
        with subprocess.Popen(
            ["node", "follow.mjs"], cwd=folder, env=own, stdout=subprocess.PIPE, text=True
        ) as following:
            site.await_requests(1)
            until(lambda: 'pixtools_listeners{kind="job"} 1.0' in httpx.get(f"{server.url}/metrics", timeout=30).text)
            server.kill()
            server.start()
            said, _ = following.communicate(timeout=120)
    assert said.split()[-1] == "completed"


SHOW = """
import { BY_CODE, BY_STATUS } from "CLIENT/lib/errors.js";
import { Client } from "CLIENT/lib/node.js";
const names = (kinds) => Object.fromEntries(Object.entries(kinds).map(([key, kind]) => [key, kind.name]));
const methods = [Client, Object.getPrototypeOf(Client)].flatMap((kind) => Object.getOwnPropertyNames(kind.prototype));
console.log(JSON.stringify({ codes: names(BY_CODE), statuses: names(BY_STATUS), methods }));
"""


def test_it_has_what_the_client_for_python_has(folder: Path) -> None:
    (folder / "show.mjs").write_text(SHOW.replace("CLIENT", str(CLIENT)))
    shown = json.loads(node("show.mjs", cwd=folder))
    assert shown["codes"] == {code: kind.__name__ for code, kind in errors.BY_CODE.items()}
    assert shown["statuses"] == {str(status): kind.__name__ for status, kind in errors.BY_STATUS.items()}
    public = [name for name, _ in inspect.getmembers(AsyncClient, inspect.isfunction) if not name.startswith("_")]
    named = {re.sub("_(.)", lambda found: found[1].upper(), name) for name in public} - {"aclose"}
    assert named - set(shown["methods"]) == set()
