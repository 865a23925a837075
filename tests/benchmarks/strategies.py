"""Strategies of listwise reranking on a simulated judge: quality, calls and tokens side by side.

Run it as ``python -m tests.benchmarks.strategies FOLDER``, where the folder is NovelEval in BEIR's layout: 20 graded
passages for each question, filled up to 100 with those of other questions, in random order. The judge answers by the
grades and puts, at a set rate, two passages that are one grade apart the wrong way round.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from langchain_rerankkit import Dataset, ListwiseReranker, PointwiseLLMReranker, evaluate
from langchain_rerankkit.llm.strategies import strategies
from tests.judge import Judge

CANDIDATES = 100
SYSTEMS = {
    "sliding": {},
    "sliding, step 5": {"step": 5},
    "tournament": {"strategy": "tournament"},
    "setwise": {"strategy": "setwise"},
    "setwise, window 5, step 1": {"strategy": "setwise", "window_size": 5, "step": 1},
    "single": {"strategy": "single"},
    "single, 3 passes": {"strategy": "single", "passes": 3},
    "sliding, 3 passes": {"passes": 3},
    "tournament, 3 passes": {"strategy": "tournament", "passes": 3},
}


def load(folder: Path) -> tuple[Dataset, dict[str, list[str]], dict[str, dict[str, float]]]:
    """The dataset, 100 candidates for each question, and the grades of texts for each query."""
    dataset = Dataset.load(folder)
    text = {document.id: document.page_content for document in dataset.corpus}
    rng = random.Random(0)
    pools, grades = {}, {}
    for question in dataset.questions:
        own = [id_ for id_ in text if id_.startswith(f"{question.id}-")]
        others = [id_ for id_ in text if not id_.startswith(f"{question.id}-")]
        pool = own + rng.sample(others, CANDIDATES - len(own))
        rng.shuffle(pool)
        pools[question.id] = pool
        grades[question.text] = {text[id_]: float(grade) for id_, grade in question.documents.items()}
    return dataset, pools, grades


def reranker(judge: Judge, **fields):
    return ListwiseReranker(model=judge, passage_tokens=None, seed=0, **fields)


def report(folder: Path, error_rate: float):
    """The evaluation of every system with a judge of that error rate."""
    dataset, pools, grades = load(folder)
    judge = Judge(by_query=grades, error_rate=error_rate)
    systems = {"candidates": pools} | {name: reranker(judge, **fields) for name, fields in SYSTEMS.items()}
    systems["one by one, graded"] = PointwiseLLMReranker(model=judge, style="graded", passage_tokens=None, seed=0)
    return evaluate(systems, dataset, ["ndcg@10"])


def one_after_the_other(strategy="sliding", window_size=20, step=10, **_) -> int:
    """Rounds that a strategy takes over 100 candidates: what it has to wait for, however many calls run at once."""
    order = random.Random(0).sample(range(CANDIDATES), CANDIDATES)
    run = strategies[strategy](order, window_size, step)
    windows, rounds = next(run), 0
    while windows is not None:
        rounds += 1
        try:
            windows = run.send([sorted(window) for window in windows])
        except StopIteration:
            windows = None
    return rounds


def table(folder: Path, rates=(0.0, 0.1, 0.2, 0.3)) -> str:
    """A Markdown table: nDCG@10 at each error rate, and what a query costs."""
    reports = [report(folder, rate) for rate in rates]
    head = ["", *(f"nDCG@10, errs at {rate:.0%}" for rate in rates), "calls", "one after the other", "tokens read"]
    lines = ["| " + " | ".join(head) + " |", "|---" + "|--:" * (len(head) - 1) + "|"]
    questions = reports[0].questions
    for result in reports[0].systems:
        scores = [f"{found[result.name].scores['ndcg@10']:.3f}" for found in reports]
        usage = result.usage or {}
        rounds = {"candidates": 0, "one by one, graded": 1}.get(result.name)
        rounds = one_after_the_other(**SYSTEMS[result.name]) if rounds is None else rounds
        cost = [
            f"{usage.get('calls', 0) / questions:.0f}",
            str(rounds),
            f"{usage.get('input_tokens', 0) / questions:,.0f}",
        ]
        lines.append("| " + " | ".join([result.name, *scores, *cost]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(Path(sys.argv[1])))
