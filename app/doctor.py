"""`pixtools doctor`: checks the settings and everything that PixTools depends on, and says how to repair it.

It checks only the machine that it runs on, not the disks or the network of other machines.
"""

import asyncio
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from app import migrations, private
from app.config import LOOPBACK_HOSTS, Settings
from app.database_errors import DATABASE_ERRORS
from app.errors import CannotStart, NotInstalled, PixToolsError
from app.imaging.recipe import Limits, Stage, Target
from app.operations import Queue
from app.services.monitoring.checks import Check, Health
from app.services.upkeep import secrets
from app.wiring import Resources, check_installed

FREE_BYTES = 1_000_000_000  # less free space causes a warning: a few large images would fill it
CONNECT_TIMEOUT = 2.0  # seconds
SMALLEST_PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49"
    "44415478da63f8ffff3f0005fe02fe331295140000000049454e44ae426082"
)
ADVICE = {
    "database": "start it, or correct PIXTOOLS_DATABASE_URL",
    "disk": "free space on the disks of PIXTOOLS_SPOOL_DIR and PIXTOOLS_DATA_DIR, or lower PIXTOOLS_MIN_FREE_BYTES",
    "storage": "start it, or correct PIXTOOLS_STORAGE_URL, PIXTOOLS_S3_ENDPOINT and the S3 keys; the bucket must exist",
    "redis": "start it, or correct PIXTOOLS_REDIS_URL and PIXTOOLS_RESULT_BACKEND",
    "broker": "start it, or correct PIXTOOLS_BROKER_URL",
    "workers": "start them: `pixtools worker --queue QUEUE`",
    "model": "start a worker for ml_inference_queue",
}


@dataclass(frozen=True)
class Finding:
    """The outcome of one check."""

    health: Health
    subject: str
    what: str
    #: how to repair it
    advice: str = ""

    def __str__(self) -> str:
        mark = {Health.OK: "ok  ", Health.DEGRADED: "note", Health.DOWN: "FAIL"}[self.health]
        return f"{mark}  {self.subject:<9} {self.what}{f' -> {self.advice}' if self.advice else ''}"


def examine(settings: Settings) -> Iterator[Finding]:
    """Run all checks, one after the other."""
    yield from _mode(settings)
    resources = Resources(settings)
    try:
        if settings.embedded and not settings.database_url and not _has_database(settings):
            yield Finding(Health.OK, "database", "will be made at the first start")
        else:
            yield from asyncio.run(_dependencies(resources))
            schema = _schema(settings)
            yield schema
            if schema.health is not Health.DOWN:
                yield from _secrets(resources)
            yield _access(settings, resources)
        yield _network(resources)
        spool = _spool(settings)
        yield spool
        if spool.health is not Health.DOWN:  # pixel processes need it
            yield _pixels(resources)
    finally:
        asyncio.run(resources.aclose())
    if settings.otlp_endpoint:
        yield _collector(settings.otlp_endpoint)


def _has_database(settings: Settings) -> bool:
    try:
        return (settings.data_dir / "pixtools.db").exists()
    except OSError:
        return False  # missing permissions are reported with the spool


def _mode(settings: Settings) -> Iterator[Finding]:
    """Report the mode, and settings that do not fit it."""
    if settings.embedded:
        yield Finding(Health.OK, "mode", f"embedded: one process, data in {settings.data_dir}")
        if private.is_open(settings.data_dir):
            what = f"other users of this machine can read {settings.data_dir}"
            yield Finding(Health.DEGRADED, "mode", what, f"chmod 700 {settings.data_dir}")
        if settings.database_url and not settings.database_url.startswith("sqlite"):
            yield Finding(
                Health.DEGRADED,
                "mode",
                "the database is for several processes, but the broker only for one",
                "name a broker with PIXTOOLS_BROKER_URL, or run only one process",
            )
        return
    yield Finding(Health.OK, "mode", "cluster: API and workers are separate processes")
    if settings.database.startswith("sqlite"):
        what = "the database is SQLite, which other machines cannot reach"
        yield Finding(Health.DOWN, "mode", what, "set PIXTOOLS_DATABASE_URL to postgresql://…")
    if settings.result_backend.startswith("cache+memory"):
        what = "the finished parts of a job are counted in memory, where other processes cannot see them"
        yield Finding(Health.DOWN, "mode", what, "set PIXTOOLS_RESULT_BACKEND to redis://…")
    if settings.storage.startswith("file:"):
        what = "objects are in a local folder"
        yield Finding(
            Health.DEGRADED, "mode", what, "share it between all processes, or set PIXTOOLS_STORAGE_URL=s3://…"
        )
    if not settings.public_url:
        what = "download links have the host that each request was sent to, also in webhooks"
        yield Finding(Health.DEGRADED, "mode", what, "set PIXTOOLS_PUBLIC_URL")


async def _dependencies(resources: Resources) -> list[Finding]:
    checks = await resources.checks.run()
    if resources.settings.embedded:
        checks = {name: check for name, check in checks.items() if name not in {"workers", "model"}}
    findings = [_dependency(name, check) for name, check in checks.items()]
    await resources.database.aclose()
    return findings


def _dependency(name: str, check: Check) -> Finding:
    if check.health is Health.OK:
        return Finding(Health.OK, name, f"answers in {check.seconds * 1000:.0f} ms")
    return Finding(check.health, name, check.error or check.health, ADVICE[name])


