"""The default server and the default API key, from the environment."""

import os
import re
from pathlib import Path

from pixtools_client.errors import Refused

MAX_KEY = 4096  # characters that are read of a key's file
OTHERS = 0o077
PORT = 8000
LINE = re.compile(r"\s*(?:export\s+)?(PIXTOOLS_(?:URL|PORT))\s*=\s*[\"']?([^\s\"'#]+)")


LOOPBACK = re.compile(r"(localhost|127(\.\d+){3}|\[::1\])(:\d+)?(/.*)?", re.IGNORECASE)


def key_of_environment() -> str | None:
    """The API key: `PIXTOOLS_KEY`, or else the content of a file, which only its owner may be able to read.

    The file is `PIXTOOLS_KEY_FILE`, or by default `~/.config/pixtools/key` if it exists.

    Raises:
        Refused: the file cannot be read, or other users can read it.
    """
    key = os.environ.get("PIXTOOLS_KEY", "").strip()
    if key:
        return key
    file = _key_file()
    if file is None:
        return None
    try:
        with file.open() as opened:
            if os.fstat(opened.fileno()).st_mode & OTHERS:
                raise Refused(f"The key in {file} can be read by others: chmod 600 {file}")
            return opened.read(MAX_KEY).strip() or None
    except (OSError, UnicodeError) as error:
        raise Refused(f"The key file {file} cannot be read: {error}") from None


def origin_of_key() -> str:
    """The origin of the key, for messages; empty: there is no key."""
    if os.environ.get("PIXTOOLS_KEY", "").strip():
        return "PIXTOOLS_KEY"
    file = _key_file()
    return f"the file {file}" if file else ""


def _key_file() -> Path | None:
    named = os.environ.get("PIXTOOLS_KEY_FILE")
    if named:
        return Path(named)
    file = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "pixtools" / "key"
    return file if file.exists() else None


def address_of(server: str) -> str:
    """The address of a server with its scheme, which may be missing for this machine.

    Raises:
        Refused: the address has no scheme, or one other than http and https.
    """
    address = server.strip().rstrip("/")
    if LOOPBACK.fullmatch(address):
        return f"http://{address}"
    if not re.match(r"https?://[^/]", address, re.IGNORECASE):
        raise Refused(f"{server!r} is not the address of a server: it begins with https:// or http://.")
    return address


def server_of_environment() -> str:
    """The URL of the server: `PIXTOOLS_URL`, or the server on this machine at `PIXTOOLS_PORT`, by default 8000.

    Both are read from the environment, or from the file `.env` that `make run` also reads.
    """
    known = _of_file(Path(".env")) | {name: os.environ[name] for name in _NAMES if os.environ.get(name)}
    return known.get("PIXTOOLS_URL") or f"http://127.0.0.1:{known.get('PIXTOOLS_PORT', PORT)}"


_NAMES = ("PIXTOOLS_URL", "PIXTOOLS_PORT")


def _of_file(file: Path) -> dict[str, str]:
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeError):
        return {}
    return dict(found.groups() for line in lines if (found := LINE.match(line)))  # type: ignore[misc]
