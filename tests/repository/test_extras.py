"""The package without its optional parts, as the images of the API and of the workers have it."""

import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.config import WEIGHTS, installing
from tests.conftest import make_photo
from tests.support.deployment import ROOT, bare, embedded
from tests.support.preloaded import LIBRARIES, OWN, Preloaded

PIXELS = ("numpy", "pyvips", "simplejpeg")
NETWORK = ("onnxruntime",)
CLUSTER = ("psycopg", "opentelemetry.exporter", "opentelemetry.sdk")
NO_BROKER = "amqp://127.0.0.1:1//"


OPTIONAL = (*NETWORK, *PIXELS, *CLUSTER)
LOADED = [module for module in (*LIBRARIES, *OWN) if not re.search("alembic|psycopg", module)]


@pytest.fixture(scope="module")
def forked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Preloaded]:
    """A process that has imported what others import, with all of the packages hidden."""
    folder = tmp_path_factory.mktemp("hidden")
    hide(folder, OPTIONAL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        preloaded = Preloaded(LOADED)
    yield preloaded
    preloaded.close()


def hide(folder: Path, without: tuple[str, ...]) -> None:
    """Make packages look as if they were not installed, to processes with this folder as their PYTHONPATH."""
    (folder / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({without!r}))\n")


Run = Callable[..., subprocess.CompletedProcess[str]]
START = """
import runpy, sys
for name in SHOWN:
    del sys.modules[name]
sys.modules.update(dict.fromkeys(HIDDEN))
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def starting(without: tuple[str, ...]) -> str:
    """The code of a fork for which only these packages are not installed."""
    shown = [name for name in OPTIONAL if name not in without]
    return START.replace("SHOWN", repr(shown)).replace("HIDDEN", repr(without))


@pytest.fixture
def run(forked: Preloaded, tmp_path: Path) -> Run:
    """Runs a process for which some packages are not installed, nor for the processes that it starts."""

    def ran(without: tuple[str, ...], *command: str, **settings: str) -> subprocess.CompletedProcess[str]:
        hide(tmp_path, without)
        environment = bare(tmp_path, PYTHONPATH=str(tmp_path), **settings)
        return forked.run(["-c", starting(without), *command], environment)

    return ran


@pytest.mark.parametrize(
    ("queue", "without", "file"),
    [
        ("ml_inference_queue", NETWORK, "requirements.txt"),
        ("default_queue", PIXELS, "requirements-worker.txt"),
    ],
)
def test_a_worker_that_could_do_nothing_does_not_start(
    run: Run, queue: str, without: tuple[str, ...], file: str
) -> None:
    done = run(without, "app", "worker", "--queue", queue, PIXTOOLS_BROKER_URL=NO_BROKER)
    assert done.returncode != 0
    assert f"and {queue} needs it: {installing(file)}" in done.stderr
    assert (ROOT / file).is_file()
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("without", [NETWORK, (*NETWORK, *PIXELS)])
def test_the_single_process_does_not_start_without_its_network(run: Run, without: tuple[str, ...]) -> None:
    done = run(without, "app", "serve")
    assert done.returncode != 0
    assert installing("requirements.txt") in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("setting", "value", "extra", "module"),
    [
        ("PIXTOOLS_DATABASE_URL", "postgresql://127.0.0.1:1/pixtools", "cluster", "psycopg"),
        ("PIXTOOLS_OTLP_ENDPOINT", "http://127.0.0.1:1", "tracing", "opentelemetry.exporter"),
    ],
)
def test_a_setting_whose_extra_is_missing_says_how_to_install_it(
    run: Run, setting: str, value: str, extra: str, module: str
) -> None:
    done = run(CLUSTER, "app", "serve", **{setting: value})
    assert done.returncode != 0
    [line] = done.stderr.splitlines()
    assert line.startswith(f"{setting}: needs the extra")
    assert f"needs the extra `{extra}`, and {module} is not installed: {installing('requirements-api.txt')}" in line
    assert extra in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def test_the_command_that_installs_names_what_is_there() -> None:
    program, environment, *_ = installing("requirements-api.txt").split()
    assert os.access(ROOT / program, os.X_OK)
    assert Path(environment, "bin", "python").exists()


def test_the_single_process_does_without_the_parts_of_a_cluster(run: Run, forked: Preloaded, tmp_path: Path) -> None:
    without = (*CLUSTER, "onnx")
    assert run(without, "app", "migrate").returncode == 0
    without += ("alembic",)  # which only the first start needs
    hide(tmp_path, without)
    deployment = embedded(tmp_path)
    environment = {**deployment.variables(), "PYTHONPATH": str(tmp_path)}
    start = ["-c", starting(without), "app", "serve"]
    deployment.processes = [forked.start(start, environment, deployment.log, deployment.log)]
    try:
        deployment.await_ready()
        with deployment.client() as client:
            job = client.run(make_photo(64, 48), ["convert_webp"])
    finally:
        deployment.stop()
    assert job["status"] == "completed"


def test_the_doctor_of_an_api_misses_nothing(run: Run) -> None:
    done = run((*NETWORK, *PIXELS), "app", "doctor", PIXTOOLS_BROKER_URL=NO_BROKER)
    assert "ok    weights   onnxruntime is not installed" in done.stdout
    assert "ok    pixels    pyvips is not installed" in done.stdout
    assert "Traceback" not in done.stderr


def test_the_doctor_of_the_single_process_misses_it(run: Run) -> None:
    done = run(NETWORK, "app", "doctor")
    assert "FAIL  weights   onnxruntime is not installed" in done.stdout
    assert "ok    pixels    a pixel process decodes and encodes" in done.stdout
    assert done.returncode == 1


def test_what_every_process_loads_needs_none_of_it(forked: Preloaded, tmp_path: Path) -> None:
    """The fork has loaded most of it without the packages."""
    code = """
import sys
assert "alembic" not in sys.modules
sys.modules["alembic"] = None
import app.background, app.server, app.commands.webhooks
from app.tasks.celery_app import celery_app
celery_app.loader.import_default_modules()
assert not [name for name in OPTIONAL if sys.modules[name]]
"""
    done = forked.run(["-c", code.replace("OPTIONAL", repr(OPTIONAL))], bare(tmp_path))
    assert done.returncode == 0, done.stderr


def test_no_text_says_to_install_a_package_that_belongs_to_somebody_else() -> None:
    """`pixtools` on PyPI is not this project."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    said = re.compile(r"""pip3? install\b[^\n]*?["'` ]pixtools\b""")
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if path.is_file() and path.suffix in {"", ".md", ".py", ".txt", ".toml", ".yaml", ".yml", ".sh", ".html"}:
            assert not said.search(path.read_text(errors="replace")), name
    assert said.search("pip" + " install 'pixtools[ml]'")


AS_COMMANDS = """
import os, runpy, sys
for name in OPTIONAL:
    del sys.modules[name]
for name in [name for name in sys.modules if name.partition(".")[0] == "app"]:
    del sys.modules[name]
import app.commands.root, app.doctor, app.server
for command in sys.argv[1:]:
    if os.fork() == 0:
        os.dup2(os.open(f"{command}.err", os.O_WRONLY | os.O_CREAT), 2)
        sys.argv = ["pixtools", command]
        runpy.run_module("app", run_name="__main__", alter_sys=True)
    _, status = os.wait()
    print(command, os.waitstatus_to_exitcode(status), app.__file__, flush=True)
"""


def test_code_without_its_folders_says_so_in_a_line(forked: Preloaded, tmp_path: Path) -> None:
    """As it is in a wheel."""
    shutil.copytree(ROOT / "app", tmp_path / "app")
    code = ["-c", AS_COMMANDS.replace("OPTIONAL", repr(OPTIONAL)), "serve", "migrate", "doctor"]
    done = forked.run(code, bare(tmp_path, PIXTOOLS_DENOISE_WEIGHTS=str(WEIGHTS)), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    codes = dict(line.split()[:2] for line in done.stdout.splitlines() if str(tmp_path / "app") in line)
    assert codes.keys() == {"serve", "migrate", "doctor"}
    for command, code in codes.items():
        said = (tmp_path / f"{command}.err").read_text()
        assert "Traceback" not in said
        if command != "doctor":
            assert code != "0"
            [line] = said.splitlines()
            assert "make run" in line
