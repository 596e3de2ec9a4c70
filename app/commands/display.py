"""What a run shows while it works and at its end: bars on a terminal, lines elsewhere."""

import json
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.commands.mistakes import cure_of
from app.commands.printing import escaped, plain_path

if TYPE_CHECKING:
    from pixtools_client import Job
    from rich.progress import Progress, ProgressColumn

OF_THE_FILE = "#/file"  # pointer to the image, which the message names already
NUMBERS = {"in": 9, "out": 9, "saved": 6, "seconds": 7}  # columns of the table, with their widths
DROPPED = ("seconds", "in", "out", "saved")  # columns in the order in which a narrow table drops them
UNLIMITED = 10_000  # columns
WIDE = 100  # columns of a terminal with room for long bars and the time
LEAST_NAME = 12  # characters of the column for names
MOST_ROWS = 30  # rows of the table; with more files, only totals and failures are shown


@dataclass
class Outcome:
    """The outcome of one file."""

    name: str
    size: int = 0
    job_id: str | None = None
    status: str = "failed"
    seconds: float | None = None
    #: results that have been written, and their bytes
    files: dict[Path, int] = field(default_factory=dict)
    urls: list[str] = field(default_factory=list)
    code: str | None = None
    message: str = ""
    #: the place in the request that is wrong, as a JSON pointer
    pointer: str | None = None
    #: whether an earlier run has finished the file
    earlier: bool = False

    @property
    def failed(self) -> bool:
        return self.status not in {"completed", "accepted"}

    def to_json(self) -> str:
        error = {"code": self.code, "message": self.message, "pointer": self.pointer} if self.code else None
        fields: dict[str, Any] = {"file": self.name, "job": self.job_id, "status": self.status, "seconds": self.seconds}
        fields |= {"results": [{"file": str(path), "bytes": size} for path, size in self.files.items()]}
        return json.dumps(fields | {"urls": self.urls, "error": error, "earlier": self.earlier})


def names_of(operations: Sequence[Any], path: str = "") -> Iterator[tuple[str, str]]:
    """The id and the name of each step: its `as`, else its operation."""
    for number, entry in enumerate(operations):
        id_ = f"{path}.{number}" if path else str(number)
        node = {"op": entry} if isinstance(entry, str) else entry
        yield id_, node.get("as") or node.get("op", "?")
        yield from names_of(node.get("then", ()), id_)


def share_of(job: "Job") -> float:
    """The share of a job that is done, 0 to 1."""
    steps = job["steps"]
    return sum(1.0 if step["finished"] else step["progress"] for step in map(_plain, steps)) / max(1, len(steps))


def _plain(step: Any) -> dict[str, Any]:
    return {**step, "finished": step["status"] not in {"pending", "running"}}


def doing(job: "Job") -> str:
    """The steps of a job that run now, with their percentage if they have one."""
    names = dict(names_of(job["operations"]))
    running = [step for step in job["steps"] if step["status"] == "running"]
    shown = [f"{names.get(step['id'], step['op'])}{_percent(step)}" for step in running]
    waiting = [names.get(step["id"], step["op"]) for step in job["steps"] if step["status"] == "pending"]
    return ", ".join(shown) or (f"waits for {waiting[0]}" if waiting else job["status"])


def _percent(step: Any) -> str:
    left = f", {step['seconds_left']:.0f} s left" if step["seconds_left"] else ""
    return f" {step['progress']:.0%}{left}" if step["progress"] else ""


