"""Requests to URLs that clients choose: the rules for allowed addresses, and their enforcement.

A name is resolved once, all its addresses are checked, and the connection goes to a checked address. So a name that
resolves differently a moment later does no harm. Redirects are not followed, proxies are not used, and URLs with
credentials are refused.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

import httpcore
import httpx

from app.errors import InvalidSourceUrl, InvalidWebhookUrl, PixToolsError, SourceUrlRefused, WebhookUrlRefused
from app.services.webhooks.resolver import Resolve, Resolver, resolve

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_URL = 2048  # characters
MAX_ANSWER = 64 * 1024  # most bytes that are read of an answer
CONNECT_SECONDS = 5.0  # time-out for one address, within the time-out of the request
RESOLVE_SECONDS = 3.0  # time-out when a URL is only checked
DEFAULT_PORTS = {"http": 80, "https": 443}

#: Ranges outside the public internet, by IANA's special-purpose registries. Before Python 3.11.10 `ipaddress.is_global`
#: takes several of these for public, and every version does so for multicast.
REFUSED_V4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; Alibaba's metadata
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's host, public by its number only
        "169.254.0.0/16",  # link-local; metadata of AWS, Azure, Google
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
PUBLIC_V6 = IPv6Network("2000::/3")  # the only part that is assigned; the rest is local, multicast or embeds IPv4
REFUSED_V6 = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments, with Teredo
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "3fff::/20",
    )
)
ISATAP = {0x00005EFE, 0x02005EFE}  # third quarter of an address with any prefix that embeds IPv4


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public internet, and does not lead back into a private network."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in REFUSED_V4)
    if (int(address) >> 32) & 0xFFFFFFFF in ISATAP:
        return False
    return address in PUBLIC_V6 and not any(address in network for network in REFUSED_V6)


@dataclass(frozen=True, kw_only=True)
class Purpose:
    """The purpose of a URL: its name in errors, and the classes of errors."""

    noun: str
    #: JSON pointer to the URL
    pointer: str
    invalid: type[PixToolsError]
    refused: type[PixToolsError]


EVENTS = Purpose(noun="webhook URL", pointer="#/webhook_url", invalid=InvalidWebhookUrl, refused=WebhookUrlRefused)
SOURCES = Purpose(noun="URL of the input", pointer="#/input/url", invalid=InvalidSourceUrl, refused=SourceUrlRefused)


@dataclass(frozen=True, kw_only=True)
class Destination:
    """The parts of a URL."""

    scheme: str
    #: the name in the form that resolvers and TLS accept
    host: str
    port: int
    #: path and query
    target: bytes


def parse(url: str, purpose: Purpose = EVENTS) -> Destination:
    """Split a URL into its parts.

    Args:
        url: the URL.
        purpose: purpose of the request.

    Raises:
        PixToolsError: the error of the purpose: the URL is not an absolute http or https URL, or has credentials.
    """
    if len(url) > MAX_URL:
        detail = f"The {purpose.noun} has {len(url)} characters, the limit is {MAX_URL}."
        raise purpose.invalid(detail, pointer=purpose.pointer, limit=MAX_URL, value=len(url))
    try:
        parts, parsed = urlsplit(url), httpx.URL(url)
        # A name that cannot be looked up fails here. The trailing dot is removed, since it would make another host
        host = parsed.raw_host.decode("ascii").removesuffix(".")
        valid = parsed.scheme in DEFAULT_PORTS and bool(host) and parts.port != 0 and "%" not in host
    except (ValueError, httpx.InvalidURL):
        raise purpose.invalid(pointer=purpose.pointer) from None
    if not valid or "@" in parts.netloc or not url.isprintable() or " " in url:
        raise purpose.invalid(pointer=purpose.pointer)
    port = parsed.port or DEFAULT_PORTS[parsed.scheme]
    return Destination(scheme=parsed.scheme, host=host, port=port, target=parsed.raw_path)


def origin_of(url: str) -> str:
    """Scheme, host and port of a URL; empty for an invalid URL."""
    try:
        destination = parse(url)
    except InvalidWebhookUrl:
        return ""
    return f"{destination.scheme}://{_bracketed(destination.host)}:{destination.port}"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The response of a receiver."""

    status: int
    #: names in lower case
    headers: dict[str, str]
    #: the beginning of the body
    body: bytes


