"""Several rerankers as one: their scores are made comparable and added."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, model_validator
from typing_extensions import Self, override

from langchain_rerankkit.base import Reranker
from langchain_rerankkit.errors import ScoreError
from langchain_rerankkit.ranking import FusionMethod, check_weights, fuse, with_floor
from langchain_rerankkit.records import Answer, DetailedScores, Judged, ScoreRequest
from langchain_rerankkit.rerankers.combining import CombiningReranker, as_input, spent

__all__ = ["EnsembleReranker"]


class EnsembleReranker(CombiningReranker):
    """Adds the scores of several rerankers and, on request, the score of the first stage.

    Rankers that make different mistakes correct each other: a lexical and a semantic judge added are usually better
    than either. The sums are relative to one list of candidates, so ``min_score`` is refused.

    The first stage's score is read from the documents' metadata. A vector store does not write one; to have its
    cosine in the sum, add a ``BiEncoderReranker(embeddings=…, store=…)``, which reads the stored vectors instead of
    embedding again.
    """

    weights: list[float] | None = None
    """One factor per reranker; all 1 by default."""

    method: FusionMethod = "z-score"
    """How scores become comparable: ``"z-score"``, ``"min-max"``, ``"rrf"`` (reciprocal ranks), or ``"sum"`` where they
    are already."""

    first_stage_weight: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Factor of the first stage's score; 0 leaves it out. With ``method="rrf"`` its order is used and no score is
    needed."""

    first_stage_key: str = "relevance_score"
    """Metadata field that holds the first stage's score."""

    def __init__(self, rerankers: Sequence[Reranker] = (), **fields: Any) -> None:
        """Make it of its members, in order, and of the other fields."""
        fields["rerankers"] = rerankers
        super().__init__(**fields)

    @property
    @override
    def scores_are(self) -> Literal["relevance", "rank"]:
        return "rank"

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        if self.weights is not None:
            check_weights(self.weights, len(self.rerankers))
        return self

    @override
    def _label(self) -> str:
        return " + ".join(reranker._label() for reranker in self.rerankers)

    @override
    def _score_many(self, requests: Sequence[ScoreRequest]) -> Sequence[Answer | Exception]:
        inputs, configs = [as_input(request) for request in requests], [request.config for request in requests]
        return self._sums(requests, [reranker._judge_many(inputs, configs) for reranker in self.rerankers])

    @override
    async def _ascore_many(self, requests: Sequence[ScoreRequest]) -> Sequence[Answer | Exception]:
        inputs, configs = [as_input(request) for request in requests], [request.config for request in requests]
        judged = await asyncio.gather(*(reranker._ajudge_many(inputs, configs) for reranker in self.rerankers))
        return self._sums(requests, judged)

    def _sums(
        self, requests: Sequence[ScoreRequest], judged: Sequence[Sequence[Judged | Exception]]
    ) -> list[Answer | Exception]:
        sums: list[Answer | Exception] = []
        for request, *answers in zip(requests, *judged, strict=True):
            failed = [answer for answer in answers if isinstance(answer, Exception)]
            if failed:
                sums.append(failed[0])
                continue
            try:
                scores = self._sum(request, [a.raw_scores for a in answers if isinstance(a, Judged)])
                usage = spent([a for a in answers if isinstance(a, Judged)])
                sums.append(DetailedScores(scores, [{"usage": dict(usage)} for _ in scores]) if usage else scores)
            except ScoreError as error:
                sums.append(error)
        return sums

    def _sum(self, request: ScoreRequest, score_lists: list[list[float]]) -> list[float]:
        lists = [list(with_floor(dict(enumerate(scores))).values()) for scores in score_lists]
        weights = [1.0] * len(lists) if self.weights is None else list(self.weights)
        if self.first_stage_weight:
            lists.append(self._first_stage(request))
            weights.append(self.first_stage_weight)
        return fuse(lists, method=self.method, weights=weights)

    def _first_stage(self, request: ScoreRequest) -> list[float]:
        if self.method == "rrf":
            return [-float(position) for position in range(len(request.documents))]
        scores = [document.metadata.get(self.first_stage_key) for document in request.documents]
        finite = [float(s) for s in scores if isinstance(s, (int, float)) and math.isfinite(s)]
        if len(finite) < len(scores):
            msg = (
                f"{len(scores) - len(finite)} of {len(scores)} documents have no finite number in "
                f"metadata[{self.first_stage_key!r}]. Name the field with first_stage_key, use method='rrf' (which "
                "needs only the order), or add a BiEncoderReranker over the store."
            )
            raise ScoreError(msg)
        return finite
