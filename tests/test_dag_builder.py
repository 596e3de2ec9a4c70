"""From a checked tree to the plan of a job, and from there to Celery's Canvas."""

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from celery import Celery
from celery.canvas import Signature, maybe_signature
from hypothesis import given
from hypothesis import strategies as st

from app.operations import ENCODERS, OPERATIONS, RESIZE, Queue
from app.parameters import Params, ResizeParams, WebpParams
from app.services.dag_builder import Node, Plan, PlannedTask, plan, to_canvas
from app.services.intake.operation_tree import TreeLimits, parse_tree
from tests.support.deployment import ApiClient
from tests.support.trees import random_tree

LIMITS = TreeLimits(nodes=500, depth=20, bytes=1_000_000)
JOB_ID = "01890a5d-ac96-774b-bcce-b302099a8057"
CELERY = Celery("dag-builder-tests", set_as_current=False)
BODY = CELERY.signature("body", args=(JOB_ID,), immutable=True)
CONVERTERS = [operation.name for operation in ENCODERS.values()]


def planned(tree: list[Any], input_format: str = "jpeg") -> Plan:
    return plan(parse_tree(json.dumps(tree), LIMITS)[1], input_format)


def resize(width: int, *then: Any, **more: Any) -> dict[str, Any]:
    return {"op": "resize", "width": width, **({"then": list(then)} if then else {}), **more}


def steps_of(found: Plan) -> dict[str, list[str]]:
    """Ids of the steps of each task."""
    return {task.id: [step.id for step in task.steps] for task in found.tasks}


def results_of(found: Plan) -> dict[str, tuple[str, str]]:
    """Name and format of each result by its task."""
    return {task.id: (task.result.name, task.result.format) for task in found.tasks if task.result}


def test_a_linear_run_is_one_task() -> None:
    found = planned([resize(800, resize(400, {"op": "convert_webp", "quality": 70}))])

    assert steps_of(found) == {"0.0.0": ["0", "0.0", "0.0.0"]}
    (task,) = found.tasks
    assert (task.parent, task.name, task.queue) == (None, "pixtools.convert_webp", "default_queue")
    assert [step.op for step in task.steps] == ["resize", "resize", "convert_webp"]
    assert not task.intermediate


def test_defaults_are_filled_in_and_options_without_a_value_are_left_out() -> None:
    """So a plan means the same to a later version, and an earlier one does not meet options that it does not know."""
    (task,) = planned([resize(800, {"op": "convert_webp", "quality": 70})]).tasks

    assert ResizeParams.model_validate(task.steps[0].params) == ResizeParams(width=800)
    assert task.steps[0].params["fit"] == "inside"
    assert "height" not in task.steps[0].params
    assert WebpParams.model_validate(task.steps[1].params) == WebpParams(quality=70)
    assert task.result is not None
    assert task.result.params == task.steps[1].params


@pytest.mark.parametrize("seed", range(20))
def test_parameters_are_the_same_after_a_plan(seed: int) -> None:
    branches = parse_tree(json.dumps(random_tree(random.Random(seed))), LIMITS)[1]
    for params in (node.params for branch in branches for node in branch.walk()):
        assert type(params).model_validate_json(json.dumps(params.in_plan())) == params


def test_an_option_that_is_switched_off_stays_off_in_a_plan() -> None:
    class Some(Params):
        unused: int | None = None
        on: int | None = 5

    assert Some().in_plan() == {"on": 5}
    assert Some(on=None).in_plan() == {"on": None}


def test_branches_are_tasks_of_their_own() -> None:
    found = planned(["convert_webp", "convert_png"])
    assert [(task.id, task.parent) for task in found.tasks] == [("0", None), ("1", None)]


def test_a_branch_point_ends_a_run() -> None:
    found = planned([resize(800, resize(400, "convert_webp", "convert_png"))])

    assert steps_of(found) == {"0.0": ["0", "0.0"], "0.0.0": ["0.0.0"], "0.0.1": ["0.0.1"]}
    assert [task.parent for task in found.tasks] == [None, "0.0", "0.0"]
    assert [task.intermediate for task in found.tasks] == [True, False, False]
    assert "0.0" not in results_of(found)


def test_a_kept_step_ends_a_run_and_is_a_result_too() -> None:
    found = planned([resize(800, resize(400), keep=True)])

    assert steps_of(found) == {"0": ["0"], "0.0": ["0.0"]}
    assert [task.intermediate for task in found.tasks] == [True, False]
    assert set(results_of(found)) == {"0", "0.0"}


def test_keep_at_a_leaf_changes_nothing() -> None:
    assert planned([resize(800, {"op": "convert_webp", "keep": True})]) == planned([resize(800, "convert_webp")])


