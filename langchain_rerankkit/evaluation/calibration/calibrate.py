"""Which ``min_score`` gives a wanted precision or recall, found on questions with gold; or that none does.

**Pairs.** Every document scored for a question is a pair, relevant or not. Precision, recall and the area under the ROC
curve (AUC) are over all pairs together, since one threshold serves all questions. Recall is of the relevant documents among
the candidates: no threshold brings back what was not retrieved.

**Intervals.** Pairs of one question are not independent, so questions are what is counted. The variance of a share comes from
its linearisation over questions; it gives an effective number of pairs, and that gives Wilson's interval with Student's
quantile, at 95 %. Where all pairs agree, as many pairs count as there are questions. (The bootstrap over questions has no width
there: with 25 questions and a true precision of .98 it covered it in 56 of 100 simulated cases, this in 96.)

**Held out.** A threshold looks better on the questions that chose it. So questions are also cut into ten parts, each judged by
the threshold that the other nine choose. These thresholds differ from the final one, which the interval does not count: in
simulations for precision .9 it held the truth in 90 of 100 cases with 40 questions, in 93 with 100 and in 95 with 300, and its
middle was .016, .007 and .002 too low (that of the questions that chose: .021, .009 and .003 too high).

**No clean separation** is the verdict, and there is no threshold, where any of these holds:

- The AUC's interval reaches down to 0.5: relevant documents may score no higher than others.
- The target is reached at no threshold that is of use: one for precision that keeps at least a tenth of the relevant documents,
  one for recall that drops at least a tenth of the others.
- In most of the ten parts the other questions find no threshold.
- On the held-out questions the whole interval lies below the target. A target of 1 is missed by a single document there.

Sources:
    Korn and Graubard, Confidence intervals for proportions with small expected number of positive counts estimated from
    survey data, Survey Methodology 24 (1998), for the effective number. Obuchowski, Nonparametric analysis of clustered
    ROC curve data, Biometrics 53 (1997), for the AUC.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from langchain_core.runnables import Runnable
from pydantic import ConfigDict, TypeAdapter, ValidationError

from langchain_rerankkit.base import Reranker
from langchain_rerankkit.errors import DatasetError
from langchain_rerankkit.evaluation.calibration.scored import Candidates, Scored, candidates_of, score_candidates
from langchain_rerankkit.evaluation.calibration.thresholds import FOLDS, Curve, Estimate, Kept, Pairs, Target
from langchain_rerankkit.evaluation.datasets.dataset import Dataset
from langchain_rerankkit.evaluation.datasets.files import read_json, write_lines
from langchain_rerankkit.evaluation.gold.matching import Match
from langchain_rerankkit.evaluation.gold.qrels import GoldKind, Identity
from langchain_rerankkit.evaluation.table import Table
from langchain_rerankkit.evaluation.wording import counted
from langchain_rerankkit.model_id import model_id

__all__ = ["Calibration", "Curve", "Estimate", "calibrate"]

_AnyReranker = TypeVar("_AnyReranker", bound=Reranker)

_FEWEST, _FEW = 10, 50  # questions with a relevant candidate: refused below, warned of below
_RECALLS = (0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 1.0)  # lines of the printed curve


@dataclass(frozen=True, repr=False)
class Calibration:
    """A threshold for one reranker, and what it rests on. How all of it is computed stands at the head of this module.

    Attributes:
        model: Who scored: see `model_id`.
        dataset: Name of the dataset.
        target: What was wanted …
        wanted: … and how much of it, from 0 to 1.
        threshold: The ``min_score``; None where there is no clean separation.
        verdict: In words.
        precision: At the threshold, on the questions that chose it.
        recall: The same of recall.
        held_out_precision: On questions that did not choose it; None if nothing was kept of them.
        held_out_recall: The same of recall.
        auc: Probability that a relevant document outscores another one, ties counting half.
        kept: Documents kept per question at the threshold.
        nothing_kept: Share of questions that keep no document at the threshold.
        questions: Number of questions.
        pairs: Number of scored documents over all questions.
        relevant: How many of these are relevant.
        curve: The trade-off.
        notes: What to be careful about, in words.
    """

    model: str
    dataset: str
    target: Target
    wanted: float
    threshold: float | None
    verdict: str
    precision: Estimate | None
    recall: Estimate | None
    held_out_precision: Estimate | None
    held_out_recall: Estimate | None
    auc: Estimate
    kept: float | None
    nothing_kept: float | None
    questions: int
    pairs: int
    relevant: int
    curve: Curve
    notes: tuple[str, ...] = ()

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)  # of `load`

    def apply(self, reranker: _AnyReranker) -> _AnyReranker:
        """A copy of the reranker with the threshold as its ``min_score``; a loaded model is shared.

        Raises:
            ValueError: If it is not the reranker that was calibrated, or there is no threshold.
        """
        if (other := model_id(reranker)) != self.model:
            msg = (
                f"The threshold was found for {self.model} and means nothing for {other}: calibrate that one. If you "
                "know that both score alike, set min_score yourself."
            )
            raise ValueError(msg)
        if self.threshold is None:
            msg = f"There is no threshold to apply: {self.verdict}"
            raise ValueError(msg)
        changed = reranker.model_copy()
        changed.min_score = self.threshold
        return changed

    def save(self, path: str | Path) -> Path:
        """Write everything as a JSON file."""
        text = json.dumps({"format": "rerankkit-calibration-1", **asdict(self)}, allow_nan=False)
        write_lines(path, [text])
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Calibration:
        """Read what `save` wrote.

        Raises:
            DatasetError: With file and field, if it is something else.
        """
        content = read_json(path)
        if not isinstance(content, dict) or content.pop("format", None) != "rerankkit-calibration-1":
            msg = "This is no saved calibration, or one of another version."
            raise DatasetError(msg, file=path, field="format")
        try:
            return TypeAdapter(cls).validate_python(content)
        except ValidationError as error:
            mistake = error.errors()[0]
            msg = f"{mistake['msg']}."
            raise DatasetError(msg, file=path, field=".".join(map(str, mistake["loc"]))) from error

    def to_markdown(self) -> str:
        """Verdict, figures, the curve in a few lines, and the notes."""
        return f"{self.verdict}\n\n{self.table().markdown()}"

    def table(self) -> Table:
        """Figures, the curve in a few lines, and the notes."""
        reaching = (next((n for n, r in enumerate(self.curve.recall) if r >= wanted), None) for wanted in _RECALLS)
        rows = [
            [
                f"{self.curve.threshold[place]:.4g}",
                f"{self.curve.precision[place]:.3f}",
                f"{self.curve.recall[place]:.3f}",
                f"{self.curve.kept[place]:.1f}",
            ]
            for place in dict.fromkeys(place for place in reaching if place is not None)
        ]
        figures = [f"AUC {self.auc}."]
        if self.threshold is not None and self.kept is not None and self.nothing_kept is not None:
            figures += [
                f"Precision {self.precision}, recall {self.recall} on the questions that chose the threshold.",
                f"It keeps {self.kept:.1f} documents per question, and none for {self.nothing_kept:.1%} of questions.",
            ]
        figures.append(
            f"Precision {self.held_out_precision or 'unknown'}, recall {self.held_out_recall} on held-out questions."
        )
        title = (
            f"{self.model} on {self.dataset}: {self.questions} questions, {self.pairs} documents scored, {self.relevant} "
            f"relevant; {self.target} {self.wanted:g} wanted"
        )
        header = ("min_score", "precision", "recall", "kept per question")
        return Table(title, header, rows, figures, self.notes)

    def __str__(self) -> str:
        return self.to_markdown()

    def __repr__(self) -> str:
        return f"<Calibration of {self.model}: {self.target} {self.wanted:g}, threshold {self.threshold}>"

    def _repr_html_(self) -> str:
        return f"<p>{escape(self.verdict)}</p>{self.table().html()}"


def calibrate(
    reranker: Reranker,
    dataset: Dataset,
    *,
    retriever: Runnable[str, Any] | None = None,
    precision: float | None = None,
    recall: float | None = None,
    gold: GoldKind = "auto",
    match: Match | None = None,
    relevance: int = 1,
    identity: Identity = None,
    candidates: int = 100,
    seed: int = 0,
) -> Calibration:
    """Find the ``min_score`` that gives a wanted precision or recall.

    For precision it is the threshold of the highest recall among those that reach it; for recall the highest threshold
    that reaches it. It is inclusive, and of the score that documents show, as ``min_score`` is.

    Args:
        reranker: Whose scores are to be cut. Its ``top_n``, ``min_score`` and ``on_error`` are left aside.
        dataset: Questions with gold. Those without are left out; one whose documents all have the grade 0 stays.
        retriever: Finds the candidates of a question, as many as in production: any Runnable from a question to documents.
            Without, they are the question's judged documents (or those that hold an answer) and others of the corpus, drawn
            at random. These are easier to tell apart than what a retriever finds.
        precision: Wanted share of relevant documents among those kept, above 0 and up to 1.
        recall: Wanted share of the relevant candidates that are kept; give one of the two.
        gold: Judge by ids or by answer text: see `langchain_rerankkit.evaluate`.
        match: When a document holds an answer: likewise.
        relevance: Lowest grade of a gold document that counts as relevant; a matcher has its own.
        identity: Gives a document's id: a function, or the name of a metadata field; by default `document_id`.
        candidates: Where there is no retriever, how many documents are scored for a question.
        seed: Of the drawing, and of the parts that questions are cut into.

    Returns:
        The threshold, or that there is none, with what it rests on.

    Raises:
        ValueError: If the scores only order one list, not exactly one target is given, there is nothing to judge by or no
            candidates, or these are too few: fewer than 10 questions with a relevant candidate, or none that is not.
    """
    if reranker.scores_are == "rank":
        msg = (
            f"The scores of {type(reranker).__name__} only order one list: the same score means something else for another "
            "question, so no threshold fits all. Use top_n."
        )
        raise ValueError(msg)
    target: Target = "recall" if precision is None else "precision"
    wanted = recall if precision is None else precision
    if wanted is None or (precision is not None and recall is not None) or not 0 < wanted <= 1:
        msg = "Give either precision or recall, above 0 and at most 1."
        raise ValueError(msg)
    asked = candidates_of(
        dataset,
        retriever,
        gold=gold,
        match=match,
        relevance=relevance,
        identity=identity,
        candidates=candidates,
        seed=seed,
    )
    scored = score_candidates(reranker, asked)
    pairs = Pairs(scored.scores, scored.relevant, scored.questions, len(asked.questions))
    if pairs.with_relevant < _FEWEST:
        msg = (
            f"{pairs.with_relevant} of {len(asked.questions)} questions have a relevant document among their candidates. A "
            f"threshold needs at least {_FEWEST}, better {_FEW}: give more questions, or retrieve more."
        )
        raise ValueError(msg)
    if all(scored.relevant):
        msg = "All candidates are relevant, so there is nothing to tell them from: give those that a retriever finds."
        raise ValueError(msg)

    threshold, why_not = pairs.choose(target, wanted)
    auc = pairs.auc()
    held_out, failed = pairs.held_out(target, wanted, seed)
    separates, verdict = _verdict(
        target, wanted, threshold=threshold, why_not=why_not, auc=auc, held_out=held_out, failed=failed
    )
    kept = pairs.at(threshold) if separates and threshold is not None else None
    return Calibration(
        model=model_id(reranker),
        dataset=dataset.name,
        target=target,
        wanted=wanted,
        threshold=threshold if separates else None,
        verdict=verdict,
        precision=None if kept is None else kept.precision,
        recall=None if kept is None else kept.recall,
        held_out_precision=held_out.precision,
        held_out_recall=held_out.recall,
        auc=auc,
        kept=None if kept is None else kept.documents,
        nothing_kept=None if kept is None else kept.nothing,
        questions=len(asked.questions),
        pairs=len(scored.scores),
        relevant=sum(scored.relevant),
        curve=pairs.curve(),
        notes=tuple(_notes(dataset, asked, scored, pairs, drawn=retriever is None)),
    )


# --- what to say of it ------------------------------------------------------------------------------------------------


def _verdict(
    target: Target, wanted: float, *, threshold: float | None, why_not: str, auc: Estimate, held_out: Kept, failed: int
) -> tuple[bool, str]:
    """Whether there is a threshold, and a sentence."""
    outside = held_out.precision if target == "precision" else held_out.recall
    if auc.low <= 0.5:  # noqa: PLR2004 - chance
        why = f"a relevant document outscores another one with probability {auc}, which chance alone would explain"
        return False, f"No clean separation: {why}."
    if threshold is None:
        return False, f"No clean separation: {why_not}."
    if outside is None or outside.high < wanted:
        said = "nothing is kept" if outside is None else f"{target} is {outside}"
        return False, f"No clean separation: on questions that did not choose the threshold {said}, not {wanted:g}."
    if failed > FOLDS // 2:
        why = f"in {failed} of {FOLDS} parts the other questions found no threshold, so the one found is an accident"
        return False, f"No clean separation: {why}."
    verdict = f"min_score={threshold!r} for {target} {wanted:g}; on held-out questions it is {outside}"
    verdict += "." if outside.low >= wanted else ", so it may fall short."
    if failed:
        verdict += f" In {failed} of {FOLDS} parts the other questions found no threshold."
    return True, verdict


def _notes(dataset: Dataset, asked: Candidates, scored: Scored, pairs: Pairs, *, drawn: bool) -> Iterator[str]:
    if pairs.with_relevant < _FEW:
        yield f"Only {pairs.with_relevant} questions have a relevant candidate: the intervals are wide for a reason."
    if lost := len(dataset.questions) - len(asked.questions):
        yield f"{lost} questions without gold are left out."
    if scored.ungraded and not asked.judged.matcher:
        yield (
            f"{scored.ungraded} of {len(scored.scores)} scored documents have no grade and count as not relevant. Where some "
            "are relevant, precision is in truth higher: it is a lower bound."
        )
    if not asked.judged.matcher:
        gold = sum(g >= asked.judged.relevance for grades in asked.judged.grades.values() for g in grades.values())
        if missing := gold - sum(scored.relevant):
            yield f"{missing} of {gold} relevant documents were not among those scored, and no threshold brings them back."
    if unknown := asked.judged.unknown:
        yield f"{counted(unknown, 'document')} could not be judged and count as not relevant: precision is a lower bound."
    if drawn:
        yield (
            "The candidates are judged documents and others drawn from the corpus, not what a retriever finds: with those, "
            "precision is likely lower. Give the retriever."
        )
    yield from _notes_on_scores(scored)


def _notes_on_scores(scored: Scored) -> Iterator[str]:
    for status, count in sorted(scored.statuses.items()):
        if status == "unjudged":
            yield f"{count} documents were not judged by the reranker and are left out; no min_score cuts them."
        elif status != "ok":
            yield f"{count} documents have no score ({status}): every threshold cuts them."
    if scored.backends:
        yield f"Scored on {', '.join(sorted(scored.backends))}."
