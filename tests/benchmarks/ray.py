"""What Ray adds, and when it pays: the same evaluation here and on two actors, rounds interleaved.

Run it as ``python -m tests.benchmarks.ray [ROUNDS]``. Ray is started before the clock is; the actors are not.
"""

from __future__ import annotations

import logging
import os
import statistics
import sys
import time

from langchain_core.documents import Document

from langchain_rerankkit import Dataset, EmbeddedReranker, FunctionReranker, Question, evaluate
from langchain_rerankkit.testing import FixedRetriever

ACTORS = 2


def wait(query, texts):
    time.sleep(0.05)
    return [float(len(text)) for text in texts]


def nothing(query, texts):
    return [float(len(text)) for text in texts]


def questions(count: int) -> Dataset:
    return Dataset(tuple(Question(f"q{n}", f"What is {n}?", documents={"d1": 1}) for n in range(count)))


def pool(count: int) -> FixedRetriever:
    """Every text another one, so that nothing is computed once for all questions."""
    return FixedRetriever(documents=[Document(id=f"d{n}", page_content=f"text {n} " * 40) for n in range(count)])


TASKS = {
    "400 questions, a function that waits 50 ms": (FunctionReranker(function=wait), questions(400), pool(20)),
    "1,000 questions, a function that costs nothing": (FunctionReranker(function=nothing), questions(1000), pool(20)),
    "80 questions x 10 texts, EmbeddedReranker": (EmbeddedReranker(), questions(80), pool(10)),
}


def main(rounds: int) -> None:
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RERANKKIT_PROGRESS": "0"}
    import ray

    start = time.perf_counter()
    ray.init(num_cpus=ACTORS, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    print(f"ray.init: {time.perf_counter() - start:.1f} s")
    seconds: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for name, (reranker, dataset, first) in TASKS.items():
            for engine in ("local", "ray"):
                start = time.perf_counter()
                systems = {"first": first, "reranked": reranker}
                concurrency = ACTORS if engine == "ray" else 1
                report = evaluate(systems, dataset, ["mrr"], engine=engine, concurrency=concurrency)
                seconds.setdefault((name, engine), []).append(time.perf_counter() - start)
                assert not report["reranked"].failures
    print(f"| {rounds} rounds, medians | local, one at a time | Ray, {ACTORS} actors |\n|---|--:|--:|")
    for name in TASKS:
        local, there = (statistics.median(seconds[name, engine]) for engine in ("local", "ray"))
        print(f"| {name} | {local:.1f} s | {there:.1f} s |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
