"""What goes into a reranker, through it and out of it: plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from langchain_core.documents import Document
from langchain_core.runnables import RunnableConfig
from typing_extensions import TypedDict

__all__ = [
    "Answer",
    "DetailedScores",
    "Judged",
    "RankedDocument",
    "RerankInput",
    "ScoreRequest",
    "Scores",
    "Status",
    "by_request",
    "details_of",
    "with_details",
]

_Value = TypeVar("_Value")

Scores = Sequence[float]
"""One number per text, higher is more relevant: a list, or an array of shape [texts]."""


Status = Literal["ok", "blank", "not finite", "unjudged", "fallback"]


class RerankInput(TypedDict):
    """What a reranker takes as a Runnable."""

    query: str
    documents: Sequence[Document]


@dataclass(frozen=True, slots=True)
class RankedDocument:
    """One line of a ranking.

    Attributes:
        document: The caller's own document, unchanged.
        score: The score that orders, thresholds and display use.
        raw_score: What the backend said before any activation (a logit, say); equal to ``score`` where there is none.
        rank: Place after reranking, from 1.
        previous_rank: Place in the list that was given, from 1.
        status: ``"ok"``, or why this document was not judged and has the score ``-inf``: ``"blank"`` (no text to
            judge), ``"not finite"`` (the backend's score was NaN or infinite and ``on_nan="last"``), ``"unjudged"`` (a
            budget ended before its turn, or an endpoint did not take it) or ``"fallback"`` (the backend failed and ``on_error="keep_order"``).
        reason: Type of the error behind a fallback.
        details: What the backend says of this document beside its score, for ``metadata["rerank"]``.
    """

    document: Document
    score: float
    raw_score: float
    rank: int
    previous_rank: int
    status: Status = "ok"
    reason: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DetailedScores:
    """Scores of a backend that has more to say than numbers.

    Attributes:
        scores: One number per text.
        details: One mapping per text, for ``metadata["rerank"]``: plain data under names that `Reranker` does not use.
        unjudged: Positions of texts that the backend did not come to; their scores are not looked at.
    """

    scores: Scores
    details: Sequence[Mapping[str, Any]]
    unjudged: AbstractSet[int] = frozenset()


Answer = Scores | DetailedScores
"""What a backend says to one request."""


@dataclass(frozen=True)
class ScoreRequest:
    """One query and the texts to judge, for backends that override `Reranker._score_many`.

    Attributes:
        query: The query.
        texts: What the model reads of each document; never blank.
        documents: The caller's documents, aligned with ``texts``. Read ids and metadata, change nothing.
        config: Configuration of the run, for backends that call other Runnables: passed on, their runs nest in it.
    """

    query: str
    texts: list[str]
    documents: list[Document]
    config: RunnableConfig | None = None


@dataclass(frozen=True)
class Judged:
    """All documents of one input with their checked raw scores, aligned and in the order they came in.

    A document that could not be judged has the raw score ``-inf`` and a status that says why.
    """

    documents: list[Document]
    raw_scores: list[float]
    statuses: list[Status]
    reason: str | None = None
    details: Sequence[Mapping[str, Any]] = ()


def with_details(error: Exception, **details: Any) -> Exception:
    """The error, with more to say in ``metadata["rerank"]`` of documents that keep their order because of it.

    What is spent is spent, though nothing came of it.
    """
    attributes: dict[str, Any] | None = getattr(error, "__dict__", None)
    if attributes is not None:
        attributes["rerank_details"] = {**details_of(error), **details}
    return error


def details_of(error: Exception) -> Mapping[str, Any]:
    """What an error has to say there."""
    said: Mapping[str, Any] = getattr(error, "rerank_details", {})
    return said


def by_request(requests: Sequence[ScoreRequest], values: Sequence[_Value]) -> list[Sequence[_Value]]:
    """Cut one value per text of all requests, in order, into the values of each request."""
    parts: list[Sequence[_Value]] = []
    start = 0
    for request in requests:
        stop = start + len(request.texts)
        parts.append(values[start:stop])
        start = stop
    return parts
