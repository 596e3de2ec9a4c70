"""CPU time, WAL and disk space of PostgreSQL per job that is accepted, claimed, finished, listed and removed.

    make bench NAME=postgres ARGS="--jobs 100000"

The service's own functions run in this process, each in its own transaction, on a private PostgreSQL; the CPU time of
all processes of the server counts. Before that, SQL fills the tables with copies of one finished job. The server and
its data are removed at the end.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from sqlalchemy import text, update
from uuid_utils.compat import uuid7

from app import migrations
from app.database import Database
from app.imaging.probe import ImageHeader
from app.models import Job
from app.services import jobs, steps
from app.services.dag_builder import plan
from app.services.intake.operation_tree import TreeLimits, parse_tree
from app.services.steps import Claim, StoredResult, Usage
from app.services.storage.local import LocalFolder
from app.services.upkeep.retention import remove_expired_jobs
from benchmarks.processes import cpu_seconds, family
from tests.support.servers import PostgreSQL

TREE = '["convert_webp"]'
KEPT_SECONDS = 86_400
PAGE = 50  # jobs per page of a list
FILL = 100_000  # jobs per statement
TABLES = ("job_steps", "step_attempts", "job_results")
SHA = "0" * 64


@dataclass(frozen=True)
class Measured:
    """The cost of a phase per job or per page: times in seconds, WAL and disk space in bytes."""

    phase: str
    times: int
    cpu: float
    wall: float
    wal: float
    #: None if it does not apply
    disk: float | None

    def __str__(self) -> str:
        disk = "" if self.disk is None else f"{self.disk / 1000:.1f}"
        milliseconds = f"{self.cpu * 1000:.2f} | {self.wall * 1000:.2f}"
        return f"| {self.phase} | {self.times} | {milliseconds} | {self.wal / 1000:.1f} | {disk} |"


HEADING = "| phase | times | CPU, ms | clock, ms | WAL, kB | disk, kB |\n|---|---:|---:|---:|---:|---:|"


@dataclass(frozen=True)
class Bench:
    """A database, and the main process of its server, for measurements."""

    database: Database
    pid: int

    def run(self, phase: str, times: int, work: Callable[[], object], *, disk: bool = False) -> Measured:
        before, sizes, began = self._used(), self._bytes(), time.perf_counter()
        work()
        wall = time.perf_counter() - began
        cpu, wal = (now - then for now, then in zip(self._used(), before, strict=True))
        grown = (self._bytes() - sizes) / times if disk else None
        return Measured(phase, times, cpu / times, wall / times, wal / times, grown)

    def _used(self) -> tuple[float, float]:
        with self.database.session(read_only=True) as session:
            wal = session.scalar(text("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"))
        return cpu_seconds(family([self.pid])), float(wal or 0)

    def _bytes(self) -> float:
        with self.database.session(read_only=True) as session:
            return float(session.scalar(text("SELECT pg_database_size(current_database())")) or 0)


def new_job() -> jobs.NewJob:
    operations, branches = parse_tree(TREE, TreeLimits(nodes=32, depth=8, bytes=65_536))
    return jobs.NewJob(
        id=uuid7(),
        operations=operations,
        branches=branches,
        plan=plan(branches, "jpeg"),
        webhook_url=None,
        base_url="http://127.0.0.1:8000",
        filename="photo.jpg",
        header=ImageHeader("jpeg", 1600, 1200),
        bytes=400_000,
        sha256=SHA,
        kept_seconds=KEPT_SECONDS,
    )


def accept(database: Database, times: int) -> list[UUID]:
    template, ids = new_job(), [uuid7() for _ in range(times)]
    for job_id in ids:
        with database.session() as session:
            jobs.accept(session, replace(template, id=job_id))
    return ids


def claim(database: Database, ids: Sequence[UUID]) -> list[Claim]:
    claims = []
    for job_id in ids:
        with database.session() as session:
            held = steps.claim(session, job_id, "0", owner="benchmark", lease_seconds=60, max_attempts=5)
        assert held
        claims.append(held)
    return claims


def finish(database: Database, claims: Sequence[Claim]) -> None:
    usage = Usage(cpu_seconds=0.2, pixels=1_920_000, bytes_in=400_000, bytes_out=100_000)
    for held in claims:
        result = StoredResult(
            key=f"jobs/{held.job.id}/results/0",
            filename="photo-convert_webp.webp",
            format="webp",
            content_type="image/webp",
            width=1600,
            height=1200,
            bytes=100_000,
            sha256=SHA,
        )
        with database.session() as session:
            assert steps.succeed(session, held, {held.task.id: [result]}, usage=usage)


def read_pages(database: Database, times: int) -> None:
    cursor = None
    for _ in range(times):
        with database.session(read_only=True) as session:
            _, cursor = jobs.list_page(session, limit=PAGE, cursor=cursor)


def remove(database: Database, storage: LocalFolder, ids: Sequence[UUID]) -> None:
    left = len(ids)
    while left > 0:
        with database.session() as session:
            removal = remove_expired_jobs(session, storage)
        assert removal.removed
        left -= len(removal.removed)


def expire(database: Database, ids: Sequence[UUID]) -> None:
    with database.session() as session:
        past = datetime.now(UTC) - timedelta(hours=1)
        session.execute(update(Job).where(Job.id.in_(ids)).values(expires_at=past))


def fill(database: Database, number: int) -> None:
    """Insert copies of one finished job, spread over the last 24 hours."""
    (sample,) = accept(database, 1)
    finish(database, claim(database, [sample]))
    for first in range(0, number, FILL):
        with database.session() as session:
            session.execute(text("CREATE TEMP TABLE copies (number int, id uuid) ON COMMIT DROP"))
            session.execute(
                text(
                    "INSERT INTO copies SELECT number, (lpad(to_hex((extract(epoch FROM now()) * 1000)::bigint"
                    " - 86400000 + number * 86400000::bigint / :number), 12, '0') || '7'"
                    " || substr(md5(number::text), 1, 3) || '8' || substr(md5(number::text), 4, 15))::uuid"
                    " FROM generate_series(CAST(:first AS int), CAST(:last AS int)) AS number"
                ),
                {"number": number, "first": first, "last": min(first + FILL, number) - 1},
            )
            session.execute(text(_copy(database, "jobs", "id")), {"sample": sample})
            for table in TABLES:
                session.execute(text(_copy(database, table, "job_id")), {"sample": sample})
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
        connection.execute(text("CHECKPOINT"))


def _copy(database: Database, table: str, key: str) -> str:
    """SQL that inserts the sample's rows for each copy; generated columns and sequences get their own values."""
    with database.session(read_only=True) as session:
        found = session.execute(
            text(
                "SELECT column_name FROM information_schema.columns"
                " WHERE table_name = :table AND is_generated = 'NEVER'"
                " AND is_identity = 'NO' AND coalesce(column_default, '') NOT LIKE 'nextval%' ORDER BY ordinal_position"
            ),
            {"table": table},
        )
        columns = [str(name) for (name,) in found]
    values = ["copies.id" if name == key else f'sample."{name}"' for name in columns]
    names = ", ".join(f'"{name}"' for name in columns)
    source = f'{table} AS sample, copies WHERE sample."{key}" = :sample'
    return f"INSERT INTO {table} ({names}) SELECT {', '.join(values)} FROM {source}"


