"""`pixtools dlq`, and `pixtools server dlq` in the database: work that was given up."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.commands.common import FAILED, Server, current_settings, opened, transaction
from app.commands.printing import echo_json, say

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.models import DeadLetter

letters_app = typer.Typer(
    help="Work that was given up, in the database of the PIXTOOLS_ settings.", no_args_is_help=True
)
dlq_app = typer.Typer(help="Work that was given up, at a server.", no_args_is_help=True)

LetterId = Annotated[str, typer.Argument(help="Id of the dead letter.")]


@letters_app.command("list")
def list_letters(limit: Annotated[int, typer.Option(min=1)] = 50) -> None:
    """List dead letters that have not been redriven, newest first, one per line."""
    from app.services import dead_letters

    with transaction(read_only=True) as session:
        for letter in dead_letters.newest(session, limit):
            say(
                f"{letter.id}  {letter.created_at:%Y-%m-%dT%H:%M:%S}  {letter.reason:<15}  "
                f"{letter.job_id or '-'}  {'+'.join(letter.operations) or letter.task}"
            )


@letters_app.command("show")
def show_letter(letter_id: LetterId) -> None:
    """Print one dead letter as JSON."""
    with transaction(read_only=True) as session:
        letter = _letter(session, letter_id)
        echo_json({column.key: _plain(getattr(letter, column.key)) for column in letter.__table__.columns})


@letters_app.command("redrive")
def redrive_letter(
    letter_ids: Annotated[list[str] | None, typer.Argument(help="Ids of dead letters.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
) -> None:
    """Do the work again, once the cause is repaired; after that the same upload is accepted again."""
    from app.errors import JobNotFinished
    from app.services import dead_letters

    _require_choice(letter_ids, every)
    settings = current_settings()
    left = 0
    with transaction() as session:
        letters = dead_letters.newest(session, 10_000) if every else [_letter(session, id_) for id_ in letter_ids or []]
        for letter in letters:
            try:
                done = dead_letters.redrive(session, letter, kept_seconds=settings.results_kept_seconds)
            except JobNotFinished:
                left += 1
                done = f"not sent again: job {letter.job_id} has not ended; repeat this command when it has ended"
            say(f"{letter.id}: {done}")
    if left:
        raise typer.Exit(1)


@letters_app.command("purge")
def purge_letters(
    letter_ids: Annotated[list[str] | None, typer.Argument(help="Ids of dead letters.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
) -> None:
    """Delete dead letters in the database of the PIXTOOLS_ settings; after that the same upload is accepted again."""
    from app.services import dead_letters

    _require_choice(letter_ids, every)
    with transaction() as session:
        say(f"{dead_letters.purge(session, None if every else letter_ids or [])} deleted")


def _require_choice(letter_ids: list[str] | None, every: bool) -> None:
    if bool(letter_ids) == every:
        raise typer.BadParameter("Give the ids of dead letters, or --all.")


def _letter(session: "Session", letter_id: str) -> "DeadLetter":
    from app.services import dead_letters

    letter = dead_letters.find(session, letter_id)
    if letter is None:
        raise SystemExit(f"There is no dead letter {letter_id}.")
    return letter


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, str | list) else str(value)


@dlq_app.command("list")
def list_at_server(
    limit: Annotated[int, typer.Option(min=1)] = 50,
    server: Server = None,
) -> None:
    """List dead letters that have not been redriven, newest first, one per line."""
    with opened(server) as client:
        for letter in client.dead_letters(limit=limit):
            say(
                f"{letter['id']}  {letter['created_at'][:19]}  {letter['reason']:<15}  "
                f"{letter['job_id'] or '-'}  {'+'.join(letter['operations']) or letter['queue']}"
            )


@dlq_app.command("show")
def show_at_server(letter_id: LetterId, server: Server = None) -> None:
    """Print one dead letter as JSON."""
    with opened(server) as client:
        letter = next((each for each in client.dead_letters() if each["id"] == letter_id), None)
    if letter is None:
        raise SystemExit(f"There is no dead letter {letter_id}.")
    echo_json(letter)


@dlq_app.command("redrive")
def redrive_at_server(
    letter_ids: Annotated[list[str] | None, typer.Argument(help="Ids of dead letters.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    server: Server = None,
) -> None:
    """Do the work again, once the cause is repaired; after that the same upload is accepted again."""
    from pixtools_client import Conflict

    _require_choice(letter_ids, every)
    left = 0
    with opened(server) as client:
        for id_ in [each["id"] for each in client.dead_letters()] if every else letter_ids or []:
            try:
                say(f"{id_}: {client.redrive(id_)['done']}")
            except Conflict as error:
                left += 1
                say(f"{id_}: not sent again: {error}; repeat this command when the job has ended")
    if left:
        raise typer.Exit(FAILED)


dlq_app.command("purge")(purge_letters)
