"""JSON that is none, or too much of it: bodies of requests, and operation trees."""

import gzip
import json
import random
from collections.abc import Iterator
from typing import Any

from tests.hostile.wire import Hostile, form, request, upload

ENDPOINT = "ep_" + "0" * 32
PLACES = [
    ("POST", "/webhooks"),
    ("PATCH", f"/webhooks/{ENDPOINT}"),
    ("POST", f"/webhooks/{ENDPOINT}/rotate"),
    ("POST", f"/webhooks/{ENDPOINT}/replay"),
]
NOT_JSON: dict[str, bytes] = {
    "nothing": b"",
    "unfinished": b'{"url": "',
    "half": b"{",
    "a mark": b'\xef\xbb\xbf{"url": "http://127.0.0.1:1/"}',
    "utf-16": '{"url": "x"}'.encode("utf-16"),
    "utf-32": '{"url": "x"}'.encode("utf-32"),
    "bytes": bytes(range(256)),
    "zeros": b"\0" * 1000,
    "deep": b"[" * 100_000,
    "deep objects": b'{"a":' * 50_000,
    "deep and whole": b"[" * 900 + b"]" * 900,
    "not a number": b'{"overlap_seconds": NaN}',
    "infinity": b'{"overlap_seconds": -Infinity}',
    "a huge number": b'{"overlap_seconds": 1e999}',
    "many digits": b'{"overlap_seconds": ' + b"9" * 6000 + b"}",
    "digits": b'{"overlap_seconds": ' + b"9" * 400 + b"}",
    "half a pair": b'{"url": "\\ud800", "\\udfff": 1}',
    "a null byte": b'{"description": "\\u0000", "url": "http://127.0.0.1:1/"}',
    "a key twice": b'{"url": "a", "url": "b"}',
    "many keys": b"{" + b",".join(b'"k%d":0' % number for number in range(5000)) + b"}",
    "equal keys": b"{" + b",".join(b'"k":0' for _ in range(5000)) + b"}",
    "a prototype": b'{"__proto__": {"x": 1}, "constructor": 1, "__class__": 2}',
    "packed": gzip.compress(b"[" * 1_000_000, mtime=0),
    "comments": b'{"url": 1 /* x */}',
    "text": b"url=http%3A%2F%2F127.0.0.1",
}
ADDRESSES = [
    *("", "x", "http://", "http:///a", "http://127.0.0.1:0/", "http://127.0.0.1:99999/", "http://[::1", "ftp://127.0.0.1/"),
    *("http://a@127.0.0.1/", "http://127.0.0.1/\n", "http://127.0.0.1/ a", "file:///etc/passwd", "javascript:1", "http://\x00/"),
    *("http://[::ffff:127.0.0.1]:x/", "http://127.0.0.1\\@127.0.0.2/", "http://127.0.0.1/" + "a" * 3000, "http://%31/"),
    *("gopher://127.0.0.1/", "http://127.0.0.1:1/\ud7ff", "http://[fe80::1%25lo]/", "http://xn--/", "HTTP:127.0.0.1"),
]  # fmt: skip
MOMENTS = [
    *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-02-30T00:00:00Z", "2026-01-01T24:00:00Z"),
    *(
        "2026-01-01T00:00:60Z",
        "2026-01-01",
        "now",
        "",
        "2026-01-01T00:00:00",
        "2026-01-01T00:00:00+99:99",
        0,
        -1e20,
        True,
    ),
    *("2026-01-01T00:00:00." + "9" * 500 + "Z", None, [], "٢٠٢٦-01-01T00:00:00Z"),
]
VALUES: list[Any] = [
    *(
        None,
        True,
        0,
        -1,
        1.5,
        1e308,
        2**63,
        10**50,
        "",
        "x",
        "\x00",
        "a" * 5000,
        "ü" * 99,
        [],
        [[]],
        {},
        {"op": "flip"},
    ),
    *(["flip"] * 40, "#ffffff", "../../etc/passwd", "\u202e", "%00", -0.0, 16385, "flip"),
]
TREES: dict[str, bytes] = {
    "nothing": b"",
    "null": b"null",
    "an object": b"{}",
    "a number": b"1",
    "text": b'"convert_webp"',
    "a name": b"convert_webp",
    "names": b"convert_webp,convert_avif",
    "nested": b"[[[[]]]]",
    "deep": b"[" * 60_000,
    "wide": json.dumps(["flip"] * 5000).encode(),
    "deep nodes": b'[{"op":"flip","then":' * 2000 + b"[]" + b"}]" * 2000,
    "equal keys": b'[{"op":"flip",' + b",".join(b'"k%d":0' % n for n in range(4000)) + b',"k0":1}]',
    "a mark": b'\xef\xbb\xbf["flip"]',
    "utf-16": '["flip"]'.encode("utf-16"),
    "not a number": b'[{"op":"resize","width":NaN}]',
    "many digits": b'[{"op":"resize","width":' + b"9" * 5000 + b"}]",
    "digits": b'[{"op":"resize","width":' + b"9" * 300 + b"}]",
    "half a pair": b'[{"op":"\\ud800"}]',
    "half a pair as a name": b'[{"op":"flip","as":"\\ud800"}]',
    "half a pair in a text": b'[{"op":"watermark","text":"\\ud800"}]',
    "a null byte": b'[{"op":"watermark","text":"a\\u0000b"}]',
    "a foreign key": b'[{"op":"flip","\\ud800":1}]',
    "a pointer": b'[{"op":"flip","a/b~c":1}]',
    "an asset": b'[{"op":"watermark","image":"../x"}]',
    "an asset that is away": b'[{"op":"watermark","image":"x"}]',
    "a font that is away": b'[{"op":"watermark","text":"x","font":"x"}]',
    "a font of an image": b'[{"op":"watermark","image":"x","font":"x"}]',
    "bytes": bytes(range(256)),
}
PARAMETERS = [
    *(("resize", "width"), ("resize", "focal_point"), ("crop", "left"), ("rotate", "angle"), ("blur", "sigma")),
    *(("watermark", "text"), ("watermark", "scale"), ("convert_webp", "quality"), ("convert_jpeg", "max_bytes")),
    *(("convert_avif", "min_ssim"), ("flip", "as"), ("flip", "keep"), ("flip", "then"), ("flip", "op"), ("denoise", "strength")),
]  # fmt: skip


