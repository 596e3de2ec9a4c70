"""What is installed: every package of the source tree, and a client that needs nothing of the server."""

import subprocess
import sys
import tomllib
from pathlib import Path

from tests.support.deployment import ROOT

CLIENT = ROOT / "clients" / "python"
BARE = "import sys; sys.path.insert(0, {path!r}); import pixtools_client.progress, pixtools_client; print(*sys.modules)"


def folders(root: Path, top: str) -> set[Path]:
    return {file.parent for file in (root / top).rglob("*.py")}


def test_every_folder_of_code_is_a_package_that_is_found() -> None:
    found = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]
    assert found == {"where": [".", "clients/python"], "include": ["app*", "pixtools_client*"]}
    code = folders(ROOT, "app") | folders(CLIENT, "pixtools_client")
    assert len(code) > 15
    assert [folder for folder in code if not (folder / "__init__.py").exists()] == []


def test_the_client_loads_nothing_of_the_server(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-c", BARE.format(path=str(CLIENT))]
    loaded = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.split()
    assert "pixtools_client.client" in loaded
    assert {"app", "fastapi", "sqlalchemy", "celery", "pydantic"}.isdisjoint(loaded)
