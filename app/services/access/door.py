"""Authentication: the principal of a request. Until the first key is made, local requests need none.

Answers of the database are kept for a few seconds. So most requests need no query, and every process still refuses a
revoked key soon.
"""

import asyncio
import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import IPv6Address, ip_address
from typing import Any

from starlette.datastructures import Headers

from app.database import Database
from app.database_errors import DATABASE_ERRORS, is_away
from app.errors import DatabaseUnavailable, MalformedKey, MissingKey
from app.services.access import keys
from app.services.access.keys import Holder
from app.services.access.principal import ANYBODY, Principal

KEPT_SECONDS = 3.0  # an answer of the database is reused for so long
PATIENCE_SECONDS = 1.0  # longest wait of a request for the service's state for the database
MOST_KEPT = 4096  # keys
SCHEME = "bearer"
#: headers that only a proxy adds: then the peer is on this machine, but the client may not be
FORWARDING = frozenset(
    {
        *("forwarded", "via", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "client-ip"),
        *("cf-connecting-ip", "true-client-ip", "fastly-client-ip"),
    }
)
FORWARDING_PREFIX = "x-forwarded"
LOCAL_NAME = "localhost"


@dataclass(frozen=True)
class _Kept:
    #: None: the key is unknown
    holder: Holder | None
    until: float


@dataclass
class Door:
    """The authentication of one process."""

    database: Database
    #: True: until the first key is created, requests from other machines need no key either
    open_access: bool = False
    _kept: OrderedDict[bytes, _Kept] = field(default_factory=OrderedDict)
    _closed: bool = False
    _open_until: float = 0.0
    _used: dict[str, datetime] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    #: query that the database has not answered in time
    _hung: asyncio.Task[Principal] | None = None

    async def principal(self, scope: MutableMapping[str, Any]) -> Principal:
        """The principal of a request.

        Args:
            scope: the ASGI scope.

        Raises:
            MissingKey: the request needs a key.
            KeyRefused: the key is not valid.
        """
        headers = Headers(scope=scope)
        token = _token(headers.getlist("authorization"))
        if token is not None:
            return await self._holder(token)
        if (self.open_access or is_local(scope, headers)) and await self.is_open():
            return ANYBODY
        raise MissingKey

    async def operator(self, scope: MutableMapping[str, Any]) -> Principal:
        """The principal of a request about the state of the service. While the database is away, when these requests
        matter most, keys seen before are accepted.

        Raises:
            MissingKey: the request needs a key.
            KeyRefused: the key is not valid.
            DatabaseUnavailable: the database is away, and there is no earlier answer.
        """
        found = None if self._hung and not self._hung.done() else await self._asked(scope)
        known = found or self._as_known(scope)
        if known is None:
            raise DatabaseUnavailable
        return known

    async def _asked(self, scope: MutableMapping[str, Any]) -> Principal | None:
        """The principal of a request; None if the database does not answer in time. Later requests do not wait then."""
        asking = asyncio.create_task(self.principal(scope))
        asking.add_done_callback(lambda task: task.cancelled() or task.exception())  # it may end after its caller left
        done, _ = await asyncio.wait({asking}, timeout=PATIENCE_SECONDS)
        if not done:
            self._hung = asking  # not cancelled, since that would wait for the same connection
            return None
        try:
            return asking.result()
        except DATABASE_ERRORS as error:
            if not is_away(error):
                raise
            return None

    def _as_known(self, scope: MutableMapping[str, Any]) -> Principal | None:
        """The principal of a request by the last answer of the database, however old it is."""
        headers = Headers(scope=scope)
        token = _token(headers.getlist("authorization"))
        if token is None:
            is_open = self._open_until > 0 and not self._closed
            return ANYBODY if is_open and (self.open_access or is_local(scope, headers)) else None
        kept = self._kept.get(hashlib.sha256(token.encode()).digest())
        return kept.holder.check() if kept and kept.holder else None

    async def _holder(self, text: str) -> Principal:
        token = keys.parse(text)
        digest = hashlib.sha256(text.encode()).digest()
        kept = self._kept.get(digest)
        if kept is None or kept.until < time.monotonic():
            began = time.monotonic()
            holder = await self.database.read(keys.find, token)
            kept = self._keep(digest, _Kept(holder, began + KEPT_SECONDS))
            self._closed = self._closed or holder is not None
        if kept.holder is None:
            raise keys.unknown()
        principal = kept.holder.check()
        self._used[token.id] = datetime.now(UTC)
        return principal

    def _keep(self, digest: bytes, kept: _Kept) -> _Kept:
        self._kept[digest] = kept
        self._kept.move_to_end(digest)
        if len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return kept

    def forget(self) -> None:
        """Forget all kept answers; to be called after this process has changed keys."""
        self._kept.clear()
        self._open_until = 0.0

    async def is_open(self) -> bool:
        """Whether there has never been a key."""
        if not self._known():
            began = time.monotonic()
            self._note(await self.database.read(keys.ever_made), began)
        return not self._closed

    def is_open_now(self) -> bool:
        """The same as `is_open`, for code in a thread."""
        if not self._known():
            began = time.monotonic()
            with self.database.session(read_only=True) as session:
                self._note(keys.ever_made(session), began)
        return not self._closed

    def _known(self) -> bool:
        return self._closed or time.monotonic() < self._open_until

    def _note(self, closed: bool, began: float) -> None:
        self._closed = self._closed or closed  # permanent: revoking the last key does not open it again
        self._open_until = began + KEPT_SECONDS

    def write_use(self) -> int:
        """Record the last use of keys since the previous call; returns the number of keys."""
        with self._lock:
            used, self._used = self._used, {}
            if used:
                with self.database.session() as session:
                    keys.note_use(session, used)
        return len(used)


def _token(given: list[str]) -> str | None:
    """The key in the headers of a request; None: there is no key.

    Raises:
        MalformedKey: there are several keys.
    """
    if len(given) > 1:
        raise MalformedKey("The request has several Authorization headers.")
    scheme, _, text = (given[0] if given else "").strip().partition(" ")
    return text.strip() if scheme.lower() == SCHEME else None


def is_operators_port(scope: Mapping[str, Any], port: int | None) -> bool:
    """Whether a request came to the port for health and metrics, which needs no key."""
    server = scope.get("server")
    return port is not None and server is not None and server[1] == port


def is_local(scope: Mapping[str, Any], headers: Headers) -> bool:
    """Whether a request comes from this machine, without a sign of another origin: headers of a proxy, or a host name
    with which a web page could reach this server."""
    peer = (scope.get("client") or ("",))[0]
    hosts = headers.getlist("host")
    if len(hosts) != 1 or any(name in FORWARDING or name.startswith(FORWARDING_PREFIX) for name in headers):
        return False
    return _is_loopback(peer) and _is_loopback(_name_of(hosts[0]))


def _name_of(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower().removesuffix(".")


def _is_loopback(host: str) -> bool:
    if host == LOCAL_NAME:
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback
