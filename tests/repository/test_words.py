"""The project's English: a short list of words that it does not use."""

from pathlib import Path

import pytest

from tests.support import words


@pytest.mark.slow
def test_no_file_has_an_unwanted_word() -> None:
    assert list(words.findings()) == []


@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [
        ("a.md", "Nobody reads this.\n\nIt is said.\n", [1]),
        ("a.py", '"""What it tells."""\n\ntold = 1\nfile.tell()  # whoever asks\n', [1, 4]),
        ("a.js", "const tell = 1; // beside it\n/** The story. */\n", [1, 2]),
        ("a.yaml", "key: value\n# opens nothing\n", [2]),
    ],
)
def test_words_are_found_in_prose_and_not_in_names(tmp_path: Path, name: str, text: str, lines: list[int]) -> None:
    path = tmp_path / name
    path.write_text(text)
    assert [number for number, part in words.prose(path) if list(words.unwanted(part))] == lines
