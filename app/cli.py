"""The command line: `--help` and `--version` are answered before other modules are loaded."""

import os
import shutil
import sys
import textwrap

from app import __version__
from app.commands.terminal import COMPLETE, INTERRUPTED, WIDEST

#: the output of `pixtools -h`; a test compares it with the existing commands
GROUPS: dict[str, dict[str, str]] = {
    "Images, at a server": {
        "run": "Send files, folders and URLs through operations or a template; the results go to a folder.",
        "submit": "Send one file, watch its job, and download the results.",
        "plan": "Show the results and the cost of a request, or every mistake in it; no job is made.",
        "jobs": "List, show, wait for, download, cancel, retry, delete and explain jobs.",
        "events": "Print the log of events, once or live.",
        "operations": "List all operations.",
        "assets": "Images and fonts that operations use.",
        "templates": "Named operation trees, with versions and parameters.",
        "stores": "Connections to buckets.",
    },
    "Receivers and access, at a server": {
        "webhooks": "Receivers of events.",
        "deliveries": "Events sent to receivers, with every attempt.",
        "dlq": "Work that was given up.",
        "keys": "API keys: at a server if --server or PIXTOOLS_KEY is given, else in this machine's database.",
    },
    "On the server's machine": {
        "serve": "Run everything in one process.",
        "server": "Run api, worker, relay, migrate, doctor, secrets, tenants, orphans …",
    },
    "": {
        "completion": "Print the completion script of bash, zsh or fish.",
    },
}
LAST = (
    "pixtools COMMAND -h explains a command. --server or PIXTOOLS_URL names the server; the default is the one on this "
    "machine. The key comes from PIXTOOLS_KEY or from a file (PIXTOOLS_KEY_FILE)."
)


def main() -> None:
    """Entry point of the `pixtools` command; neither an error from a server nor Ctrl-C ends it with a traceback."""
    try:
        _main(sys.argv[1:])
    except KeyboardInterrupt:  # also while modules are loaded
        sys.stderr.write("\nInterrupted.\n")
        sys.exit(INTERRUPTED)


def _main(arguments: list[str]) -> None:
    if COMPLETE in os.environ:
        _run()
    elif arguments in (["--version"], ["-V"]):
        sys.stdout.write(f"pixtools {__version__}\n")
    elif arguments in ([], ["-h"], ["--help"]):
        sys.stdout.write(overview(min(shutil.get_terminal_size().columns, WIDEST)))
        sys.exit(0 if arguments else 2)
    else:
        _run()


def _run() -> None:
    from app.commands.root import run

    run()


def overview(columns: int) -> str:
    """The commands by topic."""
    lines = ["Usage: pixtools COMMAND …", "", "Self-hosted, asynchronous image processing.", ""]
    for title, commands in GROUPS.items():
        lines += [f"{title}:"] if title else []
        for name, what in commands.items():
            wrapped = textwrap.wrap(what, max(20, columns - 14))
            lines.append(f"  {name:<11} {wrapped[0]}")
            lines += [f"{'':<14}{line}" for line in wrapped[1:]]
        lines.append("")
    lines += [*textwrap.wrap(LAST, columns), ""]
    return "\n".join(lines)
