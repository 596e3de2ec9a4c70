"""Hundreds of hostile requests and files against a running PixTools: no answer of 5xx, and no process lost."""

import json
import random
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.conftest import in_one_mode
from tests.hostile import bodies, forms, heads, images, queries
from tests.hostile.wire import Answered, Hostile, send
from tests.support.deployment import ApiClient, Deployment

pytestmark = pytest.mark.integration

SEED = 20261128
AT_ONCE = 8  # requests
LEAST = 543  # requests and files of all kinds
OURS = {"internal_error", "poison_input", "pixel_process_died", "step_timed_out", "workspace_failed"}
PICTURE = images.encoded("PNG")

KINDS: dict[str, Callable[[], Iterable[Hostile]]] = {
    "malformed forms": lambda: forms.malformed(PICTURE, SEED),
    "names of files": lambda: forms.names(PICTURE),
    "request lines": heads.lines,
    "headers": lambda: heads.headers(PICTURE),
    "ids": lambda: queries.ids(SEED),
    "filters": lambda: queries.filters(SEED),
    "keys and preferences": lambda: queries.keys(PICTURE),
    "JSON": bodies.json_bodies,
    "trees": lambda: bodies.trees(PICTURE, SEED),
    "damaged images": lambda: images.damaged(SEED),
    "odd files": images.odd,
}


@pytest.fixture
def _no_endpoints_left(api: ApiClient) -> Iterator[None]:
    """Some requests are accepted, and other tests count the deliveries of their jobs."""
    yield
    for endpoint in api.http.get("/webhooks").json()["data"]:
        assert api.http.delete(f"/webhooks/{endpoint['id']}").status_code == 204


def answers(deployment: Deployment, requests: Iterable[Hostile]) -> list[tuple[Hostile, Answered]]:
    """What each came to, with what never may be."""
    sent = list(requests)
    with ThreadPoolExecutor(AT_ONCE) as threads:
        came = list(threads.map(lambda one: send(deployment.url, one), sent))
    pairs = list(zip(sent, came, strict=True))
    assert sum(answer.status > 0 for answer in came) > len(came) * 0.8, "hardly any of them was answered"
    wrong = [(one.name, answer.raw[:600]) for one, answer in pairs if answer.status >= 500]
    assert wrong == []
    assert [process.args for process in deployment.processes if process.poll() is not None] == []
    assert httpx.get(f"{deployment.url}/health/live", timeout=10).status_code == 200
    return pairs


@in_one_mode()
@pytest.mark.usefixtures("_no_endpoints_left")
@pytest.mark.parametrize("share", [pytest.param(1, id="all", marks=pytest.mark.full), pytest.param(6, id="a sixth")])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_hostile_costs_an_error_of_ours_or_a_process(
    deployment: Deployment, api: ApiClient, kind: str, share: int
) -> None:
    requests = list(KINDS[kind]())
    chosen = random.Random(SEED).sample(requests, -(-len(requests) // share))
    accepted = [job for _, answer in answers(deployment, chosen) if (job := _job(answer))]
    for job in accepted:
        ended = api.ended(job)
        codes = {step["error"]["code"] for step in ended["steps"] if step["error"]}
        assert not codes & OURS, ended


@in_one_mode()  # in the cluster it is the store's own link
def test_links_of_results_are_as_robust(deployment: Deployment, api: ApiClient) -> None:
    [result] = api.run(PICTURE, ["convert_webp"])["results"]
    if deployment.mode == "embedded":
        assert result["url"].startswith(deployment.url)
        answers(deployment, queries.downloads(result["url"]))


def test_there_are_many_of_them_and_always_the_same() -> None:
    made = {kind: list(make()) for kind, make in KINDS.items()}
    assert sum(map(len, made.values())) >= LEAST
    assert {kind: list(make()) for kind, make in KINDS.items()} == made


def _job(answer: Answered) -> str | None:
    """The id of the job that came of an upload."""
    head, _, body = answer.raw.partition(b"\r\n\r\n")
    if answer.status not in {200, 202} or b"\r\nlocation: /jobs/" not in head.lower():
        return None
    job: str = json.loads(body)["id"]
    return job
