"""Token vectors of texts, kept in a folder, so that each text is encoded once.

index.sqlite   one row a text: its SHA-256, where its vectors lie, how many they are, and a checksum over all of it
vectors.bin    the vectors, one text after the other; only ever appended to

A text's vectors count from the moment that its row is committed, after they reached the disk. Whatever stops a writer
half-way leaves bytes behind the committed end, which the next writer overwrites. One process writes at a time, others
wait; all read meanwhile. A row that does not match its checksum counts as missing.
"""

from __future__ import annotations

import logging
import os
import struct
import threading
import zlib
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_rerankkit._optional import require
from langchain_rerankkit.errors import IndexFormatError
from langchain_rerankkit.inference.token_vectors import TokenVectors, compress

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from sqlite3 import Connection

    from langchain_rerankkit.inference.token_vectors import Stored

__all__ = ["TokenStore"]

_logger = logging.getLogger("langchain_rerankkit")

_FORMAT = "langchain-rerankkit token vectors, version 1"
_ALIGNED = 64  # bytes that records start at multiples of
_ASKED_AT_ONCE = 500  # rows; SQLite allows 999 parameters in old releases
_PATIENCE = 60.0  # seconds to wait for another process that writes
_SCHEMA = """
CREATE TABLE about (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE texts (
    sha256 BLOB PRIMARY KEY, place INTEGER NOT NULL, tokens INTEGER NOT NULL, chunks INTEGER NOT NULL,
    truncated INTEGER NOT NULL, checksum INTEGER NOT NULL
) WITHOUT ROWID;
"""


