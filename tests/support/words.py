"""Words and phrases that this project does not use, each with a replacement: `python -m tests.support.words`.

A short list of phrases that read as translated. The search covers comments, docstrings, strings and documents, but not
names in code.
"""

import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

from .deployment import ROOT

#: replacements, by patterns for text in lower case
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
#: this list, its test, and third-party files
EXCEPT = ("tests/support/words.py", "tests/repository/test_words.py", "app/static/swagger-ui/")
IN_SCRIPT = re.compile(r"//.*|/\*.*|^\s*\*.*|\"[^\"]*\"|'[^']*'|`[^`]*`", re.MULTILINE)


def unwanted(text: str) -> Iterator[tuple[str, str]]:
    """The unwanted phrases in a text, each with its replacement."""
    for pattern, better in UNWANTED.items():
        for found in pattern.finditer(text.lower()):
            yield found.group(), better


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """The prose of a file: its parts for human readers, each with the number of its first line."""
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
    """A line for each unwanted phrase in the repository: its place, the phrase and the replacement."""
    listed = subprocess.run(["git", "ls-files", *SUFFIXES], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.split("\n"):
        if not name or name.startswith(EXCEPT) or not (ROOT / name).is_file():
            continue
        if any(unwanted((ROOT / name).read_text())):  # with names in code: a fast check that most files pass
            for number, text in prose(ROOT / name):
                yield from (f"{name}:{number}: {word!r}: write {better}" for word, better in unwanted(text))


if __name__ == "__main__":
    found = list(findings())
    sys.stdout.writelines(f"{line}\n" for line in found)
    sys.exit(bool(found))
