"""Fetching from the web: what is taken, what ends a fetch, and that no forbidden address is ever asked."""

import gzip
import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from app.errors import PixToolsError, SourceBusy
from app.services.execution.web import Fetched, FetchLimits, WebClient
from app.services.sources import UrlSource
from app.services.webhooks.egress import SOURCES, Egress
from app.services.webhooks.host_limits import HostLimits
from tests.support.connecting import LoopbackOnly
from tests.support.receiver import (
    Behaviour,
    Receiver,
    answer,
    by_path,
    drip,
    drip_body,
    endless,
    flood,
    garble,
    hang,
    receiving,
    reset,
)
from tests.support.waiting import until

CONTENT = b"an image, for all that this knows"
LIMITS = FetchLimits(bytes=100_000, seconds=60, redirects=5)
SHORT = replace(LIMITS, seconds=1)  # for sites that never come to an end
PRIVATE = ["10.0.0.1", "169.254.169.254", "192.168.1.1", "[::1]", "[fd00::1]", "100.64.0.1", "0.0.0.0", "167772161"]


@pytest.fixture
def connector() -> Iterator[LoopbackOnly]:
    connector = LoopbackOnly()
    yield connector
    assert connector.strangers == []


@pytest.fixture
def client(connector: LoopbackOnly) -> WebClient:
    """May ask 127.0.0.1, as if that were on the web; nothing else of this machine."""
    allowed = (ip_network("127.0.0.1/32"),)
    egress = Egress(frozenset({80, 443}), allowed, purpose=SOURCES, connector=connector)
    return WebClient(egress=egress, host_limits=HostLimits(4, 16), limits=LIMITS)


Get = Callable[..., Fetched]


@pytest.fixture
def get(client: WebClient, tmp_path: Path) -> Get:
    def fetch(url: str, headers: Mapping[str, str] | None = None, *, by: WebClient = client) -> Fetched:
        source = UrlSource(url=url, headers=headers or {})
        return by.fetch(source, tmp_path / "input", lambda _share: None)

    return fetch


def moved(target: str, status: int = 302) -> Behaviour:
    return answer(status, location=target)


def code_of(get: Get, url: str) -> str:
    with pytest.raises(PixToolsError) as caught:
        get(url)
    return caught.value.code


def test_a_file_comes_with_its_digest_and_its_version(get: Get, tmp_path: Path) -> None:
    with receiving(answer(200, CONTENT, etag='"v1"')) as site:
        fetched = get(f"{site.origin}/a/1.jpg?token=x", {"X-Token": "secret"})
        assert fetched == Fetched(size=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest(), etag='"v1"')
        assert (tmp_path / "input").read_bytes() == CONTENT
        (request,) = site.requests
        assert request.path == "/a/1.jpg?token=x"
        assert request.headers["x-token"] == "secret"
        assert request.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("behaviour", "code", "retryable"),
    [
        (answer(404), "source_not_found", False),
        (answer(410), "source_not_found", False),
        (answer(401), "source_denied", False),
        (answer(403), "source_denied", False),
        (answer(204), "source_unusable", False),
        (answer(206, CONTENT), "source_unusable", False),
        (answer(400), "source_unusable", False),
        (answer(500), "source_unavailable", True),
        (answer(503), "source_unavailable", True),
        (answer(429), "source_unavailable", True),
        (reset, "source_unavailable", True),
        (garble, "source_unavailable", True),
        (hang, "source_unavailable", True),
        (drip, "source_unavailable", True),
        (drip_body, "source_unavailable", True),
        (flood, "upload_too_large", False),
        (endless, "upload_too_large", False),
        (answer(200, gzip.compress(CONTENT), content_encoding="gzip"), "source_unusable", False),
        (answer(200, CONTENT, content_encoding="br"), "source_unusable", False),
        (answer(302), "source_unusable", False),
        (answer(302, location="http://[::1/"), "invalid_source_url", False),
        (answer(302, location="ftp://127.0.0.1/"), "invalid_source_url", False),
        (answer(302, location="http://user:secret@127.0.0.1/"), "invalid_source_url", False),
        (answer(302, location="file:///etc/passwd"), "invalid_source_url", False),
    ],
)
def test_every_bad_answer_has_its_error(
    get: Get, client: WebClient, behaviour: Behaviour, code: str, retryable: bool
) -> None:
    limits = SHORT if behaviour in {hang, drip, drip_body} else LIMITS
    with receiving(behaviour) as site, pytest.raises(PixToolsError) as caught:
        get(f"{site.origin}/1.jpg", by=replace(client, limits=limits))
    assert (caught.value.code, caught.value.retryable) == (code, retryable)


def test_a_body_that_unfolds_is_never_unfolded(get: Get, client: WebClient) -> None:
    bomb = gzip.compress(bytes(50_000_000))
    larger = replace(client, limits=replace(LIMITS, bytes=200_000_000))
    with receiving(answer(200, bomb, content_encoding="gzip")) as site, pytest.raises(PixToolsError) as caught:
        get(site.url, by=larger)
    assert "gzip" in caught.value.message


