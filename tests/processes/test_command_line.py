"""How the command line fails, ends and prints: names from elsewhere, mistakes, interruptions, servers that are away."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pixtools_client import Client, Refused, Unauthorized, environment
from pixtools_client.protocol import FIRST_CONTACT, SILENCE, sendable
from typer import BadParameter

from app.commands import common
from app.commands.inputs import Input, inputs_of
from app.commands.jobs import Status
from app.commands.mistakes import lines_of
from app.commands.printing import escaped
from app.commands.webhooks import DeliveryStatus
from app.models import DeliveryStatus as StoredStatus
from app.models import JobStatus
from tests.conftest import make_photo
from tests.support.deployment import ApiClient, Deployment, embedded
from tests.support.preloaded import run
from tests.support.processes import LONG, client_of, held, pixtools, started
from tests.support.receiver import answer, receiving
from tests.support.waiting import until

pytestmark = pytest.mark.integration

EVIL = "ev\x1b[31mil\nFAILED\u202e.jpg"


@pytest.fixture(autouse=True)
def _interrupts_are_heard() -> None:
    """What a shell starts in the background, these tests too, ignores them, and so do its children."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with embedded(tmp_path_factory.mktemp("line"), PIXTOOLS_WORKER_CONCURRENCY="2").running() as deployment:
        yield deployment


DEAR = json.dumps([{"op": "convert_webp", "effort": 6}])  # by the estimate, so that it waits


COMMANDS = (("submit", DEAR), ("run", "-p", DEAR))


def test_the_same_command_after_ctrl_c_joins_the_job_that_runs(
    deployment: Deployment, api: ApiClient, tmp_path: Path
) -> None:
    commands, outs = [], []
    for number, (name, *options) in enumerate(COMMANDS):
        image, out = tmp_path / f"photo{number}.jpg", tmp_path / f"out{number}"
        image.write_bytes(make_photo(200, 150, seed=number))
        commands.append((name, str(image), *options, "-o", str(out)))
        outs.append(out)

    def jobs() -> set[str]:
        return {job["id"] for job in api.http.get("/jobs", params={"limit": 100}).json()["data"]}

    def heard() -> int:
        found = re.search(r'^pixtools_listeners\{kind="job"\} (\d+)', api.http.get("/metrics").text, re.MULTILINE)
        return int(found[1]) if found else 0

    ahead = api.accepted(make_photo(1000, 750), [{**LONG, "as": f"file{number}"} for number in range(2)])["id"]
    with held(deployment, api, ahead):  # both pixel processes for work that is not small, so that the jobs wait
        before = jobs()
        with ExitStack() as stack:
            running = [stack.enter_context(started(client_of(deployment), *command)) for command in commands]
            until(lambda: heard() == len(commands))
            for each in running:
                each.process.send_signal(signal.SIGINT)
            for each in running:
                interrupted = each.ended()
                assert interrupted.returncode == 130
                assert "Give the same command again" in interrupted.stderr
        assert [out for out in outs if out.exists()] == []
        until(lambda: heard() == 0)
        with ExitStack() as stack:
            again = [stack.enter_context(started(client_of(deployment), *command)) for command in commands]
            until(lambda: heard() == len(commands))
            assert api.http.post(f"/jobs/{ahead}/cancel").is_success
            for each in again:
                ended = each.ended()
                assert ended.returncode == 0, ended.stderr
    for out in outs:
        assert len(list(out.glob("photo*-convert_webp.*"))) == 1
    assert len(jobs() - before) == len(commands)


