"""uvicorn's HTTP protocol with small reads, so that many uploads at once cost little memory.

An event loop hands up to 256 kB of each connection to its protocol at a time, and uvicorn pauses a connection only
after that: hundreds of uploads would hold hundreds of such pieces, twice. Here every connection reads through a small
buffer that all of them share, since what is in it is copied out at once.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

READ_SIZE = 32 * 1024  # bytes

MAX_HEAD = 64 * 1024  # bytes of request line and headers; uvicorn would collect them without end
TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

_buffer = bytearray(READ_SIZE)


class SmallReadsProtocol(asyncio.BufferedProtocol):
    """Reads no more than `READ_SIZE` at a time; everything else is uvicorn's.

    A wrapper and not a subclass: uvloop ignores the buffer of whatever is an `asyncio.Protocol` as well.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        self._http = HttpToolsProtocol(*args, **options)
        self._transport: Any = None
        self._head = 0  # bytes since the last one that was no part of a request's head

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._http.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._http.connection_lost(exc)

    def get_buffer(self, sizehint: int) -> bytearray:
        return _buffer

    def buffer_updated(self, nbytes: int) -> None:
        cycle = self._http.cycle
        self._http.data_received(bytes(_buffer[:nbytes]))
        reading_body = self._http.cycle is not None and self._http.cycle.more_body
        self._head = 0 if reading_body or self._http.cycle is not cycle else self._head + nbytes
        if self._head > MAX_HEAD:
            self._refuse()

    def _refuse(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(TOO_LARGE)
            self._transport.close()

    def eof_received(self) -> None:
        self._http.eof_received()

    def pause_writing(self) -> None:
        self._http.pause_writing()

    def resume_writing(self) -> None:
        self._http.resume_writing()
