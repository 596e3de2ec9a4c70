"""Output for people: text from elsewhere cannot move the cursor or look like another line."""

import difflib
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

#: control characters, marks of direction, separators of lines, and bytes of names that are not UTF-8
UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def escaped(text: str) -> str:
    r"""The text on one line, with `\n`, `\x1b` and the like for characters that cannot be seen."""
    return UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def say(text: str) -> None:
    """One line of standard output."""
    print(escaped(text), flush=True)


def warn(text: str) -> None:
    """One line of standard error."""
    sys.stderr.write(f"{escaped(text)}\n")
    sys.stderr.flush()


def plain_path(path: Path | str) -> str:
    """A path for standard output: unchanged for another program, escaped on a terminal, as `ls` does."""
    return escaped(str(path)) if sys.stdout.isatty() else str(path)


def say_path(path: Path) -> None:
    """The path of a file that was written, on standard output."""
    print(plain_path(path), flush=True)


def echo_json(value: Any) -> None:
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")


def similar(name: str, names: Iterable[str]) -> str:
    """A question with the most similar name; empty: no name is similar."""
    meant = difflib.get_close_matches(name, list(names), n=1)
    return f" Did you mean {meant[0]!r}?" if meant else ""
