"""The page in a real browser: what a person does with it, and what it looks like to those who cannot see it."""

import json
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Route, expect

from tests.page.chromium import show
from tests.page.conftest import PATIENCE_MS, SAMPLE, Closed
from tests.support.deployment import JOB_TIMEOUT, Deployment

expect.set_options(timeout=PATIENCE_MS)


def add_operation(page: Page, place: str, name: str) -> None:
    """Click on a plus and choose an operation by typing its name."""
    page.get_by_role("button", name=place).last.click()
    page.get_by_label("Search operations").fill(name)
    page.keyboard.press("Enter")


def recipe_of(page: Page) -> Any:
    return json.loads(page.locator("#code-text").inner_text())


def await_recipe(page: Page, wanted: Any) -> None:
    """Wait until the page shows this recipe."""
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while (shown := recipe_of(page)) != wanted and time.monotonic() < deadline:
        page.wait_for_timeout(50)
    assert shown == wanted


def ended(page: Page, count: int) -> None:
    expect(page.locator(".row[data-state=completed]")).to_have_count(count, timeout=JOB_TIMEOUT * 1000)


def test_photographs_go_through_a_tree_and_survive_a_restart_and_a_reload(
    page: Page, served: Deployment, photographs: list[Path], tmp_path: Path
) -> None:
    page.get_by_role("button", name="Clear").first.click()
    add_operation(page, "Add an operation", "denoise")
    add_operation(page, "Continue after denoise", "webp")
    add_operation(page, "Add a branch", "resize")
    page.get_by_label("Width", exact=True).fill("160")
    add_operation(page, "Continue after resize", "avif")
    await_recipe(
        page,
        [
            {"op": "denoise", "strength": 1, "then": [{"op": "convert_webp", "quality": 80}]},
            {"op": "resize", "width": 160, "then": [{"op": "convert_avif", "quality": 65}]},
        ],
    )
    page.set_input_files("#files", photographs[:2])
    with served.client() as api:
        before = api.total_jobs()
        page.get_by_role("button", name="Run on 2 images").click()
        # Steps are shown while they run, with the share that the network has done
        expect(page.locator(".step[data-state=running] .step-state", has_text="%").first).to_be_visible()
        expect(page.locator(".card[data-state=running]").first).to_be_visible()
        served.kill()
        expect(page.locator("#away")).to_be_visible()
        served.start()
        page.reload()
        expect(page.locator("#away")).to_be_hidden()
        page.get_by_role("button", name="Cancel lake.jpg").click()  # the network takes seconds for it
        expect(page.locator(".row", has_text="lake.jpg")).to_have_attribute("data-state", "cancelled")
        ended(page, 1)
        assert api.total_jobs() - before == 2, "something was sent twice"

    row = page.locator(".row", has_text="mirrored.jpg")
    expect(row.locator("[data-result='resize.convert_avif']")).to_contain_text("160 \N{MULTIPLICATION SIGN} 107")
    expect(row.locator("[data-result='denoise.convert_webp'] .saved-text")).to_contain_text("%")
    with page.expect_download() as download:
        row.get_by_role("button", name="Download all results of mirrored.jpg as a ZIP").click()
    download.value.save_as(tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert len(archive.namelist()) == 2
    _compare(page, row.get_by_role("button", name="Compare denoise.convert_webp"))


def _compare(page: Page, opener: Any) -> None:
    """The divider follows keys and pointer, and one pixel of the image is many of the screen in the end."""
    opener.click()
    divider = page.get_by_role("slider", name="Divider")
    expect(divider).to_have_attribute("aria-valuenow", "50")
    divider.hover()  # once it stands still
    page.mouse.down()
    page.mouse.move(320, 300)
    page.mouse.up()
    expect(divider).to_have_attribute("aria-valuenow", "25")
    page.keyboard.press("Shift+ArrowRight")
    expect(divider).to_have_attribute("aria-valuenow", "35")
    # Both sides are there: the file itself, which came back after the reload, and the result
    for name in ("Before: Original", "After: denoise.convert_webp"):
        image = page.get_by_alt_text(name)
        expect(image).to_have_js_property("complete", value=True)
        expect(image).to_have_js_property("naturalWidth", 192)
    page.keyboard.press("1")
    expect(page.get_by_role("button", name="Show at 100 %")).to_have_text("100 %")
    for _ in range(4):
        page.keyboard.press("+")
    expect(page.get_by_alt_text("Before: Original")).to_have_class("pixels")
    page.keyboard.press("Escape")
    expect(divider).to_have_count(0)


OPENED = "dialog[open]"  # what lies below it takes no part
FOCUSED = """() => {
    const focused = document.activeElement;
    return focused === document.body ? "" : focused.getAttribute("aria-label") || focused.innerText || "";
}"""


def test_the_keyboard_is_enough(page: Page) -> None:
    def tab_to(name: str) -> None:
        for _ in range(60):
            if name in page.evaluate(FOCUSED):
                return
            page.keyboard.press("Tab")
        raise AssertionError(f"Tab does not reach {name!r}")

    tab_to("Clear")
    page.keyboard.press("Enter")
    tab_to("Add an operation")
    page.keyboard.press("Enter")
    page.keyboard.type("gray")
    page.keyboard.press("Enter")
    tab_to("Continue after grayscale")
    page.keyboard.press("Enter")
    page.keyboard.type("webp")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    await_recipe(page, [{"op": "grayscale", "then": [{"op": "convert_webp", "quality": 80}]}])
    page.keyboard.press("Shift+Tab")  # from the first setting to the head of its card
    tab_to("Try a sample photograph")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Run on 1 image")).to_be_focused()
    page.keyboard.press("Enter")
    ended(page, 1)
    tab_to("Compare grayscale.convert_webp")
    page.keyboard.press("Enter")
    divider = page.get_by_role("slider", name="Divider")
    expect(divider).to_be_focused()
    page.keyboard.press("End")
    expect(divider).to_have_attribute("aria-valuenow", "100")
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Compare grayscale.convert_webp")).to_be_focused()


def test_mistakes_are_told_at_their_place(page: Page, tmp_path: Path, photographs: list[Path]) -> None:
    page.locator(".card-head", has_text="Resize").click()
    page.get_by_label("Width", exact=True).fill("99999")
    page.set_input_files("#files", photographs[1])
    page.get_by_role("button", name="Run on 1 image").click()
    wrong = page.locator("[data-field=width]")
    expect(wrong.locator(".field-error")).to_contain_text("16384")
    expect(wrong.locator("input")).to_have_attribute("aria-invalid", "true")
    page.get_by_label("Width", exact=True).fill("100")
    expect(wrong.locator(".field-error")).to_be_hidden()
    text = tmp_path / "notes.txt"
    text.write_text("no picture")
    page.set_input_files("#files", text)
    page.get_by_role("button", name="Run on 2 images").click()
    refused = page.locator(".row", has_text="notes.txt")
    expect(refused.locator(".row-error")).to_contain_text("unsupported_image")
    ended(page, 1)
    # A step that fails is shown at the step, and in the tree
    page.get_by_role("button", name="Clear").first.click()
    add_operation(page, "Add an operation", "crop")
    page.get_by_label("Left").fill("5000")
    page.get_by_label("Top", exact=True).fill("5000")
    page.get_by_role("button", name="Run again").or_(page.get_by_role("button", name="Run on 2 images")).click()
    expect(page.locator(".row[data-state=failed] .step-error")).to_be_visible()
    expect(page.locator(".card.wrong .card-error")).to_be_visible()


def refused_while(page: Page, photograph: Path, meanwhile: Callable[[Locator], None]) -> Locator:
    """Run a recipe with a width that is too large, and do something before the answer comes; returns the field."""
    page.locator(".card-head", has_text="Resize").click()
    width = page.get_by_label("Width", exact=True)
    width.fill("99999")
    page.set_input_files("#files", photograph)
    held: list[Route] = []
    page.route("**/process", lambda route: held.append(route))  # noqa: PLW0108 - Playwright takes no builtin
    with page.expect_request("**/process"):
        page.get_by_role("button", name="Run on 1 image").click()
    meanwhile(width)
    held[0].continue_()
    return width


def test_who_edits_a_field_while_the_recipe_is_refused_goes_on(page: Page, photographs: list[Path]) -> None:
    width = refused_while(page, photographs[1], Locator.select_text)
    expect(page.locator("#toast")).to_have_text("The recipe was refused; the mistakes are marked.")
    expect(page.locator("[data-field=width] .field-error")).to_contain_text("16384")
    page.keyboard.type("100")
    expect(width).to_have_value("100")


def test_a_recipe_that_has_changed_since_is_not_marked(page: Page, photographs: list[Path]) -> None:
    width = refused_while(page, photographs[1], lambda width: width.fill("100"))
    expect(page.locator("#toast")).to_contain_text("16384")
    expect(page.locator("[data-field=width] .field-error")).to_be_hidden()
    expect(width).not_to_have_attribute("aria-invalid", "true")


def test_an_operation_that_is_new_appears_by_itself_and_that_of_exactly_the_name_comes_first(
    tab: Page, served: Deployment
) -> None:
    made_up = {
        "name": "sparkle",
        "description": "Add sparkles.",
        "queue": "default_queue",
        "output_format": None,
        "example": {"op": "sparkle", "amount": 3},
        "params": {
            "type": "object",
            "required": ["amount"],
            "properties": {
                "amount": {"type": "integer", "minimum": 0, "maximum": 10, "description": "How many."},
                "shape": {"enum": ["star", "dot"], "default": "star"},
                "tint": {"type": "string", "pattern": "^#[0-9a-f]{6}$", "default": "#ffffff"},
                "glow": {"type": "boolean", "default": False},
                "centre": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
                "deep": {"type": "object"},
            },
        },
    }
    known = tab.request.get(f"{served.url}/operations").json()
    known["operations"].append(made_up)
    tab.route("**/operations", lambda route: route.fulfill(json=known))
    show(tab, served)
    tab.get_by_role("button", name="Clear").first.click()
    add_operation(tab, "Add an operation", "sparkles")
    tab.get_by_label("Amount", exact=True).fill("7")
    tab.get_by_role("radio", name="Dot").check(force=True)
    tab.get_by_text("More settings").click()
    tab.get_by_label("Glow").check()
    tab.get_by_label("Tint", exact=True).fill("#ff0000")
    tab.get_by_label("Centre 1").fill("0.5")
    tab.get_by_label("Centre 2").fill("1")
    tab.get_by_label("Deep").fill('{"a": 1}')
    settings = {"amount": 7, "shape": "dot", "glow": True, "tint": "#ff0000", "centre": [0.5, 1], "deep": {"a": 1}}
    await_recipe(tab, [{"op": "sparkle", **settings}])
    tab.get_by_role("button", name="Clear").first.click()
    add_operation(tab, "Add an operation", "web")
    expect(tab.locator("#code-text")).to_contain_text('"web"')
    assert recipe_of(tab)[0]["op"] == "web"
    tab.get_by_role("button", name="Clear").first.click()
    add_operation(tab, "Add an operation", "webp")
    labels = tab.locator(".card .field-head").all_inner_texts()
    assert labels[:3] == ["Quality", "Max bytes", "Min SSIM"], "the main settings first"


def _with_paths(page: Page, served: Deployment, *paths: str, urls: bool = False) -> None:
    """Let the server's description say that it has more than it may have."""
    document = page.request.get(f"{served.url}/openapi.json").json()
    document["paths"] |= {path: document["paths"].get(path, {}) for path in paths}
    if urls:
        member = {"oneOf": [{"properties": {"url": {"pattern": "^https?://"}}}]}
        body = {"schema": {"properties": {"input": member}}}
        document["paths"]["/process"]["post"]["requestBody"]["content"]["application/json"] = body
    page.route("**/openapi.json", lambda route: route.fulfill(json=document))


def test_a_recipe_is_planned_while_it_is_edited(tab: Page, served: Deployment) -> None:
    asked: list[Any] = []

    def plan(route: Route) -> None:
        sent = route.request.post_data_json
        asked.append(sent)
        if sent["operations"][0].get("width") == 99999:
            mistake = {"pointer": "#/operations/0/width", "detail": "too wide"}
            route.fulfill(status=422, json={"code": "invalid_parameter", "detail": "no", "errors": [mistake]})
            return
        results = [{"name": "a", "step": "0.0", "format": "avif", "width": 1024, "height": 683, "bytes": 62_900}]
        route.fulfill(json={"results": results, "bytes": 62_900, "cpu_seconds": 0.25})

    _with_paths(tab, served, "/plan")
    tab.route("**/plan", plan)
    show(tab, served)
    expect(tab.locator("#plan")).to_contain_text("1 result, about 62.9 kB, 250 ms of CPU")
    expect(tab.locator(".card-summary").nth(1)).to_contain_text("≈ 62.9 kB")
    tab.get_by_role("button", name="Try a sample photograph").click()
    expect(tab.locator("#plan")).to_contain_text("sample.jpg")
    assert asked[-1]["input"]["facts"] == {
        "format": "jpeg",
        "width": 1024,
        "height": 683,
        "bytes": SAMPLE.stat().st_size,
    }
    tab.locator(".card-head", has_text="Resize").click()
    tab.get_by_label("Width", exact=True).fill("99999")
    expect(tab.locator("[data-field=width] .field-error")).to_have_text("too wide")
    expect(tab.get_by_label("Width", exact=True)).to_be_focused()
    expect(tab.locator("#plan")).to_be_hidden()


def test_events_are_followed_and_addresses_taken_where_the_server_has_them(tab: Page, served: Deployment) -> None:
    job = {
        "id": "0198f3c2-0000-7000-8000-000000000000",
        "status": "processing",
        "finished_at": None,
        "error": None,
        "created_at": "2026-11-29T12:00:00Z",
        "operations": ["denoise"],
        "results": [],
        "links": {},
        "input": dict.fromkeys(("format", "width", "height", "bytes", "sha256")) | {"filename": "photo.jpg"},
    }
    step = {"id": "0", "op": "denoise", "status": "running", "progress": 0.43, "seconds_left": 12, "seconds": None}
    running = job | {"steps": [step | {"error": None}]}
    ended = running | {"status": "completed", "finished_at": "2026-11-29T12:00:09Z"}
    sent: list[Any] = []
    shown = "".join(f"event: job\ndata: {json.dumps(each)}\n\n" for each in (running, ended))

    def accept(route: Route) -> None:
        sent.append((route.request.post_data_json, route.request.headers["idempotency-key"]))
        route.fulfill(status=202, json=running)

    def stream(route: Route) -> None:
        body = f": hello\n\nevent: log\nid: 1\ndata: {{}}\n\n{shown}"
        route.fulfill(content_type="text/event-stream", body=body)

    _with_paths(tab, served, "/jobs/{job_id}/events", urls=True)
    tab.route("**/process", accept)
    tab.route(f"**/jobs/{job['id']}/events", stream)
    tab.route(f"**/jobs/{job['id']}", lambda route: route.fulfill(json=running))  # nothing else shows the end
    show(tab, served)
    tab.get_by_label("Address of an image").fill("https://example.com/photos/photo.jpg")
    tab.get_by_role("button", name="Add from URL").click()
    tab.get_by_role("button", name="Run on 1 image").click()
    expect(tab.locator(".step-state")).to_have_text("43 %, 12 s left")
    expect(tab.locator(".row-status")).to_have_text("Done in 9.0 s")
    assert [body["input"] for body, _ in sent] == [{"url": "https://example.com/photos/photo.jpg"}]
    assert sent[0][1]


def test_history_shows_jobs_and_removes_them(page: Page, served: Deployment, photographs: list[Path]) -> None:
    page.set_input_files("#files", photographs[1])
    page.get_by_role("button", name="Run on 1 image").click()
    ended(page, 1)
    page.get_by_role("link", name="History").click()
    newest = page.locator("tr[data-job]").first
    expect(newest).to_contain_text("mirrored.jpg")
    job = newest.get_attribute("data-job")
    newest.get_by_role("button").click()
    expect(page.locator(".detail .results")).to_be_visible()
    page.get_by_role("button", name="Delete the job and its results").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.locator(f"tr[data-job='{job}']")).to_have_count(0)
    assert page.request.get(f"{served.url}/jobs/{job}").status in {404, 410}


