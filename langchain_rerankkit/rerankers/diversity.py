"""Rankings that do not say the same thing ten times: maximal marginal relevance, and near-duplicates left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from langchain_core.embeddings import Embeddings
from pydantic import Field, model_validator
from typing_extensions import Self, override

from langchain_rerankkit._optional import require
from langchain_rerankkit._steps import gather
from langchain_rerankkit.base import Reranker, _on_thread
from langchain_rerankkit.errors import ScoreError
from langchain_rerankkit.inference.similarity import TextVectors, model_name
from langchain_rerankkit.ranking import best_first, min_max, scores_from_order
from langchain_rerankkit.records import Answer, DetailedScores, Judged, ScoreRequest, by_request
from langchain_rerankkit.rerankers.combining import as_input, check_member

__all__ = ["DiversityReranker"]

_WHOLE = 4096  # candidates of which all products are computed at once, in 128 MB at most
_ROUNDING = 1e-6  # of single precision, in which vectors are stored


class DiversityReranker(Reranker):
    """Chooses one document after the other by relevance less likeness to those before it (maximal marginal relevance).

    ``DiversityReranker(reranker=EmbeddedReranker(), embeddings=EmbeddedEmbeddings(), duplicates=0.95)``: next is the
    document with the highest

        lambda_mult * relevance - (1 - lambda_mult) * largest cosine with a document chosen before

    (Carbonell and Goldstein, "The Use of MMR, Diversity-Based Reranking for Reordering Documents and Producing Summaries",
    SIGIR 1998). Without a ``reranker``, relevance is the cosine of query and text, and the order is that of LangChain's
    ``maximal_marginal_relevance``, for all candidates. A reranker's scores have another scale than cosines, so those it
    shows are mapped to 0 (the worst candidate) to 1 (the best), whether they are probabilities, BM25 or ranks. Ranks (1,
    1/2, 1/3, … of listwise rerankers) fall so fast that difference decides from the third place on: give them a
    ``lambda_mult`` of 0.9 or more. Equal values keep the reranker's order; what it could not judge goes last.

    Diversity has a price: where the collection does not repeat itself, every step below ``lambda_mult=1`` costs relevance.
    Where it does (overlapping chunks, mirrored pages, versions), ``duplicates`` is the first thing to try. The evaluator's
    ``alpha_ndcg``, ``coverage`` and ``ild`` show what either does.

    Of more than 4,096 candidates give ``top_n``: only so many are then ordered in this way.

    ``metadata["rerank"]`` has the reranker's own score as ``relevance``, and under ``duplicates`` the ids of the documents
    that were left out for this one.
    """

    embeddings: Embeddings
    """The model that says how alike texts are, in LangChain's interface."""

    reranker: Reranker | None = None
    """Who says how relevant they are; by default the cosine of query and text. ``top_n``, ``min_score`` and ``on_error``
    belong on the whole, not on it."""

    lambda_mult: float = Field(default=0.8, ge=0, le=1)
    """How much relevance counts, from 0 (difference alone) to 1 (the order of the reranker). LangChain's default is 0.5,
    which costs 0.07 of nDCG@10 on HotpotQA and 0.21 on MedQuAD; 0.8 costs 0.00 and 0.02."""

    duplicates: float | None = Field(default=None, gt=0, le=1)
    """Leave out a document whose cosine with a more relevant one is at least this; by default none is left out."""

    store: Any = Field(default=None, exclude=True, repr=False)
    """A vector store filled by the same ``embeddings``: its vectors are reused by document id. Not part of a dump."""

    call_options = Reranker.call_options | {"lambda_mult"}

    def __init__(self, reranker: Reranker | None = None, **fields: Any) -> None:
        """Make it of its member, if there is one, and of the other fields."""
        fields["reranker"] = reranker
        super().__init__(**fields)

    @property
    @override
    def scores_are(self) -> Literal["relevance", "rank"]:
        return "rank"

    @model_validator(mode="after")
    def _check_member(self) -> Self:
        if self.reranker is not None:
            check_member(self, self.reranker)
        return self

    @override
    def _label(self) -> str:
        judge = model_name(self.embeddings) if self.reranker is None else self.reranker._label()
        return f"MMR over {judge}"

    @override
    def warmup(self) -> Self:
        if self.reranker is not None:
            self.reranker.warmup()
        return self

    @override
    def close(self) -> None:
        if self.reranker is not None:
            self.reranker.close()
        super().close()

    @override
    def _score_many(self, requests: Sequence[ScoreRequest]) -> Sequence[Answer | Exception]:
        texts = TextVectors(requests, self.store)
        said: Sequence[Any]
        if self.reranker is None:
            said = [self.embeddings.embed_query(request.query) for request in requests]
        else:
            said = self.reranker._judge_many(list(map(as_input, requests)), [request.config for request in requests])
        vectors = texts.fill(self.embeddings.embed_documents(texts.missing) if texts.missing else [])
        return self._answers(requests, said, vectors)

    @override
    async def _ascore_many(self, requests: Sequence[ScoreRequest]) -> Sequence[Answer | Exception]:
        texts = TextVectors(requests, self.store)
        said, computed = await gather([self._asay(requests), self._aembed(texts.missing)])
        return await _on_thread(self._answers, requests, said, texts.fill(computed))

    async def _asay(self, requests: Sequence[ScoreRequest]) -> Sequence[Any]:
        if self.reranker is None:
            return await gather([self.embeddings.aembed_query(request.query) for request in requests])
        inputs, configs = list(map(as_input, requests)), [request.config for request in requests]
        return await self.reranker._ajudge_many(inputs, configs)

    async def _aembed(self, texts: list[str]) -> Sequence[Sequence[float]]:
        return await self.embeddings.aembed_documents(texts) if texts else []

    # --- the order ------------------------------------------------------------------------------------------------

    def _answers(
        self, requests: Sequence[ScoreRequest], said: Sequence[Any], vectors: Sequence[Sequence[float]]
    ) -> list[Answer | Exception]:
        """An answer to each request.

        Args:
            requests: The requests.
            said: For each, what the reranker said; without one, the vector of the query.
            vectors: Of the texts of all requests, one after the other.
        """
        answers: list[Answer | Exception] = []
        for request, one, of_request in zip(requests, said, by_request(requests, vectors), strict=True):
            try:
                answers.append(one if isinstance(one, Exception) else self._answer(request, one, of_request))
            except ScoreError as error:
                answers.append(error)
        return answers

    def _answer(self, request: ScoreRequest, said: Any, vectors: Sequence[Sequence[float]]) -> DetailedScores:
        cosines = _Cosines(vectors)
        if self.reranker is None:
            relevance = cosines.with_vector(said).tolist()
            found = _Relevance(best_first(relevance), relevance, relevance, [{}] * len(relevance))
        else:
            found = _of_reranker(self.reranker, said)
        count = len(vectors)
        unjudged = set(range(count)) - set(found.order) - found.dropped
        stands_for: dict[int, list[int]] = {}
        if self.duplicates is not None:
            stands_for = _near_duplicates([*found.order, *sorted(unjudged)], cosines, self.duplicates - _ROUNDING)
        dropped = found.dropped.union(*stands_for.values())
        left = [position for position in found.order if position not in dropped]
        # Of equal ones the first is taken: the more relevant, or as LangChain does it, the one that came first.
        candidates = sorted(left) if self.reranker is None else left
        chosen = _mmr(candidates, found.relevance, cosines, self.lambda_mult, self.top_n)
        behind = set(left) - set(chosen)
        order = [*chosen, *(position for position in left if position in behind)]
        details = [dict(about) for about in found.details]
        for position in found.order:
            details[position]["relevance"] = found.shown[position]
        for position, others in stands_for.items():
            details[position]["duplicates"] = [request.documents[other].id for other in others]
        return DetailedScores(scores_from_order(order, count), details, unjudged - dropped, dropped)


