"""`pixtools run | submit`: files to a server, results to a folder."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from app.commands.common import FAILED, Server, Waiting, opened
from app.commands.display import Display, Outcome, columns, table
from app.commands.ending import leave_interrupted
from app.commands.inputs import Input, Journal, inputs_of, is_folder, key_of, one_input, operations_of
from app.commands.orders import OperationsOption, ParamOption, TagOption, TemplateOption, order_of
from app.commands.watching import LOOK_SECONDS, Watch

if TYPE_CHECKING:
    from pixtools_client import Client, Job

PATIENCE = 900.0  # seconds to wait for a server that has answered before
STARTED = time.time()

CONTINUE = "Give the same command again to continue where it stopped."

IfExists = Literal["fail", "replace", "skip", "rename"]
#: pointers of mistakes that concern all images, not a single one
OF_ALL = tuple(
    f"#/{member}" for member in ("operations", "template", "params", "tags", "webhook_url", "priority", "output")
)


@dataclass
class Run:
    """One run over many files."""

    client: "Client"
    #: None: a template is used
    tree: str | None
    out: Path | None
    journal: Journal | None
    display: Display
    if_exists: IfExists
    waits: bool = True
    again: bool = False
    #: idempotency key of the only file; None: the key is made from the content
    own_key: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    #: names of files by the ids of their jobs, which were accepted and have not ended yet
    open_jobs: dict[str, str] = field(default_factory=dict)
    stop: threading.Event = field(default_factory=threading.Event)

    def do(self, given: Input) -> Outcome:
        """Send a file and write its results; a failure is part of the outcome.

        Raises:
            ClientError: every other file would fail in the same way.
        """
        from pixtools_client import ClientError

        outcome = Outcome(given.shown)
        try:
            content = given.url.encode() or given.read()
        except OSError as error:
            outcome.code = "file_not_found" if isinstance(error, FileNotFoundError) else "unreadable"
            outcome.message = error.strerror or str(error)
            return outcome
        try:
            self._do(given, content, outcome)
        except ClientError as error:
            if _concerns_all(error):
                raise
            outcome.status, outcome.code, outcome.message = "failed", error.code, error.detail
            outcome.pointer = next((each["pointer"] for each in error.errors if "pointer" in each), None)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            outcome.status, outcome.code = "failed", "unwritable"
            outcome.message = f"{where}{error.strerror or error}"
        return outcome

    def _do(self, given: Input, content: bytes, outcome: Outcome) -> None:
        outcome.size = 0 if given.url else len(content)
        key = key_of(content, {"operations": self.tree, "filename": given.name, **self.fields})
        place = f"{key}/{given.folder / given.stem}"
        if self.journal and not self.again and not self.own_key and self._is_done(self.journal, place, outcome):
            return
        began = time.monotonic()
        with self.display.working(outcome.name) as update:
            job = self._ended(given, content, key, outcome, update)
            if job is None:
                return
            written = self._write(given, job)
        outcome.files = {path: path.stat().st_size for path in written}
        outcome.urls = [] if self.out else [result["url"] for result in job["results"]]
        outcome.status, outcome.seconds = job["status"], time.monotonic() - began
        outcome.size = job["input"]["bytes"] or outcome.size
        if outcome.failed:
            _note_error(outcome, job)
        elif self.journal:
            self.journal.note(place, written, outcome.size, outcome.job_id)

    @staticmethod
    def _is_done(journal: Journal, place: str, outcome: Outcome) -> bool:
        """Whether an earlier run has finished a file, which is then noted in the outcome."""
        found = journal.finished(place)
        if found is None:
            return False
        paths, entry = found
        outcome.status, outcome.earlier, outcome.job_id = "completed", True, entry.job_id
        outcome.size = outcome.size or entry.size
        outcome.files = {path: path.stat().st_size for path in paths}
        return True

    def _ended(
        self, given: Input, content: bytes, key: str, outcome: Outcome, update: Callable[["Job"], None]
    ) -> "Job | None":
        """The job when it has ended; None without waiting. The job of an earlier run counts if it has completed."""
        from pixtools_client import JobNotFound

        job = self._submit(given, content, self.own_key or (None if self.again else key))
        if not self.waits:
            outcome.job_id, outcome.status = job["id"], "accepted"
            return None
        # the second key joins the job that an interrupted command made in the place of one that had failed
        for next_key in (f"{key}-{job['id']}", None):
            try:
                ended = self._follow(job, outcome, update)
            except JobNotFound:  # the job has expired
                pass
            else:
                if ended["status"] == "completed" or not _is_older(ended) or self.own_key:
                    return ended
            job = self._submit(given, content, next_key)
        return self._follow(job, outcome, update)

    def _submit(self, given: Input, content: bytes, key: str | None) -> "Job":
        filename = None if given.url else given.name
        return self.client.submit(
            given.url or content, self.tree, filename=filename, idempotency_key=key, **self.fields
        )

    def _follow(self, job: "Job", outcome: Outcome, update: Callable[["Job"], None]) -> "Job":
        outcome.job_id = job["id"]
        self.open_jobs[job["id"]] = outcome.name
        for latest in self.client.follow(job["id"]):
            job = latest
            update(latest)
        self.open_jobs.pop(job["id"], None)  # the id may be gone already: equal files share a job
        return job

    def _write(self, given: Input, job: "Job") -> dict[Path, str]:
        if self.out is None:
            return {}
        folder = self.out / given.folder
        folder.mkdir(parents=True, exist_ok=True)
        written = {}
        for result in job["results"]:
            path = folder / _place(given, result)
            path.parent.mkdir(exist_ok=True)
            written[self.client.download(result, path, if_exists=self.if_exists)] = result["sha256"]
        return written


def _place(given: Input, result: Any) -> Path:
    """Where a result goes: the files of a set, which refer to each other, go into a folder named after their image."""
    filename = Path(result["filename"]).name
    if filename == result["name"]:
        own = given.stem or Path(given.name).stem
        return Path(own if own not in {"", ".", ".."} else "image") / filename
    return Path(given.renamed(filename))


def _is_older(job: "Job") -> bool:
    """Whether a job belongs to an earlier run."""
    from datetime import datetime

    return datetime.fromisoformat(job["created_at"]).timestamp() < STARTED - 1


def _note_error(outcome: Outcome, job: "Job") -> None:
    failed = [step["error"] for step in job["steps"] if step["error"]]
    error = job["error"] or (failed[0] if failed else None)
    outcome.code = error["code"] if error else job["status"]
    outcome.message = error["message"] if error else f"the job is {job['status']}"
    if outcome.files:
        outcome.message += f" ({len(outcome.files)} of its results were written)"


def _concerns_all(error: Any) -> bool:
    """Whether every other file would fail in the same way."""
    from pixtools_client import Forbidden, ServerAway, Unauthorized

    if error.code == "limit_exceeded":  # the memory that an encoder needs: the pointer leads to the encoder
        return False
    pointers = [each.get("pointer", "") for each in getattr(error, "errors", ())]
    return isinstance(error, Unauthorized | Forbidden | ServerAway) or any(
        pointer.startswith(OF_ALL) for pointer in pointers
    )


def run_files(
    files: Annotated[list[str], typer.Argument(help="Files, folders, patterns, URLs, or - for standard input.")],
    operations: OperationsOption = None,
    template: TemplateOption = None,
    param: ParamOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for the results; default: print links.")
    ] = None,
    parallel: Annotated[int, typer.Option("--parallel", "-j", min=1, max=64, help="Files at the same time.")] = 4,
    if_exists: Annotated[
        IfExists, typer.Option(help="What to do if a file of a result's name exists with other content.")
    ] = "fail",
    again: Annotated[bool, typer.Option(help="Repeat finished files too.")] = False,
    watch: Annotated[bool, typer.Option(help="Keep running, and process files that appear later.")] = False,
    wait_: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait for results; --no-wait prints the ids of the jobs and exits.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per file.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print failures only.")] = False,
    tag: TagOption = None,
    webhook_url: Annotated[str | None, typer.Option(help="URL that gets a POST when a job has ended.")] = None,
    priority: Annotated[int | None, typer.Option(min=0, max=9, help="9 goes first; default: 5.")] = None,
    server: Server = None,
) -> None:
    """Send files through operations or a template and write the results to a folder; the server fetches URLs.

    The same command given again skips finished files, even after it was killed. The exit code is 0 if every file
    succeeded, 1 if some failed, 3 if the server does not answer, and 130 after Ctrl-C.
    """
    tree, order = order_of(operations, template, param, tag)
    inputs = inputs_of(files)
    folders = [Path(file) for file in files if is_folder(file)]
    if watch and not folders:
        raise typer.BadParameter("--watch needs a folder.")
    if not inputs and not watch:
        raise typer.BadParameter("There is no image in these folders.")
    keep = out if wait_ else None
    if keep:
        refuse_place(keep)
    display, stop = Display(len(inputs), quiet=quiet), threading.Event()
    with opened(server, patience=PATIENCE, on_retry=Waiting(display.say, stop)) as client:
        run = Run(
            client=client,
            tree=tree,
            out=keep,
            journal=Journal.of(keep) if keep else None,
            display=display,
            if_exists=if_exists,
            waits=wait_,
            again=again,
            stop=stop,
            fields={"webhook_url": webhook_url, "priority": priority, **order},
        )
        outcomes = _outcomes(run, inputs, folders if watch else [], parallel)
        failed = _print_all(run, outcomes, as_json=as_json, quiet=quiet)
    if failed:
        raise typer.Exit(FAILED)


def submit(
    file: Annotated[str, typer.Argument(help="The image, a URL, or - for standard input.")],
    operations: Annotated[str, typer.Argument(help="The tree: JSON, @FILE, or names separated by commas.")],
    server: Server = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder to download the results to.")] = None,
    webhook_url: Annotated[str | None, typer.Option(help="URL that gets a POST when the job has ended.")] = None,
    priority: Annotated[int | None, typer.Option(min=0, max=9, help="9 goes first; default: 5.")] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="The same key gives the same job; default: made from file and operations.")
    ] = None,
    again: Annotated[bool, typer.Option(help="Repeat a finished file too.")] = False,
    if_exists: Annotated[IfExists, typer.Option(help="What to do if a file has other content.")] = "fail",
    wait_: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the end and show progress.")] = True,
) -> None:
    """Send one file, watch its job, and print its results: files with -o, else links.

    The same command given again joins the existing job, even after an interruption.
    """
    tree, given = operations_of(operations), one_input(file)
    keep = output if wait_ else None
    if keep:
        refuse_place(keep)
    display = Display(1, quiet=False)
    fields = {"webhook_url": webhook_url, "priority": priority}
    journal = Journal.of(keep) if keep else None
    with opened(server, patience=PATIENCE, on_retry=Waiting(display.say)) as client:
        run = Run(client, tree, keep, journal, display, if_exists, waits=wait_, again=again, fields=fields)
        run.own_key = idempotency_key
        with _shown(run):
            [outcome] = _outcomes(run, [given], [], 1)
    _print(outcome, display)
    if outcome.failed:
        raise typer.Exit(FAILED)


def refuse_place(folder: Path) -> None:
    """Refuse a folder that cannot be written to; a missing folder is made with its first file.

    Raises:
        BadParameter: the folder, or the one that it would be made in, is a file or cannot be written to.
    """
    try:
        there = next(each for each in (folder, *folder.absolute().parents) if each.is_symlink() or each.exists())
    except OSError as error:
        raise typer.BadParameter(f"{folder}: {error.strerror}.") from None
    if not there.is_dir():
        raise typer.BadParameter(f"{there} is a file, not a folder.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise typer.BadParameter(f"{there} is a folder that you may not write to.")


@contextmanager
def _shown(run: Run) -> Iterator[None]:
    """Show the progress of a run; Ctrl-C ends the command."""
    from pixtools_client import ServerAway

    try:
        with run.display.shown():
            yield
    except KeyboardInterrupt:
        _interrupted(run)
    except ServerAway as error:
        if not run.again:
            error.add_note(CONTINUE)
        raise


def _outcomes(run: Run, inputs: Sequence[Input], watched: Sequence[Path], parallel: int) -> Iterator[Outcome]:
    """The outcome of each file as it ends; for watched folders the iterator never ends.

    Raises:
        ClientError: every other file would fail in the same way; no further one is sent.
    """
    todo: SimpleQueue[Input] = SimpleQueue()
    ended: SimpleQueue[Outcome | Exception] = SimpleQueue()
    for _ in range(parallel if watched else min(parallel, len(inputs))):
        threading.Thread(target=_work, args=(run, todo, ended), name="run", daemon=True).start()
    watch = Watch(watched, inputs)
    for each in inputs:
        todo.put(each)
    left = len(inputs)
    while left or watched:
        try:
            outcome = ended.get(timeout=LOOK_SECONDS)
        except Empty:
            pass
        else:
            if isinstance(outcome, Exception):
                raise outcome
            left -= 1
            run.display.finished(outcome)
            watch.note(Path(outcome.name), failed=outcome.failed)
            yield outcome
        for each in watch.new():
            run.display.expect_another()
            todo.put(each)
            left += 1


def _work(run: Run, todo: SimpleQueue[Input], ended: SimpleQueue[Outcome | Exception]) -> None:
    """Do files until one of them shows that all would fail; the process does not wait for this thread."""
    while not run.stop.is_set():
        try:
            ended.put(run.do(todo.get()))
        except Exception as error:  # noqa: BLE001 - raised in the thread that waits
            run.stop.set()
            ended.put(error)


def _print_all(run: Run, outcomes: Iterator[Outcome], *, as_json: bool, quiet: bool) -> bool:
    """Print each outcome as it comes, and a table of all at the end, after Ctrl-C too; whether a file failed."""
    printed: list[Outcome] = []
    try:
        with _shown(run):
            for outcome in outcomes:
                printed.append(outcome)
                _print(outcome, run.display, as_json=as_json, quiet=quiet)
    except BrokenPipeError:  # no process reads the output
        quiet = True
        raise
    finally:
        if run.waits and printed and not quiet and not as_json:
            sys.stderr.write(table(printed, columns()) + "\n")
    return any(outcome.failed for outcome in printed)


def _print(outcome: Outcome, display: Display, *, as_json: bool = False, quiet: bool = False) -> None:
    if as_json:
        display.answer(outcome.to_json())
    elif outcome.status == "accepted":
        display.answer(str(outcome.job_id))
    elif not quiet:
        for line in (*outcome.files, *outcome.urls):
            display.answer(str(line))


def _interrupted(run: Run) -> NoReturn:
    """Print which jobs continue at the server and how to end them; waiting threads are abandoned."""
    run.stop.set()
    ids = list(run.open_jobs)
    lines = ["", "Interrupted."]
    if ids:
        shown = " ".join(ids[:20]) + (" …" if len(ids) > 20 else "")
        jobs = "1 job continues" if len(ids) == 1 else f"{len(ids)} jobs continue"
        lines += [f"{jobs} at {run.client.server}:", f"  pixtools jobs wait {shown}", f"  pixtools jobs cancel {shown}"]
    if not run.again:
        lines.append(CONTINUE)
    sys.stderr.write("\n".join(lines) + "\n")
    leave_interrupted()
