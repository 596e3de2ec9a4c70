"""All commands, put together."""

import errno
import io
import os
import shutil
import sys
from typing import Annotated, Any, NoReturn

import typer
import typer.main
from typer._click.exceptions import UsageError

from app import __version__
from app.commands.access import keys_app, tenants_app
from app.commands.assets import assets_app
from app.commands.common import AWAY, FAILED, Server, opened
from app.commands.dlq import dlq_app
from app.commands.ending import end_unread
from app.commands.jobs import jobs_app
from app.commands.mistakes import lines_of, show_usage
from app.commands.plan import plan
from app.commands.printing import echo_json, say, similar, warn
from app.commands.run import run_files, submit
from app.commands.secrets import secrets_app
from app.commands.server import serve, server_app
from app.commands.stores import stores_app
from app.commands.templates import templates_app
from app.commands.terminal import COMPLETE, WIDEST
from app.commands.webhooks import deliveries_app, follow_events, webhooks_app

CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
SHELLS = ("bash", "zsh", "fish")

app = typer.Typer(
    help="Self-hosted, asynchronous image processing.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": min(shutil.get_terminal_size().columns, WIDEST),
    },
)


def run() -> NoReturn:
    """Run the command that the arguments name."""
    if COMPLETE in os.environ:
        from typer._completion_classes import completion_init

        completion_init()
        app(prog_name="pixtools")
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files may have bytes that are not UTF-8
        sys.stdout.reconfigure(errors="surrogateescape")
    try:
        code = _run()
        sys.stdout.flush()
    except BrokenPipeError:
        end_unread()
    except OSError as error:
        if error.filename is not None or error.errno not in CANNOT_WRITE:
            raise
        warn(f"The output cannot be written: {error.strerror}.")  # such as to a full disk
        os._exit(FAILED)  # Python would try again, and complain
    sys.exit(code)


def _run() -> int:
    """The exit code of the command."""
    try:
        with COMMAND.make_context("pixtools", sys.argv[1:]) as context:
            COMMAND.invoke(context)
    except typer.Exit as error:
        return error.exit_code
    except UsageError as error:
        show_usage(error)
        return error.exit_code
    except (typer.Abort, EOFError):
        warn("Aborted.")
        return FAILED
    except SystemExit as error:
        if not isinstance(error.code, str):
            raise
        warn(error.code)
        return FAILED
    except Exception as error:  # noqa: BLE001 - raised again, unless it comes from the client
        return _explained(error)
    return 0


def _explained(error: Exception) -> int:
    """Print an error of the client; raise any other error again."""
    errors = sys.modules.get("pixtools_client.errors")  # only commands that need the client load it
    if errors is None or not isinstance(error, errors.ClientError):
        raise error
    sys.stderr.write("\n".join(lines_of(error)) + "\n")
    if not isinstance(error, errors.ServerAway):
        return FAILED
    warn("Is the server running? `make run` starts one here; --server or PIXTOOLS_URL names another.")
    for note in getattr(error, "__notes__", ()):
        warn(note)
    return AWAY


def _show_version(wanted: bool) -> None:
    if wanted:
        say(f"pixtools {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", "-V", is_eager=True, callback=_show_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Self-hosted, asynchronous image processing."""


app.command("run")(run_files)
app.command("submit")(submit)
app.command("plan")(plan)
app.command("serve")(serve)
app.add_typer(jobs_app, name="jobs")
app.add_typer(dlq_app, name="dlq")
app.command("events")(follow_events)
app.add_typer(webhooks_app, name="webhooks")
app.add_typer(deliveries_app, name="deliveries")
app.add_typer(assets_app, name="assets")
app.add_typer(templates_app, name="templates")
app.add_typer(stores_app, name="stores")
app.add_typer(keys_app, name="keys")
app.add_typer(server_app, name="server")
# the names without `server`, which manifests and scripts use
app.add_typer(secrets_app, name="secrets", hidden=True)
for command in server_app.registered_commands:
    if command.name != "serve":
        app.command(command.name, hidden=True)(command.callback)  # type: ignore[type-var]
app.add_typer(tenants_app, name="tenants", hidden=True)


@app.command("operations")
def list_operations(
    name: Annotated[
        str | None, typer.Argument(help="Show this operation, with the JSON schema of its parameters.")
    ] = None,
    server: Server = None,
) -> None:
    """List all operations, one per line."""

    with opened(server) as client:
        operations = client.operations()
    if name is None:
        for operation in operations:
            say(f"{operation['name']:<14} {operation['description']}".rstrip())
        return
    found = next((each for each in operations if each["name"] == name), None)
    if found is None:
        raise typer.BadParameter(
            f"There is no operation {name!r}.{similar(name, (each['name'] for each in operations))}"
        )
    echo_json(found)


@app.command("completion")
def print_completion(shell: Annotated[str, typer.Argument(help="bash, zsh or fish.")]) -> None:
    """Print the completion script of a shell: `pixtools completion bash >> ~/.bashrc`."""
    from typer._completion_shared import get_completion_script

    if shell not in SHELLS:
        raise typer.BadParameter(f"There is no script for {shell!r}; choose one of {', '.join(SHELLS)}.")
    print(get_completion_script(prog_name="pixtools", complete_var=COMPLETE, shell=shell))


COMMAND: Any = typer.main.get_command(app)