@pytest.mark.parametrize("module", ["typer", "httpx", "json"])
def test_ctrl_c_is_answered_while_modules_are_loaded(module: str) -> None:
    """That takes a second; here the signal comes when a certain module is looked for."""
    code = f"""
import os, signal, sys
class Finder:
    def find_spec(self, name, *_):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
from app.cli import main
sys.meta_path.insert(0, Finder())
sys.argv = ["pixtools", "jobs", "list", "--server", "http://127.0.0.1:9"]
main()
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "", "\nInterrupted.\n")


def test_names_of_files_are_sent_in_a_form_the_server_takes_and_printed_escaped(
    deployment: Deployment, tmp_path: Path
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for number, name in enumerate((EVIL.encode(), EVIL.replace("\n", "\t").encode(), b"caf\xe9.jpg")):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(make_photo(90, 60, seed=number))
    (folder / "half\x07.jpg").write_bytes(make_photo(90, 60)[:900])
    ran = pixtools(deployment, "run", str(folder), "-p", "convert_png", "-o", str(out))
    assert ran.returncode == 1, ran.stderr
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e]", ran.stderr), repr(ran.stderr)
    assert r"ev\x1b[31mil\nFAILED\u202e.jpg: completed" in ran.stderr
    assert r"half\x07.jpg: truncated_image" in ran.stderr
    assert len(list(out.glob("*.png"))) == 3
    assert sorted(ran.stdout.splitlines()) == sorted(map(str, out.glob("*.png")))
    for line in pixtools(deployment, "jobs", "list").stdout.splitlines():
        assert line == escaped(line)


def test_names_stay_different_when_they_are_made_sendable(tmp_path: Path) -> None:
    for name in ("photo.jpg", "naïve 写真.jpg", "x" * 251 + ".jpg"):
        assert sendable(name) == name
    changed = [sendable(name) for name in ("a\nb.jpg", "a\tb.jpg", "a_b.jpg", "a\udce9b.jpg", "x" * 300 + ".jpg")]
    assert len(set(changed)) == 5
    assert all(name.endswith(".jpg") and len(name) <= 255 and name.isprintable() for name in changed)
    for name in ("a\nb.jpg", "a\tb.jpg", "a_b.jpg"):
        (tmp_path / name).touch()
    inputs: list[Input] = inputs_of([str(tmp_path)])
    assert len({each.renamed(f"{Path(each.name).stem}-flip.jpg") for each in inputs}) == 3


@pytest.mark.parametrize(
    ("options", "key", "said"),
    [
        (("-p", "convert_wepb"), "", "unknown_operation: "),
        (("-p", '[{"op": "resize", "width": -1}]'), "", "invalid_parameter: "),
        (("-t", "nowhere"), "", "unknown_template: "),
        (("-p", "flip"), "pxt_wrong", "malformed_key: This is not an API key"),
        (("-p", "flip"), "schlüssel", "malformed_key: The key of PIXTOOLS_KEY"),
    ],
)
def test_a_mistake_of_the_command_is_one_error_and_not_one_of_each_file(
    deployment: Deployment, tmp_path: Path, options: tuple[str, ...], key: str, said: str
) -> None:
    for number in range(4):
        (tmp_path / f"{number}.jpg").write_bytes(make_photo(30, 20, seed=number))
    out = tmp_path / "out"
    environment_ = client_of(deployment) | ({"PIXTOOLS_KEY": key} if key else {})
    ran = run(["app", "run", str(tmp_path), *options, "-o", str(out)], environment_)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith(said), ran.stderr
    assert len(ran.stderr.splitlines()) <= 3
    assert "Bearer" not in ran.stderr
    assert not key or "PIXTOOLS_KEY" in ran.stderr
    assert not out.exists()


def test_a_file_that_does_not_exist_fails_by_its_name_and_the_others_run(
    deployment: Deployment, tmp_path: Path
) -> None:
    image, out = tmp_path / "a.jpg", tmp_path / "out"
    image.write_bytes(make_photo(30, 20))
    absent, pattern = str(tmp_path / "absent.jpg"), str(tmp_path / "none" / "*.jpg")
    ran = pixtools(deployment, "run", absent, str(image), pattern, "-p", "flip", "-o", str(out), "--json")
    assert ran.returncode == 1, ran.stderr
    lines = {each["file"]: each for each in map(json.loads, ran.stdout.splitlines())}
    codes = {name: each["error"] and each["error"]["code"] for name, each in lines.items()}
    assert codes == {absent: "file_not_found", str(image): None, pattern: "file_not_found"}
    assert f"FAILED {absent}: file_not_found: No such file or directory" in ran.stderr
    assert (out / "a-flip.jpg").stat().st_size
    none = pixtools(deployment, "run", absent, pattern, "-p", "flip", "-o", str(tmp_path / "other"))
    assert (none.returncode, none.stdout) == (2, "")
    assert f"{absent} does not exist. {pattern} matches no file." in none.stderr


def test_a_name_that_is_empty_or_too_long_is_a_wrong_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty name is often a variable that is not set: it must not mean the current folder with all its images."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jpg").write_bytes(b"1")
    for names, said in (([""], "is empty"), (["a.jpg", ""], "is empty"), (["x" * 300], "does not exist")):
        with pytest.raises(BadParameter, match=said):
            inputs_of(names)
    assert len(inputs_of(["x" * 300, "a.jpg"])) == 2


def test_an_unknown_template_is_explained_in_words_of_the_command_line(deployment: Deployment, tmp_path: Path) -> None:
    image = tmp_path / "a.jpg"
    image.write_bytes(make_photo(30, 20))
    said = "unknown_template: There is no template 'nowhere@2'.\n  → `pixtools templates list` shows all templates\n"
    for command in ("run", "plan"):
        assert pixtools(deployment, command, str(image), "-t", "nowhere@2").stderr == said


def test_one_of_several_mistakes_is_an_unknown_template() -> None:
    mistakes = [
        {"code": "invalid_tags", "detail": "Tags are an object.", "pointer": "#/tags"},
        {"code": "unknown_template", "detail": "No; GET /templates lists them.", "pointer": "#/template", "value": "x"},
    ]
    error = Refused("No.", status=422, problem={**mistakes[0], "errors": mistakes})
    assert lines_of(error) == [
        "invalid_tags: Tags are an object.",
        "  #/tags",
        "  #/template: There is no template 'x'.",
    ]


def test_a_folder_is_made_when_there_is_something_to_write(deployment: Deployment, tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    assert pixtools(deployment, "jobs", "download", "0", "-o", str(out)).returncode == 1
    assert not (tmp_path / "a").exists()
    image = tmp_path / "a.jpg"
    image.write_bytes(make_photo(30, 20))
    for place in (image, image / "below"):
        refused = pixtools(deployment, "run", str(image), "-p", "flip", "-o", str(place))
        assert refused.returncode == 2
        assert f"{image} is a file, not a folder." in refused.stderr
    absent = pixtools(deployment, "run", str(image), "-p", "@nofile.json")
    assert "Error: Invalid value: nofile.json: No such file or directory.\n" in absent.stderr
    assert pixtools(deployment, "submit", str(image), "flip", "-o", str(out)).returncode == 0
    assert (out / "a-flip.jpg").stat().st_size


def test_a_server_that_is_silent_is_named_and_not_waited_for_long(tmp_path: Path) -> None:
    image = tmp_path / "a.jpg"
    image.write_bytes(make_photo(30, 20))
    assert common.SLOW_SECONDS < FIRST_CONTACT.read < SILENCE
    impatient = """
