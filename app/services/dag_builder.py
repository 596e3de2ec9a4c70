"""The plan of a job: from the checked tree to tasks as plain data, and from there to a Celery Canvas.

Operations work on pixels. The settings of the last encoder (`convert_*`) are passed on, and an image is encoded only
where a result is written; between tasks it is stored without loss. So a result never depends on whether the steps
before it ran in one task or in several.

A linear run of steps on one queue whose intermediates are not kept is one task, with one decode and one encode. Each
encoder that ends a branch below it is a separate task, so that no other task's failure affects it. If that is cheap,
though, the parent task writes these files along with its own, and the separate tasks find their work done.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from celery import chain, chord, group
from celery.canvas import Signature

from app.formats import FORMATS
from app.operations import ENCODERS, FETCH, OPERATIONS, Operation, Queue
from app.parameters import Params, QualityTarget

LOSSLESS_FORMAT = "png"  # format of results that a lossy format would spoil
INPUT = "input"  # id of the step, and of the task, that fetches the input of a job
FETCH_INPUT = "pixtools.fetch_input"  # Celery's name of that task
NARROW = 4  # tasks that a Canvas sends at the same time; if there are more, they wait in the database for their turns


@dataclass(frozen=True, kw_only=True)
class Node:
    """One checked node of the operation tree."""

    #: path in the tree: `0.1` is the second `then` entry of the first branch
    id: str
    operation: Operation
    params: Params
    #: True: the node is a result although it has children; leaves always are
    keep: bool = False
    #: name of the result chosen by the client
    name: str | None = None
    #: JSON pointer to the node, for errors found later
    pointer: str
    then: tuple["Node", ...] = ()

    def walk(self) -> Iterator["Node"]:
        """This node and all its descendants, in preorder."""
        yield self
        for child in self.then:
            yield from child.walk()


@dataclass(frozen=True, kw_only=True)
class PlannedStep:
    """One operation with its parameters, as `Params.in_plan` gives them."""

    id: str
    op: str
    params: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class PlannedResult:
    """A result that a task writes, and the operation that encodes it."""

    name: str
    #: empty: the encoder of the input's format, which is not known yet
    encoder: str
    params: dict[str, Any]

    @property
    def format(self) -> str:
        """The short name of the format, e.g. `webp`."""
        return str(OPERATIONS[self.encoder].format)

    @property
    def is_bundle(self) -> bool:
        """Whether the result consists of several files."""
        return bool(self.encoder) and OPERATIONS[self.encoder].bundle is not None

    def name_of(self, suffix: str) -> str:
        """The name of a file of the result; without a suffix, it is that of the result."""
        return f"{self.name}.{suffix}" if suffix else self.name


@dataclass(frozen=True, kw_only=True)
class PlannedTask:
    """Steps that run together on one worker; their last step gives the task its id."""

    id: str
    #: the task whose intermediate it reads; `INPUT`: the task that fetches the input; None: it reads the upload
    parent: str | None
    queue: str
    #: Celery's name of the task
    name: str
    steps: tuple[PlannedStep, ...]
    result: PlannedResult | None
    #: True: other tasks read its pixels
    intermediate: bool
    #: True: its parent may write its result in the same pass
    inline: bool = False

    @property
    def is_first(self) -> bool:
        """Whether the task works on the input of the job, not on an intermediate file."""
        return self.parent in {None, INPUT}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All tasks of a job, parents before children."""

    tasks: tuple[PlannedTask, ...]

    def task(self, task_id: str) -> PlannedTask:
        return next(task for task in self.tasks if task.id == task_id)

    def children(self, task_id: str | None) -> list[PlannedTask]:
        return [task for task in self.tasks if task.parent == task_id]

    def inline_children(self, task: PlannedTask) -> list[PlannedTask]:
        """Those children of a task whose results it may write in the same pass as its own."""
        return [child for child in self.children(task.id) if child.inline and child.queue == task.queue]

    @property
    def fetches(self) -> bool:
        """Whether the input has to be fetched first."""
        return any(task.id == INPUT for task in self.tasks)

    def is_wide(self, task_id: str | None) -> bool:
        """Whether a Canvas ends at a task (None: at the upload), whose children then wait for their turns.

        There may be too many children to send at once. The children of a fetch always wait: their size is known only
        after it, and they are no more urgent than jobs whose clients uploaded the file.
        """
        return task_id == INPUT or len(self.children(task_id)) > NARROW

    def of_format(self, format_: str) -> "Plan":
        """The complete plan for an input that has been fetched, and has this format."""
        encoder = _Encoder.default(format_)

        def known(task: PlannedTask) -> PlannedTask:
            if task.result is None or task.result.encoder:
                return task
            return replace(task, result=replace(task.result, encoder=encoder.op, params=encoder.params))

        return Plan(tasks=tuple(map(known, self.tasks)))

    def ready(self, done: Collection[str]) -> list[PlannedTask]:
        """The tasks that can run now: not done, and without a parent or with one that is done."""
        return [task for task in self.tasks if task.id not in done and (task.parent is None or task.parent in done)]

    def descendants(self, task_id: str) -> Iterator[PlannedTask]:
        for child in self.children(task_id):
            yield child
            yield from self.descendants(child.id)

    def to_json(self) -> dict[str, Any]:
        """The plan as plain data, which is shared and must not be changed."""
        return self._json

    @cached_property
    def _json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Plan":
        return cls(tasks=tuple(_task_from_json(task) for task in data["tasks"]))


