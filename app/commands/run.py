"""`pixtools run | submit`: files to a server, results to a folder."""

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from app.commands.common import AWAY, FAILED, Server, Waiting, opened
from app.commands.display import Display, Outcome, table
from app.commands.inputs import Input, Journal, in_folder, inputs_of, key_of, one_input, operations_of
from app.commands.orders import OperationsOption, ParamOption, TagOption, TemplateOption, order_of

if TYPE_CHECKING:
    from pixtools_client import Client, Job

PATIENCE = 900.0  # seconds to wait for a server that has answered before
STARTED = time.time()
INTERRUPTED = 130  # exit code
LOOK_SECONDS = 1.0  # between two looks at a watched folder

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
    #: idempotency key of the only file; None: it is made from the content
    own_key: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    #: names of files by the ids of their jobs, which were accepted and have not ended yet
    open_jobs: dict[str, str] = field(default_factory=dict)
    stop: threading.Event = field(default_factory=threading.Event)

    def do(self, given: Input) -> Outcome:
        """Send a file and write its results; the outcome says if that failed."""
        from pixtools_client import ClientError

        outcome = Outcome(given.shown)
        if self.stop.is_set():
            outcome.status, outcome.code, outcome.message = "skipped", "skipped", "not sent"
            return outcome
        try:
            self._do(given, outcome)
        except ClientError as error:
            outcome.status, outcome.code = "failed", error.code
            outcome.message = str(error)
            if _concerns_all(error):
                self.stop.set()
        except OSError as error:
            outcome.code, outcome.message = "unreadable", error.strerror or str(error)
        return outcome

    def _do(self, given: Input, outcome: Outcome) -> None:
        content = given.url.encode() or given.read()
        outcome.size = 0 if given.url else len(content)
        key = key_of(content, {"operations": self.tree, "filename": given.name, **self.fields})
        place = f"{key}/{given.folder / given.stem}"
        if self.journal and not self.again and self._is_done(self.journal, place, outcome):
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
            self.journal.note(place, written, outcome.size)

    @staticmethod
    def _is_done(journal: Journal, place: str, outcome: Outcome) -> bool:
        """Whether an earlier run has finished a file; the outcome then says so."""
        known = journal.files(place)
        if known is None:
            return False
        outcome.status, outcome.earlier = "completed", True
        outcome.size = outcome.size or journal.size(place)
        outcome.files = {path: path.stat().st_size for path in known}
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
        try:
            ended = self._follow(job, outcome, update)
        except JobNotFound:  # it has expired
            ended = None
        if ended is None or (ended["status"] != "completed" and _is_older(ended) and not self.own_key):
            ended = self._follow(self._submit(given, content, None), outcome, update)
        return ended

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
        self.open_jobs.pop(job["id"], None)  # it may be gone already: equal files share a job
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
        IfExists, typer.Option(help="What to do if a file with other content is in the place of a result.")
    ] = "fail",
    again: Annotated[bool, typer.Option(help="Do finished files again as well.")] = False,
    watch: Annotated[bool, typer.Option(help="Keep running, and do files that appear in the folders later.")] = False,
    wait_: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait for results; --no-wait prints the ids of the jobs and exits.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per file.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print failures only.")] = False,
    tag: TagOption = None,
    webhook_url: Annotated[str | None, typer.Option(help="Gets a POST when each job has ended.")] = None,
    priority: Annotated[int | None, typer.Option(min=0, max=9, help="9 goes first; default: 5.")] = None,
    server: Server = None,
) -> None:
    """Send files through operations or a template and write the results to a folder; the server fetches URLs.

    If you give the same command again, also after it was killed, it skips finished files. The exit code is 0 if every
    file succeeded, 1 if some failed, 3 if the server does not answer, and 130 after Ctrl-C.
    """
    tree, order = order_of(operations, template, param, tag)
    inputs = inputs_of(files)
    folders = [Path(file) for file in files if Path(file).is_dir()]
    if watch and not folders:
        raise typer.BadParameter("--watch needs a folder.")
    if not inputs and not watch:
        raise typer.BadParameter("There is no image in these folders.")
    keep = out if wait_ else None
    if keep:
        make_folder(keep)
    display = Display(len(inputs), quiet=quiet)
    with opened(server, patience=PATIENCE, on_retry=Waiting(display.say)) as client:
        check(client)
        run = Run(
            client=client,
            tree=tree,
            out=keep,
            journal=Journal.of(keep) if keep else None,
            display=display,
            if_exists=if_exists,
            waits=wait_,
            again=again,
            fields={"webhook_url": webhook_url, "priority": priority, **order},
        )
        outcomes: list[Outcome] = []
        try:
            with display.shown():
                for outcome in _outcomes(run, inputs, folders if watch else [], parallel):
                    outcomes.append(outcome)
                    _print(outcome, display, as_json=as_json, quiet=quiet)
        except KeyboardInterrupt:
            _interrupted(run, display)
    _end(run, outcomes, quiet=quiet or as_json)