def _schema(settings: Settings) -> Finding:
    try:
        migrations.check(settings.database)
        here, wanted = migrations.state(settings.database)
    except CannotStart as error:
        return Finding(Health.DOWN, "schema", error.message)
    except Exception as error:  # noqa: BLE001 - any error of the driver; a database that is down is reported above
        return Finding(Health.DOWN, "schema", type(error).__name__, "see database")
    if here == wanted:
        return Finding(Health.OK, "schema", f"is at {here}")
    if settings.embedded:
        return Finding(Health.OK, "schema", f"is at {here or 'nothing'}; the next start migrates it to {wanted}")
    what = f"is at {here or 'nothing'}, but this version needs {wanted}"
    return Finding(Health.DOWN, "schema", what, "pixtools migrate")


def _secrets(resources: Resources) -> Iterator[Finding]:
    """Check that the secrets in the database are encrypted with the current key."""
    try:
        with resources.database.session(read_only=True) as session:
            outdated = secrets.outdated(session)
    except CannotStart as error:
        yield Finding(Health.DOWN, "secrets", error.message)
    except DATABASE_ERRORS:
        return  # reported above, or the tables do not exist yet
    else:
        if outdated:
            what = f"{outdated} secrets in the database are not encrypted with the current key"
            yield Finding(Health.DEGRADED, "secrets", what, "pixtools secrets rotate")
        else:
            yield Finding(Health.OK, "secrets", "are encrypted with the current key")


def _access(settings: Settings, resources: Resources) -> Finding:
    try:
        is_open = resources.door.is_open_now()
    except Exception as error:  # noqa: BLE001 - as above
        return Finding(Health.DOWN, "access", type(error).__name__, "see database and schema")
    if not is_open:
        return Finding(Health.OK, "access", "requests need an API key")
    if settings.open_access:
        what = "there is no API key, and every client that reaches the API may do everything"
        return Finding(Health.DEGRADED, "access", what, "pixtools keys create")
    if settings.host in LOOPBACK_HOSTS:
        return Finding(Health.OK, "access", "only open to this machine, because there is no API key")
    what = f"there is no API key, so the API does not start on {settings.host}"
    return Finding(Health.DOWN, "access", what, "pixtools keys create")


def _network(resources: Resources) -> Finding:
    try:
        resources.check_network()
    except NotInstalled as error:
        return _not_installed("weights", error, resources.settings)
    except PixToolsError as error:
        return Finding(Health.DOWN, "weights", error.message)
    files = resources.settings.weights_by_profile.values()
    return Finding(Health.OK, "weights", ", ".join(map(str, files)))


def _not_installed(subject: str, error: NotInstalled, settings: Settings) -> Finding:
    """A failure in embedded mode only: in a cluster the API does not need the library, and workers check for it."""
    return Finding(Health.DOWN if settings.embedded else Health.OK, subject, error.message)


def _spool(settings: Settings) -> Finding:
    try:
        settings.spool.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=settings.spool) as file:
            file.write(b"pixtools")
    except OSError as error:
        advice = "make it writable, or choose another folder with PIXTOOLS_SPOOL_DIR"
        return Finding(Health.DOWN, "spool", f"{settings.spool}: {os.strerror(error.errno or 0)}", advice)
    free = shutil.disk_usage(settings.spool).free
    if free < settings.min_free_bytes:
        what = (
            f"{settings.spool}: {free / 1e9:.3g} GB free; below {settings.min_free_bytes / 1e9:.3g} uploads are refused"
        )
        return Finding(Health.DOWN, "spool", what, "free space, or lower PIXTOOLS_MIN_FREE_BYTES")
    health = Health.OK if free >= FREE_BYTES else Health.DEGRADED
    advice = "" if health is Health.OK else "free space, or choose another disk with PIXTOOLS_SPOOL_DIR"
    return Finding(health, "spool", f"{settings.spool}: {free / 1e9:.1f} GB free", advice)


def _pixels(resources: Resources) -> Finding:
    """Encode one pixel in a separate process, as steps do."""
    try:
        check_installed(Queue.DEFAULT)
        with tempfile.TemporaryDirectory(dir=resources.settings.spool) as folder:
            source, target = Path(folder) / "source", Path(folder) / "result"
            source.write_bytes(SMALLEST_PNG)
            targets = [Target(path=target, op="convert_webp", params={})]
            limits = Limits(pixels=1, side=1)
            resources.sandbox.render(source, list[Stage](), targets, limits, timeout=30)
    except NotInstalled as error:
        return _not_installed("pixels", error, resources.settings)
    except (PixToolsError, OSError) as error:
        advice = "raise PIXTOOLS_PIXEL_PROCESS_MEMORY_BYTES; the log above may say more"
        return Finding(Health.DOWN, "pixels", getattr(error, "message", type(error).__name__), advice)
    return Finding(Health.OK, "pixels", "a pixel process decodes and encodes")


def _collector(endpoint: str) -> Finding:
    parts = urlsplit(endpoint)
    try:
        address = (parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
        socket.create_connection(address, CONNECT_TIMEOUT).close()
    except OSError as error:
        what = f"the collector of traces does not answer: {type(error).__name__}"
        advice = "start it, or correct PIXTOOLS_OTLP_ENDPOINT; PixTools works without it"
        return Finding(Health.DEGRADED, "traces", what, advice)
    return Finding(Health.OK, "traces", f"go to {parts.hostname}")


Print = Callable[[str], None]


def report(findings: Iterable[Finding], show: Print) -> bool:
    """Show each finding as soon as it is available; returns True if no check failed."""
    found = [Health.OK]
    for finding in findings:
        show(str(finding))
        found.append(finding.health)
    return Health.DOWN not in found
