"""`pixtools jobs`: inspect and control jobs."""

from typing import Annotated

import typer

from app.commands.common import DEFAULT_SERVER, Server, echo_call, path_of, transaction

jobs_app = typer.Typer(help="Inspect and control jobs.", no_args_is_help=True)

JobId = Annotated[str, typer.Argument(help="Id of the job.")]


@jobs_app.command("list")
def list_jobs(
    server: Server = DEFAULT_SERVER,
    status: Annotated[str | None, typer.Option(help="Only jobs in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1)] = 20,
) -> None:
    """The newest jobs, one a line."""
    from pixtools_client import Client

    with Client(server) as client:
        for job in client.newest("/jobs", limit, status=status):
            done = sum(step["status"] == "succeeded" for step in job["steps"])
            typer.echo(
                f"{job['id']}  {job['created_at'][:19]}  {job['status']:<21}  "
                f"{done}/{len(job['steps'])} steps  {job['input']['filename']}"
            )


@jobs_app.command("show")
def show_job(job_id: JobId, server: Server = DEFAULT_SERVER) -> None:
    """One job as JSON."""
    echo_call(server, "GET", _job(job_id))


@jobs_app.command("cancel")
def cancel_job(job_id: JobId, server: Server = DEFAULT_SERVER) -> None:
    """End a job now."""
    echo_call(server, "POST", _job(job_id) + "/cancel")


@jobs_app.command("retry")
def retry_job(job_id: JobId, server: Server = DEFAULT_SERVER) -> None:
    """Repeat what failed."""
    echo_call(server, "POST", _job(job_id) + "/retry")


@jobs_app.command("delete")
def delete_job(job_id: JobId, server: Server = DEFAULT_SERVER) -> None:
    """Erase a job and all its objects."""
    from pixtools_client import Client

    with Client(server) as client:
        client.call("DELETE", _job(job_id))


@jobs_app.command("explain")
def explain_job(job_id: JobId) -> None:
    """The timeline of one job in words, from the database of the PIXTOOLS_ settings."""
    from uuid import UUID

    from app.errors import JobNotFound
    from app.services.monitoring import timeline

    try:
        with transaction(read_only=True) as session:
            lines = timeline.describe(session, UUID(job_id))
    except (ValueError, JobNotFound):
        raise SystemExit(f"There is no job {job_id}.") from None
    typer.echo("\n".join(lines))


def _job(job_id: str) -> str:
    return path_of("jobs", job_id)
