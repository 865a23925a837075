"""One query on its way: what is sent of it, in how many requests, and what it costs."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_rerankkit.hosted.answers import TooMuchError
from langchain_rerankkit.hosted.redaction import Secrets

__all__ = ["Asked", "Spent", "batches"]


@dataclass
class Spent:
    """What one query costs; threads may share it.

    Attributes:
        documents: Documents that were sent.
        cached: Documents that needed no sending, since their text was there already.
        truncated: Positions of documents that were cut.
        refusals: How often the server said that it was too much; ``refusal`` is what it said last.
        too_many: The least documents with which it did.
        taken: The most documents that it took after that.
        fitting: Characters to which documents are cut that are too long.
        failed: Why the query has failed, if it has: what is left of it is not sent.
        requests: Requests that were sent.
        retries: Those of them that were sent again.
    """

    documents: int = 0
    cached: int = 0
    truncated: set[int] = field(default_factory=set)
    refusals: int = 0
    refusal: TooMuchError | None = None
    too_many: int | None = None
    taken: int = 0
    fitting: int | None = None
    failed: Exception | None = None
    requests: int = 0
    retries: int = 0
    _said: dict[str, float] = field(default_factory=dict)
    _start: float = field(default_factory=time.perf_counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, *, requests: int = 0, retries: int = 0, said: Mapping[str, float] | None = None) -> None:
        """Count requests, retries, and what an answer says that it cost."""
        with self._lock:
            self.requests += requests
            self.retries += retries
            for name, value in (said or {}).items():
                self._said[name] = self._said.get(name, 0) + value

    def usage(self) -> dict[str, Any]:
        """What it cost so far.

        ``requests``, ``retries``, ``documents`` sent, ``cached`` ones that were not, ``seconds``; and ``tokens``,
        ``search_units`` and ``cost`` where the provider says them.
        """
        with self._lock:
            usage: dict[str, Any] = {
                "requests": self.requests,
                "retries": self.retries,
                "documents": self.documents,
                "cached": self.cached,
                "seconds": round(time.perf_counter() - self._start, 3),
            }
            return usage | self._said


@dataclass
class Asked:
    """One query on its way.

    Attributes:
        query: The query.
        texts: What is sent, each text once.
        top_n: How many scores are wanted; all if None.
        deadline: When the answer is of no use any more, on the clock of `time.monotonic`.
        spent: What it costs.
        secrets: What no message may hold.
        whole: Whether a text that is too long for the server is an error, and not cut until it is taken.
    """

    query: str
    texts: list[str]
    top_n: int | None
    deadline: float
    spent: Spent
    secrets: Secrets
    whole: bool = False


def batches(texts: Sequence[str], max_documents: int, max_bytes: int) -> list[list[int]]:
    """Positions of texts, in order, in as few requests as their number and size allow, about equally long ones."""
    count = math.ceil(len(texts) / max_documents)
    each = math.ceil(len(texts) / count) if count else 0
    if sum(map(len, texts)) * 4 <= max_bytes:  # at most four bytes a character: only the number counts
        return [list(range(start, min(start + each, len(texts)))) for start in range(0, len(texts), each or 1)]
    parts: list[list[int]] = []
    size = 0
    for position, text in enumerate(texts):
        length = len(text) if text.isascii() else len(text.encode())
        if not parts or len(parts[-1]) >= each or size + length > max_bytes:
            parts.append([])
            size = 0
        parts[-1].append(position)
        size += length
    return parts
