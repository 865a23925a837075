"""Several rerankers in a row: cheap ones choose what expensive ones read."""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections.abc import Generator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator
from typing_extensions import Self, override

from langchain_rerankkit.base import Reranker
from langchain_rerankkit.ranking import best_first, scores_from_order
from langchain_rerankkit.records import (
    Answer,
    DetailedScores,
    Judged,
    RankedDocument,
    RerankInput,
    ScoreRequest,
    details_of,
    total_usage,
    with_details,
)
from langchain_rerankkit.rerankers.combining import as_input, spent
from langchain_rerankkit.rerankers.staged import Outcomes, Stage, StagedReranker, hurried

__all__ = ["CascadeReranker"]

_FEWEST = 4  # documents that a pass is worth its while for, and those by which a stage is measured


class CascadeReranker(StagedReranker):
    """Lets each reranker judge what the one before it kept: its own ``top_n`` says how many.

    ``CascadeReranker([EmbeddedReranker(top_n=30), CohereReranker(model=…, top_n=10)])``: of a hundred documents the
    first chooses thirty, of which the second chooses ten. What a stage does not keep is left out, or follows behind
    with ``keep_rest=True``.

    ``metadata["rerank"]`` says which ``stage`` (from 1) last judged a document, its ``stage_score`` there, and of all
    ``stages`` the model, how many documents it ``judged`` and ``kept``, the ``seconds`` that it took (for all queries
    of a batch together), and whether it was ``shortened`` or ``skipped`` for the ``"budget"``, or skipped since the top
    was ``"clear"``; its own cut then applies to the order that there was. ``usage`` is that of all stages together.

    Scores are those of the last stage. With ``keep_rest``, ``budget`` or ``margin`` different stages may have judged
    different documents, which no scale fits: scores say the order then (1, 1/2, 1/3, …), and ``min_score`` is refused.

    Source: Wang, Lin, Metzler, "A cascade ranking model for efficient ranked retrieval", SIGIR 2011.
    """

    candidates: int | None = Field(default=None, ge=1)
    """How many of the documents given the first stage judges, from the top; the others are what it does not keep."""

    keep_rest: bool = False
    """Whether what a stage does not keep follows behind, in that stage's order, or is left out. What a stage leaves out
    on purpose, such as a duplicate, stays out."""

    budget: float | None = Field(default=None, gt=0)
    """Seconds for all stages together, and for all queries of a batch, which share each stage's pass.

    A stage judges as many of its candidates, from the top, as it will manage in the time that is left, by what its last
    passes in this object took. Where nothing is known yet it begins with a few, if a score does not depend on what else
    is judged. It is skipped where it would not manage four for each query.

    A pass that takes longer after all is left behind (on one of up to 64 threads of its stage, unless call and member are
    asynchronous), and the order before it stands. The first stage always begins; where it does not come back, the
    documents keep the order they came in, with the status ``"unjudged"``. Loading a model counts: call `warmup`
    first."""

    margin: float | None = Field(default=None, gt=0)
    """By how much a stage's best document must be ahead of its second, in the score that the stage shows, for the other
    stages to be skipped: what is read first is settled then, and the places below keep their order."""

    not_on_members: ClassVar[tuple[str, ...]] = ("min_score", "on_error")
    call_options = Reranker.call_options | {"budget"}

    def __init__(self, rerankers: Sequence[Reranker] = (), **fields: Any) -> None:
        """Make it of its members, in order, and of the other fields."""
        fields["rerankers"] = rerankers
        super().__init__(**fields)

    @model_validator(mode="after")
    def _check_margin(self) -> Self:
        if self.margin is not None:
            for reranker in self.rerankers[:-1]:
                if reranker.scores_are == "rank":
                    msg = (
                        f"margin needs scores that mean something by themselves; those of {type(reranker).__name__} only "
                        "order one list. Leave margin out, or take another stage."
                    )
                    raise ValueError(msg)
        return self

    @property
    def _own_scores(self) -> bool:
        """Whether documents may have been judged by different stages."""
        return self.keep_rest or self.budget is not None or self.margin is not None

    @property
    @override
    def scores_are(self) -> Literal["relevance", "rank"]:
        return "rank" if self._own_scores else self.rerankers[-1].scores_are

    @property
    @override
    def judges_alone(self) -> bool:
        return False  # what comes to the last stage depends on the other candidates

    @override
    def _activate(self, raw_score: float) -> float:
        return raw_score if self._own_scores else self.rerankers[-1]._activate(raw_score)

    @override
    def _rank(self, judged: Judged) -> list[RankedDocument]:
        """Blank documents, which no stage sees, take what places the cuts leave free."""
        cuts = [cut for cut in (self.candidates, *(one.top_n for one in self.rerankers)) if cut is not None]
        if cuts and not self.keep_rest:
            statuses = list(judged.statuses)
            free = max(0, min(cuts) - sum(status not in {"blank", "dropped"} for status in statuses))
            for position in [place for place, status in enumerate(statuses) if status == "blank"][free:]:
                statuses[position] = "dropped"
            judged = replace(judged, statuses=statuses)
        return super()._rank(judged)

    @override
    def _label(self) -> str:
        return " then ".join(reranker._label() for reranker in self.rerankers)

    @override
    def _stages(self, requests: Sequence[ScoreRequest]) -> Generator[Stage, Outcomes, list[Answer | Exception]]:
        end = None if self.budget is None else time.monotonic() + self.budget
        queries = [_Query(request, self.candidates) for request in requests]
        for number, reranker in enumerate(self.rerankers):
            going_on = [query for query in queries if query.error is None]
            clear = [self.margin is not None and query.lead >= self.margin for query in going_on]
            began = time.monotonic()
            yield from self._stage(number, [one for one, done in zip(going_on, clear, strict=True) if not done], end)
            seconds = time.monotonic() - began
            for query, done in zip(going_on, clear, strict=True):
                query.cut(reranker, 0.0 if done else seconds, "clear" if done else "budget")
        return [self._answer(query) for query in queries]

    def _stage(self, number: int, queries: Sequence[_Query], end: float | None) -> Generator[Stage, Outcomes, None]:
        """Let a stage judge: in one pass, or under a budget in as many as there is time for."""
        reranker, cost = self.rerankers[number], self._cost(number)
        whole = reranker
        # What comes after the cut needs scores where it follows behind or is compared with the first; an order of all
        # costs some rerankers much, and the others judge all in any case.
        if reranker.top_n is not None and reranker.scores_are == "relevance" and (self.keep_rest or self.margin):
            whole = reranker._with({"top_n": None})
        while open_ := [query for query in queries if query.error is None and query.waiting]:
            start = time.monotonic()
            left = None if end is None else end - start
            each = self._each(number, open_, left)
            if not each:
                cost.forget()
                break
            inputs = [query.ask(each) for query in open_]
            configs = [query.request.config for query in open_]
            outcomes = yield Stage(number, hurried(whole, left), inputs, configs, left)
            now = time.monotonic()
            # A member that was told how long it has may say itself that it is late.
            late = outcomes is None or (end is not None and now >= end)
            outcomes = outcomes or [TimeoutError()] * len(open_)
            failed = any(isinstance(outcome, Exception) for outcome in outcomes)
            documents = sum(map(_judged_now, inputs, outcomes))
            if documents and (late or not failed):
                cost.add(documents, (2 if failed else 1) * (now - start))  # nobody knows how long it goes on
            for query, outcome in zip(open_, outcomes, strict=True):
                if not (late and isinstance(outcome, Exception)):
                    query.hear(outcome, reranker)
            if late:
                break

    def _each(self, number: int, queries: Sequence[_Query], left: float | None) -> int:
        """How many more documents of each query a stage judges in the time that is left; 0 where it is not worth it."""
        sizes = [len(query.waiting) for query in queries]
        most = max(sizes)
        if left is None:
            return most
        begun, alone = any(query.judged for query in queries), self.rerankers[number].judges_alone
        if left <= 0 or (begun and not alone):
            return 0
        fewest = min(_FEWEST, most)
        manages = self._cost(number).documents(left)
        if manages is None:  # more, where what was judged came from a cache, and said nothing of the cost
            return max(fewest, *(len(query.judged) for query in queries)) if alone else most

        def of_each(documents: float) -> int:
            return bisect_right(range(most + 1), documents, key=lambda each: sum(min(each, one) for one in sizes)) - 1

        each = of_each(manages)
        if each < fewest:
            return fewest if number == 0 and not begun else 0
        return max(fewest, min(each, of_each(self._cost(number).most())))

    def _answer(self, query: _Query) -> Answer | Exception:
        if query.error is not None:
            return query.error
        count = len(query.request.texts)
        order = query.head + (query.rest if self.keep_rest else [])
        verdicts = [query.verdicts.get(position) for position in range(count)]
        if self._own_scores:
            scores, needed = scores_from_order(order, count), 1
            first: dict[tuple[str, int], int] = {}
            for position in order:  # equal texts that the same stage judged share the better place
                stage = one.stage if (one := verdicts[position]) else 0
                scores[position] = scores[first.setdefault((query.request.texts[position], stage), position)]
        else:
            scores, needed = [one.raw_score if one else 0.0 for one in verdicts], len(self.rerankers)
        judged = {position for position, one in enumerate(verdicts) if one and one.stage >= needed}
        about: dict[str, Any] = {"stages": query.stages}
        if usage := spent(query.answers):
            about["usage"] = usage
        details = [{**(one.about() if one else {}), **deepcopy(about)} for one in verdicts]
        return DetailedScores(scores, details, set(order) - judged, set(range(count)) - set(order))


