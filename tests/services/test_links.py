"""Signed download links of the API itself."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, unquote, urlsplit
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import wiring
from app.errors import InvalidDownloadLink
from app.models import Job, Result
from app.services.storage.links import ApiLinks

JOB_ID = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
LINKS = ApiLinks(b"secret", 3600)


def parts(links: ApiLinks, name: str = "hero", job_id: UUID = JOB_ID) -> tuple[str, str, int, str]:
    """Job, result, expiry and signature, as the download route reads them from a link."""
    url, _ = links.url(Job(id=job_id, base_url="http://pixtools.test/base"), Result(name=name))
    address = urlsplit(url)
    _, _, _, job, _, result = address.path.split("/")
    query = parse_qs(address.query)
    return unquote(job), unquote(result), int(query["expires"][0]), query["signature"][0]


def test_a_link_is_absolute_below_the_address_that_the_client_used() -> None:
    url, _ = LINKS.url(Job(id=JOB_ID, base_url="https://images.test/base"), Result(name="resize.convert_webp"))
    assert url.startswith(f"https://images.test/base/jobs/{JOB_ID}/results/resize.convert_webp?expires=")


def test_a_link_tells_when_it_expires() -> None:
    url, expires_at = LINKS.url(Job(id=JOB_ID, base_url=""), Result(name="hero"))
    assert expires_at.tzinfo is not None
    assert abs(expires_at - datetime.now(UTC) - timedelta(seconds=3600)) < timedelta(seconds=5)
    assert f"expires={int(expires_at.timestamp())}&" in url


def test_a_genuine_link_is_accepted() -> None:
    LINKS.check(*parts(LINKS))


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=64))
def test_links_to_results_of_any_name_are_accepted(name: str) -> None:
    job, result, expires, signature = parts(LINKS, name)
    assert result == name
    LINKS.check(job, result, expires, signature)


def test_a_link_that_is_over_is_refused() -> None:
    old = ApiLinks(b"secret", -2)
    with pytest.raises(InvalidDownloadLink):
        old.check(*parts(old))


def test_a_link_holds_until_its_last_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_800_000_000.5]
    monkeypatch.setattr("app.services.storage.links.time", SimpleNamespace(time=lambda: now[0]))
    links = ApiLinks(b"secret", 2)
    link = parts(links)
    now[0] = 1_800_000_002.0
    links.check(*link)
    now[0] += 0.1
    with pytest.raises(InvalidDownloadLink):
        links.check(*link)


@pytest.mark.parametrize("signature", ["", "0" * 64, "ä", "\ufffd", "x" * 10_000])
def test_an_invented_signature_is_refused(signature: str) -> None:
    with pytest.raises(InvalidDownloadLink):
        LINKS.check(str(JOB_ID), "hero", int(time.time()) + 60, signature)


def test_any_changed_part_is_refused() -> None:
    job, name, expires, signature = parts(LINKS)
    flipped = signature[:-1] + ("0" if signature[-1] != "0" else "1")
    for changed in (
        (str(UUID(int=1)), name, expires, signature),
        (job, "other", expires, signature),
        (job, name, expires + 1, signature),
        (job, name, expires, flipped),
        (job, name, expires, signature[:-1]),
        (job, name, expires, signature.upper()),
    ):
        with pytest.raises(InvalidDownloadLink):
            LINKS.check(*changed)


def test_a_link_of_another_secret_is_refused() -> None:
    with pytest.raises(InvalidDownloadLink):
        LINKS.check(*parts(ApiLinks(b"another", 3600)))


def test_of_several_processes_that_start_at_once_the_first_ones_key_stays(tmp_path: Path) -> None:
    path = tmp_path / "data" / wiring.KEY_FILE
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(wiring._create_secret, [path] * 8))  # none of them has seen another one's key
        key = path.read_bytes()
        list(threads.map(wiring._create_secret, [path] * 8))
    assert path.read_bytes() == key
    assert len(key) == 64
    assert path.stat().st_mode & 0o077 == 0
    assert [found.name for found in path.parent.iterdir()] == [wiring.KEY_FILE], "no draft is left"
