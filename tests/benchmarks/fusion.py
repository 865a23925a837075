"""Do fused systems beat the better of their parts? nDCG@10 on the retrieval test sets, with a paired test.

Run it as ``python -m tests.benchmarks.fusion FOLDER VECTORS [SET …]``: sets are folders in BEIR's layout in FOLDER, each with
BM25's candidates in ``runs/bm25.trec``; the vectors of texts are kept in the folder VECTORS. Two tables:

- retrieval from the whole collection: BM25, FAISS with the embedded embeddings, and both in a `FusionRetriever`;
- reranking of the candidates: lexical, cosine, and both in an `EnsembleReranker`.

A difference is the mean over the sets of its mean over a set's questions, so that each set counts the same. Its p-value is
that of the randomisation test, which swaps the two systems at random within each question.
"""

from __future__ import annotations

import statistics
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
from langchain_core.embeddings import Embeddings

from langchain_rerankkit import (
    FAISS,
    BiEncoderReranker,
    BM25Retriever,
    Dataset,
    EmbeddedEmbeddings,
    EnsembleReranker,
    FusionRetriever,
    LexicalReranker,
    TermStatistics,
    compare,
    evaluate,
)
from langchain_rerankkit.evaluation.datasets.trec import load_run
from langchain_rerankkit.evaluation.significance import randomisation_test

METRIC = "ndcg@10"
DEPTH = 100  # documents of each retriever
METHODS = ("rrf", "z-score", "min-max")


class KeptEmbeddings(Embeddings):
    """The embedded embeddings, with vectors kept in a file."""

    def __init__(self, folder: Path, texts: list[str]) -> None:
        path = folder / f"{sha256(repr(texts).encode()).hexdigest()}.npy"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            np.save(path, EmbeddedEmbeddings().embed(texts))
        self._vectors = dict(zip(texts, np.load(path, allow_pickle=False), strict=True))

    def embed_documents(self, texts):
        return [self._vectors[text] for text in texts]

    def embed_query(self, text):
        return self._vectors[text]


def measure(folder: Path, vectors: Path):
    """The reports on retrieval and on reranking of one set."""
    dataset = Dataset.load(folder)
    texts = [document.page_content for document in dataset.corpus]
    questions = [question.text for question in dataset.questions]
    embeddings = KeptEmbeddings(vectors, list(dict.fromkeys([*texts, *questions])))
    store = FAISS.from_documents(
        dataset.corpus, embeddings, distance="cosine", ids=[document.id for document in dataset.corpus]
    )
    bm25 = BM25Retriever.from_documents(dataset.corpus, k=DEPTH)
    dense = store.as_retriever(search_kwargs={"k": DEPTH})
    retrieval = {
        "BM25": bm25,
        "FAISS": dense,
        **{f"fusion, {method}": FusionRetriever(retrievers=[bm25, dense], method=method) for method in METHODS},
    }
    lexical = LexicalReranker(statistics=TermStatistics.from_texts(texts))
    cosine = BiEncoderReranker(embeddings=embeddings, store=store)
    reranking = {
        "BM25's candidates": load_run(folder / "runs" / "bm25.trec"),
        "lexical": lexical,
        "cosine": cosine,
        **{f"ensemble, {method}": EnsembleReranker(rerankers=[lexical, cosine], method=method) for method in METHODS},
    }
    return evaluate(retrieval, dataset, METRIC), evaluate(reranking, dataset, METRIC)


def mean(reports, system):
    """The mean over sets."""
    return statistics.mean(report[system].scores[METRIC] for report in reports)


def better_part(reports, parts):
    return max(parts, key=lambda part: mean(reports, part))


def difference(reports, system, baseline):
    """Mean over sets of the difference, and its p-value."""
    shares = []
    for report in reports:
        changes = compare(report, baseline, resamples=100).per_question[METRIC][system]
        shares += [change / len(changes) / len(reports) for change in changes.values()]
    (p,) = randomisation_test(np.array(shares)[:, np.newaxis])
    return sum(shares), p


def show(names, reports, parts):
    best = better_part(reports, parts)
    print(f"\n| system | {' | '.join(names)} | mean | less {best} | p |")
    print("|---|" + "--:|" * (len(names) + 3))
    for system in (one.name for one in reports[0].systems):
        values = [*(report[system].scores[METRIC] for report in reports), mean(reports, system)]
        told = ["", ""]
        if system != best:
            change, p = difference(reports, system, best)
            told = [f"{change:+.3f}", f"{p:.4f}"]
        print(f"| {system} | {' | '.join([*(f'{value:.3f}' for value in values), *told])} |")


def main(data: Path, vectors: Path, names: list[str]) -> None:
    names = names or sorted(path.name for path in data.iterdir() if path.is_dir())
    retrieval, reranking = [], []
    for name in names:
        one, other = measure(data / name, vectors)
        retrieval.append(one)
        reranking.append(other)
        print(f"{name}: {one.questions} questions", flush=True)
    show(names, retrieval, ["BM25", "FAISS"])
    show(names, reranking, ["lexical", "cosine"])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
