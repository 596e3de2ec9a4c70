"""Which code an error is told and counted by."""

import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.errors import EmptyFile
from app.problems import code_of


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
