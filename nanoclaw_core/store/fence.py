"""One writer for each database: whoever writes last has taken it over, and whoever wrote before writes no more.

The lock of a home is a lock of one file system; this is one of the database itself. It costs a read of one row in each
transaction, and nobody has to renew anything.
"""

from __future__ import annotations

import os
import socket
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import Connection, Engine, event

from nanoclaw_core.errors import DatabaseTaken
from nanoclaw_core.store.tables import insert_into, installation

_WRITER: Final = "writer"  # the row of `installation` that names who writes
_CHECK: Final = "SELECT value FROM installation WHERE key = 'writer'"
#: In PostgreSQL the number of an advisory lock, of which every database has its own set: "NCLW".
_LOCK: Final = 0x4E434C57
_HOLDER: Final = (
    "SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid)"
    " WHERE locktype = 'advisory' AND granted AND classid = 0 AND objid = %s"
)


class Fence:
    """One process's claim to write. It is checked in the transaction that it protects."""

    def __init__(self, database: str) -> None:
        self._database = database
        self._claim = f"{self.who} {uuid4().hex}"
        self._is_ours = False

    @property
    def who(self) -> str:
        """This process, in words for the people who look at another one's error."""
        return f"pid {os.getpid()} on {socket.gethostname()}"

    def enter(self, connection: Connection) -> None:
        """Take the database over in the first transaction; in later ones, see that nobody else has.

        On PostgreSQL the row stays locked until the transaction ends, so that who takes over waits for it.

        Raises:
            DatabaseTaken: nothing may be written.
        """
        if not self._is_ours:
            claim = insert_into(connection, installation).values(key=_WRITER, value=self._claim)
            connection.execute(claim.on_conflict_do_update(index_elements=["key"], set_={"value": self._claim}))
            return
        found = connection.exec_driver_sql(_CHECK + (" FOR SHARE" if connection.dialect.name == "postgresql" else "")).scalar()
        if found != self._claim:
            raise DatabaseTaken(self._database, str(found or "").rpartition(" ")[0])

    def entered(self) -> None:
        """The transaction was committed: from now on it is ours, or lost for good."""
        self._is_ours = True

    def hold(self, writer: Engine) -> None:
        """Where the database can, refuse a second writer when it connects: PostgreSQL frees the lock with the connection.

        Raises, when the engine connects:
            DatabaseTaken: another process is connected as the writer.
        """
        if writer.dialect.name != "postgresql":
            return

        @event.listens_for(writer, "connect")
        def connected(dbapi: Any, _record: object) -> None:  # Any: the driver's own connection
            with dbapi.cursor() as cursor:
                cursor.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK,))
                if cursor.fetchone()[0]:
                    cursor.execute("SELECT set_config('application_name', %s, false)", (f"nanoclaw {self.who}",))
                    dbapi.commit()
                    return
                cursor.execute(_HOLDER, (_LOCK,))
                holder = cursor.fetchone()
            dbapi.close()
            raise DatabaseTaken(self._database, holder[0].removeprefix("nanoclaw ") if holder else "")
