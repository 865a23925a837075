"""Scores that are kept, under keys that say all that they depend on: in memory, or in a SQLite file of many processes.

Neither holds any text. Entries are found by a hash of 32 bytes, and hold a score and a few numbers.
"""

from __future__ import annotations

import json
import logging
import math
import os
import random
import struct
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from langchain_rerankkit.errors import IndexFormatError

if TYPE_CHECKING:
    import sqlite3

__all__ = ["KeptScore", "MemoryScores", "SQLiteScores"]

_Value = TypeVar("_Value")
_logger = logging.getLogger("langchain_rerankkit")

_APPLICATION, _VERSION = 0x526B5343, 1  # in the header of the file: "RkSC", and what its table is like
_TABLE = """
CREATE TABLE scores (
    key BLOB PRIMARY KEY,
    score REAL NOT NULL,
    details BLOB NOT NULL,
    made REAL NOT NULL,
    used REAL NOT NULL,
    checksum BLOB NOT NULL
) WITHOUT ROWID
"""
_KEYS = 500  # of one query; SQLite allows 999 at least
_TOUCH = 60.0  # seconds that the time of last use may be behind, so that most reads write nothing
_WAIT, _WAIT_TO_OPEN = 1.0, 5.0  # seconds, while others write or make the file


class KeptScore(NamedTuple):
    """A score, and what else is kept: plain values that JSON can hold."""

    score: float
    details: Mapping[str, Any]


