"""Verdicts written down, so that an evaluation can be repeated without asking, or paying, again."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from langchain_core.documents import Document

from langchain_rerankkit.errors import DatasetError
from langchain_rerankkit.ranking import scores_from_order

__all__ = ["Tape", "candidate_ids"]


@dataclass(frozen=True)
class _Key:
    query: str
    candidates: tuple[str, ...]


class Tape:
    """A file of JSON lines, ``{"query", "candidates", "order"}``, and ``scores`` where they mean something.

    ``candidates`` are ids in the order they were given, ``order`` their positions, best first. A later line about the
    same query and candidates replaces an earlier one.

    Args:
        replay: The file to read verdicts from.
        record: The file to append verdicts to; may be the same.

    Raises:
        DatasetError: If a line cannot be read.
    """

    def __init__(self, replay: Path | None, record: Path | None) -> None:
        self._replay, self._record = replay, record
        self._lock = threading.Lock()
        self._verdicts: dict[_Key, list[float]] = {}
        if replay is not None and not (replay == record and not replay.exists()):
            self._read(replay)

    def find(self, query: str, candidates: Sequence[str]) -> list[float] | None:
        """Recorded scores, aligned with the candidates; None where they must be asked for.

        Raises:
            DatasetError: If there are none and nothing is being recorded.
        """
        if self._replay is None:
            return None
        scores = self._verdicts.get(_Key(query, tuple(candidates)))
        if scores is None and self._record is None:
            msg = (
                f"It holds no verdict on these {len(candidates)} candidates of this query. Set record to the same file "
                "to ask for what is missing."
            )
            raise DatasetError(msg, file=self._replay)
        return scores

    def add(
        self, query: str, candidates: Sequence[str], order: Sequence[int], scores: Sequence[float] | None, **more: Any
    ) -> None:
        """Write a verdict down, if anything is recorded and it was not read from a recording.

        Args:
            query: The query.
            candidates: Ids in the order they were given.
            order: Their positions, best first.
            scores: Aligned with the candidates; None where the order says it all.
            more: Other plain data for the line.
        """
        key = _Key(query, tuple(candidates))
        if self._record is None or key in self._verdicts:
            return
        line: dict[str, Any] = {"query": query, "candidates": list(candidates), "order": list(order)}
        if scores is not None:
            line["scores"] = list(scores)
        text = json.dumps(line | more, ensure_ascii=False) + "\n"
        with self._lock:
            if self._replay == self._record:  # nobody else looks there
                self._verdicts[key] = _scores(line)
            self._record.parent.mkdir(parents=True, exist_ok=True)
            with self._record.open("a", encoding="utf-8") as file:
                file.write(text)  # one write, so that lines of several processes do not mix

    def _read(self, path: Path) -> None:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            msg = f"The recording cannot be read ({error.strerror})."
            raise DatasetError(msg, file=path) from error
        for number, text in enumerate(lines, start=1):
            if not text.strip():
                continue
            try:
                line = json.loads(text)
                key = _Key(line["query"], tuple(map(str, line["candidates"])))
                self._verdicts[key] = _scores(line)
            except (ValueError, TypeError, KeyError) as error:
                msg = "The line must be an object with 'query', 'candidates' and 'order', an order of all candidates."
                raise DatasetError(msg, file=path, line=number) from error


def candidate_ids(documents: Sequence[Document], texts: Sequence[str]) -> list[str]:
    """The id of each document, or a hash of its text where it has none."""
    return [
        str(document.id) if document.id is not None else sha256(text.encode("utf-8", "replace")).hexdigest()[:16]
        for document, text in zip(documents, texts, strict=True)
    ]


def _scores(line: dict[str, Any]) -> list[float]:
    count = len(line["candidates"])
    if sorted(line["order"]) != list(range(count)):
        raise ValueError
    if "scores" not in line:
        return scores_from_order(line["order"], count)
    scores = [float(score) for score in line["scores"]]
    if len(scores) != count:
        raise ValueError
    return scores