@dataclass(frozen=True)
class Egress:
    """Outgoing requests by the rules of one deployment."""

    #: ports that are allowed for public addresses
    ports: frozenset[int]
    #: private ranges that are allowed nevertheless, on any port
    networks: tuple[Network, ...] = ()
    #: further ranges that are allowed as long as requests need no key
    networks_while_open: tuple[Network, ...] = ()
    is_open: Callable[[], bool] = lambda: False
    #: this server's own addresses, which are refused: its public origin, and its port on loopback
    own_origin: str = ""
    own_port: int | None = None
    resolve: Resolve = resolve
    #: separate resolvers, so that checking and sending do not delay each other in one process
    checking: Resolver = field(default_factory=Resolver, repr=False)
    sending: Resolver = field(default_factory=Resolver, repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    purpose: Purpose = EVENTS
    #: connects to a checked address
    connector: httpcore.AsyncNetworkBackend = field(default_factory=httpcore.AnyIOBackend, repr=False)

    async def check(self, url: str) -> None:
        """Refuse a URL to which no request may be sent. A name that does not resolve passes: it may resolve later.

        Raises:
            PixToolsError: the error of the purpose: the URL is invalid, or leads to a forbidden address.
        """
        destination = self._parse(url)
        try:
            async with asyncio.timeout(RESOLVE_SECONDS):
                await self._addresses(destination, self.checking)
        except (OSError, UnicodeError):
            if not self._port_allowed(destination):
                self._refuse_port(destination)

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], *, seconds: float) -> Answer:
        """Send a POST request, and read the response, within `seconds` in total.

        Raises:
            PixToolsError: the error of the purpose: the URL is refused.
            TimeoutError: the request took too long.
            OSError: the name does not resolve.
            httpcore.NetworkError, httpcore.ProtocolError: the connection, TLS or the response has failed.
        """
        async with asyncio.timeout(seconds), self.open("POST", url, headers, body) as response:
            return await _read(response)

    @asynccontextmanager
    async def open(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> AsyncIterator[httpcore.Response]:
        """Send a request; the caller reads the body of the response. Redirects are returned like other responses.

        Raises:
            PixToolsError: the error of the purpose: the URL is refused.
            OSError: the name does not resolve.
            httpcore.NetworkError, httpcore.ProtocolError: the connection, TLS or the response has failed.
        """
        destination = self._parse(url)
        addresses = await self._addresses(destination, self.sending)
        pinned = _Pinned(addresses, self.connector)
        async with (
            httpcore.AsyncConnectionPool(self.tls or _tls_context(), network_backend=pinned) as pool,
            pool.stream(
                method,
                httpcore.URL(
                    scheme=destination.scheme.encode(),
                    host=destination.host.encode(),
                    port=destination.port,
                    target=destination.target,
                ),
                headers=[("Host", _host_header(destination)), *headers.items()],
                content=body,
            ) as response,
        ):
            yield response

    def _parse(self, url: str) -> Destination:
        destination = parse(url, self.purpose)
        if self.own_origin and origin_of(url) == origin_of(self.own_origin):
            raise self._refuse_own(destination)
        return destination

    async def _addresses(self, destination: Destination, resolver: Resolver) -> list[str]:
        found = await resolver.run(self.resolve, destination.host, destination.port)
        addresses = [ip_address(text.partition("%")[0]) for text in found]
        if not addresses or not all(self._allowed(address) for address in addresses):
            raise self.purpose.refused(pointer=self.purpose.pointer, value=destination.host)
        if destination.port == self.own_port and any(address.is_loopback for address in addresses):
            raise self._refuse_own(destination)
        if not self._port_allowed(destination) and not all(self._named(address) for address in addresses):
            self._refuse_port(destination)
        return [str(address) for address in addresses]

    def _allowed(self, address: Address) -> bool:
        return is_public(address) or self._named(address)

    def _named(self, address: Address) -> bool:
        if any(address in network for network in self.networks):
            return True
        return any(address in network for network in self.networks_while_open) and self.is_open()

    def _port_allowed(self, destination: Destination) -> bool:
        return destination.port in self.ports

    def _refuse_port(self, destination: Destination) -> None:
        allowed = ", ".join(map(str, sorted(self.ports)))
        detail = f"The {self.purpose.noun} has port {destination.port}, allowed are {allowed}."
        raise self.purpose.refused(detail, pointer=self.purpose.pointer, value=destination.port)

    def _refuse_own(self, destination: Destination) -> PixToolsError:
        detail = f"The {self.purpose.noun} leads back to this PixTools server."
        return self.purpose.refused(detail, pointer=self.purpose.pointer, value=destination.host)


@cache
def _tls_context() -> ssl.SSLContext:
    """Trust in the usual authorities; all requests of a process share it, since loading them takes 35 ms."""
    return httpx.create_ssl_context()


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _host_header(destination: Destination) -> str:
    host = _bracketed(destination.host)
    return host if destination.port == DEFAULT_PORTS[destination.scheme] else f"{host}:{destination.port}"


async def _read(response: httpcore.Response) -> Answer:
    body = bytearray()
    async for chunk in response.aiter_stream():
        body += chunk
        if len(body) >= MAX_ANSWER:
            break
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
    return Answer(status=response.status, headers=headers, body=bytes(body[:MAX_ANSWER]))


class _Pinned(httpcore.AsyncNetworkBackend):
    """Connects to the checked addresses, whatever the name of the host; TLS still verifies the name."""

    def __init__(self, addresses: Sequence[str], backend: httpcore.AsyncNetworkBackend) -> None:
        self._addresses = addresses
        self._backend = backend

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the signature of the base class
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        failure: Exception = httpcore.ConnectError("there is no address")
        for address in self._addresses:
            try:
                return await self._backend.connect_tcp(
                    address, port, timeout or CONNECT_SECONDS, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure
