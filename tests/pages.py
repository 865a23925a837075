"""What tests and benchmarks of the page share: a headless Chromium, and reports made up by chance."""

import os
import shutil
from dataclasses import replace

import pytest

from langchain_rerankkit.evaluation.metrics import score
from langchain_rerankkit.evaluation.report import EvaluationReport, Latency, SystemResult

CHROMIUM = "/usr/bin/chromium"
READY = "data-ready"  # on the root element: "explorer" when the list stands, "all" when the plots do
# No sandbox, for containers; nothing that goes to the network by itself.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def launch(playwright):
    return playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)


def need_browser():
    """Skip where there is none, unless the environment says that there must be one."""
    required = bool(os.environ.get("RERANKKIT_BROWSER"))
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        if required:
            raise
        pytest.skip("playwright is not installed")
    if shutil.which(CHROMIUM) is None:
        if required:
            pytest.fail(f"RERANKKIT_BROWSER is set, and there is no {CHROMIUM}")
        pytest.skip(f"there is no {CHROMIUM}")


METRICS = ("hit@1", "hit@5", "mrr@10", "ndcg@10", "map@10", "precision@5", "recall@5")
NAMES = ("BM25", "MiniLM-L6 cross-encoder", "FlashRank TinyBERT", "EmbeddedReranker", "RankGPT listwise")
SKILL = (0.0, 2.0, 1.0, 1.4, 2.4)
SECONDS = (0.0, 0.18, 0.02, 0.035, 1.9)
WORDS = ("river", "mountain", "city", "bridge", "museum", "yoga", "tea", "market", "law", "engine", "protein", "treaty")


def synthetic_report(random, questions, systems=5, depth=100, metrics=METRICS):
    """Systems that reorder one pool each question; the last one fails now and then."""
    names = [NAMES[at] if at < len(NAMES) else f"system {at}" for at in range(systems)]
    texts, gold, documents, pools = {}, {}, {}, {}
    for number in range(questions):
        id_ = f"q{number}"
        texts[id_] = (
            f"Which {random.choice(WORDS)} lies by the {random.choice(WORDS)} of {random.choice(WORDS)}? {number}"
        )
        pools[id_] = [f"doc-{at}" for at in random.sample(range(max(questions * 20, 2 * depth)), depth)]
        gold[id_] = {
            d: random.choice((1, 1, 2)) for d in random.sample(pools[id_][: depth // 2], random.choice((1, 1, 2, 3)))
        }
        if random.random() < 0.1:
            gold[id_][f"lost-{number}"] = 1
    results = []
    for at, name in enumerate(names):
        failures = (
            {f"q{number}": "503 Service Unavailable" for number in range(0, questions, 97)}
            if at == len(names) - 1 > 0
            else {}
        )
        rankings, scores = {}, {}
        for id_, pool in pools.items():
            worth = {
                d: (random.gauss(0, 1) + SKILL[at % len(SKILL)] * gold[id_].get(d, 0)) if at else -0.05 * place
                for place, d in enumerate(pool)
            }
            rankings[id_] = [] if id_ in failures else sorted(pool, key=lambda d: -worth[d])
            scores[id_] = [worth[d] for d in rankings[id_]]
            for d in rankings[id_][:20]:
                if d not in documents:
                    documents[d] = " ".join(random.choices(WORDS, k=90))
        per_question = score(gold, rankings, metrics)
        means = {metric: sum(values.values()) / max(1, len(values)) for metric, values in per_question.items()}
        result = SystemResult(
            name,
            means,
            per_question,
            rankings,
            scores,
            {metric: min(1.0, mean + 0.25) for metric, mean in means.items()},
            retrieval=Latency(0.02, 0.004, 0.009),
            failures=failures,
        )
        if at:
            seconds = SECONDS[at % len(SECONDS)] or 0.05
            timed = Latency(1.2, seconds, 1.6 * seconds)
            result = replace(result, source=names[0], candidates=float(depth), words=90.0, reranking=timed)
        results.append(result)
    return EvaluationReport("synthetic", questions, results, ["Made up by chance."], 1, texts, gold, documents)