def submit(
    file: Annotated[str, typer.Argument(help="The image, a URL, or - for standard input.")],
    operations: Annotated[str, typer.Argument(help="The tree: JSON, @FILE, or names separated by commas.")],
    server: Server = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder to download the results to.")] = None,
    webhook_url: Annotated[str | None, typer.Option(help="Gets a POST when the job has ended.")] = None,
    priority: Annotated[int | None, typer.Option(min=0, max=9, help="9 goes first; default: 5.")] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="With the same key, a repeat makes no second job.")
    ] = None,
    if_exists: Annotated[IfExists, typer.Option(help="What to do if a file has other content.")] = "fail",
    wait_: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the end and show progress.")] = True,
) -> None:
    """Send one file, watch its job, and print its results: files with -o, else links."""
    tree, given = operations_of(operations), one_input(file)
    keep = output if wait_ else None
    if keep:
        make_folder(keep)
    display = Display(1, quiet=False)
    fields = {"webhook_url": webhook_url, "priority": priority}
    with opened(server, patience=PATIENCE) as client:
        check(client)
        run = Run(client, tree, keep, None, display, if_exists, waits=wait_, again=True, fields=fields)
        run.own_key = idempotency_key
        try:
            with display.shown():
                outcome = next(_outcomes(run, [given], [], 1))
        except KeyboardInterrupt:
            _interrupted(run, display)
    _print(outcome, display)
    if outcome.failed:
        raise typer.Exit(FAILED)


def check(client: "Client") -> None:
    """Raise at once if the server does not answer; later on the command waits for it.

    Raises:
        ServerAway: it does not answer.
    """
    from pixtools_client import Client

    with Client(client.server, patience=2.0) as asking:
        asking.live()


def make_folder(folder: Path) -> None:
    """Make a folder for results.

    Raises:
        BadParameter: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise typer.BadParameter(f"{folder}: {error.strerror}") from None


def _outcomes(run: Run, inputs: Sequence[Input], watched: Sequence[Path], parallel: int) -> Iterator[Outcome]:
    """The outcome of each file as it ends; for watched folders the iterator never ends."""
    threads = ThreadPoolExecutor(parallel, thread_name_prefix="run")
    seen = {each.path.resolve() for each in inputs if each.path}
    waiting: set[Future[Outcome]] = {threads.submit(run.do, each) for each in inputs}
    sizes: dict[Path, int] = {}
    while waiting or watched:
        done, waiting = wait(waiting, timeout=LOOK_SECONDS if watched else 0.5, return_when=FIRST_COMPLETED)
        for future in done:
            outcome = future.result()
            run.display.finished(outcome)
            yield outcome
        for each in _new(watched, seen, sizes):
            waiting.add(threads.submit(run.do, each))
        if watched and not waiting:
            time.sleep(LOOK_SECONDS)


def _new(folders: Sequence[Path], seen: set[Path], sizes: dict[Path, int]) -> Iterator[Input]:
    """New files that have stopped growing."""
    for folder in folders:
        for each in in_folder(folder):
            path = each.path.resolve() if each.path else None
            if path is None or path in seen:
                continue
            size = path.stat().st_size
            if size and sizes.get(path) == size:
                seen.add(path)
                yield each
            sizes[path] = size


def _print(outcome: Outcome, display: Display, *, as_json: bool = False, quiet: bool = False) -> None:
    if as_json:
        display.answer(outcome.to_json())
    elif outcome.status == "accepted":
        display.answer(str(outcome.job_id))
    elif not quiet:
        for line in (*outcome.files, *outcome.urls):
            display.answer(str(line))


def _interrupted(run: Run, display: Display) -> None:
    """Print which jobs continue at the server and how to end them; waiting threads are abandoned."""
    run.stop.set()
    ids = list(run.open_jobs)
    lines = ["", "Interrupted."]
    if ids:
        shown = " ".join(ids[:20]) + (" …" if len(ids) > 20 else "")
        jobs = "1 job continues" if len(ids) == 1 else f"{len(ids)} jobs continue"
        lines += [f"{jobs} at {run.client.server}:", f"  pixtools jobs wait {shown}", f"  pixtools jobs cancel {shown}"]
    lines.append("Give the same command again to continue where it stopped.")
    sys.stderr.write("\n".join(lines) + "\n")
    sys.stderr.flush()
    sys.stdout.flush()
    os._exit(INTERRUPTED)


def _end(run: Run, outcomes: list[Outcome], *, quiet: bool) -> None:
    if run.waits and not quiet and outcomes:
        sys.stderr.write(table(outcomes, shutil.get_terminal_size().columns) + "\n")
    if any(outcome.code == "server_away" for outcome in outcomes):
        raise typer.Exit(AWAY)
    if any(outcome.failed for outcome in outcomes):
        raise typer.Exit(FAILED)
