"""Draw docs/images/page-*.webp: `python -m tests.page.pictures` (or `make pictures`) takes them in a real Chromium."""

import io
import tempfile
from pathlib import Path
from typing import Any

import httpx
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from tests.page.chromium import launch, show
from tests.support.deployment import ROOT, Deployment, embedded

IMAGES = ROOT / "docs" / "images"
SAMPLE = ROOT / "app" / "static" / "page" / "sample.jpg"
QUALITY = 82


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        served = embedded(Path(folder))
        served.start()
        try:
            _fail_some(served.url)
            chromium = launch(playwright)
            _desk(chromium, served)
            _admin(chromium, served)
            _phone(chromium, served)
            chromium.close()
        finally:
            served.stop()


def _fail_some(url: str) -> None:
    """What operators look at: uploads that were refused, and jobs that failed."""
    broken = SAMPLE.read_bytes()[:60_000] + b"\xff\xd9"
    for name, content in (("scan-0412.jpg", broken), ("notes.txt", b"no image")):
        sent = {"file": (name, content)}
        data = {"operations": '["convert_webp"]', "webhook_url": "http://127.0.0.1:9/hooks"}
        httpx.post(f"{url}/process", files=sent, data=data, headers={"Prefer": "wait=20"}, timeout=60)


def _open(chromium: Browser, served: Deployment, **options: Any) -> Page:
    page = chromium.new_context(**options).new_page()
    page.set_default_timeout(60_000)
    show(page, served)
    return page


def _run(page: Page) -> None:
    page.click("#sample")
    page.click("#run")
    page.wait_for_selector(".row[data-state=completed]")
    page.mouse.move(0, 0)


def _desk(chromium: Browser, served: Deployment) -> None:
    page = _open(chromium, served, viewport={"width": 1280, "height": 660}, color_scheme="light")
    _run(page)
    _take(page, "page")
    page.get_by_role("button", name="Compare fallback").click()
    page.wait_for_timeout(500)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Compare resize.convert_avif").click()
    page.wait_for_timeout(800)
    _take(page, "page-compare")


def _admin(chromium: Browser, served: Deployment) -> None:
    page = _open(chromium, served, viewport={"width": 1280, "height": 900}, color_scheme="dark")
    page.goto(f"{served.url}/admin")
    page.locator("#jobs .job-link").first.click()
    page.wait_for_selector(".waterfall")
    _take(page, "page-admin")


def _phone(chromium: Browser, served: Deployment) -> None:
    page = _open(chromium, served, viewport={"width": 390, "height": 760}, color_scheme="dark", is_mobile=True)
    _run(page)
    _take(page, "page-phone")


def _take(page: Page, name: str) -> None:
    with Image.open(io.BytesIO(page.screenshot())) as taken:
        taken.save(IMAGES / f"{name}.webp", quality=QUALITY, method=6)


if __name__ == "__main__":
    main()