from app.commands import common
from pixtools_client import protocol
common.SLOW_SECONDS, protocol.FIRST_CONTACT = 0.1, 3
"""
    environment_ = {name: value for name, value in os.environ.items() if not name.startswith("PIXTOOLS_")}
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and never answers
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        for command in (("run", str(image), "-p", "flip", "-o", str(tmp_path / "out")), ("jobs", "list")):
            began = time.monotonic()
            with started(environment_, *command, "--server", url.removeprefix("http://"), first=impatient) as running:
                ran = running.ended()
            assert ran.returncode == 3, ran.stderr
            assert ran.stderr.startswith(f"{url} has not answered yet.\n{url} does not answer: ")
            assert time.monotonic() - began < 25, "the patience with a server that has answered before"
    assert not (tmp_path / "out").exists()


def test_an_address_may_lack_its_scheme_on_this_machine_only() -> None:
    assert environment.address_of("127.0.0.1:8000") == "http://127.0.0.1:8000"
    assert environment.address_of("localhost:8000/") == "http://localhost:8000"
    assert environment.address_of("https://images.example/") == "https://images.example"
    for wrong in ("images.example", "images:80", "ftp://images.example", "http://", "127.0.0.1.images.example"):
        with pytest.raises(Refused, match="begins with https://"):
            environment.address_of(wrong)


@contextmanager
def breaking_off() -> Iterator[str]:
    """A server whose downloads begin and do not go on."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def do_GET(self) -> None:
            url = f"http://127.0.0.1:{self.server.server_address[1]}/file"
            result = {"name": "a", "filename": "a.png", "url": url, "bytes": 9999, "sha256": ""}
            job = {"id": "1", "status": "completed", "operations": [], "steps": [], "results": [result]}
            endless = self.path in {"/file", "/jobs/1/archive"}
            body = b"begun" if endless else json.dumps(job).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(9999 if endless else len(body)))
            self.end_headers()
            self.wfile.write(body)
            if endless:
                over.wait(60)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        over.set()
        server.shutdown()
        serving.join()
        server.server_close()


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("command", [("jobs", "archive", "1"), ("run", "photo.jpg", "-p", "flip")])
def test_a_download_that_is_ended_leaves_nothing(
    tmp_path: Path, command: tuple[str, ...], ending: signal.Signals
) -> None:
    (tmp_path / "photo.jpg").write_bytes(make_photo(30, 20))
    out = tmp_path / "out"
    out.mkdir()
    with (
        breaking_off() as url,
        started(dict(os.environ), *command, "-o", "out", "--server", url, folder=tmp_path) as running,
    ):
        until(lambda: list(out.iterdir()))
        running.process.send_signal(ending)
        ended = running.ended()
    assert ended.returncode == 128 + ending, ended.stderr
    assert list(out.iterdir()) == []


