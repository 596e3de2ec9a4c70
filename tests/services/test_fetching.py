"""The task that fetches an input, over a real database: what it records, and what dies or comes between."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, update
from uuid_utils.compat import uuid7

from app.database import Database
from app.keyring import Keyring
from app.models import DueTask, Job, Step, TenantRecord
from app.services import jobs, sources, steps
from app.services.access.limits import TenantLimits
from app.services.dag_builder import FETCH_INPUT, INPUT, Plan, plan
from app.services.execution import fetching
from app.services.execution.buckets import BucketClient
from app.services.execution.fetching import Fetcher
from app.services.execution.web import FetchLimits, WebClient
from app.services.intake.operation_tree import TreeLimits, parse_tree
from app.services.intake.rules import ImageLimits, InputRules
from app.services.sources import ResultSource, Source, UrlSource
from app.services.storage.keys import job_prefix
from app.services.storage.local import LocalFolder
from app.services.storage.places import Places
from app.services.upkeep import reconciler, secrets
from app.services.upkeep.retention import find_orphans
from app.services.webhooks.egress import SOURCES, Egress
from app.services.webhooks.host_limits import HostLimits
from tests.support.connecting import LoopbackOnly
from tests.support.executing import Failing, attempts_of
from tests.support.receiver import Behaviour, Handler, Receiver, answer, receiving
from tests.support.work import (
    KEYS,
    LEASE,
    LONG_AGO,
    MAX_ATTEMPTS,
    OUTCOME,
    OVER,
    change,
    claim,
    claimed,
    fail,
    job_of,
    messages,
    run_task,
    states,
    step_of,
)

TREE: list[Any] = [{"op": "resize", "width": 100, "then": ["convert_webp"]}, "flip", "metadata"]
PLENTY = TenantLimits(
    requests_per_minute=1000,
    max_open_jobs=1000,
    max_bytes_per_day=10**9,
    max_pixels_per_day=10**9,
    max_storage_bytes=10**9,
)
FETCH_LIMITS = FetchLimits(bytes=1_000_000, seconds=60, redirects=3)
IDLE = {"default_queue": 0, "ml_inference_queue": 0, "webhook_queue": 0, "small_queue": 0, "fetch_queue": 0}


@pytest.fixture
def fetcher(database: Database, storage: LocalFolder, tmp_path: Path) -> Fetcher:
    egress = Egress(frozenset(), (ip_network("127.0.0.0/8"),), purpose=SOURCES, connector=LoopbackOnly())
    return Fetcher(
        database=database,
        storage=storage,
        spool=tmp_path / "spool",
        lease_seconds=LEASE,
        max_attempts=MAX_ATTEMPTS,
        web=WebClient(
            egress=egress,
            host_limits=HostLimits(4, 16),
            limits=FETCH_LIMITS,
        ),
        buckets=BucketClient(places=Places(), host_limits=HostLimits(4, 16), limits=FETCH_LIMITS),
        rules=InputRules(
            image_limits=ImageLimits(pixels=1_000_000, side=2000, frames=10, heic=False), memory_bytes=None
        ),
        tenant_limits=PLENTY,
    )


def accept(database: Database, source: Source, tree: list[Any] = TREE) -> UUID:
    raw, branches = parse_tree(json.dumps(tree), TreeLimits(nodes=40, depth=5, bytes=10_000))
    new = jobs.NewJob(
        id=uuid7(),
        operations=raw,
        branches=branches,
        plan=plan(branches, None),
        webhook_url=None,
        base_url="http://pixtools.test",
        filename=sources.filename_of(source),
        source=source,
        kept_seconds=3600,
    )
    with database.session() as session:
        jobs.accept(session, new)
    return new.id


@contextmanager
def accepted(database: Database, *behaviours: Behaviour, tree: list[Any] = TREE) -> Iterator[tuple[UUID, Receiver]]:
    """A job whose input a site has."""
    with receiving(*behaviours) as site:
        yield (
            accept(database, UrlSource(url=f"{site.origin}/a%20b.jpg?token=1", headers={"X-Key": "s3cret"}), tree),
            site,
        )


def error_of(database: Database, job_id: UUID) -> str | None:
    error = step_of(database, job_id, INPUT).error
    return error["code"] if error else None


def objects(storage: LocalFolder, job_id: UUID) -> list[str]:
    prefix = job_prefix(job_id)
    return sorted(key.removeprefix(prefix) for key, _ in storage.entries(prefix))


def due(database: Database) -> set[tuple[str, str]]:
    with database.session(read_only=True) as session:
        return {(row.task, row.name) for row in session.scalars(select(DueTask))}


def test_a_job_begins_with_its_fetch_and_knows_nothing_yet(database: Database) -> None:
    with accepted(database, answer(404)) as (job_id, site):
        assert messages(database) == [(FETCH_INPUT, [str(job_id), INPUT], 0)]
        job = job_of(database, job_id)
        assert job.input_filename == "a b.jpg"
        assert (job.input_format, job.input_width, job.input_sha256) == (None, None, None)
        assert [step.id for step in job.steps] == [INPUT, "0", "0.0", "1", "2"]
        assert claim(database, job_id, "0.0") is None, "nothing starts before the input is there"
        text = json.dumps(job.input_source)
        assert "s3cret" not in text
        assert "token" not in text
        assert job.input_source is not None
        assert job.input_source["shown"] == {"url": f"{site.origin}/a%20b.jpg"}


def test_a_fetch_completes_the_job_and_makes_its_work_due(
    database: Database, fetcher: Fetcher, storage: LocalFolder, photo: bytes
) -> None:
    with accepted(database, answer(200, photo, etag='"1"')) as (job_id, site):
        fetcher.run(job_id, INPUT, "worker")
        assert site.requests[0].headers["x-key"] == "s3cret"
    job = job_of(database, job_id)
    assert (job.input_format, job.input_width, job.input_height, job.input_bytes) == ("jpeg", 640, 480, len(photo))
    assert job.input_sha256 == hashlib.sha256(photo).hexdigest()
    assert job.input_source is not None
    assert job.input_source["etag"] == '"1"'
    results = {task.id: task.result.encoder for task in Plan.from_json(job.plan).tasks if task.result}
    assert results == {"0.0": "convert_webp", "1": "convert_jpeg", "2": "metadata"}
    assert due(database) == {("0.0", "pixtools.convert_webp"), ("1", "pixtools.flip"), ("2", "pixtools.metadata")}
    assert states(database, job_id)[INPUT] == "succeeded"
    assert objects(storage, job_id) == ["input-1.1"]
    assert attempts_of(database, job_id) == {INPUT: [(1, "succeeded")]}
    with database.session(read_only=True) as session:
        tenant = session.get(TenantRecord, "default")
        assert tenant is not None
        assert tenant.stored_bytes >= len(photo)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty_file"),
        (b"no image at all", "unsupported_image"),
        (b"x" * 1_000_001, "upload_too_large"),
        ("cut", "truncated_image"),
        ("wide", "limit_exceeded"),
    ],
)
def test_what_a_form_would_have_refused_fails_with_the_same_code(
    database: Database, fetcher: Fetcher, storage: LocalFolder, photo: bytes, content: Any, code: str
) -> None:
    if content == "wide":
        fetcher = replace(
            fetcher, rules=InputRules(image_limits=replace(fetcher.rules.image_limits, side=600), memory_bytes=None)
        )
    body = (
        {"cut": photo[: len(photo) // 2], "wide": photo}.get(content, content) if isinstance(content, str) else content
    )
    with accepted(database, answer(200, body)) as (job_id, _):
        fetcher.run(job_id, INPUT, "worker")
    job = job_of(database, job_id)
    assert (job.status, error_of(database, job_id)) == ("failed", code)
    assert job.error is not None
    assert job.error["code"] == code
    assert set(states(database, job_id).values()) == {"failed", "skipped"}
    assert job.input_format is None
    assert objects(storage, job_id) == []


def test_a_tree_that_needs_too_much_memory_fails_like_its_form(
    database: Database, fetcher: Fetcher, photo: bytes
) -> None:
    small = replace(fetcher, rules=replace(fetcher.rules, memory_bytes=1_000_000))
    with accepted(database, answer(200, photo), tree=["convert_avif"]) as (job_id, _):
        small.run(job_id, INPUT, "worker")
    assert error_of(database, job_id) == "limit_exceeded"


def test_a_tenant_that_has_used_its_day_up_is_told_so_at_once(
    database: Database, fetcher: Fetcher, storage: LocalFolder, photo: bytes
) -> None:
    poor = replace(fetcher, tenant_limits=replace(PLENTY, max_bytes_per_day=10))
    with accepted(database, answer(200, photo)) as (job_id, _):
        poor.run(job_id, INPUT, "worker")
    assert error_of(database, job_id) == "daily_limit_reached"
    assert job_of(database, job_id).status == "failed"
    assert objects(storage, job_id) == []
    assert due(database) == set()


def test_failures_that_may_pass_are_tried_again_at_the_fetch_queue(
    database: Database, fetcher: Fetcher, photo: bytes
) -> None:
    with accepted(database, answer(503, retry_after="7"), answer(500), answer(200, photo)) as (job_id, _):
        messages(database)
        fetcher.run(job_id, INPUT, "worker")
        assert messages(database) == [(FETCH_INPUT, [str(job_id), INPUT], 7)]
        assert error_of(database, job_id) == "source_unavailable"
        fetcher.run(job_id, INPUT, "worker")
        assert messages(database) == [(FETCH_INPUT, [str(job_id), INPUT], 4)]
        fetcher.run(job_id, INPUT, "worker")
    assert [outcome for _, outcome in attempts_of(database, job_id)[INPUT]] == ["failed", "failed", "succeeded"]


def test_a_host_that_is_busy_costs_no_attempt(database: Database, fetcher: Fetcher, photo: bytes) -> None:
    class Full(HostLimits):
        def _has_place(self, _attempt: object) -> bool:
            return False

    with accepted(database, answer(200, photo)) as (job_id, _):
        messages(database)
        replace(fetcher, web=replace(fetcher.web, host_limits=Full(1, 1))).run(job_id, INPUT, "worker")
        assert (step_of(database, job_id, INPUT).attempts, error_of(database, job_id)) == (0, "source_busy")
        ((_, _, delay),) = messages(database)
        assert delay >= 1
        fetcher.run(job_id, INPUT, "worker")
    assert states(database, job_id)[INPUT] == "succeeded"


def test_a_killed_fetch_is_fetched_again_and_the_slow_one_changes_nothing(
    database: Database, fetcher: Fetcher, storage: LocalFolder, photo: bytes
) -> None:
    """The first attempt is cut off in its middle; its lease ends, a second one succeeds, and then it goes on."""
    other = photo + b"\0"

    def meanwhile(handler: Handler) -> None:
        change(database, update(Step).where(Step.id == INPUT).values(lease_until=jobs.from_now(OVER)))
        with database.session() as session:
            assert reconciler.sweep(session, redispatch_seconds=900, waiting=IDLE.__getitem__).expired == 1
        fetcher.run(job_id, INPUT, "second")
        answer(200, other)(handler)

    with accepted(database, meanwhile, answer(200, photo)) as (job_id, _):
        fetcher.run(job_id, INPUT, "first")
    job = job_of(database, job_id)
    assert job.input_sha256 == hashlib.sha256(photo).hexdigest()
    assert objects(storage, job_id) == ["input-1.2"]
    assert job.input_key.endswith("input-1.2")
    assert attempts_of(database, job_id)[INPUT] == [(1, "lost"), (2, "succeeded")]


def test_a_death_between_the_object_and_its_row_is_repaired(
    database: Database, fetcher: Fetcher, storage: LocalFolder, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: Any) -> None:
        raise Killed

    with accepted(database, answer(200, photo)) as (job_id, _):
        with monkeypatch.context() as patch:
            patch.setattr("app.services.execution.fetching._record", die)
            with pytest.raises(Killed):
                fetcher.run(job_id, INPUT, "worker")
        assert objects(storage, job_id) == ["input-1.1"]
        assert job_of(database, job_id).input_sha256 is None
        fetcher.run(job_id, INPUT, "worker")  # the same message again
    assert states(database, job_id)[INPUT] == "succeeded"


def test_a_database_that_is_away_loses_nothing(
    database: Database, fetcher: Fetcher, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "_record", Failing(fetching._record, 2))
    with accepted(database, answer(200, photo)) as (job_id, _):
        fetcher.run(job_id, INPUT, "worker")
    assert states(database, job_id)[INPUT] == "succeeded"


@pytest.mark.parametrize("end", [jobs.cancel, jobs.stop])
def test_a_job_that_ends_while_its_input_comes_keeps_nothing(
    database: Database, fetcher: Fetcher, storage: LocalFolder, photo: bytes, end: Any
) -> None:
    def meanwhile(handler: Handler) -> None:
        with database.session() as session:
            end(session, job_id)
            if end is jobs.stop:
                jobs.remove(session, job_id)
        answer(200, photo)(handler)

    with accepted(database, meanwhile) as (job_id, _):
        fetcher.run(job_id, INPUT, "worker")
    assert objects(storage, job_id) == []
    if end is jobs.cancel:
        assert set(states(database, job_id).values()) == {"cancelled"}


def test_a_retry_fetches_again_only_if_the_object_is_gone(
    database: Database, fetcher: Fetcher, storage: LocalFolder, photo: bytes
) -> None:
    with accepted(database, answer(200, photo, etag='"1"'), tree=["flip", "convert_webp"]) as (job_id, site):
        fetcher.run(job_id, INPUT, "worker")
        run_task(database, job_id, "0")
        for gone, expected in ((False, "succeeded"), (True, "pending")):
            assert fail(database, claimed(database, job_id, "1"))
            with database.session() as session:
                jobs.retry(session, job_id, kept_seconds=60, refetch=gone)
            assert states(database, job_id) == {INPUT: expected, "0": "succeeded", "1": "pending"}
        fetcher.run(job_id, INPUT, "worker")
        assert states(database, job_id) == {INPUT: "succeeded", "0": "succeeded", "1": "pending"}
        assert "input-3.1" in objects(storage, job_id)
        assert len(site.requests) == 2


@pytest.mark.parametrize(("etag", "more"), [('"2"', b""), ('"1"', b"\0")])
def test_another_file_than_before_is_told(
    database: Database, fetcher: Fetcher, photo: bytes, etag: str, more: bytes
) -> None:
    behaviours = answer(200, photo, etag='"1"'), answer(200, photo + more, etag=etag)
    with accepted(database, *behaviours, tree=["flip"]) as (job_id, _):
        fetcher.run(job_id, INPUT, "worker")
        assert fail(database, claimed(database, job_id, "0"))
        with database.session() as session:
            jobs.retry(session, job_id, kept_seconds=60, refetch=True)
        fetcher.run(job_id, INPUT, "worker")
    assert error_of(database, job_id) == "source_changed"
    assert job_of(database, job_id).status == "failed"


def test_a_fetch_whose_message_was_lost_is_sent_again(database: Database) -> None:
    with accepted(database, answer(404)) as (job_id, _):
        messages(database)
        ago = jobs.from_now(-LONG_AGO)
        change(database, update(Job).values(dispatched_at=ago, created_at=ago))
        with database.session() as session:
            waiting = {**IDLE, "fetch_queue": 3}
            assert reconciler.sweep(session, redispatch_seconds=900, waiting=waiting.__getitem__).silent == 0
        with database.session() as session:
            assert reconciler.sweep(session, redispatch_seconds=900, waiting=IDLE.__getitem__).silent == 1
        assert [args for _, args, _ in messages(database)] == [[str(job_id)]]


def test_a_job_without_its_input_is_no_orphan(database: Database, storage: LocalFolder) -> None:
    with accepted(database, answer(404)):
        assert find_orphans(database, storage).rows == []


def test_a_result_of_another_job_is_copied(
    database: Database, fetcher: Fetcher, storage: LocalFolder, photo: bytes, tmp_path: Path
) -> None:
    with accepted(database, answer(200, photo), tree=["flip"]) as (first, _):
        fetcher.run(first, INPUT, "worker")
    made = claimed(database, first, "0")
    path = tmp_path / "result"
    path.write_bytes(photo)
    storage.upload_processed("jobs/x/results/0.jpg", path, content_type="image/jpeg")
    digest = hashlib.sha256(photo).hexdigest()
    outcome = replace(OUTCOME, key="jobs/x/results/0.jpg", bytes=len(photo), sha256=digest)
    with database.session() as session:
        assert steps.succeed(session, made, {"0": [outcome]})
    second = accept(database, ResultSource(job=first, result="flip"), ["convert_webp"])
    fetcher.run(second, INPUT, "worker")
    job = job_of(database, second)
    assert (job.input_sha256, job.input_source) == (
        hashlib.sha256(photo).hexdigest(),
        {"shown": {"job": str(first), "result": "flip"}},
    )
    assert objects(storage, second) == ["input-1.1"]
    third = accept(database, ResultSource(job=uuid4(), result="flip"), ["convert_webp"])
    fetcher.run(third, INPUT, "worker")
    assert error_of(database, third) == "source_not_found"


def test_another_key_reads_and_encrypts_what_an_older_one_has(database: Database) -> None:
    with accepted(database, answer(404)) as (job_id, site):
        new = Database(
            database.url().render_as_string(hide_password=False).replace("+psycopg", ""),
            keyring=lambda: Keyring.of(f"another key of the tests,{KEYS}"),
        )
        try:
            with new.session() as session:
                assert secrets.outdated(session) == 1
            assert secrets.rotate_all(new).sealed == 1
            with new.session() as session:
                assert secrets.outdated(session) == 0
                job = session.get(Job, job_id)
                assert job is not None
                source = sources.opened(session, job)
            assert source == UrlSource(url=f"{site.origin}/a%20b.jpg?token=1", headers={"X-Key": "s3cret"})
        finally:
            new.close()