def _task_from_json(data: dict[str, Any]) -> PlannedTask:
    result = PlannedResult(**data["result"]) if data["result"] else None
    steps = tuple(PlannedStep(**step) for step in data["steps"])
    return PlannedTask(**{**data, "steps": steps, "result": result})


@dataclass(frozen=True)
class _Encoder:
    """The encoder in effect at a node."""

    op: str
    params: dict[str, Any]
    #: True: the client asked for this encoder
    chosen: bool

    @classmethod
    def default(cls, format_: str | None) -> "_Encoder":
        if format_ is None:
            return cls("", {}, chosen=False)
        operation = ENCODERS[FORMATS[format_].written_as or format_]
        return cls(operation.name, operation.params().in_plan(), chosen=False)

    def after(self, node: Node) -> "_Encoder":
        return _Encoder(node.operation.name, node.params.in_plan(), chosen=True) if node.operation.format else self

    def for_result_of(self, node: Node) -> "_Encoder":
        return _Encoder.default(LOSSLESS_FORMAT) if node.operation.lossless and not self.chosen else self


FETCHING = PlannedTask(
    id=INPUT,
    parent=None,
    queue=Queue.FETCH.value,
    name=FETCH_INPUT,
    steps=(PlannedStep(id=INPUT, op=FETCH, params={}),),
    result=None,
    intermediate=False,
)


def plan(branches: tuple[Node, ...], input_format: str | None) -> Plan:
    """Plan the tasks of a checked tree.

    Args:
        branches: the tree.
        input_format: format of the upload; results that no operation converts keep it. None: the input has to be
            fetched, so the fetch is the first task, and `Plan.of_format` completes the plan after it.
    """
    names = _result_names(branches)
    tasks: list[PlannedTask] = []
    encoder = _Encoder.default(input_format)
    for branch in branches:
        _plan_run(branch, None, encoder, names, tasks)
    if input_format is None:
        return Plan(tasks=(FETCHING, *(replace(task, parent=task.parent or INPUT) for task in tasks)))
    return Plan(tasks=tuple(tasks))


