"""`pixtools server`: commands that run on the server's machine, with its PIXTOOLS_ settings."""

from typing import Annotated

import typer

from app.commands.access import database_keys_app, tenants_app
from app.commands.common import Server, current_settings, database, storage
from app.commands.dlq import letters_app
from app.commands.limits import set_limits
from app.commands.printing import say
from app.commands.secrets import secrets_app
from app.commands.stores import folders_app

#: options of `celery worker`: workers here need nothing from each other, and asking would delay each start by a second
ALONE = ("--without-mingle", "--without-gossip")

server_app = typer.Typer(help="Commands that run on the server's machine.", no_args_is_help=True)


@server_app.command("serve")
def serve() -> None:
    """Run everything in one process; nothing else is needed.

    PIXTOOLS_PORT and PIXTOOLS_DATA_DIR choose the port and the data folder.
    """
    from app.server import serve as serve_all

    settings = current_settings()
    serve_all(settings)


@server_app.command("api")
def api() -> None:
    """Run the API of a cluster: database, broker and storage come from the PIXTOOLS_ settings."""
    from app.server import serve_api

    serve_api(current_settings())


@server_app.command("worker")
def worker(
    queue: Annotated[str, typer.Option(help="Queue to take work from.")] = "default_queue",
    concurrency: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of processes, default 2; for webhooks and fetching the number of threads, default: "
            "PIXTOOLS_WEBHOOK_CONCURRENCY and PIXTOOLS_FETCH_CONCURRENCY.",
        ),
    ] = None,
) -> None:
    """Run a worker of a cluster.

    The work runs in processes that can be killed; for webhooks and fetching, in threads. The worker of default_queue
    has one more process, for small work only.
    """
    from app.operations import Queue
    from app.slots import share

    if queue not in set(Queue):
        raise typer.BadParameter(f"There is no queue {queue!r}; the queues are {', '.join(Queue)}.")
    settings = current_settings()
    if settings.embedded:
        raise SystemExit("PIXTOOLS_BROKER_URL does not name a broker: `pixtools serve` runs its own worker.")
    share(settings.spool)
    from celery.bin.celery import celery

    threads = {Queue.WEBHOOK: settings.webhook_concurrency, Queue.FETCH: settings.fetch_concurrency}
    pool, places = ("threads", threads[Queue(queue)]) if queue in threads else ("prefork", 2)
    options = ["-Q", queue, "-P", pool, "-c", str(concurrency or places), "-n", f"{queue}@%h", *ALONE]
    if queue == Queue.DEFAULT:
        options.append("--spare")
    celery.main(["-A", "app.tasks.celery_app", "worker", *options])  # unlike worker_main it fails when the worker does


@server_app.command("relay")
def relay() -> None:
    """Run the background services: relay, dispatcher, reconciler, retention and the reader of dead letters."""
    import signal

    from app import background, tracing
    from app.logging_config import configure_logging
    from app.tasks.signals import serve_metrics
    from app.wiring import Resources

    settings = current_settings()
    if settings.embedded:
        raise SystemExit("PIXTOOLS_BROKER_URL does not name a broker: `pixtools serve` runs its own relay.")
    configure_logging(settings.log_level)
    stop_tracing = tracing.start(settings.otlp_endpoint, "relay")
    if settings.metrics_port:
        serve_metrics(settings.host, settings.metrics_port)
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))  # new threads inherit the mask
    running = background.services(Resources(settings))
    for service in running:
        service.start()
    signal.sigwait((signal.SIGTERM, signal.SIGINT))
    for service in running:
        service.stop()
    stop_tracing()


@server_app.command("celery-exporter")
def celery_exporter() -> None:
    """Serve metrics from Celery's events on PIXTOOLS_METRICS_PORT: the workers, and how busy they are."""
    from app.logging_config import configure_logging
    from app.tasks.exporter import serve

    settings = current_settings()
    if settings.embedded or settings.metrics_port is None:
        raise SystemExit("PIXTOOLS_BROKER_URL must name a broker, and PIXTOOLS_METRICS_PORT a port.")
    configure_logging(settings.log_level)
    serve(settings.host, settings.metrics_port)


@server_app.command("migrate")
def migrate(
    wait: Annotated[
        bool, typer.Option("--wait", help="Change nothing; wait until another process has migrated the database.")
    ] = False,
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
    say("The database is up to date.")


@server_app.command("doctor")
def doctor(server: Server = None) -> None:
    """Check the settings, every dependency, the networks and the running server, and say what to do.

    The exit code is 1 if a check fails. A server that does not run yet is only a note.
    """
    from itertools import chain

    from app.commands.running import look_at
    from app.doctor import examine, report

    settings = current_settings()
    if not report(chain(examine(settings), look_at(server, settings)), say):
        raise typer.Exit(1)


@server_app.command("orphans")
def orphans(
    remove: Annotated[bool, typer.Option(help="Remove the objects of jobs that do not exist.")] = False,
) -> None:
    """List objects without a job, and uploads and results without their object, one per line."""
    from app.services.upkeep.retention import find_orphans

    objects = storage()
    found = find_orphans(database(), objects)
    for key in found.objects:
        say(f"object without job  {key}")
        if remove:
            objects.delete(key)
    for key in found.rows:
        say(f"row without object  {key}")
    raise typer.Exit(1 if found.objects or found.rows else 0)


@server_app.command("explain")
def explain_job(job_id: Annotated[str, typer.Argument(help="Id of the job.")]) -> None:
    """Print the timeline of one job, from the database of the PIXTOOLS_ settings."""
    from uuid import UUID

    from app.commands.common import name_database, transaction
    from app.errors import JobExpired, JobNotFound
    from app.services.monitoring import timeline

    name_database()
    try:
        with transaction(read_only=True) as session:
            lines = timeline.describe(session, UUID(job_id))
    except JobExpired as error:
        raise SystemExit(error.message) from None
    except (ValueError, JobNotFound):
        raise SystemExit(f"There is no job {job_id}.") from None
    for line in lines:
        say(line)


tenants_app.command("set")(set_limits)
server_app.add_typer(tenants_app, name="tenants")
server_app.add_typer(database_keys_app, name="keys")
server_app.add_typer(secrets_app, name="secrets")
server_app.add_typer(letters_app, name="dlq")
server_app.add_typer(folders_app, name="stores")
