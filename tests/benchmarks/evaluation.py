"""How long the arithmetic of an evaluation takes, beside ir-measures, rounds interleaved.

Run it as ``python -m tests.benchmarks.evaluation [ROUNDS]``.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

import ir_measures
from langchain_core.documents import Document

from langchain_rerankkit import Dataset, FunctionReranker, Question, compare, evaluate
from langchain_rerankkit.evaluation.metrics import score
from langchain_rerankkit.testing import FixedRetriever

QUERIES, DEPTH, CUTOFFS = 10_000, 100, (1, 5, 10, 100)
THEIRS = {"hit": "Success", "mrr": "RR", "precision": "P", "recall": "R", "map": "AP", "ndcg": "nDCG"}


def made_up(queries: int, depth: int):
    """Rankings, and grades for ten of the documents in each and ten that it lacks."""
    draw = random.Random(0)
    documents = [f"document-{number}" for number in range(200_000)]
    rankings = {f"q{number}": draw.sample(documents, depth) for number in range(queries)}
    gold = {
        query: {document: draw.randint(0, 3) for document in (*draw.sample(found, 10), *draw.sample(documents, 10))}
        for query, found in rankings.items()
    }
    return gold, rankings


def timed(function) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main(rounds: int) -> None:
    gold, rankings = made_up(QUERIES, DEPTH)
    ours = [f"{metric}@{cutoff}" for metric in THEIRS for cutoff in CUTOFFS]
    theirs = [ir_measures.parse_measure(f"{THEIRS[metric]}@{cutoff}") for metric in THEIRS for cutoff in CUTOFFS]

    def ask_them():
        run = {query: {d: -float(place) for place, d in enumerate(found)} for query, found in rankings.items()}
        list(ir_measures.iter_calc(theirs, gold, run))

    report = evaluate(
        {f"system {n}": {q: draw_again(found, n) for q, found in rankings.items()} for n in range(5)},
        Dataset(tuple(Question(query, query, documents=grades) for query, grades in gold.items())),
    )
    tasks = {
        "metrics, ours": lambda: score(gold, rankings, ours),
        "metrics, ir-measures": ask_them,
        "compare, 5 systems by 7 metrics": lambda: compare(report),
    }
    seconds = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            seconds[name].append(timed(task))
    print(f"{QUERIES} queries x {DEPTH} documents x {len(THEIRS)} metrics x {len(CUTOFFS)} cut-offs, {rounds} rounds")
    for name, values in seconds.items():
        print(f"{name:32} {statistics.median(values):6.2f} s")
    for name, value in kept(rounds).items():
        print(f"{name:32} {value * 1e3:6.2f} ms for a question")


def draw_again(found, seed):
    return random.Random(f"{seed} {found[0]}").sample(found, len(found))


def kept(rounds: int) -> dict[str, float]:
    """What keeping answers on disk adds to a question with 100 candidates."""
    documents = [Document(id=f"d{n}", page_content=f"{n} " + "some words " * 60) for n in range(100)]
    retriever = FixedRetriever(documents=documents)
    reranker = FunctionReranker(function=lambda query, texts: [float(len(text)) for text in texts])
    dataset = Dataset(tuple(Question(f"q{n}", f"question {n}", documents={"d1": 1}) for n in range(200)))
    seconds: dict[str, list[float]] = {"evaluate, in memory": [], "evaluate, kept on disk": []}
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            for name, run_dir in (
                ("evaluate, in memory", None),
                ("evaluate, kept on disk", Path(folder) / str(number)),
            ):
                systems = {"first": retriever, "reranked": reranker}
                spent = timed(lambda run_dir=run_dir, systems=systems: evaluate(systems, dataset, run_dir=run_dir))
                seconds[name].append(spent / len(dataset.questions))
    return {name: statistics.median(values) for name, values in seconds.items()}


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
