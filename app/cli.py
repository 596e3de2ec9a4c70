"""The command line: `pixtools serve | api | worker | relay | migrate | submit | jobs | webhooks | doctor | ...`."""

import json
from pathlib import Path
from typing import Annotated

import typer
from pixtools_client.errors import ClientError

from app import __version__
from app.commands.access import keys_app, tenants_app
from app.commands.assets import assets_app
from app.commands.common import DEFAULT_SERVER, Server, current_settings, database, storage
from app.commands.dlq import dlq_app
from app.commands.jobs import jobs_app
from app.commands.limits import set_limits
from app.commands.secrets import secrets_app
from app.commands.webhooks import deliveries_app, follow_events, webhooks_app

#: of `celery worker`: what workers tell each other is of no use here, and asking for it takes a second of each start
ALONE = ("--without-mingle", "--without-gossip")

app = typer.Typer(
    help="Self-hosted, asynchronous image processing.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Entry point of the `pixtools` command; what a server says to a mistake ends it without a traceback."""
    try:
        app()
    except ClientError as error:
        raise SystemExit(str(error)) from None


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pixtools {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and end.")
    ] = False,
) -> None:
    """Self-hosted, asynchronous image processing."""


@app.command()
def serve() -> None:
    """Run everything in this one process; nothing else is needed. PIXTOOLS_PORT and PIXTOOLS_DATA_DIR choose where."""
    from app.server import serve as serve_all

    settings = current_settings()
    serve_all(settings)


@app.command()
def api() -> None:
    """Run the API of a cluster: database, broker and storage come from the PIXTOOLS_ settings."""
    from app.server import serve_api

    serve_api(current_settings())


@app.command()
def worker(
    queue: Annotated[str, typer.Option(help="Queue to take work from.")] = "default_queue",
    concurrency: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Processes, 2; for webhooks and fetching threads, by their settings.",
        ),
    ] = None,
) -> None:
    """Run a worker of a cluster, in processes that can be killed; for webhooks and fetching in threads.

    That of default_queue has one process more, for small work only.
    """
    from app.operations import Queue
    from app.slots import share

    if queue not in set(Queue):
        raise typer.BadParameter(f"There is no queue {queue!r}; there are {', '.join(Queue)}.")
    settings = current_settings()
    if settings.embedded:
        raise SystemExit("PIXTOOLS_BROKER_URL names no broker: `pixtools serve` runs its own worker.")
    share(settings.spool)
    from celery.bin.celery import celery

    threads = {Queue.WEBHOOK: settings.webhook_concurrency, Queue.FETCH: settings.fetch_concurrency}
    pool, places = ("threads", threads[Queue(queue)]) if queue in threads else ("prefork", 2)
    options = ["-Q", queue, "-P", pool, "-c", str(concurrency or places), "-n", f"{queue}@%h", *ALONE]
    if queue == Queue.DEFAULT:
        options.append("--spare")
    celery.main(["-A", "app.tasks.celery_app", "worker", *options])  # unlike worker_main it fails when the worker does


@app.command()
def relay() -> None:
    """Run the background services: relay, dispatcher, reconciler, retention and the reader of dead letters."""
    import signal

    from app import background, tracing
    from app.logging_config import configure_logging
    from app.tasks.signals import serve_metrics
    from app.wiring import Resources

    settings = current_settings()
    if settings.embedded:
        raise SystemExit("PIXTOOLS_BROKER_URL names no broker: `pixtools serve` runs its own relay.")
    configure_logging(settings.log_level)
    stop_tracing = tracing.start(settings.otlp_endpoint, "relay")
    if settings.metrics_port:
        serve_metrics(settings.host, settings.metrics_port)
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))  # in every thread that starts from here
    running = background.services(Resources(settings))
    for service in running:
        service.start()
    signal.sigwait((signal.SIGTERM, signal.SIGINT))
    for service in running:
        service.stop()
    stop_tracing()


