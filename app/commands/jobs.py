"""`pixtools jobs`: inspect and control jobs at a server."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from app.commands.common import FAILED, Server, moment, opened
from app.commands.display import Display, Outcome, doing
from app.commands.printing import echo_json, say, say_path, warn
from app.commands.run import IfExists, refuse_place

jobs_app = typer.Typer(help="Inspect and control jobs.", no_args_is_help=True)

Status = Literal["pending", "processing", "completed", "completed_with_errors", "failed", "cancelled"]
JobId = Annotated[str, typer.Argument(help="Id of the job.")]
JobIds = Annotated[list[str], typer.Argument(help="Ids of jobs.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object per line.")]


@jobs_app.command("list")
def list_jobs(
    server: Server = None,
    status: Annotated[Status | None, typer.Option(help="Only jobs in this state.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only jobs with this tag, NAME:VALUE.")] = None,
    external_id: Annotated[str | None, typer.Option(help="Only the job with this external id.")] = None,
    filename: Annotated[str | None, typer.Option(help="Only uploads with exactly this name.")] = None,
    since: Annotated[
        str | None, typer.Option(help="Only jobs of the last 1h or 2d, or since a time such as 2026-11-23T12:00Z.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1)] = 20,
    as_json: AsJson = False,
) -> None:
    """List the newest jobs, one per line."""
    filters = {"status": status, "tag": tag, "external_id": external_id, "filename": filename}
    with opened(server) as client:
        for job in client.jobs(limit=limit, created_after=moment(since), **filters):
            if as_json:
                _line(job)
                continue
            done = sum(step["status"] == "succeeded" for step in job["steps"])
            say(
                f"{job['id']}  {job['created_at'][:19]}  {job['status']:<21}  "
                f"{done}/{len(job['steps'])} steps  {job['input']['filename']}"
            )


def _line(value: object) -> None:
    import json

    say(json.dumps(value))


@jobs_app.command("show")
def show_job(job_id: JobId, server: Server = None) -> None:
    """Print one job as JSON."""
    with opened(server) as client:
        echo_json(client.job(job_id))


@jobs_app.command("wait")
def wait_for_jobs(
    job_ids: JobIds,
    timeout: Annotated[float | None, typer.Option(min=0, help="Seconds for all jobs; default: no limit.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing.")] = False,
    server: Server = None,
) -> None:
    """Wait for jobs to end; the exit code is 1 if a job did not complete."""
    import time

    deadline = None if timeout is None else time.monotonic() + timeout
    failed = False
    display = Display(len(job_ids), quiet=quiet)
    with opened(server, patience=900.0) as client, display.shown():
        for job_id in job_ids:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            with display.working(job_id) as update:
                for job in client.follow(job_id, timeout=left):
                    update(job)
            failed = failed or job["status"] != "completed"
            display.finished(Outcome(f"{job_id} {job['input']['filename']}", status="completed"))
            if not quiet:
                say(f"{job_id}  {job['status']}")
    if failed:
        raise typer.Exit(FAILED)


@jobs_app.command("download")
def download_results(
    job_ids: JobIds,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path(),
    if_exists: Annotated[IfExists, typer.Option(help="What to do if a file has other content.")] = "fail",
    server: Server = None,
) -> None:
    """Write the results of jobs to a folder, and print the names of the files."""
    refuse_place(out)
    with opened(server) as client:
        for job_id in job_ids:
            job = client.job(job_id)
            if not job["results"]:
                warn(f"{job_id} has no results ({doing(job)}).")
                continue
            make_folder(out)
            for result in job["results"]:
                say_path(client.download(result, out, if_exists=if_exists))


def make_folder(folder: Path) -> None:
    """Make a folder for results.

    Raises:
        BadParameter: the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise typer.BadParameter(f"{folder}: {error.strerror}.") from None


@jobs_app.command("archive")
def download_archive(
    job_id: JobId,
    out: Annotated[Path, typer.Option("--out", "-o", help="The ZIP file, or a folder for it.")] = Path(),
    if_exists: Annotated[IfExists, typer.Option(help="What to do if there is a file of this name.")] = "fail",
    server: Server = None,
) -> None:
    """Write all results of a job to one ZIP file, and print its name."""
    with opened(server) as client:
        say_path(client.archive(job_id, out, if_exists=if_exists))


@jobs_app.command("cancel")
def cancel_jobs(job_ids: JobIds, server: Server = None) -> None:
    """End jobs now."""
    with opened(server) as client:
        for job_id in job_ids:
            say(f"{job_id}  {client.cancel(job_id)['status']}")


@jobs_app.command("retry")
def retry_jobs(job_ids: JobIds, server: Server = None) -> None:
    """Repeat the steps that failed, were skipped or were cancelled."""
    with opened(server) as client:
        for job_id in job_ids:
            say(f"{job_id}  {client.retry(job_id)['status']}")


@jobs_app.command("delete")
def delete_jobs(job_ids: JobIds, server: Server = None) -> None:
    """Erase jobs and all their objects."""
    with opened(server) as client:
        for job_id in job_ids:
            client.delete(job_id)


@jobs_app.command("explain")
def explain_job(job_id: JobId, server: Server = None) -> None:
    """Print the timeline of one job."""
    with opened(server) as client:
        for line in client.timeline(job_id):
            say(line)