def _plan_run(
    node: Node, parent: str | None, encoder: _Encoder, names: dict[str, str], tasks: list[PlannedTask]
) -> None:
    run = _linear_run(node)
    last = run[-1]
    for member in run:
        encoder = encoder.after(member)
    tasks.append(
        PlannedTask(
            id=last.id,
            parent=parent,
            queue=last.operation.queue.value,
            name=last.operation.task,
            steps=tuple(PlannedStep(id=n.id, op=n.operation.name, params=n.params.in_plan()) for n in run),
            result=_planned_result(last, encoder, names),
            intermediate=bool(last.then),
            inline=parent is not None and _is_inline(node),
        )
    )
    for child in last.then:
        _plan_run(child, last.id, encoder, names, tasks)


def _is_inline(node: Node) -> bool:
    """Whether a node only writes a file, without a search for its quality and with no more than the default effort."""
    return not node.then and isinstance(node.params, QualityTarget) and node.params.is_quick


def _planned_result(node: Node, encoder: _Encoder, names: dict[str, str]) -> PlannedResult | None:
    if node.id not in names:
        return None
    encoder = encoder.for_result_of(node)
    return PlannedResult(name=names[node.id], encoder=encoder.op, params=encoder.params)


def _linear_run(node: Node) -> list[Node]:
    run = [node]
    while not node.keep and len(node.then) == 1 and node.then[0].operation.queue is node.operation.queue:
        node = node.then[0]
        run.append(node)
    return run


def _result_names(branches: tuple[Node, ...]) -> dict[str, str]:
    """The name of every result by the id of its step; the client's names take precedence, and paths are made unique."""
    paths = {node.id: (node, path) for node, path in _walk(branches, "") if node.keep or not node.then}
    chosen = {node.id: node.name for node, _ in _walk(branches, "") if node.name}
    taken = {name.lower() for name in chosen.values()}
    names: dict[str, str] = {}
    for step, (node, path) in paths.items():
        names[step] = chosen.get(step) or _unique(path, taken, begins=node.operation.bundle is not None)
    return names


def _walk(nodes: tuple[Node, ...], prefix: str) -> Iterator[tuple[Node, str]]:
    for node in nodes:
        path = f"{prefix}{node.operation.name}"
        yield node, path
        yield from _walk(node.then, f"{path}.")


def _unique(name: str, taken: set[str], *, begins: bool) -> str:
    """The name, with a number if it is taken; `begins`: several files have it as a prefix, followed by a dot."""
    candidate, number = name, 1
    while candidate in taken or (begins and any(other.startswith(f"{candidate}.") for other in taken)):
        number += 1
        candidate = f"{name}-{number}"
    taken.add(candidate)
    return candidate


SignatureFactory = Callable[[PlannedTask], Signature]


def to_canvas(
    plan: Plan,
    signature: SignatureFactory,
    *,
    body: Signature | None,
    done: Collection[str] = (),
    root: str | None = None,
) -> Signature | None:
    """Translate the rest of a plan to a Canvas.

    Args:
        plan: the plan of the job.
        signature: makes the immutable signature of a task. It has only ids; no task reads another one's Celery result.
        body: task to run when all have ended. It is only a fast path, since the database shows the end of a job as
            well. None: there is no such path.
        done: ids of the tasks that have ended; their children start at once.
        root: send only this task and its descendants; None: all.

    The Canvas ends at a task with many children: the transaction that records its success makes them due.

    Returns:
        A chord of parallel branches, or without a body their group; None if nothing is left.
    """
    roots = [plan.task(root)] if root else plan.children(None)
    branches = [branch for task in roots for branch in _branches(plan, task, signature, done)]
    if not branches:
        return None
    return chord(group(branches), body) if body is not None else group(branches)


def _branches(plan: Plan, task: PlannedTask, signature: SignatureFactory, done: Collection[str]) -> list[Signature]:
    following = [branch for child in plan.children(task.id) for branch in _branches(plan, child, signature, done)]
    if task.id in done:
        return following
    if not following or plan.is_wide(task.id):
        return [signature(task)]
    rest = following[0] if len(following) == 1 else group(following)
    return [chain(signature(task), rest)]