def test_a_full_disk_is_one_line_and_leaves_nothing_half(deployment: Deployment, tmp_path: Path) -> None:
    """A limit on the size of files is met as a full disk is: a write fails after some bytes were written."""
    image, out = tmp_path / "a.jpg", tmp_path / "out"
    image.write_bytes(make_photo(300, 200))
    [job] = pixtools(deployment, "run", str(image), "-p", "convert_png", "--no-wait").stdout.split()
    pixtools(deployment, "jobs", "wait", job)
    out.mkdir()

    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))"
    for command in (("download", job), ("archive", job)):
        with started(client_of(deployment), "jobs", *command, "-o", str(out), first=limited) as running:
            ended = running.ended()
        assert ended.returncode == 1
        assert re.fullmatch(rf"{out}/\S+: File too large\n", ended.stderr), ended.stderr
        assert list(out.iterdir()) == []
    again = ("run", str(image), "-p", "convert_png", "-o", str(out))
    with started(client_of(deployment), *again, first=limited) as running:
        said = running.ended().stderr
    assert f"FAILED {image}: download_failed: {out}/a-convert_png.png: File too large\n" in said
    assert list(out.iterdir()) == []


def test_an_archive_is_not_overwritten_unless_that_is_asked_for(deployment: Deployment, tmp_path: Path) -> None:
    image = tmp_path / "a.jpg"
    image.write_bytes(make_photo(30, 20))
    [job] = pixtools(deployment, "run", str(image), "-p", "flip", "--no-wait").stdout.split()
    pixtools(deployment, "jobs", "wait", job)
    archive = tmp_path / f"pixtools-{job}.zip"
    archive.write_bytes(b"mine")
    refused = pixtools(deployment, "jobs", "archive", job, "-o", str(tmp_path))
    assert (refused.returncode, "--if-exists" in refused.stderr) == (1, True)
    kept = pixtools(deployment, "jobs", "archive", job, "-o", str(tmp_path), "--if-exists", "skip")
    assert (kept.returncode, archive.read_bytes()) == (0, b"mine")
    renamed = pixtools(deployment, "jobs", "archive", job, "-o", str(tmp_path), "--if-exists", "rename")
    assert Path(renamed.stdout.strip()).name == f"pixtools-{job}-2.zip"
    pixtools(deployment, "jobs", "archive", job, "-o", str(tmp_path), "--if-exists", "replace")
    assert archive.read_bytes()[:2] == b"PK"