def test_another_queue_ends_a_run() -> None:
    network = replace(RESIZE, name="network", queue=Queue.ML, task="pixtools.network")
    params = RESIZE.params.model_validate({"width": 5})
    leaf = Node(id="0.0", operation=network, params=params, pointer="#/operations/0/then/0")
    root = Node(id="0", operation=RESIZE, params=params, pointer="#/operations/0", then=(leaf,))

    found = plan((root,), "jpeg")

    assert [(task.id, task.queue, task.name) for task in found.tasks] == [
        ("0", "default_queue", "pixtools.resize"),
        ("0.0", "ml_inference_queue", "pixtools.network"),
    ]


def test_the_encoder_in_effect_travels_along() -> None:
    tree = [{"op": "convert_webp", "quality": 33, "then": [resize(400, keep=True), resize(200, "convert_png")]}]
    found = planned(tree)

    assert {task: format_ for task, (_, format_) in results_of(found).items()} == {"0.0": "webp", "0.1.0": "png"}
    kept = found.task("0.0").result
    assert kept is not None
    assert (kept.encoder, kept.params["quality"]) == ("convert_webp", 33)


def test_the_encoder_travels_within_a_run() -> None:
    (task,) = planned([{"op": "convert_avif", "quality": 33, "then": [resize(400)]}]).tasks
    assert task.name == "pixtools.resize"
    assert task.result is not None
    assert (task.result.encoder, task.result.params["quality"]) == ("convert_avif", 33)


@pytest.mark.parametrize(
    ("input_format", "written"),
    [("jpeg", "jpeg"), ("png", "png"), ("webp", "webp"), ("avif", "avif"), ("gif", "gif"), ("tiff", "tiff")],
)
def test_without_a_conversion_the_format_stays_if_it_can_be_written(input_format: str, written: str) -> None:
    (task,) = planned([resize(400)], input_format).tasks
    assert task.result is not None
    assert task.result.format == written
    assert task.result.params == OPERATIONS[task.result.encoder].params().in_plan()


def test_results_are_named_by_their_path() -> None:
    found = planned(["convert_avif", resize(400, "convert_webp", resize(200), keep=True)])
    assert [name for name, _ in results_of(found).values()] == [
        "convert_avif",
        "resize",
        "resize.convert_webp",
        "resize.resize",
    ]


def test_equal_names_are_made_unique_by_a_number() -> None:
    found = planned([resize(100), resize(200), resize(300)])
    assert [name for name, _ in results_of(found).values()] == ["resize", "resize-2", "resize-3"]


def test_chosen_names_come_first_and_push_others_aside() -> None:
    found = planned([resize(100), resize(200, **{"as": "RESIZE"}), resize(300, **{"as": "resize-2"}), resize(400)])
    assert [name for name, _ in results_of(found).values()] == ["resize-3", "RESIZE", "resize-2", "resize-4"]


def test_a_plan_survives_json() -> None:
    found = planned(["convert_avif", resize(400, "convert_webp", resize(200), keep=True)])
    assert Plan.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_a_plan_of_an_earlier_version_has_nothing_that_is_inline() -> None:
    data = planned([resize(400, "convert_webp", "convert_png")]).to_json()
    for task in data["tasks"]:
        del task["inline"]
    found = Plan.from_json(data)
    assert found.inline_children(found.task("0")) == []


@pytest.mark.parametrize(
    ("entry", "inline"),
    [
        ("convert_webp", True),
        ({"op": "convert_webp", "quality": 95, "effort": 1}, True),
        ({"op": "convert_jpeg", "keep_metadata": "all"}, True),
        ("convert_tiff", True),
        ({"op": "convert_webp", "effort": 6}, False),
        ({"op": "convert_avif", "effort": 3}, False),
        ({"op": "convert_avif", "lossless": True}, False),
        ({"op": "convert_jpeg", "trellis": True}, False),
        ({"op": "convert_jpeg", "max_bytes": 9000}, False),
        ({"op": "convert_webp", "min_ssim": 0.9}, False),
        ("metadata", False),
        (resize(5), False),
        ({"op": "convert_webp", "then": [resize(5)]}, False),
        ({"op": "convert_webp", "then": [resize(5)], "keep": True}, False),
    ],
)
def test_encoders_without_special_effort_go_along_with_what_they_continue_from(entry: Any, inline: bool) -> None:
    found = planned([resize(400, entry, "flip"), entry])
    assert len(found.inline_children(found.task("0"))) == inline
    assert not any(task.inline for task in found.tasks if task.parent is None)


def test_nothing_goes_along_with_a_task_of_another_queue() -> None:
    found = planned([{"op": "denoise", "then": ["convert_webp", "convert_avif"]}])
    assert found.inline_children(found.task("0")) == []


