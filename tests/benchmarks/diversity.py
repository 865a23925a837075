"""What diversity costs and gains: relevance, aspects and distance for several lambdas, and the time it takes.

Run it as ``python -m tests.benchmarks.diversity FOLDER``, where each set is a folder in BEIR's layout with its candidates in
``runs/bm25.trec``. Without a folder only the time is measured.

The sets: HotpotQA, of whose questions each needs two passages; the same with every passage there twice, the second time
without its last sentence, as overlapping chunks and mirrors have it; and MedQuAD, where an aspect is the kind of thing that
a section tells (symptoms, treatments, …), and several sources tell the same.
"""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import numpy as np
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings

from langchain_rerankkit import (
    Dataset,
    DiversityReranker,
    EmbeddedEmbeddings,
    EmbeddedReranker,
    FunctionReranker,
    Question,
    TermStatistics,
    evaluate,
)
from langchain_rerankkit.evaluation.datasets.trec import load_run

METRICS = ["ndcg@10", "alpha_ndcg@10", "coverage@10", "ild@10"]
LAMBDAS = (0.9, 0.8, 0.7, 0.5)
CANDIDATES = 100
KINDS = re.compile(
    "symptoms|treatment|cause|prevent|diagnose|outlook|complications|inherited|genetic|risk|see a doctor|side effects|"
    "brand names|dosage|forget|storage|emergency|support|research|how many|precautions|interactions|what is",
    re.IGNORECASE,
)


class Remembering(Embeddings):
    """The embedded model, each text once."""

    def __init__(self):
        self._vectors = {}

    def embed_documents(self, texts):
        new = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        self._vectors.update(zip(new, EmbeddedEmbeddings().embed(new) if new else [], strict=True))
        return [self._vectors[text] for text in texts]

    def embed_query(self, text):
        return self.embed_documents([text])[0]


class Store:
    """Vectors of documents by id."""

    def __init__(self, corpus, embeddings):
        texts = embeddings.embed_documents([document.page_content for document in corpus])
        self._vectors = dict(zip((document.id for document in corpus), texts, strict=True))

    def get_vectors_by_ids(self, ids):
        return {id_: self._vectors[id_] for id_ in ids}


def plain(folder):
    return Dataset.load(folder), load_run(folder / "runs" / "bm25.trec")


def twice(folder):
    """Each passage there twice, and an aspect for each."""
    dataset, run = plain(folder)
    copies = [
        Document(id=f"{d.id} again", page_content=re.sub(r"(?<=[.!?]) [^.!?]+[.!?]\s*$", "", d.page_content))
        for d in dataset.corpus
    ]
    questions = tuple(
        Question(q.id, q.text, aspects={id_: {id_: grade, f"{id_} again": grade} for id_, grade in q.documents.items()})
        for q in dataset.questions
    )
    doubled = {id_: [name for found in ids for name in (found, f"{found} again")] for id_, ids in run.items()}
    return Dataset(questions, (*dataset.corpus, *copies), f"{dataset.name}, each passage twice"), doubled


def by_kind(folder):
    """An aspect for each kind of thing that a section tells."""
    dataset, run = plain(folder)
    titles = {document.id: document.metadata["title"] for document in dataset.corpus}
    questions = []
    for question in dataset.questions:
        aspects = {}
        for id_, grade in question.documents.items():
            found = KINDS.search(titles[id_])
            aspects.setdefault(found[0].lower() if found else titles[id_], {})[id_] = grade
        questions.append(Question(question.id, question.text, aspects=aspects))
    return Dataset(tuple(questions), dataset.corpus, dataset.name), run


def effect(dataset, run, embeddings):
    store = Store(dataset.corpus, embeddings)
    words = TermStatistics.from_texts(document.page_content for document in dataset.corpus)
    member = EmbeddedReranker(store=store, statistics=words)
    common = {"embeddings": embeddings, "reranker": member, "store": store}
    systems = {
        "BM25": {id_: ids[:CANDIDATES] for id_, ids in run.items()},
        "EmbeddedReranker": member,
        **{f"MMR {value}": DiversityReranker(lambda_mult=value, **common) for value in LAMBDAS},
        "duplicates=0.95": DiversityReranker(lambda_mult=1.0, duplicates=0.95, **common),
        "MMR 0.8, duplicates=0.95": DiversityReranker(lambda_mult=0.8, duplicates=0.95, **common),
    }
    report = evaluate(systems, dataset, METRICS, embeddings=embeddings)
    print(f"\n{dataset.name}: {report.questions} questions\n\n| system | {' | '.join(METRICS)} | ILS@10 |")
    print("|---|" + "--:|" * (len(METRICS) + 1))
    for system in report.systems:
        scores = [*system.scores.values(), 1 - system.scores["ild@10"]]
        print(f"| {system.name} | " + " | ".join(f"{value:.3f}" for value in scores) + " |", flush=True)
    changes = report.compare("EmbeddedReranker", metrics=["alpha_ndcg@10", "coverage@10"])
    for system in ("MMR 0.8", "duplicates=0.95"):
        print(*(f"- {changes[system, metric]}" for metric in ("alpha_ndcg@10", "coverage@10")), sep="\n")


def seconds(count, rounds=15, **fields):
    """Of one ranking beyond its scores, which are given, as its vectors are by a store; the least of several rounds."""
    random = np.random.default_rng(0)
    documents = [Document(id=str(n), page_content=f"text {n}") for n in range(count)]
    embeddings = Remembering()
    store = Store([], embeddings)
    store._vectors = dict(
        zip((d.id for d in documents), random.normal(size=(count, 384)).astype("float32"), strict=True)
    )
    scores = random.random(count).tolist()
    member = FunctionReranker(function=lambda query, texts: scores)
    systems = {
        "with": DiversityReranker(embeddings=embeddings, reranker=member, store=store, **fields),
        "without": member,
    }
    times = {name: [] for name in systems}
    for _ in range(rounds):
        for name, reranker in systems.items():
            start = time.perf_counter()
            reranker.rank("q", documents)
            times[name].append(time.perf_counter() - start)
    return min(times["with"]) - min(times["without"])


def main(folder=None):
    print("| candidates | MMR ms | MMR, top_n=10 ms | MMR and duplicates ms |\n|--:|--:|--:|--:|")
    for count in (100, 1000, 4000):
        took = [seconds(count), seconds(count, top_n=10), seconds(count, duplicates=0.95)]
        print(f"| {count:,} | " + " | ".join(f"{value * 1e3:.1f}" for value in took) + " |", flush=True)
    if folder is None:
        return
    embeddings = Remembering()
    for name, load in (("hotpotqa-100", plain), ("hotpotqa-100", twice), ("medquad-liveqa", by_kind)):
        effect(*load(Path(folder) / name), embeddings)


if __name__ == "__main__":
    main(*sys.argv[1:])
