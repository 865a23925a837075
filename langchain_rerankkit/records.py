"""What goes into a reranker, through it and out of it: plain data."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from html import escape
from typing import Any, Literal, SupportsIndex, TypeVar, cast, overload

from langchain_core.documents import Document
from langchain_core.runnables import RunnableConfig
from typing_extensions import Self, TypedDict, override

__all__ = [
    "Answer",
    "DetailedScores",
    "Judged",
    "RankedDocument",
    "Ranking",
    "RerankInput",
    "ScoreRequest",
    "Scores",
    "Status",
    "by_request",
    "details_of",
    "documents_of",
    "encodable",
    "query_and_documents",
    "total_usage",
    "usage_of",
    "with_details",
]

_Value = TypeVar("_Value")

Scores = Sequence[float]
"""One number per text, higher is more relevant: a list, or an array of shape [texts]."""


Status = Literal["ok", "blank", "not finite", "unjudged", "fallback", "dropped"]


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


class Ranking(list[RankedDocument]):
    """A ranking, best first: a list, which a notebook shows as a table."""

    @overload
    def __getitem__(self, place: SupportsIndex) -> RankedDocument: ...
    @overload
    def __getitem__(self, place: slice) -> Self: ...
    @override
    def __getitem__(self, place: SupportsIndex | slice) -> RankedDocument | Self:
        found = super().__getitem__(place)
        return type(self)(found) if isinstance(found, list) else found

    def _repr_html_(self) -> str:
        """The table: rank, move, score, id and the beginning of the text, and the status where one is not ``"ok"``."""
        odd = any(line.status != "ok" for line in self)
        names = ["Rank", "Move", "Score", *(["Status"] if odd else []), "Id", "Text"]
        head = "".join(f'<th scope="col" style="text-align:left">{name}</th>' for name in names)
        rows = "".join(_row(line, with_status=odd) for line in self[:_ROWS])
        more = f"<p>… and {len(self) - _ROWS} more</p>" if len(self) > _ROWS else ""
        return f'<table style="color:inherit"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{more}'


_ROWS, _CHARACTERS = 100, 160  # that a notebook shows: of a ranking, and of a text
_UP, _DOWN = "color:#2a9d58", "color:#d9534f"  # told apart from a white and from a black background


def _row(line: RankedDocument, *, with_status: bool) -> str:
    """A line of the table. Everything that comes from a document is escaped, and cannot turn the line's direction."""
    moved = line.previous_rank - line.rank
    move = (
        f'<span style="{_UP if moved > 0 else _DOWN}">{"▲" if moved > 0 else "▼"}{abs(moved)}</span>' if moved else "="
    )
    cells = [
        str(line.rank),
        move,
        f"{line.score:.4g}",
        *([line.status] if with_status else []),
        _start(line.document.id or ""),
        _start(line.document.page_content),
    ]
    return "<tr>{}</tr>".format("".join(f'<td style="text-align:left">{cell}</td>' for cell in cells))


def _start(text: str) -> str:
    start = " ".join(text[: 4 * _CHARACTERS].split())
    more = "…" if len(start) > _CHARACTERS or len(text) > 4 * _CHARACTERS else ""
    shown = escape(encodable(start[:_CHARACTERS]).replace("\x00", "\ufffd"))
    return f'<bdi style="white-space:normal">{shown}</bdi>{more}'


