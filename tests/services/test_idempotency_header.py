"""The header `Idempotency-Key`, and the fingerprint of what came with it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidIdempotencyKey
from app.services.idempotency import (
    fingerprint,
    key_of,
    parse_key,
)

# -- the header --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ('"8e03978e-40d5"', "8e03978e-40d5"),
        ("8e03978e-40d5", "8e03978e-40d5"),
        ("  8e03978e-40d5\t", "8e03978e-40d5"),
        ("a b", "a b"),
        ('"a b "', "a b "),
        (r'"a\"b\\c"', r'a"b\c'),
        (r"a\b", r"a\b"),
        ("a" * 255, "a" * 255),
        (f'"{"a" * 255}"', "a" * 255),
    ],
)
def test_a_key_may_be_quoted_or_bare(header: str, key: str) -> None:
    assert parse_key(header) == key


def test_a_request_has_one_key_or_none() -> None:
    assert key_of([]) is None
    assert key_of(['"a"']) == "a"
    with pytest.raises(InvalidIdempotencyKey):
        key_of(["a", "a"])


@pytest.mark.parametrize(
    "header",
    [
        *("", " ", '""', '"', '"open', 'open"', 'a"b', '"a"b"', r'"a\b"', '"a\\"', '"a"; b=1', '"a", "b"'),
        *("a\x00", "a\tb", '"a\tb"', "a\nb", "ä", '"ä"', "a" * 256, f'"{"a" * 256}"'),
    ],
)
def test_a_malformed_key_is_refused(header: str) -> None:
    with pytest.raises(InvalidIdempotencyKey):
        parse_key(header)


def test_a_key_that_is_too_long_is_refused_with_the_limit() -> None:
    with pytest.raises(InvalidIdempotencyKey) as refused:
        parse_key("a" * 300)
    assert (refused.value.limit, refused.value.value) == (255, 300)


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=255))
def test_every_printable_key_can_be_quoted(key: str) -> None:
    escaped = key.replace("\\", "\\\\").replace('"', '\\"')
    assert parse_key(f'"{escaped}"') == key


@given(st.text())
def test_any_header_is_a_key_or_refused(header: str) -> None:
    try:
        key = parse_key(header)
    except InvalidIdempotencyKey:
        return
    assert key is not None
    assert 1 <= len(key) <= 255
    assert key.isascii()
    assert key.isprintable()


# -- the fingerprint ---------------------------------------------------------------------------------------------------


def test_the_fingerprint_does_not_depend_on_the_order_of_members() -> None:
    one = fingerprint("ab", [{"op": "resize", "width": 1, "then": ["convert_png"]}], None)
    other = fingerprint("ab", [{"then": ["convert_png"], "width": 1, "op": "resize"}], None)
    assert one == other
    assert len(one) == 64


def test_the_fingerprint_depends_on_everything_that_was_sent() -> None:
    payloads: list[tuple[str, list[Any], str | None]] = [
        ("ab", ["convert_png"], None),
        ("cd", ["convert_png"], None),
        ("ab", ["convert_png", "convert_webp"], None),
        ("ab", ["convert_webp", "convert_png"], None),
        ("ab", [{"op": "convert_png"}], None),
        ("ab", ["convert_png"], "http://a.test"),
    ]
    assert len({fingerprint(*payload) for payload in payloads}) == len(payloads)
