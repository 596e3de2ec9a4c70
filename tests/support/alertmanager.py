"""A private Alertmanager with the shipped routes, shortened intervals, and receivers of the tests."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx
import yaml  # type: ignore[import-untyped, unused-ignore]

from .server import HOST, MissingProgram, Server, program

SHIPPED = Path(__file__).parents[2] / "k8s" / "monitoring" / "alertmanager"
NAMES = ("alertmanager", "prometheus-alertmanager")  # the second name is Debian's
FAST = {"group_wait": "0s", "group_interval": "1s", "repeat_interval": "2s"}


class Alertmanager(Server):
    """Forwards alerts from Prometheus to receivers."""

    name = "alertmanager"
    not_ready = (httpx.HTTPError,)

    def __init__(self, directory: Path, receivers: Mapping[str, str]) -> None:
        """Set up the server without starting it.

        Args:
            directory: folder for configuration and data.
            receivers: webhook URLs by name of the receiver in routes.yaml.
        """
        super().__init__(directory)
        self._receivers = receivers
        self._program = _program()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def _prepare(self) -> None:
        self.data.mkdir(exist_ok=True)
        routes = (SHIPPED / "routes.yaml").read_text()
        for name, seconds in FAST.items():
            routes = re.sub(rf"({name}: )\w+", rf"\g<1>{seconds}", routes)
        shipped = yaml.safe_load((SHIPPED / "receivers.example.yaml").read_text())["receivers"]
        for receiver in shipped:
            (hook,) = receiver["webhook_configs"]
            hook["url"] = self._receivers[receiver["name"]]
        (self.home / "alertmanager.yaml").write_text(routes + yaml.safe_dump({"receivers": shipped}))

    def _command(self) -> Sequence[str | Path]:
        return [
            self._program,
            f"--config.file={self.home / 'alertmanager.yaml'}",
            f"--storage.path={self.data}",
            f"--web.listen-address={HOST}:{self.port}",
            "--cluster.listen-address=",
        ]

    def _check(self) -> None:
        httpx.get(f"{self.url}/-/ready", timeout=2).raise_for_status()


def _program() -> Path:
    try:
        return program(NAMES[0])
    except MissingProgram:
        return program(NAMES[1])