class MemoryScores:
    """Scores in memory; the least recently used go first.

    Args:
        max_entries: Most scores that are kept.
        ttl: Seconds for which a score is good.
        clock: The time in seconds.
    """

    def __init__(self, max_entries: int, ttl: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_entries, self._ttl, self._clock = max_entries, ttl, clock
        self._lock = threading.Lock()
        self._entries: OrderedDict[bytes, tuple[float, KeptScore]] = OrderedDict()

    def get(self, keys: Sequence[bytes]) -> dict[bytes, KeptScore]:
        """Those that there are."""
        found = {}
        oldest = -math.inf if self._ttl is None else self._clock() - self._ttl
        with self._lock:
            for key in keys:
                entry = self._entries.get(key)
                if entry is None:
                    continue
                if entry[0] <= oldest:
                    del self._entries[key]
                    continue
                self._entries.move_to_end(key)
                found[key] = entry[1]
        return found

    def put(self, scores: Mapping[bytes, KeptScore]) -> None:
        """Keep scores."""
        now = self._clock()
        with self._lock:
            for key, kept in scores.items():
                self._entries[key] = (now, kept)
                self._entries.move_to_end(key)
            while len(self._entries) > self._max_entries:
                self._entries.popitem(last=False)

    def __len__(self) -> int:
        return len(self._entries)

    def close(self) -> None:
        """Forget all."""
        with self._lock:
            self._entries.clear()


class SQLiteScores:
    """Scores in a SQLite file, for any number of threads and processes of one machine, and for later ones.

    A process that is killed while it writes harms nothing. Each entry has a checksum: one that does not fit is not
    there. A file that cannot be read or written for now (a full or read-only disk, a lock that is not let go, damage)
    counts as empty, with a warning.

    Args:
        path: The file; it is made where there is none.
        max_entries: Most scores that are kept, but for a hundredth more that each process may add before it looks; the
            least recently used go first.
        ttl: Seconds for which a score is good.
        clock: The time in seconds, the same for all processes.

    Raises:
        IndexFormatError: By every method, if the file is something else.
    """

    def __init__(self, path: str, max_entries: int, ttl: float | None, clock: Callable[[], float] = time.time) -> None:
        self._path = Path(path).expanduser()
        self._max_entries, self._ttl, self._clock = max_entries, ttl, clock
        self._warned: set[str] = set()
        self._inherited: list[Any] = []
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        self._unchecked = self._max_entries  # entries written since the file was last cut to size

    def get(self, keys: Sequence[bytes]) -> dict[bytes, KeptScore]:
        """Those that there are."""
        now = self._clock()
        oldest = -math.inf if self._ttl is None else now - self._ttl
        found: dict[bytes, KeptScore] = {}
        unused: list[tuple[float, bytes]] = []

        def read(database: sqlite3.Connection) -> None:
            for start in range(0, len(keys), _KEYS):
                some = keys[start : start + _KEYS]
                marks = ",".join("?" * len(some))
                rows = database.execute(f"SELECT * FROM scores WHERE key IN ({marks})", some)  # noqa: S608 - question marks
                for key, score, details, made, used, checksum in rows:
                    if not _fits(checksum, key, score, details, made) or made <= oldest:
                        continue
                    found[key] = KeptScore(score, json.loads(details) if details else {})
                    if not isinstance(used, float) or used < now - _TOUCH:
                        unused.append((now, key))

        def touch(database: sqlite3.Connection) -> None:
            with _transaction(database):
                database.executemany("UPDATE scores SET used = ? WHERE key = ?", unused)

        self._do(read)
        if unused:
            self._do(touch)
        return found

    def put(self, scores: Mapping[bytes, KeptScore]) -> None:
        """Keep scores."""
        now = self._clock()
        rows = []
        for key, kept in scores.items():
            details = json.dumps(kept.details).encode() if kept.details else b""
            score = float(kept.score)
            rows.append((key, score, details, now, now, _checksum(key, score, details, now)))

        def write(database: sqlite3.Connection) -> None:
            with _transaction(database):
                database.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?, ?, ?)", rows)
                self._unchecked += len(rows)
                if self._unchecked > self._max_entries // 100:
                    self._cut(database, now)
                    self._unchecked = 0

        self._do(write)

    def _cut(self, database: sqlite3.Connection, now: float) -> None:
        if self._ttl is not None:
            database.execute("DELETE FROM scores WHERE made <= ?", (now - self._ttl,))
        (count,) = database.execute("SELECT COUNT(*) FROM scores").fetchone()
        if count > self._max_entries:
            database.execute(
                "DELETE FROM scores WHERE key IN (SELECT key FROM scores ORDER BY used LIMIT ?)",
                (count - self._max_entries,),
            )

    def __len__(self) -> int:
        return self._do(lambda database: int(database.execute("SELECT COUNT(*) FROM scores").fetchone()[0])) or 0

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._database is not None and self._pid == os.getpid():
                self._database.close()
            self._database = None

    def __del__(self) -> None:
        with suppress(Exception):
            self.close()

    # --- the file -------------------------------------------------------------------------------------------------

    def _do(self, action: Callable[[sqlite3.Connection], _Value]) -> _Value | None:
        """Do something with the file; None where it cannot be done."""
        import sqlite3

        if self._pid != os.getpid():  # a connection must not be used in a forked process, nor closed there
            self._inherited.append(self._database)
            self._begin()
        with self._lock:
            try:
                if self._database is None:
                    self._database = self._open()
                return action(self._database)
            except (sqlite3.Error, OSError, UnicodeDecodeError) as error:  # the last where a message quotes the damage
                self._warn(error, damaged=type(error) in {sqlite3.DatabaseError, UnicodeDecodeError})
                if self._database is not None:
                    self._database.close()  # the next call opens what lies there then
                    self._database = None
                return None

    def _warn(self, error: Exception, *, damaged: bool) -> None:
        kind = getattr(error, "sqlite_errorname", type(error).__name__)
        if kind in self._warned:
            return
        self._warned.add(kind)
        advice = " It is damaged: delete it, with the files beside it that end in -wal and -shm." if damaged else ""
        _logger.warning(
            "The score cache %s cannot be used at the moment (%s); scores are computed.%s", self._path, error, advice
        )

    def _open(self) -> sqlite3.Connection:
        import sqlite3

        self._path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(self._path, timeout=_WAIT, isolation_level=None, check_same_thread=False)
        database.text_factory = bytes  # there is no text but where there is damage
        end = time.monotonic() + _WAIT_TO_OPEN
        while True:
            try:
                self._prepare(database)
            except sqlite3.OperationalError as error:  # the file is being made: that does not wait for others by itself
                if "locked" not in str(error) or time.monotonic() > end:
                    database.close()
                    raise
                time.sleep(random.uniform(0.005, 0.02))  # noqa: S311 - so that they do not meet again
            except BaseException:
                database.close()
                raise
            else:
                return database

    def _prepare(self, database: sqlite3.Connection) -> None:
        import sqlite3

        try:
            with _transaction(database, "DEFERRED"):  # one look, while another process makes it
                found = _marks(database)
            if found == (0, 0, 0):  # new
                database.execute("PRAGMA journal_mode = WAL")
                with _transaction(database):
                    if _marks(database) == (0, 0, 0):
                        database.execute(_TABLE)
                        database.execute("CREATE INDEX scores_used ON scores (used)")
                        database.execute(f"PRAGMA application_id = {_APPLICATION}")
                        database.execute(f"PRAGMA user_version = {_VERSION}")
                    found = _marks(database)
        except sqlite3.DatabaseError as error:
            if type(error) is not sqlite3.DatabaseError or "not a database" not in str(error):
                raise
            found = (-1, 0, 0)
        if found[:2] != (_APPLICATION, _VERSION):
            msg = (
                f"{self._path} is not a score cache of this version of langchain-rerankkit. Give another path, or delete "
                "the file if nobody needs it."
            )
            raise IndexFormatError(msg)
        database.execute("PRAGMA synchronous = NORMAL")


def _marks(database: sqlite3.Connection) -> tuple[int, int, int]:
    """What the header says the file is, and how many tables it has."""
    (application,) = database.execute("PRAGMA application_id").fetchone()
    (version,) = database.execute("PRAGMA user_version").fetchone()
    (tables,) = database.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
    return application, version, min(tables, 1)


@contextmanager
def _transaction(database: sqlite3.Connection, kind: str = "IMMEDIATE") -> Iterator[None]:
    database.execute(f"BEGIN {kind}")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


def _checksum(key: bytes, score: float, details: bytes, made: float) -> bytes:
    return blake2b(key + struct.pack("<dd", score, made) + details, digest_size=8).digest()


def _fits(checksum: Any, *row: Any) -> bool:
    try:
        return bool(checksum == _checksum(*row)) and math.isfinite(row[1])
    except (TypeError, struct.error):
        return False