def test_a_body_that_ends_early_is_no_file(get: Get) -> None:
    with receiving(answer(200, CONTENT[:5], content_length="33")) as site:
        assert code_of(get, site.url) == "source_unavailable"


def test_redirects_are_followed_and_count(get: Get) -> None:
    site: Receiver
    with receiving(answer(200, CONTENT)) as site:
        site.behave(*(moved(f"/{number}") for number in range(5)), answer(200, CONTENT))
        assert get(site.url).size == len(CONTENT)
        assert [request.path for request in site.requests] == ["/hook", "/0", "/1", "/2", "/3", "/4"]


def test_ten_thousand_redirects_end_after_five(get: Get) -> None:
    with receiving(moved("/again")) as site:
        site.behave(*[moved(f"/{number}") for number in range(10_000)])
        assert code_of(get, site.url) == "source_unusable"
        assert len(site.requests) == 6


@pytest.mark.parametrize("host", PRIVATE)
def test_no_redirect_leads_into_a_private_net(get: Get, host: str) -> None:
    with receiving(moved(f"http://{host}/latest/meta-data/")) as site:
        assert code_of(get, site.url) == "source_url_refused"


def test_a_redirect_to_another_port_of_a_public_host_is_refused(client: WebClient, get: Get) -> None:
    lying = replace(
        client, egress=replace(client.egress, resolve=lambda host, _: ["8.8.8.8"] if host == "a.test" else [host])
    )
    with receiving(moved("http://a.test:8080/")) as site, pytest.raises(PixToolsError) as caught:
        get(site.url, by=lying)
    assert caught.value.code == "source_url_refused"


def test_a_name_that_answers_differently_the_second_time_changes_nothing(
    client: WebClient, connector: LoopbackOnly, get: Get
) -> None:
    """Rebinding: the connection goes to the address that was checked."""
    answers = iter([["127.0.0.1"], ["10.0.0.1"]])
    asked = []

    def resolve(host: str, _port: int) -> list[str]:
        asked.append(host)
        return next(answers)

    rebinding = replace(client, egress=replace(client.egress, resolve=resolve))
    with receiving(answer(200, CONTENT)) as site:
        url = f"http://rebinding.test:{site.port}/1.jpg"
        assert get(url, by=rebinding).size == len(CONTENT)
        assert asked == ["rebinding.test"]
        with pytest.raises(PixToolsError) as caught:
            get(url, by=rebinding)
    assert caught.value.code == "source_url_refused"
    assert connector.asked == ["127.0.0.1"]


def test_a_name_with_one_private_address_among_others_is_refused(client: WebClient, get: Get) -> None:
    mixed = replace(client, egress=replace(client.egress, resolve=lambda *_: ["127.0.0.1", "10.0.0.1"]))
    with receiving(answer(200, CONTENT)) as site, pytest.raises(PixToolsError) as caught:
        get(f"http://mixed.test:{site.port}/", by=mixed)
    assert caught.value.code == "source_url_refused"


def test_headers_go_to_their_own_origin_only(client: WebClient, get: Get) -> None:
    both = replace(client, egress=replace(client.egress, resolve=lambda *_: ["127.0.0.1"]))
    headers = {"Authorization": "Bearer secret", "User-agent": "mine", "Accept": "image/png"}
    with receiving(answer(200, CONTENT)) as other, receiving(answer(200, CONTENT)) as site:
        site.behave(
            by_path({"/own": moved("/there"), "/there": answer(200, CONTENT), "/away": moved(f"{other.origin}/x")})
        )
        get(f"{site.origin}/own", headers, by=both)
        assert [request.headers.get("authorization") for request in site.requests] == ["Bearer secret"] * 2
        get(f"{site.origin}/away", headers, by=both)
        (request,) = other.requests
        assert "authorization" not in request.headers
        assert request.headers["accept"] != "image/png"


def test_what_is_not_wanted_any_more_ends_while_nothing_comes(client: WebClient, tmp_path: Path) -> None:
    class Unwanted(Exception):
        pass

    def look(_share: float | None) -> None:
        raise Unwanted

    with receiving(hang) as site, pytest.raises(Unwanted):
        client.fetch(UrlSource(url=site.url), tmp_path / "input", look)


def test_a_slow_host_holds_no_more_than_its_share(client: WebClient, tmp_path: Path) -> None:
    with receiving(hang) as site:
        patient = replace(client, host_limits=HostLimits(2, 8))
        busy: list[SourceBusy] = []

        def fetch(number: int) -> None:
            try:
                patient.fetch(UrlSource(url=site.url), tmp_path / str(number), lambda _: None)
            except SourceBusy as error:
                busy.append(error)
            except PixToolsError:
                pass

        threads = [threading.Thread(target=fetch, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        until(lambda: len(busy) == 6)
        assert len(site.await_requests(2)) == 2
        site.closing.set()
        for thread in threads:
            thread.join()
    assert all(error.waits and error.retry_after for error in busy), "they come again, and no attempt is counted"
