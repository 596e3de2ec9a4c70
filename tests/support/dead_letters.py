"""Jobs that PixTools gave up on, and their dead letters."""

from typing import Any
from uuid import UUID

from app.database import Database
from app.errors import PixelProcessDied
from app.models import DeadLetter
from app.services import dead_letters
from app.services.dead_letters import Letter

from .work import (
    MAX_ATTEMPTS,
    accept,
    claimed,
    fail,
)

POISONED = ["convert_png"]


def poisoned(database: Database, tree: list[Any] = POISONED) -> UUID:
    """A job whose first task has crashed every worker."""
    job_id = accept(database, tree, content=b"poison")
    for _ in range(MAX_ATTEMPTS):
        assert fail(database, claimed(database, job_id, "0"), PixelProcessDied())
    return job_id


def received(database: Database, job_id: UUID, reason: str = dead_letters.POISON, id_: str = "letter") -> None:
    letter = Letter(id=id_, reason=reason, queue="default_queue", task="pixtools.convert_png", args=[str(job_id), "0"])
    with database.session() as session:
        dead_letters.receive(session, letter)


def letters(database: Database) -> list[DeadLetter]:
    with database.session(read_only=True) as session:
        return dead_letters.newest(session, 100)
