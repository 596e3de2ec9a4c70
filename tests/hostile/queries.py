"""Odd ids, cursors, filters, keys, ranges and preferences."""

import base64
import random
import string
from collections.abc import Iterator
from urllib.parse import urlsplit

from tests.hostile.wire import Hostile, form, request, upload

ID = "0198f3c2-7d1e-7abc-8def-0123456789ab"
IDS = [
    *("x", "0", "-1", "%00", "a%00b", "%ff", "%F0%9F%98%80", "a" * 3000, "'%20OR%201=1--", "{}", "null", "..", "%2e%2e"),
    *(ID, "6fa459ea-ee8a-1ca4-894e-db77e160355e", ID.replace("-", ""), ID.upper(), f"urn:uuid:{ID}", f"%7B{ID}%7D"),
    *("00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"),
    *("ep_" + "0" * 32, "dlv_" + "0" * 32, "evt_" + "0" * 32, "ep_" + "g" * 32, "EP_" + "A" * 32, "ep_%0A" + "0" * 31),
]  # fmt: skip
PLACES = [
    *(("GET", "/jobs/{}"), ("DELETE", "/jobs/{}"), ("POST", "/jobs/{}/cancel"), ("POST", "/jobs/{}/retry")),
    *(("GET", "/jobs/{}/archive"), ("GET", "/jobs/{}/results/a?expires=1&signature=a"), ("GET", "/webhooks/{}")),
    *(("DELETE", "/webhooks/{}"), ("POST", "/webhooks/{}/test"), ("GET", "/webhooks/{}/replays")),
    *(("GET", "/deliveries/{}"), ("POST", "/deliveries/{}/replay")),
]
VALUES = [
    *("", "%00", "%ff", "%ED%A0%80", "a" * 5000, "1", "-1", "0", "1e9", "9" * 400, "9" * 5000, "NaN", "true", "null"),
    *("%2B5", "5.0", "1_0", "%D9%A1", "[]", "{}", "completed", "COMPLETED", "%F0%9F%98%80", "%0D%0Aa:%20b"),
]
PARAMETERS = [
    *("/jobs?limit=", "/jobs?cursor=", "/jobs?status=", "/events?after=", "/events?limit=", "/events?type="),
    *("/deliveries?cursor=", "/deliveries?endpoint=", "/deliveries?job=", "/jobs?x=", "/health/live?x="),
]
KEYS = [
    *("", '""', '"', '"a', "a" * 256, '"' + "a" * 300 + '"', "é", '"\\a"', '"\\"', "a b", " a ", "\ta", '"a"; b=c'),
    *('"a", "b"', ":YQ==:", "?1", "%00", "a\x7f", '"\\\\"', "'a'", "(a b)"),
]
PREFERENCES = [
    *("wait", "wait=", "wait=-1", "wait=0", "wait=1e3", "wait=99999999999999999999", 'wait="0"', "wait=0; foo", ","),
    *("respond-async, wait=0", "wait=0, wait=1", "WAIT=0", "a" * 9000, "wait=0" + ";x" * 3000, "wait=\xff"),
]
RANGES = [
    *("bytes=0-0", "bytes=-1", "bytes=-0", "bytes=9999999-", "bytes=5-1", "bytes=-", "bytes=a-b", "bytes=0-0,2-3"),
    *("bytes=0-" + "9" * 400, "lines=1-2", "bytes", "bytes=" + "0-0," * 300, "bytes= 0-1", "bytes=-" + "9" * 18),
]
SIGNATURES = [
    *("", "expires=1", "expires=x&signature=a", f"expires={'9' * 30}&signature=a", "expires=-1&signature=a"),
    *("expires=9999999999&signature=%00", "expires=9999999999&signature=%F0%9F%98%80", "signature=" + "a" * 200),
    *("expires=1&expires=2&signature=a", f"expires={'9' * 5000}&signature=a"),
]


def ids(seed: int) -> Iterator[Hostile]:
    """Every id at a few places."""
    chance = random.Random(seed)
    for id_ in IDS:
        for method, place in chance.sample(PLACES, 4):
            yield Hostile(f"{method} {place} {id_[:20]}", request(method, place.format(id_)))


def filters(seed: int) -> Iterator[Hostile]:
    """Every value for a few parameters, and cursors that are nearly some."""
    chance = random.Random(seed)
    for value in VALUES:
        for parameter in chance.sample(PARAMETERS, 4):
            yield Hostile(f"{parameter}{value[:20]}", request("GET", parameter + value))
    for number in range(30):
        raw = chance.randbytes(chance.choice([1, 15, 16, 17, 24, 40]))
        cursor = base64.urlsafe_b64encode(raw).decode().rstrip("=" if number % 2 else "")
        yield Hostile(f"cursor {number}", request("GET", f"/jobs?cursor={cursor}&status=completed"))
        text = "".join(chance.choices(string.printable.replace(" ", ""), k=20)).encode()
        yield Hostile(f"text {number}", request("GET", b"/deliveries?cursor=" + text.split()[0]))


def keys(image: bytes) -> Iterator[Hostile]:
    """Idempotency keys and preferences."""
    for key in KEYS:
        yield Hostile(f"key {key[:20]!r}", form(upload(image), ("Idempotency-Key", key)))
    yield Hostile("two keys", form(upload(image), ("Idempotency-Key", "a"), ("Idempotency-Key", "b")))
    for preference in PREFERENCES:
        yield Hostile(f"prefer {preference[:20]!r}", request("GET", "/events", [("Prefer", preference)]))


def downloads(url: str) -> Iterator[Hostile]:
    """Ranges and signatures of a result; S3's own links are not ours to attack."""
    parts = urlsplit(url)
    target = f"{parts.path}?{parts.query}"
    for wanted in RANGES:
        yield Hostile(f"range {wanted[:20]}", request("GET", target, [("Range", wanted)]))
    for tag in ('"', "*", "W/", '"x", ' * 2000, "\xff"):
        yield Hostile(f"tag {tag[:10]!r}", request("GET", target, [("If-None-Match", tag)]))
    for query in SIGNATURES:
        yield Hostile(f"signature {query[:30]}", request("GET", f"{parts.path}?{query}"))
