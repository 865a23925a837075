"""Rerankers that need no download on the retrieval test sets: nDCG@10 over BM25's top 100.

Run it as ``python -m tests.benchmarks.quality FOLDER``, where each set is a folder in BEIR's layout with its candidates
in ``runs/bm25.trec``; names of sets after the folder take those alone.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

from langchain_rerankkit import (
    BiEncoderReranker,
    Dataset,
    EmbeddedEmbeddings,
    EmbeddedReranker,
    LexicalReranker,
    TermStatistics,
    evaluate,
)
from langchain_rerankkit.evaluation.datasets.trec import load_run


class Vectors:
    """Vectors of the documents that a run names, computed once."""

    def __init__(self, dataset, run):
        named = {id_ for found in run.values() for id_ in found}
        documents = [document for document in dataset.corpus if document.id in named]
        vectors = EmbeddedEmbeddings().embed([document.page_content for document in documents])
        self._vectors = {document.id: vector for document, vector in zip(documents, vectors, strict=True)}

    def get_vectors_by_ids(self, ids):
        return {id_: self._vectors[id_] for id_ in ids}


def measure(folder: Path):
    """nDCG@10 of each system on one set."""
    dataset = Dataset.load(folder)
    run = load_run(folder / "runs" / "bm25.trec")
    vectors = Vectors(dataset, run)
    collection = TermStatistics.from_texts(document.page_content for document in dataset.corpus)
    systems = {
        "BM25": run,
        "LexicalReranker": LexicalReranker(),
        "LexicalReranker, statistics of the collection": LexicalReranker(statistics=collection),
        "cosine alone": BiEncoderReranker(embeddings=EmbeddedEmbeddings(), store=vectors),
        "EmbeddedReranker": EmbeddedReranker(store=vectors),
        "EmbeddedReranker, statistics of the collection": EmbeddedReranker(store=vectors, statistics=collection),
    }
    report = evaluate(systems, dataset, ["ndcg@10"])
    return {result.name: result.scores["ndcg@10"] for result in report.systems}


def main(data: Path, names: list[str]) -> None:
    names = names or sorted(path.name for path in data.iterdir() if path.is_dir())
    results = {}
    for name in names:
        results[name] = measure(data / name)
        print(name, {system: round(value, 4) for system, value in results[name].items()}, flush=True)
    systems = list(results[names[0]])
    print("| system | " + " | ".join(names) + " | mean |")
    print("|---|" + "--:|" * (len(names) + 1))
    for system in systems:
        values = [results[name][system] for name in names]
        print(f"| {system} | " + " | ".join(f"{value:.3f}" for value in [*values, statistics.mean(values)]) + " |")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
