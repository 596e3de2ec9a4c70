"""File names of uploads, in every notation that clients use, and of results."""

import codecs
import hashlib
import re
import unicodedata
from email.errors import HeaderParseError
from email.header import decode_header
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

from multipart import MultipartSegment, parse_content_disposition

from app.errors import InvalidFilename

MAX_FILENAME = 255  # characters for an upload, bytes for a result: the limit of file systems
MAX_STEM = 100  # characters of the upload's name in a result's file name
LONGEST_SUFFIX = 42  # bytes of the suffix that distinguishes the files of a set, with the dot before it
FALLBACK = "image"  # name of an upload whose own name has no usable character
HEADER_CHARSET = "latin-1"  # keeps every byte of a part's headers as it is
CHARSETS = ("utf-8", "iso8859-1", "cp1252", "ascii")
FORBIDDEN_IN_FILENAME = re.compile(r"[/\\\x00-\x1f\x7f]")
UNSAFE_IN_STEM = re.compile(r"[^\w.-]+")
QUOTED = re.compile(r'"(?:\\.|[^\\"])*"')
BARE_FOREIGN = re.compile(r"; *filename *=[^;]*[^\x00-\x7f]", re.IGNORECASE)  # quoted parts are removed beforehand
EXTENDED = re.compile(r"; *filename\* *= *([^;]*)", re.IGNORECASE)
ENCODED_WORDS = re.compile(r"\s*(?:=\?[\w*-]+\?[bq]\?[^?\s]*\?=\s*)+", re.IGNORECASE)


def names_of(part: MultipartSegment) -> tuple[str, str | None]:
    """The name of a form's part, and the name of its file if it has one.

    Supported are UTF-8 and Latin-1 in quotes, encoded words (RFC 2047), and `filename*` (RFC 8187), which takes
    precedence.

    Raises:
        InvalidFilename: the notation or the character set of the name is not supported.
    """
    header = _decoded(part.header("Content-Disposition") or "")
    _, name, filename = parse_content_disposition(header)
    unquoted = QUOTED.sub('""', header)
    extended = EXTENDED.search(unquoted)
    if extended:
        filename = _extended(extended[1].strip())
    elif BARE_FOREIGN.search(unquoted):
        raise _refused("The file name has letters beyond ASCII and no quotes; put it in double quotes.") from None
    elif filename and ENCODED_WORDS.fullmatch(filename):
        filename = _from_words(filename)
    return name or "", filename


def _decoded(header: str) -> str:
    """Decode a header, from UTF-8 or the encoding of old clients."""
    raw = header.encode(HEADER_CHARSET)
    for charset in ("utf-8", "cp1252"):
        try:
            return raw.decode(charset)
        except UnicodeDecodeError:
            continue
    raise _refused("The file name is neither UTF-8 nor Latin-1; send it as UTF-8.") from None


def _extended(value: str) -> str:
    """Decode an extended value, e.g. `UTF-8'en'na%C3%AFve.png`."""
    charset, *rest = value.strip('"').split("'", 2)
    if len(rest) != 2:
        raise _refused(
            "`filename*` must be written as UTF-8''name, with % and two hex digits for other bytes (RFC 8187)."
        ) from None
    return _in_charset(unquote_to_bytes(rest[1]), charset)


def _from_words(value: str) -> str:
    """Decode encoded words, e.g. `=?utf-8?B?…?=`."""
    try:
        return "".join(_in_charset(raw, charset or "ascii") for raw, charset in decode_header(value))
    except (HeaderParseError, ValueError):
        raise _refused(
            "The file name looks like an encoded word (RFC 2047) and cannot be decoded; send it as UTF-8."
        ) from None


def _in_charset(raw: bytes | str, charset: str) -> str:
    if isinstance(raw, str):
        return raw
    try:
        known = codecs.lookup(charset).name
    except (LookupError, ValueError):
        known = ""
    if known not in CHARSETS:
        raise _refused(f"The file name's character set {charset[:64]!r} is not known here; send it as UTF-8.") from None
    try:
        return raw.decode(known)
    except UnicodeDecodeError:
        raise _refused(
            f"The file name is not in the character set {charset[:64]!r} that it names; send it as UTF-8."
        ) from None


def _refused(detail: str) -> InvalidFilename:
    return InvalidFilename(detail, pointer="#/file")


def check_filename(filename: str | None) -> str:
    """Refuse invalid file names. Nothing is ever stored under a client's file name."""
    if not filename:
        raise _refused("The part `file` needs a file name.") from None
    if len(filename) > MAX_FILENAME:
        detail = f"The file name has {len(filename)} characters; the limit is {MAX_FILENAME}."
        raise InvalidFilename(detail, pointer="#/file", limit=MAX_FILENAME, value=len(filename))
    if FORBIDDEN_IN_FILENAME.search(filename) or filename in {".", ".."}:
        detail = "The file name must not be a path or contain control characters."
        raise InvalidFilename(detail, pointer="#/file", value=filename[:64])
    return filename


def usable_filename(name: str) -> str:
    """Change a file name, e.g. from a URL, so that `check_filename` accepts it."""
    plain = FORBIDDEN_IN_FILENAME.sub("-", name)[:MAX_FILENAME]
    return FALLBACK if plain in {"", ".", ".."} else plain


def result_filename(upload: str, result: str, extension: str) -> str:
    """The file name of a result, within the length limit of file systems, which is in bytes.

    Only the part from the upload's name is shortened, so that the names of a job's results stay different.
    """
    own = f"-{_fitting(result, MAX_FILENAME - len(FALLBACK) - len(f'-.{extension}'))}.{extension}"
    stem = safe_stem(upload).encode()[: MAX_FILENAME - len(own.encode())].decode(errors="ignore")
    return f"{stem.rstrip('-.') or FALLBACK}{own}"


def base_name(result: str) -> str:
    """The common prefix of the names of a set's files, which refer to each other: the name of the result.

    It does not contain the upload's name, so that the files have the same names in archives, folders and stores.
    """
    return _fitting(result, MAX_FILENAME - LONGEST_SUFFIX)


def _fitting(result: str, room: int) -> str:
    """The name of a result; if it is too long, as in a very deep tree, it is cut and ends with a digest."""
    if len(result) <= room:
        return result
    digest = hashlib.sha256(result.encode()).hexdigest()[:8]
    return f"{result[: room - len(digest) - 1]}-{digest}"


def safe_stem(filename: str) -> str:
    """The file name without its extension, safe for any file system and header; letters of all scripts are kept."""
    stem = Path(unicodedata.normalize("NFC", filename)).stem
    return UNSAFE_IN_STEM.sub("-", stem)[:MAX_STEM].strip("-.") or FALLBACK


def content_disposition(filename: str) -> str:
    """A `Content-Disposition` header: `attachment` with a file name in any script (RFC 6266)."""
    ascii_name = filename.encode("ascii", "replace").decode().replace("?", "_").replace('"', "_")
    encoded = quote(filename, safe="")
    return f"attachment; filename=\"{ascii_name}\"; filename*=UTF-8''{encoded}"