class TokenStore:
    """Token vectors by text. Any number of threads and processes may share a folder.

    Not for network file systems that do not lock files. To drop vectors that are no longer needed, delete the folder.

    Args:
        folder: Where the files lie; made at the first `put`.
        encoder: What made the vectors: an index of another encoder is refused.
        dimensions: Of a vector.
        kind: How vectors are kept.

    Raises:
        IndexFormatError: If there is an index that is damaged, or of another encoder, dimension or kind.
    """

    def __init__(self, folder: str | os.PathLike[str], encoder: str, dimensions: int, kind: Stored = "int8") -> None:
        self._np = require("numpy", extra="local")
        self._sqlite = require("sqlite3", extra="local")
        self.folder = Path(folder)
        self.kind = kind
        self._dimensions = dimensions
        self._about = {"format": _FORMAT, "encoder": encoder, "dimensions": dimensions, "kind": kind}
        self._warned = False
        self._inherited: list[Any] = []
        self._begin()
        with self._locked(), self._named_errors():
            self._connection()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._reading: tuple[int, Connection] | None = None  # and which file it belongs to
        self._map: Any = None

    def __len__(self) -> int:
        """How many texts are kept."""
        with self._locked(), self._named_errors():
            connection = self._connection()
            return 0 if connection is None else int(connection.execute("SELECT count(*) FROM texts").fetchone()[0])

    def get(self, texts: Collection[str]) -> dict[str, TokenVectors]:
        """Vectors of those texts that are kept, in their small form, as views of the file.

        Raises:
            OSError: If the files cannot be read.
            IndexFormatError: If the index is damaged.
        """
        keys = {sha256(text.encode()).digest(): text for text in texts}
        with self._locked(), self._named_errors():
            connection = self._connection()
            if connection is None:
                return {}
            found = list(self._found(connection, list(keys)))
            stop = max((place + self._size(tokens) for _, place, tokens, *_ in found), default=0)
            data = self._mapped(stop)
        vectors = {}
        for key, place, tokens, chunks, truncated, checksum in found:
            record = data[place : place + self._size(tokens)]
            if len(record) != self._size(tokens) or checksum != _checksum(key, tokens, chunks, truncated, record):
                self._warn_of_damage()
                continue
            values, scales = self._arrays(record, tokens)
            vectors[keys[key]] = TokenVectors(values, scales, chunks, bool(truncated))
        return vectors

    def put(self, vectors: Mapping[str, TokenVectors]) -> dict[str, TokenVectors]:
        """Keep the vectors of texts, in one step.

        Args:
            vectors: In full precision. Those that are not finite are not kept.

        Returns:
            All of them in their small form, as `get` gives them back.

        Raises:
            OSError: If they cannot be written; what was kept before is as it was.
            IndexFormatError: If the index is damaged.
        """
        small = {text: compress(of_text, self.kind) for text, of_text in vectors.items()}
        kept = {text: of_text for text, of_text in small.items() if self._finite(of_text)}
        if not kept:
            return small
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._named_errors(), closing(self._open(self.folder / "index.sqlite", "rwc")) as connection:
            connection.execute("BEGIN IMMEDIATE")  # from here on other writers wait; closing without COMMIT undoes it
            self._check(connection)
            (end,) = connection.execute("SELECT value FROM about WHERE name = 'end'").fetchone()
            rows, end = self._append(kept, end)
            connection.executemany("INSERT OR REPLACE INTO texts VALUES (?, ?, ?, ?, ?, ?)", rows)
            connection.execute("UPDATE about SET value = ? WHERE name = 'end'", (end,))
            connection.execute("COMMIT")
        return small

    def close(self) -> None:
        """Let go of the files; they are opened again when needed."""
        with self._locked():
            if self._reading is not None:
                self._reading[1].close()
            self._reading = self._map = None

    def _locked(self) -> threading.Lock:
        """The lock of this process; one that another thread held during a fork is never let go in the child."""
        if self._pid != os.getpid():
            self._inherited.append(self._reading)  # a connection must not be used in a forked process, nor closed there
            self._begin()
        return self._lock

    def _append(self, vectors: Mapping[str, TokenVectors], end: int) -> tuple[list[tuple[Any, ...]], int]:
        """Write records behind the committed end, and wait until they are on the disk; rows of the index for them."""
        rows = []
        descriptor = os.open(self.folder / "vectors.bin", os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        with os.fdopen(descriptor, "r+b") as file:
            for text, of_text in vectors.items():
                place = -(-end // _ALIGNED) * _ALIGNED
                scales = b"" if of_text.scales is None else of_text.scales.tobytes()
                record = scales + of_text.values.tobytes()
                file.seek(place)
                file.write(record)
                end = place + len(record)
                key, shape = sha256(text.encode()).digest(), (len(of_text.values), of_text.chunks, of_text.truncated)
                rows.append((key, place, *shape, _checksum(key, *shape, record)))
            file.flush()
            os.fsync(file.fileno())
        return rows, end

    def _size(self, tokens: int) -> int:
        """Bytes of a record."""
        return tokens * (self._dimensions + 4 if self.kind == "int8" else 2 * self._dimensions)

    def _arrays(self, record: Any, tokens: int) -> tuple[Any, Any]:
        """Values and factors of a record."""
        np = self._np
        if self.kind == "fp16":
            return record.view(np.float16).reshape(tokens, self._dimensions), None
        return record[4 * tokens :].view(np.int8).reshape(tokens, self._dimensions), record[: 4 * tokens].view("<f4")

    def _mapped(self, stop: int) -> Any:
        """The file's bytes, as a memory map that reaches that far if the file does."""
        path = self.folder / "vectors.bin"
        size = path.stat().st_size if path.is_file() else 0
        if self._map is None or len(self._map) < min(stop, size) or len(self._map) > size:
            self._map = self._np.memmap(path, mode="r") if size else self._np.empty(0, dtype=self._np.uint8)
        return self._map.view(self._np.ndarray)  # slices of a memmap take several times longer

    def _connection(self) -> Connection | None:
        """A connection for reading; None where nothing is kept yet.

        Another after the folder was deleted and made again.
        """
        path = self.folder / "index.sqlite"
        try:
            file = path.stat().st_ino
        except FileNotFoundError:
            return None
        if self._reading is not None and self._reading[0] == file:
            return self._reading[1]
        connection = self._open(path, "rw" if os.access(path, os.W_OK) else "ro")
        try:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'about'").fetchall():
                connection.close()  # its first writer is not done
                return None
            self._check(connection)
        except BaseException:
            connection.close()
            raise
        self._reading, self._map = (file, connection), None
        return connection

    def _open(self, path: Path, mode: str) -> Connection:
        connection: Connection = self._sqlite.connect(
            f"{path.resolve().as_uri()}?mode={mode}",
            uri=True,
            timeout=_PATIENCE,
            isolation_level=None,
            check_same_thread=False,
        )
        return connection

    def _check(self, connection: Connection) -> None:
        """Make the tables where there are none, else see that they are those of this encoder."""
        if connection.in_transaction and not connection.execute("SELECT 1 FROM sqlite_master").fetchall():
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            connection.executemany("INSERT INTO about VALUES (?, ?)", [*self._about.items(), ("end", 0)])
        found = dict(connection.execute("SELECT name, value FROM about").fetchall())
        wrong = [name for name, value in self._about.items() if found.get(name) != value]
        if wrong or not isinstance(found.get("end"), int):
            msg = f"{self.folder}: kept by another encoder or release (differs in {', '.join(wrong) or 'end'}). Delete it."
            raise IndexFormatError(msg)

    def _found(self, connection: Connection, keys: list[bytes]) -> Iterator[tuple[Any, ...]]:
        for start in range(0, len(keys), _ASKED_AT_ONCE):
            asked = keys[start : start + _ASKED_AT_ONCE]
            marks = ", ".join("?" * len(asked))
            for row in connection.execute(f"SELECT * FROM texts WHERE sha256 IN ({marks})", asked):  # noqa: S608 - marks
                if all(type(value) is int and 0 <= value < 1 << 62 for value in row[1:]):
                    yield row
                else:
                    self._warn_of_damage()

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        """SQLite's errors as ours, which say what to do."""
        try:
            yield
        except self._sqlite.OperationalError as error:  # read-only, full, or locked for longer than we wait
            msg = f"{self.folder}: token vectors cannot be read or kept ({error})."
            raise OSError(msg) from error
        except self._sqlite.DatabaseError as error:
            msg = f"{self.folder / 'index.sqlite'} is damaged ({error}). Delete {self.folder}: it will be made again."
            raise IndexFormatError(msg) from error

    def _finite(self, vectors: TokenVectors) -> bool:
        return bool(self._np.isfinite(vectors.values if vectors.scales is None else vectors.scales).all())

    def _warn_of_damage(self) -> None:
        if not self._warned:
            _logger.warning("%s: damaged token vectors were found; such texts are encoded again.", self.folder)
        self._warned = True


def _checksum(key: bytes, tokens: int, chunks: int, truncated: int, record: Any) -> int:
    """Over everything that a score depends on."""
    return zlib.crc32(record, zlib.crc32(key + struct.pack("<QQ?", tokens, chunks, bool(truncated))))
