"""Node, and the TypeScript client as one of its programs has it."""

import os
import shutil
import subprocess
from pathlib import Path

from .deployment import ROOT

CLIENT = ROOT / "clients" / "typescript"
EXAMPLE = "```ts\n(.*?)```"


def installed(folder: Path) -> Path:
    """A folder whose programs find the client, as `npm install ./clients/typescript` leaves it."""
    modules = folder / "node_modules"
    modules.mkdir(exist_ok=True)
    (modules / "pixtools-client").symlink_to(CLIENT)
    return folder


def environment(**variables: str) -> dict[str, str]:
    """Of a program that knows no other server or key than these."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PIXTOOLS_")}
    return {**own, "XDG_CONFIG_HOME": "/nonexistent", **variables}


def node(*arguments: str | Path, cwd: Path, timeout: float = 150, **variables: str) -> str:
    """What a program says; it must succeed."""
    command = [shutil.which("node") or "node", *arguments]
    ran = subprocess.run(
        command, cwd=cwd, env=environment(**variables), capture_output=True, text=True, check=False, timeout=timeout
    )
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    return ran.stdout