def test_descendants_are_all_tasks_below() -> None:
    found = planned([resize(400, resize(200, "convert_webp", "convert_png"), "convert_png"), "convert_png"])
    assert [task.id for task in found.descendants("0")] == ["0.0", "0.0.0", "0.0.1", "0.1"]
    assert list(found.descendants("1")) == []


LEAVES = st.sampled_from([*CONVERTERS, {"op": "resize", "width": 5}])


def _inner(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    operations = st.sampled_from([{"op": "resize", "height": 9}, *({"op": name} for name in CONVERTERS)])
    then = st.lists(children, min_size=1, max_size=3)
    return st.builds(lambda op, below, keep: {**op, "then": below, "keep": keep}, operations, then, st.booleans())


NODES = st.recursive(LEAVES, _inner, max_leaves=12)
NAMES = st.sampled_from(["resize", "resize-2", "convert_webp", "convert_webp.resize", "CONVERT_PNG", "hero"])


@st.composite
def trees(draw: st.DrawFn) -> list[Any]:
    """Valid trees, with some names chosen so that they meet default ones."""
    branches = [_named(draw, node) for node in draw(st.lists(NODES, min_size=1, max_size=4))]
    seen: set[str] = set()
    for node in _entries(branches):
        if "as" in node and node["as"].lower() in seen:
            del node["as"]
        seen.add(node.get("as", "").lower())
    return branches


def _named(draw: st.DrawFn, node: Any) -> dict[str, Any]:
    entry = {"op": node} if isinstance(node, str) else dict(node)
    if "then" in entry:
        entry["then"] = [_named(draw, child) for child in entry["then"]]
    if (entry.get("keep") or "then" not in entry) and draw(st.booleans()):
        entry["as"] = draw(NAMES)
    return entry


def _entries(nodes: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for node in nodes:
        yield node
        yield from _entries(node.get("then", []))


@pytest.mark.slow
@given(trees())
def test_a_plan_covers_its_tree(tree: list[Any]) -> None:
    branches = parse_tree(json.dumps(tree), LIMITS)[1]
    found = plan(branches, "jpeg")
    nodes = {node.id: node for branch in branches for node in branch.walk()}

    assert sorted(step.id for task in found.tasks for step in task.steps) == sorted(nodes)

    seen: set[str | None] = {None}
    for task in found.tasks:
        assert task.parent in seen
        assert task.id == task.steps[-1].id
        seen.add(task.id)
        for above, below in zip(task.steps, task.steps[1:], strict=False):
            assert nodes[below.id] in nodes[above.id].then
        assert task.parent == (task.steps[0].id.rpartition(".")[0] or None)
        assert task.intermediate == bool(found.children(task.id))

    wanted = [node.id for node in nodes.values() if node.keep or not node.then]
    assert sorted(task.id for task in found.tasks if task.result) == sorted(wanted)
    names = [name.lower() for name, _ in results_of(found).values()]
    assert len(set(names)) == len(names)
    assert all(nodes[id_].name in {None, name} for id_, (name, _) in results_of(found).items())
    assert Plan.from_json(json.loads(json.dumps(found.to_json()))) == found


def signature(task: PlannedTask) -> Signature:
    return CELERY.signature(task.name, args=(JOB_ID, task.id), queue=task.queue, immutable=True)


def shape(canvas: Any) -> Any:
    """A Canvas as nested lists: a task is its id, a chain a list, a group a tuple."""
    canvas = maybe_signature(canvas, app=CELERY)
    match canvas.subtask_type:
        case "chord":
            return {"header": shape_of_all(canvas.tasks), "body": canvas.body["task"]}
        case "chain":
            return list(shape_of_all(canvas.tasks))
        case "group":
            return shape_of_all(canvas.tasks)
    return canvas.args[1]


def shape_of_all(canvases: Any) -> tuple[Any, ...]:
    return tuple(shape(canvas) for canvas in canvases)


def header(found: Plan, **options: Any) -> Any:
    canvas = to_canvas(found, signature, body=BODY, **options)
    return None if canvas is None else shape(canvas)["header"]


DEEP = [resize(400, resize(200, "convert_webp", "convert_png"), "convert_jpeg"), "convert_avif"]


def test_parallel_branches_are_a_chord_before_the_end_of_the_job() -> None:
    canvas = to_canvas(planned(["convert_webp", "convert_png"]), signature, body=BODY)
    assert shape(canvas) == {"header": ("0", "1"), "body": "body"}


def test_a_single_task_has_the_end_of_the_job_as_its_body_too() -> None:
    canvas = to_canvas(planned([resize(5, "convert_webp")]), signature, body=BODY)
    assert shape(canvas) == {"header": ("0.0",), "body": "body"}


def test_a_task_and_its_only_successor_are_a_chain() -> None:
    assert header(planned([resize(9, resize(5, "convert_png"), keep=True)])) == (["0", "0.0.0"],)


def test_several_successors_are_a_group_at_the_end_of_a_chain() -> None:
    assert header(planned([resize(9, "convert_webp", "convert_png")])) == (["0", ("0.0", "0.1")],)


def test_groups_nest() -> None:
    assert header(planned(DEEP)) == (["0", (["0.0", ("0.0.0", "0.0.1")], "0.1")], "1")


def test_what_is_done_is_left_out() -> None:
    assert header(planned(DEEP), done={"0", "1"}) == (["0.0", ("0.0.0", "0.0.1")], "0.1")
    assert header(planned(DEEP), done={"0", "0.0", "0.0.1"}) == ("0.0.0", "0.1", "1")


def test_a_root_restricts_the_canvas_to_what_continues_from_it() -> None:
    assert header(planned(DEEP), root="0.0") == (["0.0", ("0.0.0", "0.0.1")],)
    assert header(planned(DEEP), root="0.0", done={"0.0", "0.0.0"}) == ("0.0.1",)


def test_nothing_left_is_no_canvas() -> None:
    found = planned(DEEP)
    everything = {task.id for task in found.tasks}
    assert to_canvas(found, signature, body=BODY, done=everything) is None
    assert to_canvas(found, signature, body=BODY, done={"1"}, root="1") is None


def tasks_in(canvas: Any) -> Iterator[Signature]:
    """Every task of a Canvas, bodies included."""
    canvas = maybe_signature(canvas, app=CELERY)
    if canvas.subtask_type is None:
        yield canvas
        return
    for member in canvas.tasks:
        yield from tasks_in(member)
    if canvas.subtask_type == "chord":
        yield from tasks_in(canvas.body)


def sequences(shaped: Any, before: tuple[str, ...] = ()) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each task with those that end before it starts."""
    if isinstance(shaped, str):
        yield shaped, before
    elif isinstance(shaped, tuple):
        for member in shaped:
            yield from sequences(member, before)
    else:
        for member in shaped:
            yield from sequences(member, before)
            if isinstance(member, str):
                before = (*before, member)


@given(trees(), st.data())
def test_a_canvas_runs_everything_left_once_and_after_its_parent(tree: list[Any], data: st.DataObject) -> None:
    found = planned(tree)
    ids = [task.id for task in found.tasks]
    done = data.draw(st.sets(st.sampled_from(ids)))
    canvas = to_canvas(found, signature, body=BODY, done=done)

    left = [id_ for id_ in ids if id_ not in done]
    if not left:
        assert canvas is None
        return
    before = dict(sequences(shape(canvas)["header"]))
    assert [id_ for id_, _ in sequences(shape(canvas)["header"])] == left
    for id_ in left:
        parent = found.task(id_).parent
        assert parent is None or parent in done or parent in before[id_]


@pytest.mark.slow
@given(trees())
def test_signatures_are_immutable_and_carry_ids_only(tree: list[Any]) -> None:
    found = planned(tree)
    *tasks, body = tasks_in(to_canvas(found, signature, body=BODY))

    assert [task.args[1] for task in tasks] == [task.id for task in found.tasks]
    assert [task.options["queue"] for task in tasks] == [task.queue for task in found.tasks]
    assert body.task == "body"
    for task in (*tasks, body):
        assert task.immutable
        assert task.kwargs == {}
        job_id, *rest = task.args
        assert UUID(job_id)
        assert all(set(id_) <= set("0123456789.") for id_ in rest)


NESTED = [
    resize(
        400,
        resize(200, resize(100, "convert_webp", "convert_png", keep=True), "convert_jpeg", **{"as": "half"}, keep=True),
        "convert_avif",
    ),
    "convert_png",
]


@pytest.mark.integration
def test_nested_groups_run_every_task_once_and_end_the_job(api: ApiClient, photo: bytes) -> None:
    job = api.run(photo, NESTED)

    assert job["status"] == "completed"
    assert [(step["id"], step["status"], step["attempts"]) for step in job["steps"]] == [
        (id_, "succeeded", 1) for id_ in ("0", "0.0", "0.0.0", "0.0.0.0", "0.0.0.1", "0.0.1", "0.1", "1")
    ]
    assert {result["name"]: (result["format"], result["width"]) for result in job["results"]} == {
        "half": ("jpeg", 200),
        "resize.resize.resize": ("jpeg", 100),
        "resize.resize.resize.convert_webp": ("webp", 100),
        "resize.resize.resize.convert_png": ("png", 100),
        "resize.resize.convert_jpeg": ("jpeg", 200),
        "resize.convert_avif": ("avif", 400),
        "convert_png": ("png", 640),
    }