def test_what_was_probably_meant_is_asked_in_the_same_words(deployment: Deployment, tmp_path: Path) -> None:
    (tmp_path / "logo.png").write_bytes(make_photo(30, 20))
    assert pixtools(deployment, "assets", "put", str(tmp_path / "logo.png")).returncode == 0
    for command, meant in (
        (("operations", "convert_wepb"), "convert_webp"),
        (("templates", "show", "avatr"), "avatar"),
        (("templates", "delete", "avatr"), "avatar"),
        (("assets", "delete", "logo.pgn"), "logo.png"),
        (("run", "--operaitons", "flip"), "--operations"),
        (("jobs", "list", "--status", "complete"), "completed"),
        (("jobs", "lst"), "list"),
    ):
        assert f". Did you mean {meant!r}?\n" in pixtools(deployment, *command).stderr


def test_states_to_choose_from_are_those_that_there_are() -> None:
    assert set(Status.__args__) == set(JobStatus)  # type: ignore[attr-defined]
    assert set(DeliveryStatus.__args__) == set(StoredStatus)  # type: ignore[attr-defined]


def test_json_has_code_message_and_pointer_apart_and_the_job_of_an_earlier_run(
    deployment: Deployment, tmp_path: Path
) -> None:
    (tmp_path / "a.jpg").write_bytes(make_photo(90, 60))
    (tmp_path / "b.jpg").write_bytes(make_photo(90, 60)[:900])
    command = ("run", str(tmp_path), "-p", "flip", "-o", str(tmp_path / "out"), "--json")
    first, second = (
        {Path(line["file"]).name: line for line in map(json.loads, pixtools(deployment, *command).stdout.splitlines())}
        for _ in range(2)
    )
    error = first["b.jpg"]["error"]
    assert (error["code"], error["pointer"]) == ("truncated_image", "#/file")
    assert "truncated_image" not in error["message"]
    assert "\n" not in error["message"]
    assert second["a.jpg"]["earlier"]
    assert second["a.jpg"]["job"] == first["a.jpg"]["job"] is not None


def test_a_key_that_no_server_knows_is_traced_to_where_it_came_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIXTOOLS_KEY", raising=False)
    file = tmp_path / "key"
    file.write_text("nö")
    file.chmod(0o600)
    monkeypatch.setenv("PIXTOOLS_KEY_FILE", str(file))
    with pytest.raises(Unauthorized, match=f"The key of the file {file} has"):
        Client("http://127.0.0.1:9")
    problem = json.dumps({"code": "unknown_key", "detail": "There is no such API key."}).encode()
    file.write_text("pxt_unknown")
    with receiving(answer(401, problem)) as site, Client(site.origin) as client, pytest.raises(Unauthorized) as refused:
        client.job("1")
    assert lines_of(refused.value)[0] == "unknown_key: There is no such API key."
    assert str(file) in lines_of(refused.value)[1]
    missing = Unauthorized("", problem={"code": "missing_key", "detail": "Send `Authorization: Bearer …`."})
    assert "Bearer" not in "".join(lines_of(missing))
    assert "PIXTOOLS_KEY" in lines_of(missing)[1]


def test_output_that_is_not_read_ends_a_command_as_it_ends_cat(deployment: Deployment, tmp_path: Path) -> None:
    image = tmp_path / "a.jpg"
    image.write_bytes(make_photo(30, 20))
    unread = "import os, sys; ours, theirs = os.pipe(); os.close(ours); sys.stdout = open(theirs, 'w')"
    for command in (("jobs", "list"), ("run", str(image), "-p", "flip")):
        with started(client_of(deployment), *command, first=unread) as running:
            ended = running.ended()
        assert ended.returncode == -signal.SIGPIPE
        assert re.fullmatch(r"(\S+: completed, .*\n)?", ended.stderr)
    with started(client_of(deployment), "operations", out=Path("/dev/full")) as running:
        full = running.ended()
    assert (full.returncode, full.stderr) == (1, "The output cannot be written: No space left on device.\n")