def measure(bench: Bench, storage: LocalFolder, times: int) -> Iterator[Measured]:
    ids: list[UUID] = []
    claims: list[Claim] = []
    yield bench.run("accept", times, lambda: ids.extend(accept(bench.database, times)), disk=True)
    yield bench.run("claim", times, lambda: claims.extend(claim(bench.database, ids)), disk=True)
    yield bench.run("finish", times, lambda: finish(bench.database, claims), disk=True)
    yield bench.run(f"list {PAGE}", times, lambda: read_pages(bench.database, times))
    expire(bench.database, ids)
    yield bench.run("remove", times, lambda: remove(bench.database, storage, ids))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100_000, help="in the tables")
    parser.add_argument("--times", type=int, default=1000, help="jobs that are measured")
    options = parser.parse_args()
    with ExitStack() as ends:
        folder = Path(ends.enter_context(tempfile.TemporaryDirectory()))
        server = ends.enter_context(PostgreSQL(folder / "postgresql"))
        url = server.create_database("benchmark")
        migrations.upgrade(url)
        database = Database(url)
        ends.callback(database.close)
        began = time.monotonic()
        fill(database, options.jobs)
        with database.session(read_only=True) as session:
            size = int(session.scalar(text("SELECT pg_database_size(current_database())")) or 0)
        seconds = time.monotonic() - began
        print(f"{options.jobs:,} jobs: {size / options.jobs / 1000:.2f} kB each on disk, filled in {seconds:.0f} s")
        bench = Bench(database, int((server.data / "postmaster.pid").read_text().split()[0]))
        storage = LocalFolder(folder / "objects")
        accept(database, 20)  # warm-up of connections, plans and caches
        print(HEADING, *measure(bench, storage, options.times), sep="\n")


if __name__ == "__main__":
    main()
