"""The TypeScript client in a real Chromium, on a page of the server's own origin."""

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from tests.processes.test_typescript_client import PAGE
from tests.support.deployment import Deployment
from tests.support.node import CLIENT, EXAMPLE

HTML = """<!doctype html>
<script type="importmap">{"imports": {"pixtools-client": "/client/lib/index.js"}}</script>
<input type="file">
<script type="module" src="/client/example.js"></script>"""


@pytest.fixture
def client(tab: Page, served: Deployment) -> Page:
    """A page with the browser's example of the documentation."""
    [example] = [text for text in re.findall(EXAMPLE, PAGE.read_text(), re.DOTALL) if "document." in text]

    def answer(route: Route) -> None:
        name = route.request.url.partition("/client/")[2]
        if name.startswith("lib/"):
            route.fulfill(path=CLIENT / name, content_type="text/javascript")
        elif name == "example.js":
            route.fulfill(body=example, content_type="text/javascript")
        else:
            route.fulfill(body=HTML, content_type="text/html")

    tab.route("**/client/**", answer)
    tab.goto(f"{served.url}/client/")
    return tab


def test_the_example_of_the_page_shows_a_result(client: Page, photographs: list[Path]) -> None:
    client.set_input_files("input", photographs[2])
    expect(client.locator("img")).to_have_js_property("naturalWidth", 192)
    assert client.locator("img").evaluate("image => image.src.startsWith('blob:')")


def in_page(client: Page, code: str) -> Any:
    """What an async function says that has the client's module as `pixtools` and a photograph as `blob`."""
    return client.evaluate(
        f"""async () => {{
            const pixtools = await import("pixtools-client");
            const canvas = new OffscreenCanvas(32, 20);
            canvas.getContext("2d").fillRect(4, 4, 9, 9);
            const blob = await canvas.convertToBlob();
            const client = new pixtools.Client();
            {code}
        }}"""
    )


def test_jobs_are_followed_listed_and_read(client: Page) -> None:
    seen = in_page(
        client,
        """
        const accepted = await client.submit(blob, [{ op: "resize", width: 16, then: ["convert_webp"] }],
                                             { filename: "a.png", tags: { where: "chromium" } });
        const states = [];
        for await (const { status } of client.follow(accepted)) states.push(status);
        const listed = [];
        for await (const job of client.jobs({ tag: "where:chromium" })) listed.push(job);
        const content = await client.read(listed[0].results[0]);
        const bitmap = await createImageBitmap(content);
        const live = [];
        for await (const event of client.liveEvents({ after: "0" })) { live.push(event.data.id); break; }
        return { states, same: listed[0].id === accepted.id, type: content.type, width: bitmap.width,
                 archive: (await client.readArchive(accepted.id)).size, live: live.length };
        """,
    )
    assert seen["states"][0] == "pending"
    assert seen["states"][-1] == "completed"
    assert (seen["same"], seen["type"], seen["width"], seen["live"]) == (True, "image/webp", 16, 1)
    assert seen["archive"] > 0


def test_streams_are_closed_when_they_are_left(client: Page) -> None:
    """A browser has six connections to a server: those of streams that were left would soon be all."""
    codes = in_page(
        client,
        """
        const job = await client.submit(blob, "convert_png");
        for (let turn = 0; turn < 12; turn += 1) for await (const _ of client.liveEvents({ after: "0" })) break;
        return (await client.wait(job)).status;
        """,
    )
    assert codes == "completed"


def test_errors_are_of_their_classes(client: Page) -> None:
    codes = in_page(
        client,
        """
        const attempts = [
          client.job("0198f3c2-0000-7000-8000-000000000000"),
          client.submit(blob, '[{"op": "resize", "width": -1}]'),
          client.submit("photo.jpg", "flip"),
          new pixtools.Client("http://127.0.0.1:9", { patienceSeconds: 0 }).job("1"),
        ];
        const settled = await Promise.allSettled(attempts);
        return settled.map(({ reason }) => [reason.name, reason.code]);
        """,
    )
    assert codes == [
        ["JobNotFound", "job_not_found"],
        ["Invalid", "invalid_parameter"],
        ["Refused", "refused"],
        ["ServerAway", "server_away"],
    ]


def test_a_page_without_tls_has_no_webcrypto_and_works_all_the_same(client: Page) -> None:
    size = in_page(
        client,
        """
        Object.defineProperty(crypto, "subtle", { value: undefined });
        const job = await client.run(blob, "convert_png");
        return (await client.read(job.results[0])).size - job.results[0].bytes;
        """,
    )
    assert size == 0