@dataclass(frozen=True)
class _Verdict:
    """What the stage that last judged a document said of it."""

    stage: int
    raw_score: float
    score: float
    details: Mapping[str, Any]

    def about(self) -> dict[str, Any]:
        """The same for ``metadata["rerank"]``, without what is said of the stage."""
        own = {key: said for key, said in self.details.items() if key not in {"usage", "failed", "model"}}
        return {**own, "stage": self.stage, "stage_score": self.score}


class _Query:
    """How far one query has come. Its documents go by their positions in the request.

    Attributes:
        request: The query.
        head: What the next stage judges, best first.
        rest: What no stage judges any more, best first.
        judged: What the running stage has judged of the head.
        waiting: What it has not judged.
        verdicts: What was last said, by document.
        lead: How far the best document was ahead of the second when a stage last judged all of the head.
        stages: What there is to say of each stage.
        answers: What members answered.
        error: What went wrong, if something did.
    """

    def __init__(self, request: ScoreRequest, candidates: int | None) -> None:
        self.request = request
        self._documents = list(as_input(request)["documents"])
        positions = list(range(len(self._documents)))
        self.head = positions[:candidates]
        self.rest = positions[len(self.head) :]
        self.judged: list[int] = []
        self.waiting = self.head
        self._asked: list[int] = []
        self.verdicts: dict[int, _Verdict] = {}
        self.lead = -math.inf
        self.stages: list[dict[str, Any]] = []
        self.answers: list[Judged] = []
        self.error: Exception | None = None

    def ask(self, each: int) -> RerankInput:
        """So many more documents, as a stage's input."""
        self._asked = self.waiting[:each]
        return {"query": self.request.query, "documents": [self._documents[position] for position in self._asked]}

    def hear(self, outcome: Judged | Exception, reranker: Reranker) -> None:
        """What the stage made of them."""
        if isinstance(outcome, Exception):
            self.error = _with_usage(outcome, spent(self.answers))
            return
        self.answers.append(outcome)
        self.waiting = self.waiting[len(self._asked) :]
        for place, position in enumerate(self._asked):
            if outcome.statuses[place] == "dropped":
                continue
            self.judged.append(position)
            if outcome.statuses[place] == "ok":
                raw, details = outcome.raw_scores[place], outcome.details[place] if outcome.details else {}
                self.verdicts[position] = _Verdict(len(self.stages) + 1, raw, reranker._activate(raw), details)

    def cut(self, reranker: Reranker, seconds: float, reason: str) -> None:
        """The stage has had its turn: order what it judged, cut, and say what it did, and why not more."""
        if self.error is not None:
            return
        number = len(self.stages) + 1
        by_stage = [self.verdicts.get(position) for position in self.judged]
        ours = [one if one and one.stage == number else None for one in by_stage]
        places = best_first([one.raw_score if one else -math.inf for one in ours])
        if self.judged and not self.waiting:
            first, second = [*(ours[place] for place in places[:2]), None][:2]
            self.lead = -math.inf  # where some have no verdict, nobody knows
            if first and None not in ours:
                self.lead = first.score - second.score if second else math.inf
        order = [self.judged[place] for place in places] + self.waiting
        kept = len(order) if reranker.top_n is None else reranker.top_n
        self.head, self.rest = order[:kept], order[kept:] + self.rest
        said = next((one.details for one in ours if one), {})
        about = {
            "model": said.get("model", reranker._label()),
            "judged": len(self.judged),
            "kept": len(self.head),
            "seconds": seconds,
            **({"failed": said["failed"]} if "failed" in said else {}),
            **({"shortened" if self.judged else "skipped": reason} if self.waiting else {}),
        }
        self.stages.append(about)
        self.judged, self.waiting = [], self.head


def _judged_now(given: RerankInput, outcome: Judged | Exception) -> int:
    """Of how many documents the time that a pass took tells: not of those that a cache knew."""
    details = outcome.details if isinstance(outcome, Judged) else ()
    return len(given["documents"]) - sum(bool(said.get("cached")) for said in details)


def _with_usage(error: Exception, usage: Mapping[str, Any]) -> Exception:
    """The error, with what was spent before it and on it."""
    usage = total_usage({"failed": [{"usage": usage}, {"usage": total_usage(details_of(error))}]})
    return with_details(error, usage=usage) if usage else error
