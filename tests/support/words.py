"""Words and turns of phrase that this project does not use, with what to write: `python -m tests.support.words`.

A short list of what reads as translated. It is searched for in comments, docstrings, strings and documents, not in the
names of code.
"""

import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

from .deployment import ROOT

#: patterns for text in lower case, and what to write instead
WORDS = {
    r"\btold\b|\btell(s|ing)?\b": "reported, shown, returned, sent, given; for two things: distinguish",
    r"\bnobody('s)?\b": "no one, or the noun: no worker, no client, unused",
    r"\bwhoever('s)?\b": "the noun: the process, the client, the caller",
    r"\bbeside\b": "next to, besides, in addition to, in the background",
    r"\binsist(s|ed|ing)?\b": "retry, repeat",
    r"\bstory\b": "timeline",
    r"\bno matter of\b": "it does not depend on",
    r"\bopens? nothing\b": "is not valid, is refused",
    r"(?<!there )\b(is|was) no (archive|file|image|json|key|object|page|text|url)\b": "is not a",
    r"\bset going\b": "start",
}
UNWANTED = {re.compile(pattern): better for pattern, better in WORDS.items()}
SUFFIXES = ("*.py", "*.md", "*.html", "*.js", "*.yaml")
#: this list, its test, and files of others
EXCEPT = ("tests/support/words.py", "tests/repository/test_words.py", "app/static/swagger-ui/")
IN_SCRIPT = re.compile(r"//.*|/\*.*|^\s*\*.*|\"[^\"]*\"|'[^']*'|`[^`]*`", re.MULTILINE)


def unwanted(text: str) -> Iterator[tuple[str, str]]:
    """What is found in a text, and what to write instead."""
    for pattern, better in UNWANTED.items():
        for found in pattern.finditer(text.lower()):
            yield found.group(), better


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """The parts of a file that people read, each with the number of its first line."""
    text = path.read_text()
    if path.suffix == ".py":
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type in {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", None)}:
                yield token.start[0], token.string
    elif path.suffix == ".js":
        for found in IN_SCRIPT.finditer(text):
            yield text.count("\n", 0, found.start()) + 1, found.group()
    else:
        yield from enumerate(text.splitlines(), 1)


def findings() -> Iterator[str]:
    """Place, word and what to write instead, for every one in the repository."""
    listed = subprocess.run(["git", "ls-files", *SUFFIXES], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.split("\n"):
        if not name or name.startswith(EXCEPT) or not (ROOT / name).is_file():
            continue
        if any(unwanted((ROOT / name).read_text())):  # names of code included: most files need no closer look
            for number, text in prose(ROOT / name):
                yield from (f"{name}:{number}: {word!r}: write {better}" for word, better in unwanted(text))


if __name__ == "__main__":
    found = list(findings())
    sys.stdout.writelines(f"{line}\n" for line in found)
    sys.exit(bool(found))
