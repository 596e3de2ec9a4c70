"""Runs Node programs that use the TypeScript client."""

import os
import shutil
import subprocess
from pathlib import Path

from .deployment import ROOT

CLIENT = ROOT / "clients" / "typescript"
EXAMPLE = "```ts\n(.*?)```"


def installed(folder: Path) -> Path:
    """A folder in which programs can import the client, as after `npm install ./clients/typescript`."""
    modules = folder / "node_modules"
    modules.mkdir(exist_ok=True)
    (modules / "pixtools-client").symlink_to(CLIENT)
    return folder


def environment(**variables: str) -> dict[str, str]:
    """The environment of a program, with no server or key other than these."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PIXTOOLS_")}
    return {**own, "XDG_CONFIG_HOME": "/nonexistent", **variables}


def node(*arguments: str | Path, cwd: Path, timeout: float = 150, **variables: str) -> str:
    """The output of a program; it must succeed."""
    command = [shutil.which("node") or "node", *arguments]
    ran = subprocess.run(
        command, cwd=cwd, env=environment(**variables), capture_output=True, text=True, check=False, timeout=timeout
    )
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    return ran.stdout
