"""Which code an error is reported and counted by."""

import json

import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.errors import EmptyFile, PixToolsError, TargetTooLong, UploadTooLarge
from app.problems import answer, code_of
from tests.support.catalogue import classes_below


class Foreign(Exception):
    code = "x9"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (EmptyFile(), "empty_file"),
        (OperationalError("SELECT 1", {}, Exception()), "database_unavailable"),
        (PoolTimeout(), "database_unavailable"),
        (Foreign(), "internal_error"),
        (RuntimeError(), "internal_error"),
    ],
)
def test_codes_of_other_libraries_are_not_ours(error: Exception, code: str) -> None:
    assert code_of(error) == code


@pytest.mark.parametrize(
    ("error", "title"),
    [
        (EmptyFile(), "Unprocessable Content"),
        (UploadTooLarge("too large"), "Content Too Large"),
        (TargetTooLong("too long"), "URI Too Long"),
    ],
)
def test_titles_are_the_same_on_every_python(error: PixToolsError, title: str) -> None:
    assert json.loads(answer(error).body)["title"] == title


def test_what_an_error_says_of_itself_is_one_line() -> None:
    assert [kind.__name__ for kind in classes_below(PixToolsError) if "\n" in (kind.__doc__ or "")] == []