@dataclass(frozen=True)
class DetailedScores:
    """Scores of a backend that has more to say than numbers.

    Attributes:
        scores: One number per text.
        details: One mapping per text, for ``metadata["rerank"]``: plain data under names that `Reranker` does not use.
        unjudged: Positions of texts that the backend did not come to; their scores are not looked at.
        dropped: Positions of texts that are to be left out of the result, as by a cut; their scores are not looked at.
    """

    scores: Scores
    details: Sequence[Mapping[str, Any]]
    unjudged: AbstractSet[int] = frozenset()
    dropped: AbstractSet[int] = frozenset()


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

    A document that could not be judged, or is dropped, has the raw score ``-inf`` and a status that says why.
    """

    documents: list[Document]
    raw_scores: list[float]
    statuses: list[Status]
    reason: str | None = None
    details: Sequence[Mapping[str, Any]] = ()


def query_and_documents(input: Any) -> tuple[str, list[Document]]:
    """What a reranker is given, checked: a `TypeError` says what is wrong with it."""
    if not isinstance(input, Mapping) or not {"query", "documents"} <= set(input):
        given = sorted(map(str, input)) if isinstance(input, Mapping) else type(input).__name__
        msg = f"A reranker takes a dict with the keys 'query' and 'documents', got {given}."
        raise TypeError(msg)
    query, documents = input["query"], input["documents"]
    if not isinstance(query, str):
        msg = f"The query must be a str, not {type(query).__name__}."
        raise TypeError(msg)
    if isinstance(documents, (str, Document, Mapping)):
        msg = f"The documents must be a list of Document, not one {type(documents).__name__}."
        raise TypeError(msg)
    documents = list(documents)
    for position, document in enumerate(documents):
        if not isinstance(document, Document):
            msg = (
                f"Documents must be langchain_core Documents; item {position} is a {type(document).__name__}. "
                "Use rank() for plain texts."
            )
            raise TypeError(msg)
    return query, documents


def with_details(error: Exception, **details: Any) -> Exception:
    """The error, with more to say in ``metadata["rerank"]`` of documents that keep their order because of it.

    What is spent is spent, though nothing came of it. It is a copy, since one error may stand for several queries, which
    spent different things; an error that cannot be copied is given back itself.
    """
    said = {**details_of(error), **details}
    error = _copied(error)
    attributes: dict[str, Any] | None = getattr(error, "__dict__", None)
    if attributes is not None:
        attributes["rerank_details"] = said
    return error


def _copied(error: Exception) -> Exception:
    try:
        copied = copy.copy(error)
    except Exception:  # noqa: BLE001 - an error's own constructor, which may want more than the error keeps
        return error
    if type(copied) is not type(error):
        return error
    copied.args = error.args  # which a constructor may have made of others
    copied.__cause__, copied.__context__ = error.__cause__, error.__context__
    copied.__suppress_context__ = error.__suppress_context__
    return copied.with_traceback(error.__traceback__)


def details_of(error: Exception) -> Mapping[str, Any]:
    """What an error has to say there."""
    said: Mapping[str, Any] = getattr(error, "rerank_details", {})
    return said


def total_usage(details: Mapping[str, Any]) -> dict[str, Any]:
    """What one query cost: of the model that judged, and of those that failed before it.

    Args:
        details: ``metadata["rerank"]`` of any of its documents, or `RankedDocument.details`.

    Returns:
        Sums under the names that the backends use: ``requests``, ``documents``, ``cached``, ``tokens``, ``search_units``
        of endpoints; ``calls``, ``input_tokens``, ``output_tokens`` of language models; ``seconds``, ``cost`` of both.
    """
    failed = details.get("failed")
    spent: list[Any] = list(failed) if isinstance(failed, (list, tuple)) else []
    if "stage" in details or not spent:  # else all have failed, and what stands in ``details`` is of the last of them
        spent.append(details)
    total: dict[str, Any] = {}
    for one in spent:
        usage = one.get("usage") if isinstance(one, Mapping) else None
        for name, value in usage.items() if isinstance(usage, Mapping) else ():
            if isinstance(value, bool):
                total[name] = value or total.get(name, False)
            elif isinstance(value, (int, float)):
                total[name] = value + total.get(name, 0)
    return total


def documents_of(outputs: Any) -> list[Document]:
    """What the caller gets of a run's outputs; an error in a batch is passed on."""
    return cast("list[Document]", outputs if isinstance(outputs, BaseException) else outputs["documents"])


def usage_of(documents: Sequence[Any]) -> dict[str, float]:
    """What a reranker says that a question cost; every document of it says the same."""
    metadata = getattr(documents[0], "metadata", {}) if documents else {}
    details = metadata.get("rerank")
    usage = total_usage(details) if isinstance(details, Mapping) else {}
    return {name: value for name, value in usage.items() if not isinstance(value, bool)}


def encodable(text: str) -> str:
    """The text with lone surrogates replaced: no tokenizer and no wire format can carry them."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def by_request(requests: Sequence[ScoreRequest], values: Sequence[_Value]) -> list[Sequence[_Value]]:
    """Cut one value per text of all requests, in order, into the values of each request."""
    parts: list[Sequence[_Value]] = []
    start = 0
    for request in requests:
        stop = start + len(request.texts)
        parts.append(values[start:stop])
        start = stop
    return parts
