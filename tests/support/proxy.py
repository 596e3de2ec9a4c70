"""A faulty network: a TCP proxy between clients and a server that can refuse connections, and drop or delay data."""

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar

HOST = "127.0.0.1"
CHUNK = 65_536  # bytes
BUFFERED = 256  # chunks in flight in one direction
CALL_TIMEOUT = 10.0  # seconds for a method to take effect in the proxy's thread

T = TypeVar("T")
Chunk = tuple[float, bytes]  # time at which it is due, and data; empty at the end of the stream


class TcpProxy:
    """Forwards connections to `target_host:target_port`; `port` stays the same until `close()`.

    The methods may be called from any thread, and have taken effect when they return.
    """

    def __init__(self, target_host: str, target_port: int) -> None:
        self._target = self._first_target = (target_host, target_port)
        self._delay = 0.0
        self._swallowing = False
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._socket = _bound_socket(0)
        self.port: int = self._socket.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"tcp-proxy-{self.port}", daemon=True)
        self._thread.start()
        self._call(self._listen())

    def cut(self) -> None:
        """Reset all connections and refuse new ones."""
        self._call(self._cut())

    def heal(self) -> None:
        """Forward everything again, without delay. After `blackhole`, connections are reset, since they lost bytes."""
        self._call(self._heal())

    def blackhole(self) -> None:
        """Accept connections and drop all data in both directions, also on open connections."""
        self._call(self._blackhole())

    def redirect(self, host: str | None, port: int = 0) -> None:
        """Forward new connections to another server, or if `host` is None to the original one; open ones are reset."""
        self._target = (host, port) if host else self._first_target
        self._call(self._reset_connections())

    def latency(self, seconds: float) -> None:
        """Delay data by `seconds` from now on, in each direction."""
        self._call(self._set_delay(seconds))

    def close(self) -> None:
        """Stop the proxy; may be called twice."""
        if self._loop.is_closed():
            return
        self._call(self._cut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL_TIMEOUT)
        self._loop.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(CALL_TIMEOUT)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, sock=self._socket)

    async def _cut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
            # Bound but not listening: clients are refused, and no other process can take the port.
            self._socket = _bound_socket(self.port)
        await self._reset_connections()

    async def _heal(self) -> None:
        self._delay = 0.0
        if self._swallowing:
            self._swallowing = False
            await self._reset_connections()
        await self._listen()

    async def _blackhole(self) -> None:
        self._swallowing = True
        await self._listen()

    async def _set_delay(self, seconds: float) -> None:
        self._delay = seconds

    async def _reset_connections(self) -> None:
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.current_task()
        assert connection is not None
        self._connections.add(connection)
        writers = [writer]
        try:
            await self._serve(reader, writers)
            await _close(writers)
        except (OSError, ExceptionGroup, asyncio.CancelledError):
            _reset(writers)
        finally:
            self._connections.discard(connection)

    async def _serve(self, reader: asyncio.StreamReader, writers: list[asyncio.StreamWriter]) -> None:
        if self._server is None:
            raise ConnectionResetError("accepted just before the cut")
        while self._swallowing:  # such a connection never reaches the server; `heal` resets it
            if not await reader.read(CHUNK):
                return
        server_reader, server_writer = await asyncio.open_connection(*self._target)
        writers.append(server_writer)
        async with asyncio.TaskGroup() as both:
            both.create_task(self._pass_on(reader, server_writer))
            both.create_task(self._pass_on(server_reader, writers[0]))

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        chunks: asyncio.Queue[Chunk] = asyncio.Queue(BUFFERED)
        async with asyncio.TaskGroup() as both:
            both.create_task(self._take(reader, chunks))
            both.create_task(self._give(chunks, writer))

    async def _take(self, reader: asyncio.StreamReader, chunks: asyncio.Queue[Chunk]) -> None:
        data = b"more"
        while data:
            try:
                data = await reader.read(CHUNK)
            except OSError:
                if not self._swallowing:
                    raise
                return  # a reset does not pass a black hole either
            await chunks.put((self._loop.time() + self._delay, data))

    async def _give(self, chunks: asyncio.Queue[Chunk], writer: asyncio.StreamWriter) -> None:
        while True:
            due, data = await chunks.get()
            await asyncio.sleep(due - self._loop.time())
            if self._swallowing:
                continue
            if not data:
                break
            writer.write(data)
            await writer.drain()
        with suppress(OSError):
            writer.write_eof()


def _bound_socket(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((HOST, port))
    return bound


async def _close(writers: list[asyncio.StreamWriter]) -> None:
    for writer in writers:
        writer.close()  # after pending data is sent
    for writer in writers:
        await writer.wait_closed()


def _reset(writers: list[asyncio.StreamWriter]) -> None:
    for writer in writers:
        with suppress(OSError):  # already closed by the other side
            connection: socket.socket = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
