"""Try settings of rerankers on one half of a dataset's questions, and report the best ones on the other half."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from langchain_core.documents import BaseDocumentCompressor

from langchain_rerankkit.base import Reranker
from langchain_rerankkit.config.loading import load_reranker
from langchain_rerankkit.evaluation.datasets.dataset import Dataset
from langchain_rerankkit.evaluation.gold.matching import Match
from langchain_rerankkit.evaluation.gold.qrels import GoldKind, Identity
from langchain_rerankkit.evaluation.metrics import parse_metrics
from langchain_rerankkit.evaluation.running.systems import System, is_compression_retriever
from langchain_rerankkit.tuning.choosing import Times, Values, within_noise
from langchain_rerankkit.tuning.halves import Tuned, TuningHalf, judge
from langchain_rerankkit.tuning.report import Tuning, budget_name
from langchain_rerankkit.tuning.settings import Setting
from langchain_rerankkit.tuning.timing import Asked, fastest_batches, measure, median

__all__ = ["tune"]

_FINALISTS = 3  # settings of a budget that are really run
_ROUNDS = 5  # of running them


def tune(
    dataset: Dataset,
    candidates: System,
    rerankers: Mapping[str, Reranker | str] | Sequence[Reranker | str],
    *,
    budgets: Iterable[float] = (0.05, 0.2, 1.0),
    metric: str = "ndcg@10",
    depths: Iterable[int] = (10, 20, 50, 100),
    share: float = 0.5,
    seed: int = 0,
    sample: int = 10,
    gold: GoldKind = "auto",
    match: Match | None = None,
    relevance: int = 1,
    identity: Identity = None,
) -> Tuning:
    """Find the best setting of some rerankers for each budget of time.

    Questions are split into two parts. On the first one every combination is tried (see `every_setting`): how many candidates
    are judged, which reranker chooses for which and how many, and with which weights two of them, or one and the first
    stage's order, are added. Each reranker judges each document once; settings are then computed from what it said, by the
    cascades and ensembles that they would be. A reranker whose scores depend on the other documents (listwise ones, BM25 without
    statistics) is asked again for each depth. Before that local models get the batch size that is fastest here.

    For each budget the best mean counts, of settings whose median time fits; and of all that are within noise of it the
    fastest is chosen: those whose paired difference from the best is at most its standard error. Times are predicted from
    those of each reranker at each depth, and then taken by running the finalists, in turn, on a sample of the questions. No
    reranking at all is a setting too.

    On the second part the chosen ones are evaluated as they will be used, beside no reranking and the last reranker on all
    candidates.

    Args:
        dataset: Questions with gold.
        candidates: The first stage, as in `evaluate`: a retriever, or a ready-made run.
        rerankers: One to four, the cheapest first, by name: rerankers, or lines of `load_reranker`. Their ``top_n``,
            ``min_score`` and ``on_error`` must be at the default, since what is tuned is the whole order.
        budgets: Seconds that reranking may take for the median question.
        metric: What is made as high as possible.
        depths: How many candidates are judged; all of them are tried as well.
        share: Share of the questions that choose.
        seed: Of the split, the sample and the intervals. Times are never quite the same again; everything else is.
        sample: How many questions times are taken on.
        gold: See `evaluate`, as for the following.
        match: When a document holds an answer.
        relevance: Lowest grade of a gold document that counts as relevant.
        identity: Gives a document's id.

    Returns:
        The settings: a table when printed, and files by `Tuning.save`.

    Raises:
        ValueError: If there is no reranker or no question, a budget, depth or name is wrong, or no question has candidates.
        MissingExtraError: If a package is missing.
        ModelNotFoundError: If model files are missing.
        RerankKitError: If a reranker fails at a question of the first part: the figures would be those of the failure. On the
            second part it counts as nothing found, and the notes say so, as in `evaluate`.

    Source:
        The rule for what is within noise: Breiman, Friedman, Olshen and Stone, Classification and Regression Trees (1984),
        section 3.4.3, here with the standard error of the paired difference.
    """
    given = _named(rerankers)
    budgets, wanted = sorted(set(budgets)), sorted(set(depths))
    parse_metrics(metric)
    if not budgets or not all(budget > 0 for budget in budgets) or (wanted and wanted[0] < 1) or sample < 1:
        msg = "Give at least one budget above 0; depths and sample are at least 1."
        raise ValueError(msg)
    for shorter, longer in pairwise(budgets):
        if budget_name(shorter) == budget_name(longer):
            msg = f"Two budgets are both called {budget_name(longer)}: give one of {shorter!r} and {longer!r}."
            raise ValueError(msg)
    if is_compression_retriever(candidates) or isinstance(candidates, BaseDocumentCompressor):
        msg = "candidates is the first stage alone: a retriever without a compressor, or a run."
        raise ValueError(msg)
    choosing, held_out = dataset.split(share, seed)
    judged_by: dict[str, Any] = {"gold": gold, "match": match, "relevance": relevance, "identity": identity}

    half = TuningHalf(choosing, candidates, metric, judged_by)
    limits = [*(depth for depth in wanted if depth < half.deepest), None]
    questions = half.sample(sample, seed)
    members = fastest_batches(given, questions, None if len(limits) == 1 else limits[-2])
    costs = median(
        measure({(name, depth): (one, depth) for name, one in members.items() for depth in limits}, questions, "times")
    )
    values = half.values(members, limits)
    predicted = {setting: 0.0 if setting is None else setting.seconds(costs) for setting in values}
    times = Times(predicted, dict(predicted))
    _run_finalists(members, questions, values, times, budgets)
    chosen = {budget: within_noise(values, times, budget)[0] for budget in budgets}
    return judge(Tuned(given, members, chosen, values, times, seed), candidates, held_out, metric, judged_by)


def _named(rerankers: Mapping[str, Reranker | str] | Sequence[Reranker | str]) -> dict[str, Reranker]:
    if isinstance(rerankers, (str, Reranker)):
        rerankers = [rerankers]
    if not isinstance(rerankers, Mapping):
        pairs = [(one if isinstance(one, str) else one._label(), one) for one in rerankers]  # noqa: SLF001 - its name
        rerankers = dict(pairs)
        if len(rerankers) < len(pairs):
            msg = f"Two rerankers are called alike ({', '.join(name for name, _ in pairs)}): give them by name."
            raise ValueError(msg)
    named = {name: load_reranker(one) if isinstance(one, str) else one for name, one in rerankers.items()}
    if not 0 < len(named) <= 4:  # noqa: PLR2004 - settings grow with the square
        msg = f"Give one to four rerankers, the cheapest first, not {len(named)}."
        raise ValueError(msg)
    for name, one in named.items():
        if not isinstance(one, Reranker):
            msg = f"{name!r} is a {type(one).__name__}, no Reranker."
            raise TypeError(msg)
        if (
            one.top_n is not None
            or one.min_score is not None
            or one.on_error != Reranker.model_fields["on_error"].default
        ):
            msg = f"{name!r} has a top_n, min_score or on_error: set it on what comes out, since the whole order is tuned."
            raise ValueError(msg)
    return named


def _run_finalists(
    members: Mapping[str, Reranker], questions: Asked, values: Values, times: Times, budgets: Sequence[float]
) -> None:
    """Take the times of what may be chosen; what the others are predicted to take is corrected alike."""
    run: set[Setting | None] = {None}
    for last in [False] * (_ROUNDS - 1) + [True]:
        new = {
            setting: (setting.build(members), None)
            for budget in budgets
            for setting in within_noise(values, times, budget)[:_FINALISTS]
            if setting is not None and setting not in run
        }
        if not new:
            return
        taken = median(measure(new, questions, "finalists"))
        slower = statistics.median(taken[setting] / max(times.taken[setting], 1e-9) for setting in new)
        run |= set(new)
        for setting, so_far in list(times.taken.items()):
            if setting in taken:
                times.taken[setting] = taken[setting]
            elif setting not in run:
                times.taken[setting] = math.inf if last else so_far * max(slower, 1.0)
