"""Names by number: the view stores a queue, type, tenant or topic once. Knows no jobs."""

from __future__ import annotations

import sqlite3
from typing import Final

# Beyond this many names the cache starts again; 100,000 tenants fit.
MAX_CACHED_NAMES: Final = 200_000

NO_NAME: Final = 0


class Names:
    """Both directions of the `names` table of one connection, cached.

    Number 0 stands for "none" and reads as "". Only the writer may `intern`.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._ids: dict[str, int] = {"": NO_NAME}
        self._names: dict[int, str] = {NO_NAME: ""}

    def intern(self, name: str) -> int:
        """The number of a name, giving it one if it has none yet (inside the caller's transaction)."""
        known = self._ids.get(name)
        if known is not None:
            return known
        found = self.find(name)
        if found is not None:
            return found
        cursor = self._db.execute("INSERT INTO names (name) VALUES (?)", (name,))
        assert cursor.lastrowid is not None
        self._remember(cursor.lastrowid, name)
        return cursor.lastrowid

    def find(self, name: str) -> int | None:
        """The number of a name, or None if the view has never seen it."""
        known = self._ids.get(name)
        if known is not None:
            return known
        row = self._db.execute("SELECT id FROM names WHERE name = ?", (name,)).fetchone()
        if row is None:
            return None
        self._remember(row[0], name)
        return int(row[0])

    def name(self, number: int) -> str:
        """The name behind a number that the view stores."""
        known = self._names.get(number)
        if known is not None:
            return known
        row = self._db.execute("SELECT name FROM names WHERE id = ?", (number,)).fetchone()
        if row is None:
            raise sqlite3.DatabaseError(f"the view refers to name {number}, which it does not hold")
        self._remember(number, row[0])
        return str(row[0])

    def forget(self) -> None:
        """Drop the cache: after a rollback some of its numbers may not exist."""
        self._ids = {"": NO_NAME}
        self._names = {NO_NAME: ""}

    def _remember(self, number: int, name: str) -> None:
        if len(self._ids) >= MAX_CACHED_NAMES:
            self.forget()
        self._ids[name] = number
        self._names[number] = name
