"""`picture.html` of a set in a real browser: for every screen and width of a page, the file that was meant for it."""

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route

from tests.conftest import make_photo
from tests.page.conftest import PATIENCE_MS
from tests.support.deployment import Deployment

SITE = "http://page.test/"
VIEWPORTS = (80, 100, 160)  # CSS pixels
RATIOS = (1, 2, 3)
WIDTHS = sorted({width * ratio for width in VIEWPORTS for ratio in RATIOS})
#: each size and each ratio once with `make test`, all of them with `make test-full`
SCREENS = [
    pytest.param(*screen, marks=[] if screen in set(zip(VIEWPORTS, RATIOS, strict=True)) else pytest.mark.full)
    for screen in product(VIEWPORTS, RATIOS)
]
TYPES = {"avif": "image/avif", "webp": "image/webp", "jpg": "image/jpeg", "html": "text/html"}
AROUND = "<!doctype html><meta charset=utf-8><style>body {{ margin: 0 }} {style}</style>{picture}"
FLUID = "img { width: 100vw; height: auto }"  # as `sizes` says


def _files(served: Deployment, **params: Any) -> dict[str, bytes]:
    """The files of a set, by their names, out of the archive of its job."""
    with served.client() as api:
        job = api.run(make_photo(480, 270), [{"op": "web", "as": "hero", **params}])
        assert job["status"] == "completed", job
        with zipfile.ZipFile(io.BytesIO(api.http.get(job["links"]["archive"]).content)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def fluid(served: Deployment) -> dict[str, bytes]:
    return _files(served, widths=WIDTHS, formats=["avif", "webp", "jpeg"], alt="Red & <green>")


@pytest.fixture(scope="module")
def fixed(served: Deployment) -> dict[str, bytes]:
    return _files(served, width=100, dpr=list(RATIOS), formats=["webp", "jpeg"])


@contextmanager
def _shown(browser: Browser, files: dict[str, bytes], viewport: int, ratio: int, style: str) -> Iterator[Page]:
    """The picture on a page of that width, on a screen of that ratio, in the folder of its files."""
    picture = files["hero.picture.html"].decode()
    content = {"": AROUND.format(style=style, picture=picture).encode(), **files}

    def answer(route: Route) -> None:
        name = route.request.url.removeprefix(SITE)
        route.fulfill(body=content[name], content_type=TYPES[name.rpartition(".")[2] or "html"])

    context = browser.new_context(viewport={"width": viewport, "height": 500}, device_scale_factor=ratio)
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.route(f"{SITE}**", answer)
    page.goto(SITE)
    page.wait_for_function("document.images[0].complete && document.images[0].naturalWidth > 0")
    yield page
    context.close()


def _chosen(page: Page) -> str:
    chosen: str = page.evaluate("document.images[0].currentSrc")
    return chosen.removeprefix(SITE)


@pytest.mark.parametrize(("viewport", "ratio"), SCREENS)
def test_the_file_fits_the_screen(browser: Browser, fluid: dict[str, bytes], viewport: int, ratio: int) -> None:
    with _shown(browser, fluid, viewport, ratio, FLUID) as page:
        assert _chosen(page) == f"hero.{viewport * ratio}.avif"
        box = page.locator("img").bounding_box()
        assert box is not None
        assert box["width"] == viewport


@pytest.mark.parametrize("ratio", [1, pytest.param(2, marks=pytest.mark.full), 3])
def test_an_image_of_one_size_fits_the_ratio_of_the_screen(
    browser: Browser, fixed: dict[str, bytes], ratio: int
) -> None:
    with _shown(browser, fixed, VIEWPORTS[-1], ratio, "") as page:
        assert _chosen(page) == f"hero.{100 * ratio}.webp"
        assert page.evaluate("[document.images[0].width, document.images[0].height]") == [100, 56]


def test_what_was_sent_is_the_text_and_the_preview_lies_below(browser: Browser, fluid: dict[str, bytes]) -> None:
    with _shown(browser, fluid, VIEWPORTS[0], 1, FLUID) as page:
        assert page.get_by_alt_text("Red & <green>").count() == 1
        assert page.evaluate("getComputedStyle(document.images[0]).backgroundImage").startswith('url("data:image/webp')
        assert page.evaluate("document.querySelectorAll('picture > *').length") == 3