def test_nothing_serious_is_in_the_way_of_anybody(
    browser: Browser, served: Deployment, photographs: list[Path]
) -> None:
    context = browser.new_context(color_scheme="light", reduced_motion="reduce")
    page = context.new_page()
    show(page, served)
    _check(page, "empty")
    page.set_input_files("#files", photographs[1])
    page.get_by_role("button", name="Run on 1 image").click()
    ended(page, 1)
    page.locator(".card-head", has_text="Resize").click()
    page.get_by_text("More settings").click()
    _check(page, "results")
    page.get_by_role("button", name="Add a branch").click()
    _check(page, "picker", OPENED)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="API key").click()
    _check(page, "key", OPENED)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Compare fallback").click()
    _check(page, "viewer", OPENED)
    page.keyboard.press("Escape")
    page.get_by_role("link", name="History").click()
    page.locator("tr[data-job]").first.get_by_role("button").click()
    _check(page, "history")
    context.close()


def _check(page: Page, where: str, part: str = "html") -> None:
    """Judge the page or a part by all of axe's rules, and again in dark colours, which change contrasts alone."""
    assert _serious(page, part) == [], where
    _colour(page, "dark")
    assert _serious(page, part, "color-contrast") == [], f"{where}, dark"
    _colour(page, "light")


