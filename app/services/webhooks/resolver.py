"""Resolves host names, so that a slow name does not delay others."""

import asyncio
import errno
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, lru_cache, partial
from ipaddress import ip_address

from publicsuffixlist import PublicSuffixList

Resolve = Callable[[str, int], Iterable[str]]


@lru_cache(maxsize=1024)
def site_of(host: str) -> str:
    """The registrable domain, or the IP address: all names below it have one owner."""
    try:
        return str(ip_address(host))
    except ValueError:
        return _suffixes().privatesuffix(host) or host


@cache
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList()


def resolve(host: str, port: int) -> list[str]:
    """All addresses of a host name, or the address itself in any notation."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Resolver:
    """Threads for name lookups: a slow name server can block a few of them, and no more."""

    def __init__(self, most: int = 32, of_one: int = 8) -> None:
        """Set up without lookups.

        Args:
            most: most simultaneous lookups.
            of_one: most simultaneous lookups for names in one registrable domain.
        """
        self._of_one = of_one
        # not asyncio's executor, since closing it waits for all lookups
        self._threads = ThreadPoolExecutor(most, thread_name_prefix="resolve")
        self._running: Counter[str] = Counter()
        self._lock = threading.Lock()

    async def run(self, resolve: Resolve, host: str, port: int) -> Iterable[str]:
        """Resolve a name.

        Raises:
            OSError: the name does not resolve, or too many names of its domain are being looked up.
        """
        site = site_of(host)
        with self._lock:
            if self._running[site] >= self._of_one:
                raise OSError(errno.EAGAIN, "too many lookups of one domain")
            self._running[site] += 1
        running = self._threads.submit(resolve, host, port)
        running.add_done_callback(partial(self._ended, site))
        return await asyncio.wrap_future(running)

    def _ended(self, site: str, _: Future[Iterable[str]]) -> None:
        with self._lock:
            self._running[site] -= 1
            if not self._running[site]:
                del self._running[site]
