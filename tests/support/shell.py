"""Shell scripts of the documentation. Their `pixtools` commands are forks (see `preloaded`), which start in no time."""

import json
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .deployment import Deployment
from .preloaded import preloaded

FUNCTIONS = """
pixtools() {{ {python} -I -S {client} {address} "$@"; }}
python3() {{ {python} "$@"; }}
curl() {{ command curl --fail-with-body "$@"; }}
"""
# Stands for the command in the shell: the fork reads its standard input, and it writes and ends as the fork did
CLIENT = """
import json, os, socket, sys
asked = {"args": sys.argv[2:], "environment": dict(os.environ), "folder": os.getcwd(), "pid": os.getpid()}
with socket.socket(socket.AF_UNIX) as asking:
    asking.connect(sys.argv[1])
    asking.sendall(json.dumps(asked).encode() + b"\\n")
    code, out, err = json.loads(asking.makefile().readline())
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(code)
"""


def run_script(script: str, folder: Path, deployment: Deployment) -> subprocess.CompletedProcess[str]:
    """Run a script in a folder as a user of the deployment; it ends at the first command that fails."""
    with _commands() as functions:
        return subprocess.run(
            ["bash", "-e", "-c", functions + script],
            cwd=folder,
            env={**deployment.variables(), "PIXTOOLS_URL": deployment.url},
            capture_output=True,
            text=True,
            check=False,
        )


@contextmanager
def _commands() -> Iterator[str]:
    """Shell functions for the commands of scripts, which work within the block."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listening:
        client, address = Path(folder, "client.py"), Path(folder, "socket")
        client.write_text(CLIENT)
        listening.bind(str(address))
        listening.listen()
        serving = threading.Thread(target=_serve, args=(listening,))
        serving.start()
        try:
            yield FUNCTIONS.format(python=sys.executable, client=client, address=address)
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            serving.join()


def _serve(listening: socket.socket) -> None:
    with suppress(OSError):  # raised at the shutdown
        while True:
            connection, _ = listening.accept()
            threading.Thread(target=_run, args=(connection,), daemon=True).start()


def _run(connection: socket.socket) -> None:
    with connection, connection.makefile("rw") as lines:
        asked: dict[str, Any] = json.loads(lines.readline())
        command = ["-m", "app", *asked["args"]]
        inputs, folder = Path(f"/proc/{asked['pid']}/fd/0"), Path(asked["folder"])
        parent = preloaded(command, asked["environment"])
        ran = parent.run(command, asked["environment"], 120, inputs=inputs, folder=folder)
        code = ran.returncode if ran.returncode >= 0 else 128 - ran.returncode
        lines.write(json.dumps([code, ran.stdout, ran.stderr]) + "\n")