@dataclass(frozen=True)
class _Relevance:
    """How relevant the candidates are.

    Attributes:
        order: Positions of those that were judged, best first.
        relevance: What is weighed against cosines, by position.
        shown: The score to show, by position.
        details: What there is to say of each, by position.
        dropped: Positions of those that are left out.
    """

    order: list[int]
    relevance: Sequence[float]
    shown: Sequence[float]
    details: Sequence[Mapping[str, Any]]
    dropped: frozenset[int] = frozenset()


def _of_reranker(reranker: Reranker, judged: Judged) -> _Relevance:
    ok = [position for position in best_first(judged.raw_scores) if judged.statuses[position] == "ok"]
    shown, relevance = list(judged.raw_scores), [0.0] * len(judged.raw_scores)
    for position in ok:
        shown[position] = reranker._activate(shown[position])
    for position, value in zip(ok, min_max([shown[position] for position in ok]), strict=True):
        relevance[position] = value
    dropped = frozenset(position for position, status in enumerate(judged.statuses) if status == "dropped")
    return _Relevance(ok, relevance, shown, judged.details or [{}] * len(shown), dropped)


class _Cosines:
    """Cosines of candidates, in double precision; 0 for a vector of zeros.

    Args:
        vectors: Shape [candidates, dimensions].

    Raises:
        ScoreError: If dimensions differ, or a number is not finite.
    """

    def __init__(self, vectors: Sequence[Sequence[float]]) -> None:
        self.numpy = numpy = require("numpy", extra="bi-encoder")
        dimensions = sorted({len(vector) for vector in vectors})
        if len(dimensions) > 1:
            msg = f"The texts' vectors differ in dimension ({dimensions}): one model must make them all."
            raise ScoreError(msg)
        self._vectors = numpy.asarray(vectors, dtype=float)
        if not numpy.isfinite(self._vectors).all():
            msg = "The embeddings returned numbers that are not finite."
            raise ScoreError(msg)
        self._norms = numpy.linalg.norm(self._vectors, axis=1)
        self._products = self._vectors @ self._vectors.T if len(vectors) <= _WHOLE else None

    def with_candidate(self, position: int) -> Any:
        """Cosine of each candidate with one of them; shape [candidates]."""
        products = self._vectors @ self._vectors[position] if self._products is None else self._products[position]
        return self._divided(products, self._norms * self._norms[position])

    def with_vector(self, vector: Sequence[float]) -> Any:
        """Cosine of each candidate with a vector; shape [candidates].

        Raises:
            ScoreError: If dimensions differ.
        """
        one = self.numpy.asarray(vector, dtype=float)
        if one.shape != self._vectors.shape[1:]:
            differ = f"({len(one)} and {self._vectors.shape[1]})"
            msg = f"Query and text vectors differ in dimension {differ}: one model must make them all."
            raise ScoreError(msg)
        return self._divided(self._vectors @ one, self._norms * self.numpy.linalg.norm(one))

    def _divided(self, products: Any, norms: Any) -> Any:
        return self.numpy.divide(products, norms, out=self.numpy.zeros_like(products), where=norms > 0)


