"""Generates `client.py` from `async_client.py`: `python clients/python/make_sync.py`."""

import re
import subprocess
import sys
from pathlib import Path

HOME = Path(__file__).parent / "pixtools_client"
WORDS = {
    "async def ": "def ",
    "async with ": "with ",
    "async for ": "for ",
    "await ": "",
    "AsyncIterator": "Iterator",
    "AsyncClient": "Client",
    "asynccontextmanager": "contextmanager",
    "asyncio.sleep": "time.sleep",
    "import asyncio\n": "",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "aclose": "close",
    "aread": "read",
    "aiter_": "iter_",
}
FIRST = '"""The client. Generated from `async_client.py` by `make_sync.py`: change that file instead."""\n'


def made() -> str:
    """The generated text of `client.py`."""
    text = (HOME / "async_client.py").read_text()
    text = FIRST + text.partition("\n")[2]
    for word, plain in WORDS.items():
        text = text.replace(word, plain)
    # what `await` had to be in brackets for
    text = re.sub(r"return \((self\.call\((?:[^()]|\([^()]*\))*\))\)\[", r"return \1[", text)
    return _ruff("format", _ruff("check", text, "--select=I", "--fix-only"))


def _ruff(command: str, text: str, *options: str) -> str:
    ruff = [
        sys.executable,
        "-m",
        "ruff",
        command,
        *options,
        "--quiet",
        "--stdin-filename",
        str(HOME / "client.py"),
        "-",
    ]
    return subprocess.run(ruff, input=text, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    (HOME / "client.py").write_text(made())
