"""Put questions to a stage of a system, several at a time, and note what comes back: documents, seconds, cost, failure."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from langchain_core.documents import Document
from langchain_core.runnables.config import ContextThreadPoolExecutor

from langchain_rerankkit.base import Reranker
from langchain_rerankkit.errors import MissingExtraError, ModelNotFoundError
from langchain_rerankkit.records import details_of, encodable, total_usage, usage_of

__all__ = ["Asked", "Engine", "Item", "Stage", "ask", "ask_here", "told"]

_LONGEST = 300  # characters of an error's message


_Kind = TypeVar("_Kind")


@dataclass(frozen=True)
class Asked(Generic[_Kind]):
    """What a stage said to one question.

    Attributes:
        documents: Best first; none where it failed. Whole Documents, or what is kept of them.
        seconds: How long it took; None for a ready-made run.
        cold: Whether it was the first call of its process, which loads the model.
        usage: What it cost.
        error: What went wrong.
    """

    documents: Sequence[_Kind] = ()
    seconds: float | None = None
    cold: bool = False
    usage: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True)
class Item:
    """One question for a stage.

    Attributes:
        id: The question's id.
        question: Its text.
        candidates: What is to be reranked; None for a first stage.
    """

    id: str
    question: str
    candidates: Sequence[Document] | None = None


@dataclass(frozen=True)
class Stage:
    """A first stage or a reranker.

    Attributes:
        name: Unique in an evaluation.
        system: A Runnable from a question to documents, or a document compressor.
        cut: How many documents are kept; None for all.
        run: Which of several runs, from 1.
    """

    name: str
    system: Any
    cut: int | None = None
    run: int = 1


Engine = Callable[[Stage, Sequence[Item], int], Iterator[tuple[str, Asked[Document]]]]
"""Asks a stage all items, so many at a time, and yields question id and answer in any order."""


def ask(stage: Stage, item: Item, *, cold: bool = False) -> Asked[Document]:
    """Put one question.

    Raises:
        MissingExtraError: If a package is missing: no question could be answered.
        ModelNotFoundError: If model files are missing: likewise.
    """
    ours = isinstance(stage.system, Reranker)
    candidates = item.candidates
    if candidates is not None and not ours:
        # Others may change what they are given, which is the next system's too. They need not expect nothing.
        candidates = copy.deepcopy(list(candidates))
        if not candidates:
            return Asked()
    start = time.perf_counter()
    try:
        if candidates is None:
            found = list(stage.system.invoke(item.question))
        else:
            found = list(stage.system.compress_documents(list(candidates), item.question))
        seconds = time.perf_counter() - start
        _check(found)
    except (MissingExtraError, ModelNotFoundError):
        raise
    except Exception as error:  # noqa: BLE001 - a failing question must not lose the others
        spent = total_usage(details_of(error)) if ours else {}
        return Asked((), time.perf_counter() - start, cold, spent, told(error))
    # Documents that pass through others may carry what an earlier stage spent.
    return Asked(found[: stage.cut], seconds, cold, usage_of(found) if ours else {})


def told(error: Exception) -> str:
    """An error on a line."""
    return encodable(" ".join(f"{type(error).__name__}: {error}".split())[:_LONGEST])


def ask_here(stage: Stage, items: Sequence[Item], concurrency: int) -> Iterator[tuple[str, Asked[Document]]]:
    """The engine that asks from threads of this process."""
    if not items:
        return
    # Alone, so that not several threads wait for the model to load and count that as theirs.
    yield items[0].id, ask(stage, items[0], cold=True)
    if concurrency == 1:
        for item in items[1:]:
            yield item.id, ask(stage, item)
        return
    pool = ContextThreadPoolExecutor(concurrency, thread_name_prefix="rerankkit-evaluate")
    try:
        pending = {pool.submit(ask, stage, item): item.id for item in items[1:]}
        for done in as_completed(pending):
            yield pending[done], done.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _check(found: Sequence[Any]) -> None:
    for document in found:
        if not isinstance(document, Document):
            msg = f"A system must return Documents, not {type(document).__name__}."
            raise TypeError(msg)