@app.command("celery-exporter")
def celery_exporter() -> None:
    """Tell Prometheus on PIXTOOLS_METRICS_PORT what Celery's own events say: who works, and on how much."""
    from app.logging_config import configure_logging
    from app.tasks.exporter import serve

    settings = current_settings()
    if settings.embedded or settings.metrics_port is None:
        raise SystemExit("PIXTOOLS_BROKER_URL has to name a broker, and PIXTOOLS_METRICS_PORT a port.")
    configure_logging(settings.log_level)
    serve(settings.host, settings.metrics_port)


@app.command()
def migrate(
    wait: Annotated[bool, typer.Option("--wait", help="Change nothing; wait until others have done it.")] = False,
) -> None:
    """Bring the database to the current schema."""
    from app import migrations
    from app.errors import CannotStart
    from app.logging_config import configure_logging

    settings = current_settings()
    if wait:
        configure_logging(settings.log_level)
        migrations.wait(settings.database)
    else:
        try:
            migrations.check(settings.database)
            migrations.upgrade(settings.database)
        except CannotStart as error:
            raise SystemExit(error.message) from None
    typer.echo("The database is up to date.")


@app.command()
def submit(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The image.")],
    operations: Annotated[str, typer.Argument(help="The operation tree as JSON, or names separated by commas.")],
    server: Server = DEFAULT_SERVER,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder to download the results to.")] = None,
    webhook_url: Annotated[str | None, typer.Option(help="Gets a POST when the job has ended.")] = None,
    priority: Annotated[int | None, typer.Option(min=0, max=9, help="9 goes first; 5 without.")] = None,
    idempotency_key: Annotated[str | None, typer.Option(help="Makes a repeated call harmless.")] = None,
    wait: Annotated[bool, typer.Option(help="Wait for the end and show the progress.")] = True,
) -> None:
    """Upload an image, watch the job, and download its results."""
    from pixtools_client import Client
    from pixtools_client.progress import show

    if output:
        _make_folder(output)
    tree = operations if operations.lstrip().startswith("[") else json.dumps([n.strip() for n in operations.split(",")])
    with Client(server) as client:
        job = client.submit(file, tree, webhook_url=webhook_url, priority=priority, idempotency_key=idempotency_key)
        if not wait:
            typer.echo(job["id"])
            return
        job = show(client.follow(job))
        for result in job["results"]:
            typer.echo(str(client.download(result, output)) if output else result["url"])
        if job["status"] != "completed":
            raise typer.Exit(1)


app.add_typer(jobs_app, name="jobs")
app.add_typer(assets_app, name="assets")
app.add_typer(dlq_app, name="dlq")
app.command("events")(follow_events)
app.add_typer(webhooks_app, name="webhooks")
app.add_typer(deliveries_app, name="deliveries")
app.add_typer(secrets_app, name="secrets")
app.add_typer(keys_app, name="keys")
tenants_app.command("set")(set_limits)
app.add_typer(tenants_app, name="tenants")


@app.command()
def doctor() -> None:
    """Check every dependency, the settings and the model, and say what to do; the exit code is 1 if something fails."""
    from app.doctor import report

    if not report(current_settings(), typer.echo):
        raise typer.Exit(1)


@app.command()
def orphans(
    remove: Annotated[bool, typer.Option(help="Remove the objects of jobs that do not exist.")] = False,
) -> None:
    """Find objects without a job, and uploads and results without their object, one a line."""
    from app.services.upkeep.retention import find_orphans

    objects = storage()
    found = find_orphans(database(), objects)
    for key in found.objects:
        typer.echo(f"object without job  {key}")
        if remove:
            objects.delete(key)
    for key in found.rows:
        typer.echo(f"row without object  {key}")
    raise typer.Exit(1 if found.objects or found.rows else 0)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise typer.BadParameter(f"{folder}: {error.strerror}") from None
