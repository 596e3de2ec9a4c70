"""What is given up: written down once, refused when it comes again, and run again when an operator says so."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from typer.testing import CliRunner
from uuid_utils.compat import uuid7

from app.commands.root import app
from app.database import Database
from app.errors import JobNotFinished, KnownPoison
from app.models import StepStatus
from app.services import dead_letters, jobs
from app.services.dag_builder import Plan
from app.services.dead_letters import Letter
from app.tasks.dead_letters import read
from tests.support.dead_letters import letters, poisoned, received
from tests.support.work import (
    accept,
    job_of,
    messages,
    run_task,
    states,
    step_of,
)


def test_poison_goes_to_the_dead_letter_queue_with_the_failure(database: Database) -> None:
    job_id = poisoned(database)
    assert step_of(database, job_id, "0").error["code"] == "poison_input"  # type: ignore[index]
    assert ("pixtools.convert_png", [str(job_id), "0"], 0) in messages(database)


def test_a_letter_is_written_down_once_and_says_what_it_was_about(database: Database) -> None:
    job_id = poisoned(database)
    for _ in range(2):
        received(database, job_id)
    [letter] = letters(database)
    assert (letter.job_id, letter.job_task, letter.operations) == (job_id, "0", ["convert_png"])
    assert letter.input_sha256 == job_of(database, job_id).input_sha256


def test_a_letter_of_the_broker_ends_the_task_that_never_began(database: Database) -> None:
    job_id = accept(database, [{"op": "resize", "width": 9, "then": ["convert_webp", "convert_png"]}, "convert_png"])
    received(database, job_id, reason="delivery_limit")
    assert states(database, job_id) == {"0": "failed", "0.0": "skipped", "0.1": "skipped", "1": "pending"}
    run_task(database, job_id, "1")
    received(database, job_id, reason="delivery_limit", id_="another")
    assert step_of(database, job_id, "1").status == StepStatus.SUCCEEDED


@pytest.mark.parametrize("args", [[], ["no id"], [str(uuid4())], [str(uuid7()), "7"], [None, None], [{"a": 1}, 2]])
def test_a_letter_about_nothing_known_is_kept_all_the_same(database: Database, args: list[Any]) -> None:
    with database.session() as session:
        dead_letters.receive(session, Letter(id="x", reason="rejected", queue="q", task="unknown", args=args))
    [letter] = letters(database)
    assert (letter.args, letter.operations, letter.input_sha256) == (args, [], None)


@dataclass
class Junk:
    """What kombu hands out for a message."""

    body: Any
    headers: dict[str, Any] = field(default_factory=dict)
    properties: dict[str, Any] = field(default_factory=dict)


@pytest.mark.parametrize(
    "body",
    [
        b"[[NaN], {}, {}]",
        b'[["\\u0000"], {}, {}]',
        b"\x00\xff",
        b"[",
        b"[" * 100_000,
        b"[[" + b"1," * 9_000 + b"1]]",
        7,
    ],
)
def test_a_message_that_no_database_would_take_is_written_down(database: Database, body: Any) -> None:
    letter = read(Junk(body, {"task": "a\0b", "id": None}))
    with database.session() as session:
        dead_letters.receive(session, letter)
    [found] = letters(database)
    assert (found.task, len(found.args)) == ("ab", 1)


def test_messages_without_an_id_are_letters_of_their_own() -> None:
    assert read(Junk(b"one")).id == read(Junk(b"one")).id
    assert read(Junk(b"one")).id != read(Junk(b"two")).id


def refuse(database: Database, content: bytes, tree: list[Any]) -> None:
    other = job_of(database, accept(database, tree, content=content))
    with database.session(read_only=True) as session:
        dead_letters.refuse_known(session, other.input_sha256, Plan.from_json(other.plan), other.tenant)


def test_the_same_upload_for_the_same_work_is_refused_until_it_is_redriven_or_forgotten(database: Database) -> None:
    job_id = poisoned(database)
    received(database, job_id)
    with pytest.raises(KnownPoison, match="convert_png"):
        refuse(database, b"poison", ["convert_webp", "convert_png"])
    refuse(database, b"poison", ["convert_webp"])
    refuse(database, b"other", ["convert_png"])
    with database.session() as session:
        dead_letters.redrive(session, dead_letters.newest(session, 1)[0], kept_seconds=60)
    refuse(database, b"poison", ["convert_png"])
    received(database, poisoned(database), id_="second")
    with database.session() as session:
        assert dead_letters.purge(session, ["second"]) == 1
    refuse(database, b"poison", ["convert_png"])


def test_a_redriven_job_runs_again(database: Database) -> None:
    job_id = poisoned(database)
    received(database, job_id)
    with database.session() as session:
        said = dead_letters.redrive(session, dead_letters.newest(session, 1)[0], kept_seconds=60)
    assert said == f"job {job_id} runs again"
    run_task(database, job_id, "0")
    assert states(database, job_id) == {"0": "succeeded"}
    assert letters(database) == []


def test_a_letter_whose_job_is_gone_can_be_redriven(database: Database) -> None:
    job_id = poisoned(database)
    received(database, job_id)
    with database.session() as session:
        jobs.remove(session, job_id)
    with database.session() as session:
        assert "gone" in dead_letters.redrive(session, dead_letters.newest(session, 1)[0], kept_seconds=60)


def test_a_step_that_failed_in_an_open_job_stays_listed_until_the_job_has_ended(database: Database) -> None:
    job_id = poisoned(database, ["convert_png", "convert_webp"])
    received(database, job_id)
    messages(database)
    with pytest.raises(JobNotFinished), database.session() as session:
        dead_letters.redrive(session, dead_letters.newest(session, 1)[0], kept_seconds=60)
    assert [letter.job_id for letter in letters(database)] == [job_id], "it stays listed"
    assert messages(database) == []
    run_task(database, job_id, "1")
    messages(database)
    with database.session() as session:
        said = dead_letters.redrive(session, dead_letters.newest(session, 1)[0], kept_seconds=60)
    assert said == f"job {job_id} runs again"
    run_task(database, job_id, "0")
    assert letters(database) == []


def test_a_job_whose_first_message_was_given_up_is_sent_again(database: Database) -> None:
    job_id = accept(database)
    letter = Letter(
        id="x", reason="delivery_limit", queue="default_queue", task="pixtools.start_job", args=[str(job_id)]
    )
    with database.session() as session:
        dead_letters.receive(session, letter)
    with database.session() as session:
        said = dead_letters.redrive(session, dead_letters.newest(session, 1)[0], kept_seconds=60)
    assert said == f"job {job_id} is still open; what it lacks is sent again"
    assert messages(database) == [("pixtools.start_job", [str(job_id)], 0)]
    assert letters(database) == []


@pytest.mark.parametrize("command", ["redrive", "purge"])
@pytest.mark.parametrize("arguments", [[], ["--all", "some-id"]])
def test_a_command_about_dead_letters_must_name_them(tmp_path: Path, command: str, arguments: list[str]) -> None:
    done = CliRunner().invoke(app, ["server", "dlq", command, *arguments], env={"PIXTOOLS_DATA_DIR": str(tmp_path)})
    assert done.exit_code == 2
    assert "--all" in done.output
    assert not list(tmp_path.iterdir())


def test_letters_are_listed_page_by_page_to_their_tenant_only(database: Database) -> None:
    from app.errors import InvalidCursor, LetterNotFound
    from app.services.access import tenants
    from tests.support.tenants import poison

    with database.session() as session:
        tenants.create(session, "ann")
    ids = [poison(database, accept(database, tenant="ann"), "0" * 64) for _ in range(5)]
    other = poison(database, accept(database), "0" * 64)
    seen: list[str] = []
    cursor: str | None = None
    for _ in range(3):
        with database.session(tenant="ann") as session:
            found, cursor = dead_letters.page(session, limit=2, cursor=cursor)
        seen += [letter.id for letter in found]
    assert (sorted(seen), cursor) == (sorted(ids), None)
    for wrong in (other, "none", "\0", ""):
        with database.session(tenant="ann") as session:
            with pytest.raises(LetterNotFound):
                dead_letters.redrive_by_id(session, wrong, kept_seconds=60)
            if wrong:
                with pytest.raises(InvalidCursor):
                    dead_letters.page(session, limit=2, cursor=wrong)
    with database.session(tenant="ann") as session:
        assert "job" in dead_letters.redrive_by_id(session, ids[0], kept_seconds=60)
        assert ids[0] not in {letter.id for letter in dead_letters.page(session, limit=9)[0]}
