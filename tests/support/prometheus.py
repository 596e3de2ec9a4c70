"""A private Prometheus, with real rules and real targets."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import httpx
import yaml  # type: ignore[import-untyped, unused-ignore]

from .server import HOST, Server, program


class Prometheus(Server):
    """Scrapes targets and evaluates rules."""

    name = "prometheus"
    not_ready = (httpx.HTTPError,)
    INTERVAL: ClassVar[str] = "1s"

    def __init__(
        self,
        directory: Path,
        targets: Mapping[str, Sequence[str]],
        rules: Sequence[Path],
        alertmanagers: Sequence[str] = (),
    ) -> None:
        """Set up the server without starting it.

        Args:
            directory: folder for configuration and data.
            targets: addresses by name of the scrape job.
            rules: rule files.
            alertmanagers: addresses that receive alerts.
        """
        super().__init__(directory)
        self._alertmanagers = alertmanagers
        self._targets = targets
        self._rules = rules
        self._program = program("prometheus")

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def query(self, expression: str, at: float | None = None) -> list[dict[str, Any]]:
        """The instant vector of an expression, now or at a Unix time."""
        parameters = {"query": expression, **({"time": str(at)} if at else {})}
        return list(self._get("query", parameters)["result"])

    def query_range(self, expression: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        """The series of an expression between two Unix times, with a step in seconds."""
        parameters = {"query": expression, "start": str(start), "end": str(end), "step": str(step)}
        return list(self._get("query_range", parameters)["result"])

    def firing(self) -> list[dict[str, str]]:
        """The labels of all firing alerts."""
        alerts = self._get("alerts", {})["alerts"]
        return [alert["labels"] for alert in alerts if alert["state"] == "firing"]

    def _get(self, what: str, parameters: Mapping[str, str]) -> dict[str, Any]:
        answer = httpx.get(f"{self.url}/api/v1/{what}", params=dict(parameters), timeout=30)
        shown = answer.json()
        if shown["status"] != "success":
            raise RuntimeError(f"{parameters}: {shown['error']}")
        data: dict[str, Any] = shown["data"]
        return data

    def _prepare(self) -> None:
        self.data.mkdir(exist_ok=True)
        scraped = [
            {"job_name": job, "static_configs": [{"targets": list(addresses)}]}
            for job, addresses in self._targets.items()
        ]
        interval = {"scrape_interval": self.INTERVAL, "scrape_timeout": self.INTERVAL}
        config = {
            "global": {**interval, "evaluation_interval": self.INTERVAL},
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": list(self._alertmanagers)}]}]},
            "rule_files": [str(path) for path in self._rules],
            "scrape_configs": scraped,
        }
        (self.home / "prometheus.yaml").write_text(yaml.safe_dump(config))

    def _command(self) -> Sequence[str | Path]:
        return [
            self._program,
            f"--config.file={self.home / 'prometheus.yaml'}",
            f"--storage.tsdb.path={self.data}",
            f"--web.listen-address={HOST}:{self.port}",
        ]

    def _check(self) -> None:
        httpx.get(f"{self.url}/-/ready", timeout=2).raise_for_status()
