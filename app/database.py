"""Engines, sessions and the database's clock.

The API and the tasks call the same service functions, which take a plain `Session`. In the API, a PostgreSQL
transaction is asynchronous (`await session.run_sync(service, ...)`), and a SQLite transaction runs as a whole in a
thread. One request or task is one transaction, committed where the session was opened and nowhere else.
"""

import asyncio
import contextvars
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, cached_property, partial
from typing import Any, ClassVar, Concatenate, ParamSpec, Protocol, TypeVar, cast
from uuid import UUID

from sqlalchemy import (
    JSON,
    BindParameter,
    CursorResult,
    DateTime,
    Delete,
    Dialect,
    Engine,
    Float,
    Insert,
    MetaData,
    Table,
    Update,
    Uuid,
    create_engine,
    event,
    insert,
    literal,
    make_url,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Connection
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, ORMExecuteState, Session, SessionTransaction
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import FunctionElement
from sqlalchemy.types import TypeDecorator

from app import tenancy
from app.backoff import Backoff
from app.database_errors import DATABASE_ERRORS, is_away, is_full, name_of
from app.errors import CannotStart
from app.keyring import ADVICE, Keyring

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger(__name__)

BUSY_TIMEOUT = 30  # seconds that a SQLite writer waits for another one
READERS = 4  # threads for read-only SQLite transactions of the API; one more thread writes
LOCK_TIMEOUT = "10s"  # PostgreSQL: longest wait for a row lock; after that the task is retried
# PostgreSQL: detects a server that has vanished within a minute; the system's default is two hours
KEEPALIVES = {"keepalives_idle": 20, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 50_000}
READ_ONLY = {"pixtools_read_only": True}
TEMPORARY_MEGABYTE = (
    "CREATE TEMP TABLE room ON COMMIT DROP AS SELECT repeat('x', 1000) AS data FROM generate_series(1, 1000)"
)

CLOSE_SECONDS = 2.0  # longest wait for cancelled transactions, whose server may be away

RETRIES = Backoff(first=0.1, longest=5.0, least_share=0.5)  # pauses while the database is away
PATIENCE = 900.0  # seconds of retries; RabbitMQ redelivers a message that is not acknowledged within 30 minutes


class UtcDateTime(TypeDecorator[datetime]):
    """A timezone-aware datetime in UTC; SQLite stores it naive."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Base of all tables."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[Any] = {dict[str, Any]: JSON, list[Any]: JSON, datetime: UtcDateTime, UUID: Uuid}


class from_now(FunctionElement[datetime]):  # noqa: N801 - reads as the SQL function that it is
    """The database's clock plus some seconds: leases must not depend on the workers' clocks."""

    inherit_cache = True
    type = UtcDateTime()
    name = "from_now"

    def __init__(self, seconds: float | BindParameter[float] = 0) -> None:
        # a parameter, so that SQLAlchemy compiles each statement once for all values
        super().__init__(seconds if isinstance(seconds, BindParameter) else literal(float(seconds), Float))


@compiles(from_now, "postgresql")
def _from_now_postgresql(element: from_now, compiler: SQLCompiler, **kw: Any) -> str:
    # clock_timestamp, not now(): a transaction may have waited for a lock since it began. The subquery makes the value
    # constant for the statement; otherwise it could change from row to row, and no index could be used
    return f"(SELECT clock_timestamp() + {compiler.process(element.clauses, **kw)} * interval '1 second')"


@compiles(from_now, "sqlite")
def _from_now_sqlite(element: from_now, compiler: SQLCompiler, **kw: Any) -> str:
    # six decimals, the format of SQLAlchemy: the values are compared as text
    later = f"printf('%+.3f seconds', {compiler.process(element.clauses, **kw)})"
    return f"(strftime('%Y-%m-%d %H:%M:%f', 'now', {later}) || '000')"


class Window(Protocol):
    """The limit on the amount of work in the broker."""

    @property
    def has_spare(self) -> bool:
        """True if there is a spare process for small work."""
        ...

    def take(self, queue: str, places: int = 1) -> bool:
        """Reserve places in a queue for work to be sent now; returns False if the work has to wait."""
        ...

    def note_due(self, queues: Collection[str]) -> None:
        """Record that work for these queues waits for its turn."""
        ...


@dataclass
class Hooks:
    """The functions that a process calls after commits; each is set once, when the process starts."""

    #: set when the outbox has a message for this process's relay
    wake: threading.Event = field(default_factory=threading.Event)
    #: sends a message at once; None: messages go to the outbox, where any relay may send them
    take_over: Callable[[Any], None] | None = None
    #: None: this process does not know the length of the queues and sends without a limit
    window: Window | None = None
    #: called with the id of a job that has ended
    ended: Callable[[UUID], None] = lambda _: None


def _no_keyring() -> Keyring:
    raise CannotStart(f"This process has no secret key. {ADVICE}")


class Transaction(Session):
    """One transaction, and the callbacks to run after its commit."""

    def __init__(
        self, bind: Any, *, hooks: Hooks, keyring: Callable[[], Keyring], tenant: str | None = None, **options: Any
    ) -> None:
        super().__init__(bind, **{**options, "expire_on_commit": False})
        self.hooks = hooks
        self.keyring = keyring
        #: tenant whose rows the transaction sees; None: all rows
        self.tenant = tenant
        self.callbacks: list[Callable[[], None]] = []
        self.committed = False


@event.listens_for(Transaction, "do_orm_execute")
def _only_own(state: ORMExecuteState) -> None:
    tenant = _transaction(state.session).tenant
    if tenant is not None:
        tenancy.add_condition(state, tenant)


@event.listens_for(Transaction, "before_flush")
def _own_new_rows(session: Transaction, _context: object, _instances: object) -> None:
    tenancy.check_new_rows(session, session.tenant)


@event.listens_for(Transaction, "after_commit")
def _note_commit(session: Transaction) -> None:
    session.committed = session.get_nested_transaction() is None  # the end of a savepoint is not a commit


@event.listens_for(Transaction, "after_transaction_end")
def _call_back(session: Transaction, ended: SessionTransaction) -> None:
    if ended.parent is not None:
        return
    callbacks, committed = session.callbacks, session.committed
    session.callbacks, session.committed = [], False
    for callback in callbacks if committed else ():
        try:
            callback()
        except Exception:  # the transaction has committed, so its caller must not see a failure
            log.exception("after_commit_failed")


def after_commit(session: Session, callback: Callable[[], None]) -> None:
    """Register a callback for the time after the commit, when the connection is free; a rollback drops it."""
    _transaction(session).callbacks.append(callback)


def hooks_of(session: Session) -> Hooks:
    """The hooks of this transaction's process."""
    return _transaction(session).hooks


def keyring_of(session: Session) -> Keyring:
    """The keys that encrypt the secrets in this database.

    Raises:
        CannotStart: this process has no keys.
    """
    return _transaction(session).keyring()


def tenant_of(session: Session) -> str | None:
    """The tenant whose rows this transaction sees; None: it sees all rows."""
    return _transaction(session).tenant


def table_of(kind: type[Base]) -> Table:
    """The table of a class, for prebuilt statements: without the ORM they take less than half of the time."""
    return cast("Table", kind.__table__)


def insertion(session: Session, kind: type[Base]) -> Any:
    """An INSERT in the database's dialect, which has methods for existing rows: `on_conflict_do_nothing()`."""
    return (postgresql if session.get_bind().dialect.name == "postgresql" else sqlite).insert(table_of(kind))


def insert_rows(session: Session, rows: Sequence[Base]) -> None:
    """Insert new rows of a table in one statement; SQLAlchemy's unit of work would take longer than everything else.

    Args:
        session: one transaction; the rows are not attached to it.
        rows: rows with plain values, not SQL expressions; a column without a value becomes NULL.
    """
    if rows:
        statement, columns = _insertion(type(rows[0]))
        values = [{name: getattr(row, name) for name in columns} for row in rows]
        # for a single row, psycopg's executemany costs twice as much as execute
        session.connection().execute(statement, values if len(values) > 1 else values[0])


@cache
def _insertion(kind: type[Base]) -> tuple[Insert, tuple[str, ...]]:
    table = table_of(kind)
    return insert(table), tuple(column.key for column in table.columns)


def rows_changed(session: Session, statement: Update | Delete) -> int:
    """Run an UPDATE or DELETE; returns the number of rows changed."""
    changed = cast("CursorResult[Any]", session.execute(statement))
    return int(changed.rowcount)


def _transaction(session: Session) -> Transaction:
    if not isinstance(session, Transaction):
        raise TypeError("the session was not opened by `Database`")
    return session


class Database:
    """The engines of one process. They are created on first use: after a fork, and only if needed."""

    def __init__(self, url: str, hooks: Hooks | None = None, *, keyring: Callable[[], Keyring] = _no_keyring) -> None:
        """Set up without opening a connection.

        Args:
            url: `sqlite:///…` or `postgresql://…`.
            hooks: functions to call after commits.
            keyring: returns the keys for secrets; called when a secret is read or written.
        """
        self._url = make_url(url)
        self._keyring = keyring
        self.is_sqlite = self._url.get_backend_name() == "sqlite"
        self.hooks = hooks or Hooks()
        #: True: a write has failed because the disk is full; `check_room` resets it
        self.is_full = False
        # SQLite has one writer at a time, and a waiting one polls every few milliseconds; this lock does not poll.
        # Reentrant: a callback after a commit may write again while its thread still holds the lock
        self._writing = threading.RLock()
        #: tasks with a connection of the asynchronous engine
        self._in_use: set[asyncio.Task[Any]] = set()

    def url(self) -> URL:
        return self._url.set(drivername="sqlite" if self.is_sqlite else "postgresql+psycopg")

    @cached_property
    def engine(self) -> Engine:
        engine = create_engine(self.url(), **self._options())
        self._prepare(engine)
        return engine

    @cached_property
    def async_engine(self) -> AsyncEngine:
        """The engine for requests with PostgreSQL."""
        return create_async_engine(self.url(), **self._options())

    @cached_property
    def _writer(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, thread_name_prefix="sqlite-writer")

    @cached_property
    def _readers(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(READERS, thread_name_prefix="sqlite-reader")

    def _options(self) -> dict[str, Any]:
        if self.is_sqlite:
            waiting = {"timeout": BUSY_TIMEOUT, "isolation_level": None}
            return {"connect_args": waiting, "hide_parameters": True, "pool_size": 10, "max_overflow": 20}
        options = f"-c lock_timeout={LOCK_TIMEOUT} -c timezone=UTC"
        arguments = {"connect_timeout": 5, "options": options, **KEEPALIVES}
        pool = {"pool_pre_ping": True, "pool_size": 10, "max_overflow": 10}
        return {"connect_args": arguments, "hide_parameters": True, **pool}  # parameters contain clients' data

    def _prepare(self, engine: Engine) -> None:
        if self.is_sqlite:
            event.listen(engine, "connect", _configure_sqlite)
            event.listen(engine, "begin", _begin_sqlite)

    @contextmanager
    def session(self, *, read_only: bool = False, tenant: str | None = None) -> Iterator[Session]:
        """One transaction for a task: commits at the end, rolls back on any error.

        Args:
            read_only: only for SQLite, where the transaction then does not wait for writers.
            tenant: tenant whose rows the transaction sees; None: all rows.
        """
        bind = self.engine.execution_options(**READ_ONLY) if read_only else self.engine
        with (
            self._noting_room(),
            self._turn(read_only=read_only),
            Transaction(bind, hooks=self.hooks, keyring=self._keyring, tenant=tenant) as session,
            session.begin(),
        ):
            yield session

    def _turn(self, *, read_only: bool) -> AbstractContextManager[None]:
        return self._writing_alone() if self.is_sqlite and not read_only else nullcontext()

    @contextmanager
    def _writing_alone(self) -> Iterator[None]:
        """Wait for other writers in this process. After `BUSY_TIMEOUT` go on; SQLite may then refuse the write."""
        is_mine = self._writing.acquire(timeout=BUSY_TIMEOUT)
        try:
            yield
        finally:
            if is_mine:
                self._writing.release()

    @contextmanager
    def _noting_room(self) -> Iterator[None]:
        try:
            yield
        except DATABASE_ERRORS as error:
            self.is_full = self.is_full or is_full(error)
            raise

    async def check_room(self) -> None:
        """If the disk was full, test whether it has room again by a write that needs new blocks.

        Raises:
            DBAPIError: the disk is still full, or the database is away.
        """
        if not self.is_full:
            return
        try:
            if not self.is_sqlite:  # the process can check SQLite's disk itself
                await self.call(_write_temporarily)
        except DATABASE_ERRORS as error:
            if is_away(error):  # other errors do not count: the user may lack the right to create tables
                raise
        self.is_full = False

    def retry(
        self,
        service: Callable[Concatenate[Session, P], R],
        stop: Callable[[], bool] = lambda: False,
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """Run a service function in its own transaction, and again while the database is away.

        The function must tolerate a second run: if the response to a commit is lost, the commit may have happened.

        Args:
            service: the function.
            stop: returns True to give up.

        Raises:
            DBAPIError: the database is still away when `PATIENCE` is over or `stop` is true; or the statement is wrong.
        """
        deadline = time.monotonic() + PATIENCE
        for pause in RETRIES.pauses():
            try:
                with self.session() as session:
                    return service(session, *args, **kwargs)
            except DATABASE_ERRORS as error:
                if not is_away(error) or stop() or time.monotonic() >= deadline:
                    raise
                log.warning("database_away", extra={"error": name_of(error)})
            time.sleep(pause)
        raise AssertionError("pauses have no end")

    @asynccontextmanager
    async def _async_session(self, tenant: str | None) -> AsyncIterator[AsyncSession]:
        """One transaction for a request: commits at the end, rolls back on any error."""
        session = AsyncSession(
            self.async_engine,
            expire_on_commit=False,
            sync_session_class=Transaction,
            hooks=self.hooks,
            keyring=self._keyring,
            tenant=tenant,
        )
        with self._noting_room(), self._noting_use():
            async with session, session.begin():
                yield session

    @contextmanager
    def _noting_use(self) -> Iterator[None]:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a transaction needs a task")
        self._in_use.add(task)
        try:
            yield
        finally:
            self._in_use.discard(task)

    async def call(self, service: Callable[Concatenate[Session, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a service function in its own transaction, which has ended when this returns or is cancelled."""
        return await self.run(lambda session: service(session, *args, **kwargs))

    async def read(self, service: Callable[Concatenate[Session, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a service function that only reads; with SQLite it never waits for a writer."""
        return await self.run(lambda session: service(session, *args, **kwargs), read_only=True)

    async def run(self, service: Callable[[Session], R], *, read_only: bool = False, tenant: str | None = None) -> R:
        """Run a service function in a transaction that sees the rows of one tenant; None: all rows."""
        if self.is_sqlite:
            threads = self._readers if read_only else self._writer
            return await _in_thread(threads, partial(self._run, service, read_only=read_only, tenant=tenant))
        async with self._async_session(tenant) as session:
            return await session.run_sync(service)

    def _run(self, service: Callable[[Session], R], *, read_only: bool, tenant: str | None) -> R:
        with self.session(read_only=read_only, tenant=tenant) as session:
            return service(session)

    def of(self, tenant: str) -> "TenantDatabase":
        """A view of this database with the rows of one tenant."""
        return TenantDatabase(self, tenant)

    def close(self) -> None:
        for threads in ("_writer", "_readers"):
            if threads in self.__dict__:
                self.__dict__.pop(threads).shutdown()
        if "engine" in self.__dict__:
            self.engine.dispose()

    async def aclose(self) -> None:
        """Close all connections; a transaction that another task has open is cancelled.

        The engine would forget a connection that comes back later, and nothing would close it.
        """
        if self._in_use:
            for task in self._in_use:
                task.cancel()
            await asyncio.wait(self._in_use, timeout=CLOSE_SECONDS)
        if "async_engine" in self.__dict__:
            await self.async_engine.dispose()
        self.close()


@dataclass(frozen=True)
class TenantDatabase:
    """A view of the database with the rows of one tenant, for requests."""

    _database: Database
    tenant: str

    async def call(self, service: Callable[Concatenate[Session, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """`Database.call` for this tenant."""
        return await self._database.run(lambda session: service(session, *args, **kwargs), tenant=self.tenant)

    async def read(self, service: Callable[Concatenate[Session, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """`Database.read` for this tenant."""
        return await self._database.run(
            lambda session: service(session, *args, **kwargs), read_only=True, tenant=self.tenant
        )


async def _in_thread(threads: ThreadPoolExecutor, work: Callable[[], R]) -> R:
    """Run a whole transaction in one of these threads; a switch for each statement would take longer."""
    context = contextvars.copy_context()
    running = asyncio.get_running_loop().run_in_executor(threads, context.run, work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        # The thread cannot be stopped, and the caller's clean-up must see the outcome
        await asyncio.wait([running])
        raise


def _write_temporarily(session: Session) -> None:
    session.execute(text(TEMPORARY_MEGABYTE))


def _configure_sqlite(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")  # a 202 must survive a power cut, not only kill -9
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A writer takes the lock at once: if it read first and wrote later, SQLite could refuse it with SQLITE_BUSY
    read_only = connection.get_execution_options().get("pixtools_read_only", False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
