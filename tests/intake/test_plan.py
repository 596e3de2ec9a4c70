"""Plans: what would come out, exactly where it can be known, and every mistake at once; nothing is made."""

import json
import random
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select

from app.database import Base, Database
from app.imaging import geometry
from app.operations import OPERATIONS
from app.services.intake import costs
from app.services.storage.local import LocalFolder
from tests.conftest import make_photo
from tests.intake.test_assets import render
from tests.support.executing import executor_with
from tests.support.sampling import sampled
from tests.support.submitting import accepted, asked, call, submit
from tests.support.tenants import Belongings, Service
from tests.support.trees import random_tree
from tests.support.work import job_of, messages

ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
FACTS = {"format": "jpeg", "width": 4000, "height": 3000, "bytes": 2_000_000}
TREES = sampled(12)
PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAP///wAAACwAAAAAAQABAAACAkQBADs="


def plan(service: Service, key: str | None = None, **members: Any) -> Any:
    return call(service, "POST", "/plan", key, json={"input": {"facts": FACTS}, **members})


@ON_SQLITE
def test_a_plan_tells_names_sizes_and_formats(service: Service) -> None:
    tree = [
        "convert_avif",
        {"op": "resize", "width": 1000, "then": ["convert_webp", {"op": "crop", "width": 300, "height": 2000}]},
        {"op": "trim", "as": "cut", "then": []},
        "metadata",
        {"op": "denoise"},
    ]
    shown = plan(service, operations=tree).json()
    results = [(r["name"], r["format"], r["width"], r["height"]) for r in shown["results"]]
    assert results == [
        ("convert_avif", "avif", 4000, 3000),
        ("resize.convert_webp", "webp", 1000, 750),
        ("resize.crop", "jpeg", 300, 750),
        ("cut", "jpeg", None, None),
        ("metadata", "json", None, None),
        ("denoise", "png", 4000, 3000),
    ]
    assert shown["input"] == FACTS
    assert [step["op"] for step in shown["steps"]][:3] == ["convert_avif", "resize", "convert_webp"]
    assert (shown["cpu_seconds"], shown["bytes"]) == (None, None), "what is trimmed decides"
    known = plan(service, operations=[tree[0], tree[1]]).json()
    assert known["cpu_seconds"] > 0.5
    assert known["memory_bytes"] > 4000 * 3000 * 20
    assert known["bytes"] == sum(result["bytes"] for result in known["results"])


@ON_SQLITE
def test_a_plan_has_every_file_of_a_set(service: Service) -> None:
    node = {"op": "web", "widths": [320, 9000], "formats": ["webp"], "as": "hero"}
    told = plan(service, operations=[node]).json()
    assert [(r["name"], r["format"], r["width"], r["height"]) for r in told["results"]] == [
        ("hero.320.webp", "webp", 320, 240),
        ("hero.4000.webp", "webp", 4000, 3000),
        ("hero.manifest.json", "json", None, None),
        ("hero.picture.html", "html", None, None),
    ]
    assert told["bytes"] == sum(result["bytes"] for result in told["results"])
    one = plan(service, operations=[{"op": "convert_webp"}]).json()
    assert one["cpu_seconds"] < told["cpu_seconds"] < 1.5 * one["cpu_seconds"]
    stepped = plan(service, operations=[{**node, "widths": None, "bytes_step": 9000}]).json()
    assert next((r["name"], r["width"], r["bytes"]) for r in stepped["results"]) == ("hero.{width}.webp", None, None)
    assert (stepped["cpu_seconds"], stepped["bytes"]) == (None, None)
    assert stepped["memory_bytes"] < told["memory_bytes"], "1920 pixels at most"


@pytest.mark.slow
@ON_SQLITE
def test_plans_and_jobs_agree_on_random_trees(service: Service, database: Database, tmp_path: Path) -> None:
    chance = random.Random(20)
    photo = make_photo(413, 307, orientation=6)
    storage = service.resources.storage
    assert isinstance(storage, LocalFolder)
    executor = executor_with(render, database, storage, tmp_path)
    for _ in range(TREES):
        tree = random_tree(chance)
        planned, job = _planned_and_accepted(service, photo, tree)
        messages(database)
        for task in job_of(database, UUID(job)).plan["tasks"]:
            executor.run(UUID(job), task["id"], "worker")
        results = {r.name: (r.format, r.width, r.height) for r in job_of(database, UUID(job)).results}
        assert {r["name"]: (r["format"], r["width"], r["height"]) for r in planned["results"]} == results, tree


def _planned_and_accepted(service: Service, photo: bytes, tree: list[Any]) -> tuple[Any, str]:
    async def send(client: Any) -> tuple[Any, str]:
        form = {"data": {"operations": json.dumps(tree)}, "files": {"file": ("a.jpg", photo)}}
        planned, job = [await client.post(path, **form) for path in ("/plan", "/process")]
        assert (planned.status_code, job.status_code) == (200, 202), planned.text
        assert planned.json()["steps"] == [
            {"id": step["id"], "op": step["op"], "queue": step["queue"], "task": task["task"]}
            for step, task in zip(job.json()["steps"], planned.json()["steps"], strict=True)
        ]
        return planned.json(), job.json()["id"]

    found: tuple[Any, str] = asked(service, send)
    return found


