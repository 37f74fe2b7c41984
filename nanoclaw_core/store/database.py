"""The one connection to the central database: a single writer with group commit, and readers beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Any, Generic, NoReturn, Self, TypeVar

import anyio
from anyio import CancelScope, CapacityLimiter, to_thread
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DatabaseError, InvalidRequestError

from nanoclaw_core.errors import DatabaseTaken, HomeUnusable
from nanoclaw_core.store.fence import Fence
from nanoclaw_core.store.migrate import migrate
from nanoclaw_core.store.trouble import plain_words

__all__ = ["Connection", "Database", "open_database"]

T = TypeVar("T")

_READERS = 4
_LARGEST_BATCH = 1000
_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000", "foreign_keys=ON")


class Database:
    """Runs functions of a SQLAlchemy `Connection` away from the event loop.

    The first write takes the database over from whoever wrote before. Nobody who only reads is in the way of anybody.
    """

    def __init__(self, writer: Engine, reader: Engine, fence: Fence) -> None:
        self._writer = writer
        self._reader = reader
        self._fence = fence
        self._taken: DatabaseTaken | None = None
        self._loss = anyio.Event()
        self._readers = CapacityLimiter(_READERS)
        self._jobs: SimpleQueue[_Job[Any] | None] = SimpleQueue()  # Any: every job has a result type of its own
        self._thread = Thread(target=self._work, name="nanoclaw-writer", daemon=True)
        self._closed = False

    async def write(self, fn: Callable[[Connection], T]) -> T:
        """Run `fn` as one savepoint in the writer thread; return its result once it is committed.

        Whatever waits at that moment is committed together. A function that raises undoes only itself, and its error is
        raised here. A cancelled call is undone or committed whole: one that was still waiting does not happen.

        Raises:
            HomeUnusable: the disk is full, or fails. DatabaseBroken: the file is damaged. DatabaseTaken: another process has
                taken the database over, and nothing is written any more.
        """
        if self._closed:
            raise anyio.ClosedResourceError
        job = _Job(fn)
        self._jobs.put(job)
        try:
            with plain_words(self._writer.url):
                return await asyncio.wrap_future(job.future)
        except DatabaseTaken as taken:
            self._taken = taken
            self._loss.set()
            raise

    async def lost(self) -> NoReturn:
        """Wait until a write fails because another process has taken the database over, and raise that.

        Raises:
            DatabaseTaken: what runs on this database must end, and leave to the other what it has.
        """
        await self._loss.wait()
        assert self._taken is not None  # noqa: S101  # see `write`
        raise self._taken

    @property
    def is_lost(self) -> bool:
        """Whether another process is known to have taken the database over."""
        return self._loss.is_set()

    async def read(self, fn: Callable[[Connection], T]) -> T:
        """Run `fn` in a thread on a connection that cannot write; it sees everything committed before the call."""
        return await to_thread.run_sync(self._read, fn, limiter=self._readers)

    def _read(self, fn: Callable[[Connection], T]) -> T:
        with plain_words(self._reader.url), self._reader.connect() as connection:
            return fn(connection)

    def _work(self) -> None:
        """Commit batches until the None that closes the queue."""
        while True:
            batch = [self._jobs.get()]
            while len(batch) < _LARGEST_BATCH and not self._jobs.empty():
                batch.append(self._jobs.get())
            self._commit([job for job in batch if job])
            if None in batch:
                return

    def _commit(self, batch: list[_Job[Any]]) -> None:
        jobs = [job for job in batch if job.future.set_running_or_notify_cancel()]
        if not jobs:
            return
        with _Caught() as whole, self._writer.begin() as connection:
            self._fence.enter(connection)
            for job in jobs:
                job.run(connection)
                _require_transaction(connection)
        if whole.error is None:
            self._fence.entered()
        for job in jobs:
            job.finish(whole.error)

    async def __aenter__(self) -> Self:
        self._thread.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._closed = True
        self._jobs.put(None)
        with CancelScope(shield=True):
            await to_thread.run_sync(self._thread.join)


class _Caught:
    """A block whose error is kept for somebody who waits in another thread."""

    error: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        self.error = error
        return True


class _Job(Generic[T]):
    """One function to be run by the writer, and what came of it."""

    def __init__(self, fn: Callable[[Connection], T]) -> None:
        self.future: Future[T] = Future()
        self._fn = fn
        self._result: list[T] = []
        self._error: BaseException | None = None

    def run(self, connection: Connection) -> None:
        with _Caught() as caught, connection.begin_nested():
            self._result.append(self._fn(connection))
        self._error = caught.error

    def finish(self, failed_commit: BaseException | None) -> None:
        """Tell the caller, now that the transaction around the job has ended."""
        error = self._error or failed_commit
        if error:
            self.future.set_exception(error)
        else:
            self.future.set_result(self._result[0])


def _require_transaction(connection: Connection) -> None:
    """Refuse to go on after SQLite has rolled the whole transaction back by itself, as it may on a full disk.

    Python's `commit` would then do nothing and report success.
    """
    dbapi = connection.connection.dbapi_connection
    if connection.dialect.name == "sqlite" and dbapi is not None and not dbapi.in_transaction:
        raise InvalidRequestError("the database rolled the transaction back")


@asynccontextmanager
async def open_database(url_or_path: str | Path, *, backups: Path | None) -> AsyncIterator[Database]:
    """Open the database (a path means SQLite), bring its schema up to date, and close it at the end.

    `backups` is the folder that receives a copy of a SQLite database before its schema changes; None makes none.

    Raises:
        DatabaseTooNew: a later version of NanoClaw wrote it. DatabaseBroken: it is damaged, or none. HomeUnusable: it cannot be
            written. DatabaseTaken: another process is connected to it as its writer (PostgreSQL only).
    """
    url = _url(url_or_path)
    writer, reader = _engine(url, writes=True), _engine(url, writes=False)
    fence = Fence(url.database or "")
    fence.hold(writer)
    try:
        try:
            with plain_words(url):
                await to_thread.run_sync(_prepare, writer, backups)
        except DatabaseError as error:
            raise HomeUnusable(url.database, f"as a database: {error.orig}") from error
        async with Database(writer, reader, fence) as database:
            yield database
    finally:
        with CancelScope(shield=True):
            await to_thread.run_sync(reader.dispose)
            await to_thread.run_sync(writer.dispose)


def _prepare(writer: Engine, backups: Path | None) -> None:
    migrate(writer, backups)
    with writer.begin():  # fails now where the file cannot be written
        pass


def look_into(path: Path) -> Engine:
    """An engine on an existing SQLite database that cannot write; the caller disposes of it."""
    return _engine(_url(path), writes=False)


def copy_engine(path: Path) -> Engine:
    """An engine that can change a SQLite database which no host has; the caller disposes of it."""
    return _engine(_url(path), writes=True)


def _url(url_or_path: str | Path) -> URL:
    if isinstance(url_or_path, str) and "://" in url_or_path:
        return make_url(url_or_path)
    return URL.create("sqlite", database=str(url_or_path))


def _engine(url: URL, *, writes: bool) -> Engine:
    # An error may come into a log or a chat; its parameters would be what people wrote.
    common: Any = {"pool_size": 1 if writes else _READERS, "max_overflow": 0, "hide_parameters": True}  # see `create_engine`
    if url.get_backend_name() != "sqlite":
        options = {} if writes else {"postgresql_readonly": True}
        return create_engine(url, **common, pool_pre_ping=True, execution_options=options)
    engine = create_engine(url, **common)
    begin = "BEGIN IMMEDIATE" if writes else "BEGIN"  # a read that grows into a write fails at once, without waiting

    @event.listens_for(engine, "connect")
    def connected(dbapi: Any, _record: object) -> None:  # Any: the driver's own connection
        dbapi.isolation_level = None
        if writes and dbapi.execute("PRAGMA page_count").fetchone() == (0,):
            dbapi.execute("PRAGMA auto_vacuum=INCREMENTAL")  # only an empty file takes it
        for pragma in (*_PRAGMAS, f"query_only={'OFF' if writes else 'ON'}"):
            dbapi.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def began(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine
