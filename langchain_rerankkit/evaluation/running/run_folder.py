"""Answers kept on disk as they come, so that an evaluation which was stopped goes on where it was."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_core.documents import Document
from typing_extensions import Self

from langchain_rerankkit.errors import DatasetError
from langchain_rerankkit.evaluation.running.asking import Asked

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["RunFolder", "as_json"]

_FILE = "answers.sqlite"
_TABLES = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS texts (hash TEXT PRIMARY KEY, text TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS answers (
    stage TEXT NOT NULL, question TEXT NOT NULL, answer TEXT NOT NULL, PRIMARY KEY (stage, question)
);
"""


class RunFolder:
    """A folder of an evaluation: one SQLite file, written a question at a time.

    Each answer is a transaction of its own, so that a killed process loses none that was given. Texts are kept once. All
    strings are JSON in ASCII, so that odd ones survive; metadata that JSON has no word for becomes text.

    Args:
        folder: Made if it is not there.
        facts: What the evaluation is of. A folder that knows another value of one is refused; new ones are added.

    Raises:
        DatasetError: If the folder holds another evaluation or is damaged.
    """

    def __init__(self, folder: str | Path, facts: Mapping[str, str]) -> None:
        self._path = Path(folder) / _FILE
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._database = sqlite3.connect(self._path)
            # A killed process loses nothing; only a machine that loses power may lose the last answers.
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.executescript(_TABLES)
            known = dict(self._database.execute("SELECT name, value FROM facts"))
        except sqlite3.DatabaseError as error:
            msg = f"The answers cannot be read ({error}). Give an empty folder."
            raise DatasetError(msg, file=self._path) from error
        other = [name for name, value in facts.items() if known.get(name, value) != value]
        if other:
            self._database.close()
            msg = (
                f"The folder holds the answers of another evaluation: it differs in {', '.join(other)}. Give another "
                "folder, or delete this one."
            )
            raise DatasetError(msg, file=self._path)
        with self._database:
            self._database.executemany("INSERT OR IGNORE INTO facts VALUES (?, ?)", facts.items())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._database.close()

    def read(self, stage: str, given: Mapping[str, str]) -> dict[str, Asked[Document]]:
        """Answers of a stage that were given before, by question id; failures are none.

        Args:
            stage: The stage.
            given: Digest of what each question asks it. An answer to something else is none.
        """
        texts: dict[str, str] = {}
        answers = {}
        rows = self._database.execute("SELECT question, answer FROM answers WHERE stage = ?", (json.dumps(stage),))
        for question, answer in rows.fetchall():
            row = json.loads(answer)
            id_ = json.loads(question)
            if row.pop("given") != given.get(id_) or row["error"] is not None:
                continue
            documents = [
                Document(page_content=self._text(hash_, texts), id=name, metadata=metadata)
                for name, hash_, metadata in row.pop("documents")
            ]
            answers[id_] = Asked(documents, **row)
        return answers

    def write(self, stage: str, question: str, asked: Asked[Document], given: str = "") -> None:
        """Keep one answer."""
        documents, texts = [], []
        for document in asked.documents:
            text = json.dumps(document.page_content)
            hash_ = sha256(text.encode()).hexdigest()
            documents.append((document.id, hash_, document.metadata))
            texts.append((hash_, text))
        row = {
            "given": given,
            "documents": documents,
            "seconds": asked.seconds,
            "cold": asked.cold,
            "usage": dict(asked.usage),
            "error": asked.error,
        }
        with self._database:
            self._database.executemany("INSERT OR IGNORE INTO texts VALUES (?, ?)", texts)
            self._database.execute(
                "INSERT OR REPLACE INTO answers VALUES (?, ?, ?)",
                (json.dumps(stage), json.dumps(question), as_json(row)),
            )

    def _text(self, hash_: str, known: dict[str, str]) -> str:
        if hash_ not in known:
            (text,) = self._database.execute("SELECT text FROM texts WHERE hash = ?", (hash_,)).fetchone()
            known[hash_] = json.loads(text)
        return known[hash_]


def as_json(value: Any) -> str:
    """JSON in ASCII, whatever is in metadata."""
    try:
        return json.dumps(value, default=_word)
    except TypeError:  # a key that is no text
        return json.dumps(_with_text_keys(value), default=_word)


def _with_text_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _with_text_keys(item) for key, item in value.items()}
    return [_with_text_keys(item) for item in value] if isinstance(value, (list, tuple)) else value


def _word(value: Any) -> Any:
    """Numbers of numpy are numbers; all else that JSON has no word for is as the metadata's reader would print it."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