@ON_SQLITE
def test_every_mistake_is_told_as_submitting_would_tell_the_first(service: Service) -> None:
    wrong: dict[str, Any] = {
        "operations": [{"op": "resize", "width": 0}, "explode"],
        "tags": {"a": 1},
        "keep_seconds": 10**9,
        "webhook_url": "no-url",
        "priority": 11,
    }
    shown = plan(service, input={"facts": {**FACTS, "width": 20_000}}, **wrong).json()
    assert {entry["pointer"] for entry in shown["errors"]} == {
        *("#/priority", "#/tags/a", "#/keep_seconds", "#/webhook_url"),
        *("#/operations/0/width", "#/operations/1/op"),
    }, "without a tree it cannot be said what is wrong with the image"
    assert all(entry["code"] for entry in shown["errors"])
    submitted = call(service, "POST", "/process", json={"input": {"url": PIXEL}, **wrong}).json()
    assert (shown["status"], shown["code"]) == (submitted["status"], submitted["code"])
    large = plan(service, operations=["flip"], keep_seconds=10**9, input={"facts": {**FACTS, "width": 20_000}}).json()
    assert [(entry["code"], entry["pointer"]) for entry in large["errors"]] == [
        ("keep_too_long", "#/keep_seconds"),
        ("limit_exceeded", "#/input/facts"),
    ]
    form = submit(service, path="/plan", operations=["explode"], tags="x", priority="12")
    assert {entry["pointer"] for entry in form.json()["errors"]} == {"#/priority", "#/tags", "#/operations/0/op"}


@ON_SQLITE
@pytest.mark.parametrize(
    ("given", "pointer"),
    [
        ({"facts": {**FACTS, "format": "psd"}}, "#/input/facts/format"),
        ({"facts": {**FACTS, "width": 0}}, "#/input/facts/width"),
        ({"facts": {**FACTS, "height": True}}, "#/input/facts/height"),
        ({"facts": {**FACTS, "depth": 3}}, "#/input/facts/depth"),
        ({"facts": {**FACTS, "bytes": 10**9}}, "#/input/facts/bytes"),
        ({"facts": FACTS, "url": PIXEL}, "#/input"),
        ({"facts": {"format": "jpeg"}}, "#/input/facts/width"),
    ],
)
def test_facts_that_are_none_are_refused(service: Service, given: Any, pointer: str) -> None:
    answer = plan(service, input=given, operations=["flip"])
    assert answer.status_code in {413, 422}
    assert [entry["pointer"] for entry in answer.json()["errors"]] == [pointer]
    if "bytes" not in pointer:
        submitted = call(service, "POST", "/process", json={"input": given, "operations": ["flip"]})
        assert submitted.json()["code"] == "invalid_source", "facts are for plans"


def test_a_source_is_not_fetched_and_nothing_is_made(
    service: Service, database: Database, ann: Belongings, tmp_path: Path
) -> None:
    source = {"job": str(ann.job), "result": ann.result}
    before = _rows(database), set(service.resources.storage.entries(""))
    shown = plan(service, ann.key, input=source, operations=["flip", "convert_webp"]).json()
    assert shown["input"] == dict.fromkeys(FACTS)
    assert [(result["format"], result["width"]) for result in shown["results"]] == [(None, None), ("webp", None)]
    assert (shown["cpu_seconds"], shown["memory_bytes"]) == (None, None)
    missing = plan(service, ann.key, input={**source, "result": "none"}, operations=["flip"])
    assert (missing.status_code, missing.json()["code"]) == (404, "result_not_found")
    assert submit(service, ann.key, path="/plan").status_code == 200
    taken = plan(service, ann.key, operations=["flip"], external_id=ann.name)
    assert (taken.status_code, taken.json()["job_id"]) == (409, str(ann.job))
    assert (_rows(database), set(service.resources.storage.entries(""))) == before


def _rows(database: Database) -> dict[str, int]:
    with database.session(read_only=True) as session:
        counted = {
            table: session.scalar(select(func.count()).select_from(table)) for table in Base.metadata.sorted_tables
        }
        return {table.name: number or 0 for table, number in counted.items()}


@ON_SQLITE
def test_a_template_is_planned_as_it_would_run(service: Service) -> None:
    shown = plan(service, template="thumbnails", params={"large": 1600}).json()
    assert shown["template"] == "thumbnails@1"
    assert [(result["name"], result["width"]) for result in shown["results"]] == [
        *(("small", 160), ("medium", 480), ("large", 1600))
    ]
    job = accepted(service, operations=None, template="thumbnails", params={"large": 1600})
    assert shown["operations"] == job["operations"]


def test_every_operation_has_a_cost() -> None:
    for operation in OPERATIONS.values():
        known = operation.name in (costs.ENCODE if operation.encodes else costs.WORK)
        assert known, operation.name
        assert operation.resizes == (operation.name in set(geometry.SIZES) - {"rotate"}), operation.name
