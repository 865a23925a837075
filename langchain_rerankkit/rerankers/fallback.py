"""Rerankers in turn: the next one where one fails or takes too long, and at the end the order that was there."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Generator, Sequence
from typing import Any, Literal

from pydantic import Field, model_validator
from typing_extensions import Self, override

from langchain_rerankkit.base import Reranker
from langchain_rerankkit.errors import EndpointError, RerankKitError
from langchain_rerankkit.ranking import best_first
from langchain_rerankkit.records import Answer, DetailedScores, Judged, ScoreRequest, details_of, with_details
from langchain_rerankkit.rerankers.combining import as_input
from langchain_rerankkit.rerankers.staged import Outcomes, Stage, StagedReranker, hurried

__all__ = ["FallbackReranker"]

_logger = logging.getLogger("langchain_rerankkit")


class FallbackReranker(StagedReranker):
    """Asks the first reranker, and the next one where it fails or exceeds its share of the ``deadline``.

    ``FallbackReranker([CohereReranker(model=…), EmbeddedReranker()], deadline=2.0)``: where all of them fail, the
    documents keep the order they came in, cut by nothing but ``top_n``, with the status ``"fallback"``; with
    ``keep_order=False`` the last error is raised instead.

    ``metadata["rerank"]`` says which ``model`` judged, at which ``stage`` (from 1), and what ``failed`` before it: model,
    type of error, HTTP status and usage where there are any. Scores of different stages are not comparable, so a ``min_score`` is refused: no threshold fits all.
    """

    deadline: float | None = Field(default=None, gt=0)
    """Seconds for all stages together; none by default. Members judge on up to 64 threads of each stage then, unless call
    and member are asynchronous."""

    shares: list[float] | None = None
    """How the deadline is divided, one number for each stage; equally by default. What a stage leaves goes to the next."""

    on_error: Literal["raise", "keep_order"] = "keep_order"
    """What happens where all stages fail: the documents keep their order, or the last error is raised."""

    call_options = Reranker.call_options | {"deadline"}

    def __init__(self, rerankers: Sequence[Reranker] = (), *, keep_order: bool | None = None, **fields: Any) -> None:
        """Make it of its stages, best first, and of the other fields; ``keep_order`` is short for ``on_error``."""
        if keep_order is not None:
            fields["on_error"] = "keep_order" if keep_order else "raise"
        fields["rerankers"] = rerankers
        super().__init__(**fields)

    @property
    @override
    def scores_are(self) -> Literal["relevance", "rank"]:
        same = len(self.rerankers) == 1 and self.rerankers[0].scores_are == "relevance"
        return "relevance" if same else "rank"

    @property
    @override
    def judges_alone(self) -> bool:
        return len(self.rerankers) == 1 and self.rerankers[0].judges_alone

    @model_validator(mode="after")
    def _check_shares(self) -> Self:
        if self.shares is None:
            return self
        if len(self.shares) != len(self.rerankers) or not all(share > 0 for share in self.shares):
            msg = f"{len(self.rerankers)} rerankers need as many shares, each above 0."
            raise ValueError(msg)
        if self.deadline is None:
            msg = "shares divide a deadline: give one."
            raise ValueError(msg)
        return self

    @override
    def _label(self) -> str:
        return " or ".join(reranker._label() for reranker in self.rerankers)

    @override
    def _stages(self, requests: Sequence[ScoreRequest]) -> Generator[Stage, Outcomes, list[Answer | Exception]]:
        end = None if self.deadline is None else time.monotonic() + self.deadline
        shares = self.shares or [1.0] * len(self.rerankers)
        answers: list[Answer | Exception] = [RerankKitError("No stage was asked.")] * len(requests)
        failed: list[list[dict[str, Any]]] = [[] for _ in requests]
        open_ = list(range(len(requests)))
        for number, reranker in enumerate(self.rerankers):
            seconds = None
            if end is not None:
                seconds = max(0.001, end - time.monotonic()) * shares[number] / sum(shares[number:])
            asked = [requests[position] for position in open_]
            judged = yield Stage(
                number,
                hurried(reranker, seconds),
                [as_input(one) for one in asked],
                [one.config for one in asked],
                seconds,
            )
            if judged is None:
                msg = f"{reranker._label()} exceeded its share of the deadline, {seconds:.2f} s."
                judged = [TimeoutError(msg) for _ in asked]
            for position, outcome in zip(open_, judged, strict=True):
                if isinstance(outcome, Exception):
                    failed[position].append(_failure(reranker, outcome))
                    answers[position] = with_details(outcome, failed=list(failed[position]))
                else:
                    answers[position] = _answer(reranker, number + 1, outcome, failed[position])
            open_ = [position for position in open_ if isinstance(answers[position], Exception)]
            if not open_:
                break
            _logger.warning("%s failed for %d of %d queries.", reranker._label(), len(open_), len(asked))
        return answers


def _failure(reranker: Reranker, error: Exception) -> dict[str, Any]:
    failure: dict[str, Any] = {"model": reranker._label(), "reason": type(error).__name__}
    if isinstance(error, EndpointError) and error.status is not None:
        failure["status"] = error.status
    if "usage" in (said := details_of(error)):
        failure["usage"] = said["usage"]
    return failure


def _answer(reranker: Reranker, stage: int, judged: Judged, failed: list[dict[str, Any]]) -> DetailedScores:
    dropped = {position for position, status in enumerate(judged.statuses) if status == "dropped"}
    unjudged = {position for position, status in enumerate(judged.statuses) if status not in {"ok", "dropped"}}
    scores = [0.0] * len(judged.documents)
    above: tuple[float, float] | None = None
    for position in best_first(judged.raw_scores):
        if position in unjudged or position in dropped:
            continue
        raw = judged.raw_scores[position]
        score = reranker._activate(raw)
        if above is not None and raw < above[0] and score >= above[1]:
            score = math.nextafter(above[1], -math.inf)  # saturated: the order is that of the raw scores
        scores[position], above = score, (raw, score)
    details: list[dict[str, Any]] = []
    for position in range(len(judged.documents)):
        about = dict(judged.details[position]) if judged.details else {}
        about |= {"model": about.get("model", reranker._label()), "stage": stage}
        if failed:
            about["failed"] = [dict(failure) for failure in failed]
        details.append(about)
    return DetailedScores(scores, details, unjudged, dropped)
