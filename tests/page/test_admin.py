"""What operators see, in a real browser."""

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.page.conftest import PATIENCE_MS, SAMPLE, Closed
from tests.support.deployment import Deployment

expect.set_options(timeout=PATIENCE_MS)


BROKEN = SAMPLE.read_bytes()[:60_000] + b"\xff\xd9"


@pytest.fixture
def furnished(served: Deployment) -> dict[str, Any]:
    """A job that failed, an upload that was refused, and an event that was not delivered."""
    with served.client() as api:
        assert api.process(b"no image", ["convert_webp"]).status_code == 415
        return api.run(BROKEN, ["convert_webp"], filename="broken.jpg", webhook_url="http://127.0.0.1:9/hooks")


def test_operators_see_what_failed_and_why(page: Page, served: Deployment, furnished: dict[str, Any]) -> None:
    page.goto(f"{served.url}/admin")
    expect(page.locator("#overall")).to_contain_text("All is well")
    expect(page.locator("#needs")).to_contain_text("database")
    for code in ("corrupt_image", "unsupported_image"):
        expect(page.locator("#failures").get_by_role("link", name=code)).to_be_visible()
    job = page.locator(f"[data-job='{furnished['id']}']")
    expect(job).to_contain_text(furnished["error"]["message"])
    job.get_by_role("button", name="broken.jpg").click()
    expect(page.get_by_role("group", name="Timeline of broken.jpg")).to_contain_text("convert_webp")
    with page.expect_response("**/deliveries/*/replay") as replayed:
        page.get_by_role("button", name="Replay job.failed").click()
    assert replayed.value.status == 202
    expect(page.locator("#toast")).to_have_text("The event will be sent again")
    found = Axe().run(page).response["violations"]
    assert [each["id"] for each in found if each["impact"] in {"serious", "critical"}] == []
    page.locator("#failures").get_by_role("link", name="corrupt_image").click()
    expect(page.locator("#corrupt_image")).to_be_in_viewport()
    found = Axe().run(page).response["violations"]
    assert [each["id"] for each in found if each["impact"] in {"serious", "critical"}] == []


def test_the_page_holds_no_data_without_a_key(tab: Page, closed: Closed) -> None:
    with closed.served.client(closed.of_client) as api:
        api.accepted(BROKEN, ["convert_webp"], filename="broken.jpg")
    tab.goto(f"{closed.served.url}/admin")
    expect(tab.get_by_label("Key", exact=True)).to_be_visible()
    assert "broken.jpg" not in tab.content()
    tab.get_by_label("Key", exact=True).fill(closed.of_operator)
    tab.get_by_role("button", name="Use this key").click()
    expect(tab.locator("#jobs")).to_contain_text("broken.jpg")
