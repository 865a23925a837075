"""How long rerankers take for a question: really run, in turn, one question at a time."""

from __future__ import annotations

import statistics
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any, TypeVar

from langchain_core.documents import Document

from langchain_rerankkit._progress import progress
from langchain_rerankkit.base import Reranker
from langchain_rerankkit.errors import MissingExtraError, ModelNotFoundError, RerankKitError
from langchain_rerankkit.evaluation.running.asking import told

__all__ = ["Asked", "failing_at", "fastest_batches", "measure", "median"]

_Key = TypeVar("_Key", bound=Hashable)
_BATCHES = (256, 512, 1024, 2048, 4096)  # tokens in one pass
_FASTER = 0.95  # a batch must take less than this share of the default's time to be worth saying

Asked = Sequence[tuple[str, str, Sequence[Document]]]
"""Questions, each with id, text and candidates."""


def measure(tasks: Mapping[_Key, tuple[Reranker, int | None]], asked: Asked, what: str) -> dict[_Key, list[float]]:
    """Seconds of each task for each question.

    Each round puts one question to all tasks, in another order each time, so that what else the machine does falls on all
    alike. Before that all are called once, which loads models.

    Args:
        tasks: A reranker and how many candidates it is given (all if None), by name.
        asked: Questions with their candidates.
        what: A word or two before the progress bar.

    Raises:
        RerankKitError: If one fails.
    """
    names = list(tasks)
    seconds: dict[_Key, list[float]] = {name: [] for name in names}
    for number, (id_, question, documents) in enumerate(progress([asked[0], *asked], len(asked) + 1, what)):
        turn = number % len(names) if names else 0
        for name in names[turn:] + names[:turn]:
            reranker, depth = tasks[name]
            with failing_at(name[0] if isinstance(name, tuple) else name, id_):
                start = perf_counter()
                reranker.rank(question, documents[:depth])
                taken = perf_counter() - start
            if number:
                seconds[name].append(taken)
    return seconds


def median(seconds: Mapping[_Key, Sequence[float]]) -> dict[_Key, float]:
    """The median of each."""
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def fastest_batches(rerankers: Mapping[str, Reranker], asked: Asked, depth: int | None) -> dict[str, Reranker]:
    """The same rerankers; those that take ``batch_tokens`` and leave it open have the fastest, where the default is not.

    Args:
        rerankers: By name.
        asked: Questions with their candidates.
        depth: How many candidates they are given.
    """
    open_ = {
        name: reranker
        for name, reranker in rerankers.items()
        if "batch_tokens" in type(reranker).model_fields and getattr(reranker, "batch_tokens", 0) is None
    }
    tasks: dict[tuple[str, int | None], tuple[Reranker, int | None]] = {}
    for name, reranker in open_.items():
        for tokens in (None, *_BATCHES):
            tasks[name, tokens] = (with_field(reranker, "batch_tokens", tokens), depth)
    taken = median(measure(tasks, asked, "batches")) if tasks else {}
    chosen = dict(rerankers)
    for name, reranker in open_.items():
        tokens = min(_BATCHES, key=lambda tokens: taken[name, tokens])
        if taken[name, tokens] < _FASTER * taken[name, None]:
            chosen[name] = with_field(reranker, "batch_tokens", tokens)
    return chosen


@contextmanager
def failing_at(name: Any, question: str) -> Iterator[None]:
    """Errors of a reranker in here are said with its name and the question's id.

    What is missing is raised as it is: no question could be answered.

    Args:
        name: The reranker, or the setting.
        question: The question's id.

    Raises:
        RerankKitError: If it fails.
    """
    try:
        yield
    except (MissingExtraError, ModelNotFoundError):
        raise
    except Exception as error:
        msg = f"{str(name)!r} failed at question {question!r}: {told(error)}"
        raise RerankKitError(msg) from error


def with_field(reranker: Reranker, field: str, value: Any) -> Reranker:
    """A copy with another value in a field."""
    changed = reranker.model_copy()
    setattr(changed, field, value)
    return changed
