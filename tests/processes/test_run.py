"""`pixtools run` over many files, and what else the command line does for people."""

import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from pixtools_client import Invalid, TemplateNotFound
from typer.testing import CliRunner

from tests.conftest import make_photo
from tests.support.deployment import ROOT, ApiClient, Deployment, embedded
from tests.support.preloaded import run
from tests.support.processes import LONG, client_of, pixtools, started, terminal
from tests.support.receiver import answer, receiving
from tests.support.shell import run_script
from tests.support.waiting import until

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """The single process; what is tested here is the other side."""
    with embedded(tmp_path_factory.mktemp("run")).running() as deployment:
        yield deployment


TREE = json.dumps([{"op": "resize", "width": 60, "then": [{"op": "convert_webp", "as": "small"}]}])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve images, three of which end too early, in two folders."""
    folder = tmp_path / "in"
    (folder / "below").mkdir(parents=True)
    for number in range(12):
        image = make_photo(300, 200, seed=number)
        content = image[: len(image) // 3] if number in {2, 5, 9} else image
        (folder / ("below" if number % 2 else "") / f"photo{number}.jpg").write_bytes(content)
    (folder / ".hidden.jpg").write_bytes(b"")
    (folder / "notes.txt").write_text("no image")
    return folder


def jobs_of(api: ApiClient) -> set[str]:
    return {job["id"] for job in api.http.get("/jobs", params={"limit": 100}).json()["data"]}


@pytest.mark.parametrize("piped", [True, False])
def test_answers_stay_whole_next_to_the_bars(deployment: Deployment, tmp_path: Path, *, piped: bool) -> None:
    """Bars are drawn on a terminal; what is written goes above them, or wherever standard output goes."""
    (tmp_path / "photo.jpg").write_bytes(make_photo(300, 200, seed=77))
    command = ("run", "photo.jpg", "--operations", TREE, "--out", "out")
    environment = {**client_of(deployment), "TERM": "xterm", "COLUMNS": "200"}
    with terminal() as (screen, shown):
        out = None if piped else screen
        with started(environment, *command, folder=tmp_path, out=out, err=screen) as running:
            ran = running.ended()
    assert ran.returncode == 0, shown
    assert "0 of 1 files" in shown.decode()
    if piped:
        assert ran.stdout.splitlines() == ["out/photo-small.webp"]
        assert b"photo-small.webp" not in shown
    else:
        assert b"\x1b[2Kout/photo-small.webp\r\n" in shown  # on a line that was empty, and below it the bars again


def test_a_folder_is_run_with_its_failures_by_name_and_again_without_doing_it_twice(
    deployment: Deployment, api: ApiClient, folder: Path, tmp_path: Path
) -> None:
    before, out = jobs_of(api), tmp_path / "out"
    command = ("run", str(folder), "--operations", TREE, "--out", str(out))
    ran = pixtools(deployment, *command)
    assert ran.returncode == 1, ran.stderr
    failed = re.findall(r"^FAILED (\S+): truncated_image: .*\n +→ .*again$", ran.stderr, re.MULTILINE)
    assert sorted(failed) == sorted(
        map(str, (folder / "photo2.jpg", folder / "below/photo5.jpg", folder / "below/photo9.jpg"))
    )
    assert re.search(r"^12 files: 9 completed, 3 failed +\S+ kB +\S+ kB +\d+% +\d", ran.stderr, re.MULTILINE)
    made = {path.relative_to(out) for path in out.rglob("*.webp")}
    assert made == {
        Path(f"below/photo{number}-small.webp" if number % 2 else f"photo{number}-small.webp")
        for number in (0, 1, 3, 4, 6, 7, 8, 10, 11)
    }
    first = jobs_of(api) - before
    assert len(first) == 9
    again = pixtools(deployment, *command, "--json")
    reported = [json.loads(line) for line in again.stdout.splitlines()]
    assert (again.returncode, sum(each["earlier"] for each in reported)) == (1, 9)
    assert [each["error"]["code"] for each in reported if each["error"]] == ["truncated_image"] * 3
    (out / "photo0-small.webp").unlink()  # only this one is fetched again, from the job that has it
    quiet = pixtools(deployment, *command, "-q")
    assert (quiet.returncode, quiet.stdout, quiet.stderr.count("FAILED")) == (1, "", 3)
    assert (out / "photo0-small.webp").stat().st_size
    assert jobs_of(api) - before == first


FILES = 8


def test_a_run_that_was_killed_goes_on_and_does_nothing_twice(
    deployment: Deployment, api: ApiClient, tmp_path: Path
) -> None:
    for attempt in range(1, 4):  # if the machine pauses at the wrong moment, all is done when the process is killed
        folder, out = tmp_path / f"in{attempt}", tmp_path / f"out{attempt}"
        folder.mkdir()
        for number in range(FILES):
            (folder / f"{number}.jpg").write_bytes(make_photo(400, 300, seed=100 * attempt + number))
        before = jobs_of(api)
        command = ("run", str(folder), "-p", "convert_avif", "--out", str(out), "-j", "1")
        with started(client_of(deployment), *command) as killed:
            until(lambda out=out: list(out.glob("*.avif")))
            killed.process.kill()
            killed.ended()
        if (done := len(list(out.glob("*.avif")))) < FILES:
            break
    assert 0 < done < FILES
    ended = pixtools(deployment, *command)
    assert ended.returncode == 0, ended.stderr
    assert len(list(out.glob("*.avif"))) == FILES
    assert ended.stderr.count("done earlier") >= done - 2
    assert len(jobs_of(api) - before) == FILES


def test_ctrl_c_says_what_goes_on_and_how_to_end_it(deployment: Deployment, api: ApiClient, tmp_path: Path) -> None:
    (tmp_path / "big.jpg").write_bytes(make_photo(1000, 750))
    before = jobs_of(api)
    with started(client_of(deployment), "run", str(tmp_path / "big.jpg"), "-p", json.dumps([LONG])) as running:
        until(lambda: 'pixtools_listeners{kind="job"} 1.0' in api.http.get("/metrics").text)  # it knows the job
        running.process.send_signal(signal.SIGINT)
        ended = running.ended()
    [job_id] = jobs_of(api) - before
    assert ended.returncode == 130
    assert f"pixtools jobs wait {job_id}" in ended.stderr
    assert f"pixtools jobs cancel {job_id}" in ended.stderr
    assert f"{job_id}  cancelled" in pixtools(deployment, "jobs", "cancel", job_id).stdout


def test_nothing_is_overwritten_without_a_word(deployment: Deployment, photo: bytes, tmp_path: Path) -> None:
    for name in ("a/one.jpg", "b/one.jpg", "a/two.png", "a/two.jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(photo)
    out = tmp_path / "out"
    files = [str(tmp_path / name) for name in ("a/one.jpg", "b/one.jpg", "a/two.png", "a/two.jpg")]
    ran = pixtools(deployment, "run", *files, "-p", "convert_webp", "-o", str(out))
    assert ran.returncode == 0, ran.stderr
    made = sorted(str(path.relative_to(out)) for path in out.rglob("*.webp"))
    assert made == [
        *("a/one-convert_webp.webp", "b/one-convert_webp.webp"),
        *("two_jpg-convert_webp.webp", "two_png-convert_webp.webp"),
    ]
    (out / made[0]).write_bytes(b"mine")
    again = pixtools(deployment, "run", files[0], files[1], "-p", "convert_webp", "-o", str(out))
    assert again.returncode == 1
    assert "file_exists" in again.stderr
    assert "--if-exists" in again.stderr
    assert (out / made[0]).read_bytes() == b"mine"


def test_an_image_may_come_on_standard_input_and_a_tree_from_a_file(
    deployment: Deployment, photo: bytes, tmp_path: Path
) -> None:
    (tmp_path / "tree.json").write_text(TREE)
    (tmp_path / "photo.jpg").write_bytes(photo)
    command = ("run", "-", "-p", f"@{tmp_path}/tree.json", "-o", str(tmp_path / "out"))
    with started(client_of(deployment), *command, inputs=tmp_path / "photo.jpg") as running:
        ran = running.ended()
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == [str(tmp_path / "out" / "stdin-small.webp")]


def test_a_mistake_that_all_files_share_is_told_once(deployment: Deployment, folder: Path) -> None:
    ran = pixtools(deployment, "run", str(folder), "-p", '[{"op": "resise"}]', "-o", str(folder / "out"))
    assert ran.returncode == 1
    assert re.fullmatch(r"unknown_operation: There is no operation 'resise'.*\n  #/operations/0/op\n", ran.stderr)
    assert not (folder / "out").exists()
    for text, said in (("[", "not valid JSON"), ("@/nowhere.json", "/nowhere.json")):
        refused = pixtools(deployment, "run", str(folder), "-p", text)
        assert (refused.returncode, said in refused.stderr) == (2, True)


def test_urls_go_through_a_template_and_are_not_fetched_again(
    deployment: Deployment, photo: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIXTOOLS_URL", deployment.url)
    (tmp_path / "own.jpg").write_bytes(photo)
    out = tmp_path / "out"
    with receiving(answer(200, photo)) as site:
        urls = [f"{site.origin}/{name}?sig=s3cret" for name in ("a/one.jpg", "b/one.jpg", "own.png")]
        options = ("--template", "avatar", "--param", "size=40", "--param", "format=convert_png", "--tag", "sku:9")
        command = ("run", *urls, str(tmp_path / "own.jpg"), *options, "--out", str(out))
        ran = pixtools(deployment, *command)
        assert ran.returncode == 0, ran.stderr
        assert "s3cret" not in ran.stderr + ran.stdout
        made = sorted(str(path.relative_to(out)) for path in out.rglob("*.png"))
        assert made == ["a/one-avatar.png", "b/one-avatar.png", "own_jpg-avatar.png", "own_png-avatar.png"]
        assert re.search(r"^4 files +\S+ [kM]B +\S+ kB +\d+% +\d", ran.stderr, re.MULTILINE)
        again = pixtools(deployment, *command)
        assert again.stderr.count("done earlier") == 4
        total = re.compile(r"^4 files +\S+ [kM]B", re.MULTILINE)
        assert total.findall(again.stderr) == total.findall(ran.stderr), "what was fetched earlier counts"
        assert len(site.requests) == 3
    listed = inside("jobs", "list", "--tag", "sku:9", "--filename", "own.jpg", "--json").stdout
    [job] = map(json.loads, listed.splitlines())
    assert (job["template"], job["input"]["filename"]) == ("avatar@1", "own.jpg")
    assert len(inside("jobs", "list", "--tag", "sku:9").stdout.splitlines()) == 4
    assert inside("jobs", "list", "--external-id", "absent").stdout == ""


def test_a_url_that_gives_no_image_fails_by_its_name(deployment: Deployment, tmp_path: Path) -> None:
    with receiving(answer(404)) as site:
        url = f"{site.origin}/none.jpg"
        ran = pixtools(deployment, "run", url, "-p", "flip", "--out", str(tmp_path / "out"))
    assert ran.returncode == 1
    assert f"FAILED {url}: source_not_found" in ran.stderr


def test_a_run_needs_a_tree_or_a_template(deployment: Deployment, folder: Path) -> None:
    for options, said in (
        ((), "--operations or --template"),
        (("-p", "flip", "-t", "avatar"), "--operations or --template"),
        (("-p", "flip", "--param", "size=1"), "--param needs a --template"),
        (("-t", "avatar", "--param", "size"), "--param is NAME=VALUE"),
        (("-p", "flip", "--tag", "a:1", "--tag", "a:2"), "gives 'a' twice"),
    ):
        refused = inside("run", str(folder), *options)
        assert (refused.exit_code, said in " ".join(refused.stderr.split())) == (2, True), refused.stderr
    ran = pixtools(deployment, "run", str(folder), "-t", "nowhere", "-j", "1", "-q")
    assert (ran.returncode, ran.stderr.count("unknown_template")) == (1, 1), ran.stderr


def test_a_mistake_of_one_image_does_not_end_the_run() -> None:
    """An encoder that needs too much memory for one image is pointed at in the tree, which is right for the others."""
    from pixtools_client import Invalid

    from app.commands.run import _concerns_all

    def refused(code: str, pointer: str) -> Invalid:
        return Invalid("No.", status=422, problem={"code": code, "errors": [{"pointer": pointer}]})

    assert _concerns_all(refused("invalid_parameter", "#/operations/0/width"))
    assert _concerns_all(refused("unknown_parameter", "#/params/width"))
    assert not _concerns_all(refused("limit_exceeded", "#/operations/0"))
    assert not _concerns_all(refused("truncated_image", "#/file"))


def test_a_plan_is_a_table_or_every_mistake(
    deployment: Deployment, photo: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIXTOOLS_URL", deployment.url)
    image = tmp_path / "a.jpg"
    image.write_bytes(photo)
    planned = inside("plan", str(image), "-p", TREE)
    header, row, costs = planned.stdout.splitlines()
    assert header.split() == ["result", "format", "pixels", "about"]
    assert re.fullmatch(r"small +webp +60 x 45 +\S+ k?B", row)
    assert re.fullmatch(r"CPU \d+\.\d\d s, memory \d+\.\d MB", costs)
    unseen = inside("plan", "http://127.0.0.1:9/a.jpg", "-t", "avatar", "--json")
    assert json.loads(unseen.stdout)["template"] == "avatar@1"
    wrong = inside("plan", str(image), "-p", '["explode", {"op": "resize", "width": -1}]')
    assert isinstance(wrong.exception, Invalid)
    assert {"#/operations/0/op", "#/operations/1/width"} == {each["pointer"] for each in wrong.exception.errors}


def inside(*arguments: str) -> Result:
    """A command in this process, which has loaded already what takes a command a second."""
    from app.commands.root import app

    return CliRunner().invoke(app, arguments)


def test_templates_are_stored_listed_shown_and_deleted(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIXTOOLS_URL", deployment.url)
    file = tmp_path / "mine.json"
    params = {"properties": {"width": {"type": "integer", "default": 320}}}
    file.write_text(json.dumps({"operations": [{"op": "resize", "width": {"param": "width"}}], "params": params}))
    assert inside("templates", "put", "mine", str(file)).stdout == "mine@1\n"
    assert re.search(r"^mine@1 +\S+ +width$", inside("templates", "list").stdout, re.MULTILINE)
    file.write_text('["flip"]')
    assert inside("templates", "put", "mine", str(file)).stdout == "mine@2\n"
    assert json.loads(inside("templates", "show", "mine@1").stdout)["params"] == params
    assert inside("templates", "delete", "mine").exit_code == 0
    assert isinstance(inside("templates", "show", "mine").exception, TemplateNotFound)
    file.write_text('{"operation": []}')
    refused = inside("templates", "put", "mine", str(file))
    assert (refused.exit_code, "operation" in refused.stderr) == (2, True)


def test_every_recipe_runs(deployment: Deployment, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "recipes.md").read_text()
    blocks = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    assert len(blocks) >= 8
    photo = make_photo(400, 300)
    files = dict.fromkeys(
        ("photo.jpg", "IMG_0001.HEIC", "logo.png", "photos/1.jpg", "photos/2.jpg", "night.jpg"), photo
    )
    files["night.jpg"] = make_photo(160, 120)
    files |= {"uploads/a/1.jpg": photo, "uploads/broken.jpg": photo[: len(photo) // 2], "dance.gif": animation()}
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(content)
    with receiving(answer(200, photo)) as site:
        script = "\n".join(blocks).replace("localhost:8000", f"127.0.0.1:{deployment.port}")
        ran = run_script(script.replace("https://images.example", site.origin), tmp_path, deployment)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]
    made = sorted(
        str(path.relative_to(tmp_path))
        for folder in ("avatars", "web", "shop", "marked", "site", "converted", "night", "small")
        for path in (tmp_path / folder).rglob("*.*")
        if not path.name.startswith(".")
    )
    assert made == [
        "avatars/IMG_0001-avatar.webp",
        "converted/a/1-convert_webp.webp",
        *("marked/1-watermark.jpg", "marked/2-watermark.jpg"),
        *("night/night-after.png", "night/night-before.png"),
        "shop/photo-resize.convert_jpeg.jpg",
        *(f"site/photo/web.400.{ext}" for ext in ("avif", "jpg", "webp")),
        *("site/photo/web.manifest.json", "site/photo/web.picture.html"),
        "small/dance-convert_webp.webp",
        *("web/1-convert_avif.avif", "web/1-convert_webp.webp"),
    ]
    report = [json.loads(line) for line in (tmp_path / "report.jsonl").read_text().splitlines()]
    assert {each["file"]: (each["error"] or {}).get("code") for each in report} == {
        "uploads/a/1.jpg": None,
        "uploads/broken.jpg": "truncated_image",
    }
    assert sum("truncated_image" in line for line in ran.stdout.splitlines()) == 1
    with Image.open(tmp_path / "small" / "dance-convert_webp.webp") as small:
        assert small.n_frames == FRAMES


FRAMES = 3


def animation() -> bytes:
    """A GIF whose WebP needs no search to be small enough."""
    rng = np.random.default_rng(3)
    frames = [Image.fromarray(rng.integers(0, 256, (48, 64), dtype=np.uint8)) for _ in range(FRAMES)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def test_jobs_are_waited_for_downloaded_archived_and_explained(
    deployment: Deployment, photo: bytes, tmp_path: Path
) -> None:
    image = tmp_path / "a.jpg"
    image.write_bytes(photo)
    [job_id] = pixtools(deployment, "run", str(image), "-p", "convert_webp,convert_png", "--no-wait").stdout.split()
    assert pixtools(deployment, "jobs", "wait", job_id).stdout.split() == [job_id, "completed"]
    files = pixtools(deployment, "jobs", "download", job_id, "--out", str(tmp_path / "out")).stdout.split()
    assert sorted(Path(file).name for file in files) == ["a-convert_png.png", "a-convert_webp.webp"]
    [archive] = pixtools(deployment, "jobs", "archive", job_id, "--out", str(tmp_path)).stdout.split()
    assert Path(archive).read_bytes()[:2] == b"PK"
    assert f"Job {job_id} is completed." in pixtools(deployment, "jobs", "explain", job_id).stdout
    assert job_id in pixtools(deployment, "jobs", "list", "--since", "1h").stdout
    assert pixtools(deployment, "jobs", "list", "--since", "0s").stdout == ""
    assert "not a time" in pixtools(deployment, "jobs", "list", "--since", "soon").stderr


def test_the_page_names_options_that_there_are() -> None:
    page = (ROOT / "docs" / "command-line.md").read_text()
    helps = here("run", "-h").stdout + here("jobs", "list", "-h").stdout + here("events", "-h").stdout
    helps += here("webhooks", "replay", "-h").stdout + here("stores", "put", "-h").stdout
    options = set(re.findall(r"--[a-z-]+[a-z]", page))
    assert len(options) > 10
    assert [option for option in options if option not in helps] == []


def here(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command without a server."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PIXTOOLS_")}
    return run(["app", *arguments], variables | environment)


def test_what_is_asked_most_loads_next_to_nothing() -> None:
    code = (
        "import sys; sys.argv = ['pixtools', {!r}]\nfrom app.cli import main\ntry: main()\nfinally: print(*sys.modules)"
    )
    for argument in ("--version", "-h"):
        ran = subprocess.run([sys.executable, "-c", code.format(argument)], capture_output=True, text=True, check=True)
        assert {"typer", "httpx", "rich", "pydantic", "asyncio"}.isdisjoint(ran.stdout.split())


def test_the_overview_names_the_commands_that_there_are() -> None:
    from app.cli import GROUPS
    from app.commands.root import app

    groups: Any = (*app.registered_commands, *app.registered_groups)
    assert {name for group in GROUPS.values() for name in group} == {each.name for each in groups if not each.hidden}
    assert here("-h").stdout.startswith("Usage: pixtools COMMAND")
    assert here().returncode == 2
    assert max(map(len, here("-h", COLUMNS="60").stdout.splitlines())) <= 60


def test_a_mistyped_command_or_option_is_answered_with_the_right_one() -> None:
    assert "No such command 'lst'. Did you mean 'list'?" in here("jobs", "lst").stderr
    assert "No such option '--limt'. Did you mean '--limit'?" in here("jobs", "list", "--limt", "3").stderr
    status = here("jobs", "list", "--status", "complete").stderr
    assert "'complete' is not one of" in status
    assert "Did you mean 'completed'?" in status


def test_shells_complete_commands() -> None:
    script = here("completion", "bash").stdout
    body = f'pixtools() {{ {sys.executable} -m app "$@"; }}\n' + script.replace(" $1 ", f" {sys.executable} -m app ")
    body += '\nCOMP_WORDS=(pixtools jobs ca); COMP_CWORD=2; _pixtools_completion pixtools; echo "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", body], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["cancel"], (done.stderr, body)
    zsh = {"_PIXTOOLS_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "pixtools jobs ca"}
    assert '"cancel"' in here(**zsh).stdout
    fish = {**zsh, "_PIXTOOLS_COMPLETE": "complete_fish", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    assert here(**fish).stdout.startswith("cancel\t")
    for shell in ("zsh", "fish"):
        assert "_PIXTOOLS_COMPLETE" in here("completion", shell).stdout


def test_a_port_in_use_is_one_line_before_anything_starts(deployment: Deployment, tmp_path: Path) -> None:
    ran = here("serve", PIXTOOLS_PORT=str(deployment.port), PIXTOOLS_DATA_DIR=str(tmp_path / "data"))
    assert ran.returncode == 1
    assert re.fullmatch(rf"Port {deployment.port} of 127\.0\.0\.1 .*PIXTOOLS_PORT\.\n", ran.stderr)


def test_the_port_may_stand_in_the_env_file(tmp_path: Path) -> None:
    """For `make run` as well, which gives the server no port of its own."""
    (tmp_path / ".env").write_text("PIXTOOLS_PORT=8123\n")
    shown = "import app.config; print(app.config.Settings().port)"
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PIXTOOLS_")}
    ran = subprocess.run(
        [sys.executable, "-c", shown], cwd=tmp_path, env=variables, capture_output=True, text=True, check=True
    )
    assert ran.stdout == "8123\n"
    assert "PIXTOOLS_PORT" not in re.sub("##.*", "", (ROOT / "Makefile").read_text())
