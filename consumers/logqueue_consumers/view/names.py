"""Names by number: the view stores a queue, type, tenant or topic once. Knows no jobs."""

from __future__ import annotations

import sqlite3
from typing import Final

# Beyond this many names the cache starts again; 100,000 tenants fit.
MAX_CACHED_NAMES: Final = 200_000

NO_NAME: Final = 0


class Names:
    """Both directions of the `names` table of one connection, cached.

    `names[number]` is the name behind a number that the view stores; `numbers[name]` is the number of a name, which is
    given one if it has none yet: only the writer may ask that, inside its transaction. Number 0 is "none" and reads "".
    Both are dictionaries that fill themselves: they are asked ten times for each row.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.numbers = _Numbers(self)
        self.names = _Names(self)
        self.forget()

    def find(self, name: str) -> int | None:
        """The number of a name, or None if the view has never seen it."""
        if name in self.numbers:
            return self.numbers[name]
        row = self._db.execute("SELECT id FROM names WHERE name = ?", (name,)).fetchone()
        if row is None:
            return None
        self._remember(row[0], name)
        return int(row[0])

    def forget(self) -> None:
        """Drop the cache: after a rollback some of its numbers may not exist."""
        self.numbers.clear()
        self.names.clear()
        self.numbers[""] = NO_NAME
        self.names[NO_NAME] = ""

    def intern(self, name: str) -> int:
        """The number of a name that the cache does not hold."""
        found = self.find(name)
        if found is not None:
            return found
        cursor = self._db.execute("INSERT INTO names (name) VALUES (?)", (name,))
        assert cursor.lastrowid is not None
        self._remember(cursor.lastrowid, name)
        return cursor.lastrowid

    def read(self, number: int) -> str:
        """The name of a number that the cache does not hold."""
        row = self._db.execute("SELECT name FROM names WHERE id = ?", (number,)).fetchone()
        if row is None:
            raise sqlite3.DatabaseError(f"the view refers to name {number}, which it does not hold")
        self._remember(number, row[0])
        return str(row[0])

    def _remember(self, number: int, name: str) -> None:
        if len(self.numbers) >= MAX_CACHED_NAMES:
            self.forget()
        self.numbers[name] = number
        self.names[number] = name


class _Numbers(dict[str, int]):
    def __init__(self, table: Names) -> None:
        super().__init__()
        self._table = table

    def __missing__(self, name: str) -> int:
        return self._table.intern(name)


class _Names(dict[int, str]):
    def __init__(self, table: Names) -> None:
        super().__init__()
        self._table = table

    def __missing__(self, number: int) -> str:
        return self._table.read(number)