def json_bodies() -> Iterator[Hostile]:
    """What is not JSON everywhere, and odd values where they belong."""
    for name, body in NOT_JSON.items():
        for method, place in PLACES:
            yield _sent(f"{name}, {method} {place[:16]}", method, place, body)
    for address in ADDRESSES:
        yield _sent(f"address {address[:30]!r}", "POST", "/webhooks", json.dumps({"url": address}).encode())
    for moment in MOMENTS:
        body = json.dumps({"since": moment, "until": moment}).encode()
        yield _sent(f"moment {moment!r:.30}", "POST", f"/webhooks/{ENDPOINT}/replay", body)
    for value in VALUES:
        body = json.dumps({"url": value, "events": value, "description": value, "enabled": value}).encode()
        yield _sent(f"value {value!r:.20}", "PATCH", f"/webhooks/{ENDPOINT}", body)


def _sent(name: str, method: str, place: str, body: bytes) -> Hostile:
    headers = [("Content-Type", "application/json")]
    return Hostile(name, request(method, place, [*headers, *([] if body else [("Content-Length", "0")])], body))


def trees(image: bytes, seed: int) -> Iterator[Hostile]:
    """Operations that are not trees, and odd values for parameters."""
    for name, text in TREES.items():
        yield Hostile(name, form(upload(image, text)))
    chance = random.Random(seed)
    for value in VALUES:
        for operation, parameter in chance.sample(PARAMETERS, 3):
            tree = [{"op": operation, "width": 9, parameter: value}]
            yield Hostile(f"{operation} {parameter} {value!r:.20}", form(upload(image, json.dumps(tree).encode())))
