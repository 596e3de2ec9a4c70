"""What clients call an upload, in every notation, and what its results are called."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multipart import MultipartSegment

from app.errors import InvalidFilename
from app.services.storage.filenames import check_filename, names_of, result_filename, safe_stem


@pytest.mark.parametrize("filename", ["a.jpg", "a", ".hidden", "a..b", "…", "Räder am Fluß.jpg", "日本.png", "a" * 255])
def test_usable_file_names(filename: str) -> None:
    assert check_filename(filename) == filename


@pytest.mark.parametrize(
    "filename", ["", None, ".", "..", "a/b", "/etc/passwd", "a\\b", "a\x00b", "a\nb", "\x7f", "a" * 256]
)
def test_file_names_that_no_file_has(filename: str | None) -> None:
    with pytest.raises(InvalidFilename) as error:
        check_filename(filename)
    assert error.value.pointer == "#/file"


def test_a_file_name_that_is_too_long_is_refused_with_the_limit() -> None:
    with pytest.raises(InvalidFilename) as error:
        check_filename("a" * 300)
    assert (error.value.limit, error.value.value) == (255, 300)


@pytest.mark.parametrize(
    ("filename", "stem"),
    [
        ("photo.jpg", "photo"),
        ("photo", "photo"),
        ("archive.tar.gz", "archive.tar"),
        ("Räder am Fluß.jpg", "Räder-am-Fluß"),
        ("Ra\u0308der.jpg", "Räder"),
        ("日本 旅行.png", "日本-旅行"),
        ('a"b;c\r\nd.jpg', "a-b-c-d"),
        ("...", "image"),
        ("?!.jpg", "image"),
        ("-a-.jpg", "a"),
        ("x" * 200 + ".jpg", "x" * 100),
    ],
)
def test_stems_are_fit_for_file_systems_and_headers(filename: str, stem: str) -> None:
    assert safe_stem(filename) == stem


@given(st.text(min_size=1, max_size=300))
def test_any_name_gives_a_stem_without_anything_unsafe(filename: str) -> None:
    stem = safe_stem(filename)
    assert 1 <= len(stem) <= 100
    assert not set(stem) & set("/\\\0\r\n\"';:*?<>| ")
    assert not stem.startswith((".", "-"))
    assert stem.isprintable()


@pytest.mark.parametrize("upload", ["界" * 80 + ".jpg", "a" * 200 + ".png", "x.png"])
@pytest.mark.parametrize("result", ["hero", "resize." * 30 + "convert_webp", "a" * 64])
def test_names_of_results_fit_into_a_file_system(tmp_path: Path, upload: str, result: str) -> None:
    name = result_filename(upload, result, "webp")
    assert len(name.encode()) <= 255
    assert name.endswith(".webp")
    (tmp_path / name).touch()


@given(st.text(min_size=1, max_size=300), st.lists(st.sampled_from(["a", "b", "resize.convert_webp"]), unique=True))
def test_results_of_one_upload_have_different_file_names(upload: str, results: list[str]) -> None:
    assert len({result_filename(upload, result, "webp") for result in results}) == len(results)


def test_a_name_of_many_bytes_leaves_the_results_names_whole() -> None:
    names = [result_filename("漢" * 100 + ".jpg", name, "webp") for name in ("hero", "resize.convert_webp")]
    assert [name.rsplit("-", 1)[1] for name in names] == ["hero.webp", "resize.convert_webp.webp"]
    assert all(name.startswith("漢漢漢") and len(name.encode()) > 200 for name in names)


def test_the_paths_of_the_deepest_trees_stay_different() -> None:
    paths = [".".join(["convert_webp"] * 31 + [last]) for last in ("convert_webp", "convert_avif")]
    names = {result_filename("漢" * 100 + ".jpg", path, "webp") for path in paths}
    assert len(names) == 2
    assert all(len(name.encode()) <= 255 for name in names)


# -- notations in the header of a part ---------------------------------------------------------------------------------


def named(rest: bytes) -> tuple[str, str | None]:
    header = b'form-data; name="file"; ' + rest
    return names_of(MultipartSegment([("Content-Disposition", header.decode("latin-1"))]))


@pytest.mark.parametrize(
    "rest",
    [
        'filename="été.png"'.encode(),
        'filename="été.png"'.encode("latin-1"),
        b"filename*=utf-8''%C3%A9t%C3%A9.png",
        b"filename*=UTF-8'fr'%C3%A9t%C3%A9.png",
        b"filename*=iso-8859-1''%E9t%E9.png",
        b"filename=\"other.png\"; filename*=utf-8''%C3%A9t%C3%A9.png",
        b"filename=\"=?utf-8?B?w6l0w6kucG5n?=\"; filename*=utf-8''%C3%A9t%C3%A9.png",
        b'filename="=?utf-8?B?w6l0w6kucG5n?="',
        b'filename="=?iso-8859-1?Q?=E9t=E9.png?="',
        b'filename="=?utf-8?Q?=C3=A9t?= =?utf-8?Q?=C3=A9.png?="',
    ],
)
def test_file_names_are_read_in_every_notation(rest: bytes) -> None:
    assert named(rest) == ("file", "été.png")


@pytest.mark.parametrize(
    ("rest", "filename"),
    [
        (b"filename=\"a; filename*=UTF-8''b.png\"", "a; filename*=UTF-8''b.png"),
        (b'filename="a=?b?=.png"', "a=?b?=.png"),
        (b"filename=plain.png", "plain.png"),
        (b'filename="a%22b.png"', 'a"b.png'),
        ('filename="日本.png"'.encode(), "日本.png"),
        (b"", None),
    ],
)
def test_what_only_looks_like_a_notation_stays(rest: bytes, filename: str | None) -> None:
    assert named(rest) == ("file", filename)


@pytest.mark.parametrize(
    ("rest", "reason"),
    [
        (b'filename="\x81\x8d.png"', "neither UTF-8 nor Latin-1"),
        (b"filename*=%C3%A9.png", "RFC 8187"),
        (b"filename*=klingon''%C3%A9.png", "'klingon' is not known"),
        (b"filename*=base64''%C3%A9.png", "'base64' is not known"),
        (b"filename*=utf-8''%E9.png", "not in the character set 'utf-8'"),
        (b'filename="=?utf-8?B?6Q==?="', "not in the character set 'utf-8'"),
        (b'filename="=?klingon?Q?a?="', "'klingon' is not known"),
        ("filename=voilà".encode(), "in double quotes"),
    ],
)
def test_a_file_name_that_cannot_be_read_is_refused_with_the_reason(rest: bytes, reason: str) -> None:
    with pytest.raises(InvalidFilename, match=reason) as error:
        named(rest)
    assert error.value.pointer == "#/file"
