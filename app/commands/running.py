"""The part of `pixtools doctor` that asks the running server; `app.doctor` checks settings, not a process."""

import fcntl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.config import Settings
from app.doctor import ADVICE, Finding
from app.services.monitoring.checks import Health

if TYPE_CHECKING:
    from pixtools_client import Client

SUBJECT = "server"


def look_at(server: str | None, settings: Settings) -> Iterator[Finding]:
    """Ask the server that client commands would use.

    Args:
        server: address of the server; None: `PIXTOOLS_URL`, or the server on this machine.
        settings: the settings of the other checks.
    """
    from pixtools_client import Client, Refused

    try:
        with Client(server, patience=0) as client:
            yield from _ask(client, settings)
    except Refused as error:  # the file of the key cannot be read
        yield Finding(Health.DOWN, SUBJECT, str(error))


def _ask(client: "Client", settings: Settings) -> Iterator[Finding]:
    from pixtools_client import ClientError, ServerAway

    began = time.monotonic()
    is_used = settings.embedded and is_in_use(settings.data_dir)
    try:
        client.live()
    except ServerAway:
        advice = "start it, or give its address with --server or PIXTOOLS_URL"
        yield Finding(Health.DEGRADED, SUBJECT, f"does not answer at {client.server}", advice)
        if is_used:
            what = f"a running process uses the data folder {settings.data_dir}, but listens on another port"
            yield Finding(Health.DEGRADED, SUBJECT, what, "give its port with PIXTOOLS_PORT")
        return
    except ClientError as error:
        what = f"the program that answers at {client.server} is not PixTools: {error}"
        yield Finding(Health.DOWN, SUBJECT, what, "give another address with --server or PIXTOOLS_URL")
        return
    taken = (time.monotonic() - began) * 1000
    yield Finding(Health.OK, SUBJECT, f"answers at {client.server} in {taken:.0f} ms")
    if settings.embedded and not is_used:
        what = f"does not use the data folder {settings.data_dir} that was checked above"
        yield Finding(Health.DEGRADED, SUBJECT, what, "run the doctor with the server's PIXTOOLS_DATA_DIR")
    yield from _checks(client)


def _checks(client: "Client") -> Iterator[Finding]:
    from pixtools_client import ClientError, Forbidden, Unauthorized

    try:
        checks = client.checks()
    except (Unauthorized, Forbidden):
        what = "shows the state of its parts only to a key with the scope admin"
        yield Finding(Health.DEGRADED, SUBJECT, what, "set PIXTOOLS_KEY to such a key")
        return
    except ClientError as error:
        yield Finding(Health.DOWN, SUBJECT, f"does not show the state of its parts: {error}")
        return
    wrong = [_wrong(name, check) for name, check in checks.items() if check["status"] != Health.OK]
    yield from wrong or [Finding(Health.OK, SUBJECT, f"reaches its {', '.join(checks)}")]


def _wrong(name: str, check: dict[str, Any]) -> Finding:
    what = f"{name}: {check.get('error') or check['status']}"
    return Finding(Health(check["status"]), SUBJECT, what, ADVICE.get(name, ""))


def is_in_use(data_dir: Path) -> bool:
    """Whether a process runs on this data folder now."""
    try:
        with (data_dir / "lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # the folder is missing or not readable, which its own checks report
        return False
    return False
