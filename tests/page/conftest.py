"""A real Chromium, and PixTools as `make run` starts it, for the tests of the page."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image, ImageOps
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.page.chromium import launch, show
from tests.support.deployment import ROOT, Deployment, embedded

SAMPLE = ROOT / "app" / "static" / "page" / "sample.jpg"
PATIENCE_MS = 30_000


# Of this folder, not of the session: while Playwright runs, its event loop keeps other tests from having one
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = launch(playwright)
        yield chromium
        chromium.close()


@pytest.fixture(scope="package")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    # what a killed process had begun is soon begun again
    soon = {"PIXTOOLS_STEP_LEASE_SECONDS": "10", "PIXTOOLS_RECONCILE_SECONDS": "1"}
    # however many cores there are, the network takes long enough to be looked at, in many small tiles
    slowly = {"PIXTOOLS_DENOISE_THREADS": "1", "PIXTOOLS_DENOISE_MEMORY_BYTES": "60000000"}
    with embedded(tmp_path_factory.mktemp("page"), **soon, **slowly).running() as running:
        yield running


@dataclass(frozen=True)
class Closed:
    """A server that asks for keys, and keys for it."""

    served: Deployment
    of_operator: str
    of_client: str


@pytest.fixture(scope="package")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Closed]:
    """A server of its own: once there has been a key, the door stays closed."""
    with embedded(tmp_path_factory.mktemp("closed")).running() as running:
        of_operator = _new_key(running, None, "admin")
        yield Closed(running, of_operator, _new_key(running, of_operator, "jobs:read", "jobs:write"))


def _new_key(served: Deployment, key: str | None, *scopes: str) -> str:
    """An API key, made over HTTP: the server knows of it at once."""
    with served.client(key) as api:
        made = api.http.post("/keys", json={"scopes": list(scopes)})
        assert made.status_code == 201, made.text
        new: str = made.json()["key"]
        return new


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    # Frames of movements would be drawn without a graphics card
    made = browser.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True, reduced_motion="reduce")
    made.set_default_timeout(PATIENCE_MS)
    yield made
    made.close()


@pytest.fixture
def tab(context: BrowserContext) -> Iterator[Page]:
    """An empty page; a mistake in the scripts that it loads, or a breach of their policy, fails the test."""
    opened = context.new_page()
    mistakes: list[str] = []
    opened.on("pageerror", lambda error: mistakes.append(str(error)))
    opened.on("console", lambda message: mistakes.append(message.text) if "Content Security" in message.text else None)
    yield opened
    assert not mistakes


@pytest.fixture
def page(tab: Page, served: Deployment) -> Page:
    """The page, loaded."""
    show(tab, served)
    return tab


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three photographs, small enough to be quick; the first one has work for the network."""
    folder = tmp_path_factory.mktemp("photographs")
    with Image.open(SAMPLE) as sample:
        large, small = sample.resize((960, 640)), sample.resize((192, 128))
    made = []
    for name, image in (("lake", large), ("mirrored", ImageOps.mirror(small)), ("upside-down", ImageOps.flip(small))):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=92)
        path = folder / f"{name}.jpg"
        path.write_bytes(buffer.getvalue())
        made.append(path)
    return made
