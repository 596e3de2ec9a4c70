"""The package without its optional parts, as the images of the API and of the workers have it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app.config import WEIGHTS
from tests.support.deployment import ROOT, run_bare

PIXELS = ("blurhash", "numpy", "pyvips", "simplejpeg")
NETWORK = ("onnx", "onnxruntime")
NO_BROKER = "amqp://127.0.0.1:1//"


def run(folder: Path, without: tuple[str, ...], *command: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """A process for which some packages are not installed."""
    (folder / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({without!r}))\n")
    return run_bare(folder, *command, PYTHONPATH=str(folder), **settings)


@pytest.mark.parametrize(
    ("queue", "without", "file"),
    [
        ("ml_inference_queue", NETWORK, "requirements.txt"),
        ("default_queue", PIXELS, "requirements-worker.txt"),
    ],
)
def test_a_worker_that_could_do_nothing_does_not_start(
    tmp_path: Path, queue: str, without: tuple[str, ...], file: str
) -> None:
    done = run(tmp_path, without, "app", "worker", "--queue", queue, PIXTOOLS_BROKER_URL=NO_BROKER)
    assert done.returncode != 0
    assert f"and {queue} needs it: pip install --require-hashes -r {file}" in done.stderr
    assert (ROOT / file).is_file()
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("without", [NETWORK, (*NETWORK, *PIXELS)])
def test_the_single_process_does_not_start_without_its_network(tmp_path: Path, without: tuple[str, ...]) -> None:
    done = run(tmp_path, without, "app", "serve")
    assert done.returncode != 0
    assert "pip install --require-hashes -r requirements.txt" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_doctor_of_an_api_misses_nothing(tmp_path: Path) -> None:
    done = run(tmp_path, (*NETWORK, *PIXELS), "app", "doctor", PIXTOOLS_BROKER_URL=NO_BROKER)
    assert "ok    weights   onnxruntime is not installed" in done.stdout
    assert "ok    pixels    pyvips is not installed" in done.stdout
    assert "Traceback" not in done.stderr


def test_the_doctor_of_the_single_process_misses_it(tmp_path: Path) -> None:
    done = run(tmp_path, NETWORK, "app", "doctor")
    assert "FAIL  weights   onnxruntime is not installed" in done.stdout
    assert "ok    pixels    a pixel process decodes and encodes" in done.stdout
    assert done.returncode == 1


def test_what_every_process_loads_needs_none_of_it(tmp_path: Path) -> None:
    (tmp_path / "everything.py").write_text(
        "import app.background, app.server, app.commands.webhooks\n"
        "from app.tasks.celery_app import celery_app\n"
        "celery_app.loader.import_default_modules()\n"
    )
    done = run(tmp_path, (*NETWORK, *PIXELS), "everything")
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


def test_code_without_its_folders_says_so_in_a_line(tmp_path: Path) -> None:
    """As it is in a wheel."""
    shutil.copytree(ROOT / "app", tmp_path / "app")
    for command in (["serve"], ["migrate"], ["doctor"]):
        done = subprocess.run(
            [sys.executable, "-P", "-m", "app", *command],
            cwd=tmp_path,
            env={
                "PATH": "/usr/bin:/bin",
                "PYTHONPATH": str(tmp_path),
                "PIXTOOLS_DATA_DIR": str(tmp_path / "data"),
                "PIXTOOLS_DENOISE_WEIGHTS": str(WEIGHTS),
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert "Traceback" not in done.stderr
        if command != ["doctor"]:
            assert done.returncode != 0
            [line] = done.stderr.splitlines()
            assert "make run" in line
