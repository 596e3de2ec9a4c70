"""A network backend for HTTP clients that connects only to this machine, whatever a test does."""

from collections.abc import Iterable
from ipaddress import ip_address, ip_network

import httpcore

LOOPBACK = ip_network("127.0.0.0/8")


class LoopbackOnly(httpcore.AnyIOBackend):
    """Connects to loopback addresses, and records all others, which fail the test."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    @property
    def strangers(self) -> list[str]:
        """Requested addresses of other machines."""
        return [host for host in self.asked if ip_address(host) not in LOOPBACK]

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the signature of the base class
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        self.asked.append(host)
        if self.strangers:
            raise httpcore.ConnectError(f"{host} is not on this machine")
        return await super().connect_tcp(host, port, timeout, local_address, socket_options)