class Display:
    """Bars on a terminal, a line for each file elsewhere, nothing if quiet; everything goes to standard error."""

    def __init__(self, total: int, *, quiet: bool) -> None:
        self._total, self._quiet = total, quiet
        self._progress: Progress | None = None
        self._all: Any = None
        self._lock = threading.Lock()
        self._done = 0
        self._room = LEAST_NAME

    @contextmanager
    def shown(self) -> Iterator["Display"]:
        if self._quiet or not sys.stderr.isatty():
            yield self
            return
        from rich.console import Console
        from rich.progress import Progress

        console = Console(stderr=True, emoji=False)  # a name such as `a:fire:.jpg` stays as it is
        self._room = max(LEAST_NAME, console.width // 3)
        bars = Progress(
            *bar_columns(console.width),
            console=console,
            expand=True,
            transient=True,
            redirect_stdout=False,  # redirection would send output meant for a file to the terminal
        )
        with bars as progress:
            self._progress = progress
            self._all = progress.add_task(f"0 of {self._total} files", total=self._total)
            yield self
            self._progress = None

    @contextmanager
    def working(self, name: str) -> Iterator[Any]:
        """Show that a file is being processed; the caller passes each state of the job to the yielded function."""
        if self._progress is None:
            yield lambda _: None
            return
        progress = self._progress
        shown = _cut(escaped(name), self._room)
        task = progress.add_task(f"  {shown}: uploading", total=1.0)

        def update(job: "Job") -> None:
            progress.update(task, completed=share_of(job), description=f"  {shown}: {escaped(doing(job))}")

        try:
            yield update
        finally:
            progress.remove_task(task)

    def expect_another(self) -> None:
        """Count a file that was not known at the start."""
        with self._lock:
            self._total += 1
            self._update_total()

    def _update_total(self) -> None:
        if self._progress is not None:
            description = f"{self._done} of {self._total} files"
            self._progress.update(self._all, completed=self._done, total=self._total, description=description)

    def finished(self, outcome: Outcome) -> None:
        with self._lock:
            self._done += 1
            if self._progress is not None:
                self._update_total()
            elif not self._quiet and not outcome.failed:
                again = ", done earlier" if outcome.earlier else ""
                took = f", {outcome.seconds:.1f} s" if outcome.seconds is not None else ""
                self.say(f"{outcome.name}: {outcome.status}{again}{took}")
        if outcome.failed:
            self.say(*failure(outcome))

    def answer(self, text: str) -> None:
        """A line of standard output; above the bars if both are on a terminal."""
        if self._progress is not None and sys.stdout.isatty():
            self.say(text)
        else:
            print(plain_path(text), flush=True)

    def say(self, *lines: str) -> None:
        """Lines that stay together, on standard error."""
        text = "\n".join(map(escaped, lines))
        if self._progress is not None:
            self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            sys.stderr.write(f"{text}\n")


def bar_columns(width: int) -> "Iterator[ProgressColumn]":
    """The columns of a progress bar on a terminal of this width; the text takes what the others leave."""
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
    from rich.table import Column

    yield TextColumn("{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True))
    yield BarColumn(40 if width >= WIDE else 10)
    yield TaskProgressColumn()
    if width >= WIDE:
        yield TimeElapsedColumn()


def failure(outcome: Outcome) -> list[str]:
    """The name of a file that failed and the reason, and what to do."""
    at = f" ({outcome.pointer})" if outcome.pointer and outcome.pointer != OF_THE_FILE else ""
    cure = cure_of(outcome.code or "")
    return [f"FAILED {outcome.name}: {outcome.code}: {outcome.message}{at}", *([f"       → {cure}"] if cure else [])]


def table(outcomes: Sequence[Outcome], most: int) -> str:
    """Bytes in and out, saving and seconds: a line for each file and one for all.

    Args:
        outcomes: the files.
        most: width of the terminal in characters; a narrow table has fewer columns.
    """
    done = [each for each in outcomes if not each.failed]
    shown = list(outcomes) if len(outcomes) <= MOST_ROWS else []
    names = [escaped(each.name) for each in shown]
    errors = max((len(_error(each)) for each in shown), default=0)
    room, numbers = _fitting(most - (errors + 2 if errors else 0))
    labels = _summaries(len(outcomes), len(done))
    label = next((each for each in labels if len(each) <= room), labels[-1]) if done else ""
    width = max(LEAST_NAME, len(label), min(max(map(len, names), default=0), room))
    header = "  ".join((f"{'file':<{width}}", *(f"{name:>{NUMBERS[name]}}" for name in numbers)))
    lines = [header + ("  error" if errors else "")]
    lines += [
        f"{_row(_cut(name, width), width, [each], numbers)}  {_error(each)}".rstrip()
        for name, each in zip(names, shown, strict=True)
    ]
    lines.append(_row(label, width, done, numbers).rstrip() if done else labels[0])
    lines += [f"FAILED {escaped(each.name)}: {each.code}" for each in outcomes if each.failed and not shown]
    return "\n".join(lines)


def columns() -> int:
    """Columns of standard error: those of `COLUMNS` or of the terminal; a file or a pipe has room for whole names."""
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given):
        return int(given)
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or UNLIMITED
    except OSError:
        return UNLIMITED


def _fitting(most: int) -> tuple[int, list[str]]:
    """The room for names, and the columns of numbers that fit next to them."""
    numbers = list(NUMBERS)
    for name in ("", *DROPPED):
        numbers = [each for each in numbers if each != name]
        room = most - sum(NUMBERS[each] + 2 for each in numbers)
        if room >= LEAST_NAME:
            break
    return room, numbers


def _summaries(number: int, done: int) -> list[str]:
    """Labels for the line of all files, the longest first."""
    files = "1 file" if number == 1 else f"{number} files"
    if done == number:
        return [files]
    return [f"{files}: {done} completed, {number - done} failed", f"{done} of {number} completed", files]


def _error(outcome: Outcome) -> str:
    return (outcome.code or outcome.status) if outcome.failed else ""


def _cut(name: str, width: int) -> str:
    return name if len(name) <= width else f"…{name[1 - width :]}"


def _row(label: str, width: int, outcomes: Sequence[Outcome], numbers: Sequence[str]) -> str:
    taken, given = sum(each.size for each in outcomes), sum(sum(each.files.values()) for each in outcomes)
    seconds = [each.seconds for each in outcomes if each.seconds is not None]
    cells = {
        "in": size_of(taken) if outcomes else "",
        "out": size_of(given) if given else "",
        "saved": f"{1 - given / taken:.0%}" if taken and given else "",
        "seconds": f"{sum(seconds):.1f}" if seconds else "",
    }
    return "  ".join((f"{label:<{width}}", *(f"{cells[name]:>{NUMBERS[name]}}" for name in numbers)))


def size_of(size: float) -> str:
    """Bytes for people: `3.2 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError("unreachable")