def _colour(page: Page, scheme: Any) -> None:
    """Change the colour scheme, and wait until all colours have changed."""
    page.emulate_media(color_scheme=scheme)
    page.evaluate("Promise.allSettled(document.getAnimations().map((change) => change.finished))")


def _serious(page: Page, part: str, *rules: str) -> list[Any]:
    """What axe finds in a part of the page with all of its rules, or with some."""
    options = {"resultTypes": ["violations"], **({"runOnly": list(rules)} if rules else {})}
    found = Axe().run(page, part, options).response["violations"]
    return [
        (each["id"], [node["html"][:200] for node in each["nodes"][:3]])
        for each in found
        if each["impact"] in {"serious", "critical"}
    ]


def test_it_fits_a_phone(browser: Browser, served: Deployment, photographs: list[Path]) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 720}, has_touch=True, is_mobile=True)
    page = context.new_page()
    show(page, served)
    page.set_input_files("#files", photographs[1])
    page.get_by_role("button", name="Run on 1 image").tap()
    ended(page, 1)
    for view in ("#/", "#/jobs"):
        page.goto(f"{served.url}/{view}")
        page.wait_for_timeout(100)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.locator("tr[data-job]").first.get_by_role("button").tap()
    page.get_by_role("button", name="Compare fallback").tap()
    page.get_by_role("slider", name="Divider").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    context.close()


def test_a_key_is_asked_for_and_kept_in_the_tab_alone(
    context: BrowserContext, tab: Page, closed: Closed, photographs: list[Path]
) -> None:
    show(tab, closed.served)
    tab.set_input_files("#files", photographs[2])
    tab.get_by_role("button", name="Run on 1 image").click()
    expect(tab.get_by_label("Key", exact=True)).to_be_visible()
    tab.get_by_label("Key", exact=True).fill(closed.of_client)
    tab.get_by_role("button", name="Use this key").click()
    tab.get_by_role("button", name="Run on 1 image").click()
    ended(tab, 1)
    assert context.cookies() == []
    assert closed.of_client not in json.dumps(context.storage_state())  # which has what outlives the tab
    with tab.expect_download():
        tab.get_by_role("button", name="Download all results of upside-down.jpg as a ZIP").click()
    tab.reload()
    ended(tab, 1)
    other = context.new_page()
    show(other, closed.served)
    other.get_by_role("link", name="History").click()
    expect(other.get_by_label("Key", exact=True)).to_be_visible()
