"""What is installed: every package of the source tree, and a client that needs nothing of the server."""

import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.support.deployment import ROOT

CLIENT = ROOT / "clients" / "python"
BARE = "import sys; sys.path.insert(0, {path!r}); import pixtools_client; print(*sys.modules)"


def folders(root: Path, top: str) -> set[Path]:
    return {file.parent for file in (root / top).rglob("*.py")}


def test_every_folder_of_code_is_a_package_that_is_found() -> None:
    for root, packages in ((ROOT, ["app*"]), (CLIENT, ["pixtools_client*"])):
        setuptools = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
        assert setuptools["packages"]["find"] == {"include": packages}
    code = folders(ROOT, "app") | folders(CLIENT, "pixtools_client")
    assert len(code) > 15
    assert [folder for folder in code if not (folder / "__init__.py").exists()] == []


def test_the_client_loads_nothing_of_the_server(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-c", BARE.format(path=str(CLIENT))]
    loaded = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.split()
    assert "pixtools_client.client" in loaded
    assert {"app", "fastapi", "sqlalchemy", "celery", "pydantic"}.isdisjoint(loaded)


def test_the_plain_client_is_made_of_the_asynchronous_one() -> None:
    made = runpy.run_path(str(CLIENT / "make_sync.py"))["made"]()
    assert made == (CLIENT / "pixtools_client" / "client.py").read_text(), "run clients/python/make_sync.py"


def test_no_text_names_a_package_of_somebody_else() -> None:
    """`pixtools` at the package index is not this."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    texts = [ROOT / name for name in listed.splitlines() if name.endswith((".md", ".py", ".toml", ".yaml", ".txt"))]
    wrong = re.compile("pip install " + r"(-\S+ )*pixtools\b")
    assert [path for path in texts if path.is_file() and wrong.search(path.read_text())] == []