def _near_duplicates(order: Sequence[int], cosines: _Cosines, least: float) -> dict[int, list[int]]:
    """For each position that stays, those later in the order that are so close to it."""
    stands_for: dict[int, list[int]] = {}
    place = {position: number for number, position in enumerate(order)}
    gone: set[int] = set()
    for position in order:
        if position in gone:
            continue
        close = cosines.numpy.flatnonzero(cosines.with_candidate(position) >= least).tolist()
        later = [other for other in close if other not in gone and place.get(other, -1) > place[position]]
        if later:
            stands_for[position] = sorted(later, key=place.__getitem__)
            gone.update(later)
    return stands_for


def _mmr(
    candidates: Sequence[int], relevance: Sequence[float], cosines: _Cosines, lambda_mult: float, depth: int | None
) -> list[int]:
    """Positions in the order of maximal marginal relevance.

    Args:
        candidates: Positions to choose from; of equal ones the first is taken.
        relevance: By position.
        cosines: By position.
        lambda_mult: How much relevance counts.
        depth: How many to choose; None for all.
    """
    if not candidates:
        return []
    numpy = cosines.numpy
    positions = numpy.asarray(candidates)
    weighed = numpy.asarray(relevance, dtype=float)[positions]
    first = int(weighed.argmax())
    weighed *= lambda_mult
    closest = numpy.full(len(positions), -numpy.inf)
    chosen = [first]
    while len(chosen) < min(depth or len(positions), len(positions)):
        weighed[chosen[-1]] = -numpy.inf
        numpy.maximum(closest, cosines.with_candidate(positions[chosen[-1]])[positions], out=closest)
        chosen.append(int((weighed - (1 - lambda_mult) * closest).argmax()))
    return [candidates[place] for place in chosen]
