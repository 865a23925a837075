"""`BM25Retriever` over a million short passages: time, memory, latency; and beside others at a size that they can bear.

    python -m tests.benchmarks.bm25                       # a million passages of 20 to 60 words
    python -m tests.benchmarks.bm25 --beside 20000        # bm25s and langchain-community's retriever, rounds interleaved
    python -m tests.benchmarks.bm25 --quality FOLDER      # nDCG@10 with and without stop words, on sets in BEIR's layout

Words are made up and drawn by Zipf's law, the most frequent ones being English stop words, as in English. Queries are
five to ten words by the same law: most hold words that are in every tenth passage. The comparison needs rank-bm25.
"""

from __future__ import annotations

import argparse
import random
import resource
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import bm25s
import numpy as np
from langchain_core.documents import Document

from langchain_rerankkit import BM25Retriever, Dataset, evaluate
from langchain_rerankkit.lexical import analyser, stop_words

WORDS = 500_000
ROUNDS = 5


class Zipf:
    """Texts of made-up words; the word of rank r comes in proportion to 1 / r."""

    def __init__(self, seed: int) -> None:
        self._draw = np.random.default_rng(seed)
        letters = random.Random(0)
        words = dict.fromkeys(sorted(stop_words("english")))
        while len(words) < WORDS:
            words["".join(letters.choices("etaoinshrdlucmfw", k=letters.randint(4, 11)))] = None
        self._words = np.array(list(words), dtype=object)
        self._chances = np.cumsum(1 / np.arange(1, WORDS + 1))
        self._chances /= self._chances[-1]

    def texts(self, count: int, shortest: int, longest: int) -> Iterator[str]:
        for length in self._draw.integers(shortest, longest + 1, count):
            yield " ".join(self._words[np.searchsorted(self._chances, self._draw.random(length))])


def timed(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def latencies(search: Callable[[str], object], queries: list[str]) -> str:
    milliseconds = [timed(lambda query=query: search(query)) * 1e3 for query in queries]
    return f"p50 {np.percentile(milliseconds, 50):6.1f} ms, p95 {np.percentile(milliseconds, 95):6.1f} ms"


def at_size(passages: int, folder: Path) -> None:
    zipf = Zipf(1)
    queries = list(Zipf(2).texts(200, 5, 10))
    print(f"{passages} passages, {peak():.2f} GiB before them")
    documents = [Document(id=f"p{n}", page_content=text) for n, text in enumerate(zipf.texts(passages, 20, 60))]
    print(f"documents                    {peak():.2f} GiB")
    start = time.perf_counter()
    retriever = BM25Retriever.from_documents(documents, k=10)
    print(f"from_documents             {time.perf_counter() - start:6.1f} s, {peak():.2f} GiB")
    del documents
    print(f"first search               {timed(lambda: retriever.invoke(queries[0])):6.1f} s, {peak():.2f} GiB")
    print(f"searches                   {latencies(retriever.invoke, queries)}")
    whole = BM25Retriever(k=10, stop_words=None, index=retriever.index)
    print(f"  stop words searched too  {latencies(whole.invoke, queries)}")
    print(f"  k=1000                   {latencies(lambda query: retriever.invoke(query, k=1000), queries)}")
    more = list(zipf.texts(1000, 20, 60))
    print(f"adding 1000                {timed(lambda: retriever.add_texts(more)):6.1f} s")
    print(f"deleting 1000              {timed(lambda: retriever.delete([f'p{n}' for n in range(1000)])):6.1f} s")
    print(f"next search                {timed(lambda: retriever.invoke(queries[0])):6.1f} s, {peak():.2f} GiB")
    print(f"statistics                 {timed(retriever.statistics):6.1f} s, {peak():.2f} GiB")
    print(f"saving                     {timed(lambda: retriever.save_local(folder)):6.1f} s, {peak():.2f} GiB")


def from_folder(folder: Path) -> None:
    size = sum(file.stat().st_size for file in folder.iterdir()) / 2**20
    start = time.perf_counter()
    loaded = BM25Retriever.load_local(folder)
    print(f"loading {size:4.0f} MiB           {time.perf_counter() - start:6.1f} s, {peak():.2f} GiB")
    print(f"first search               {timed(lambda: loaded.invoke('a query')):6.1f} s, {peak():.2f} GiB")


def beside(passages: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # langchain-community announces its end when imported
        from langchain_community.retrievers import BM25Retriever as Community

    texts = list(Zipf(1).texts(passages, 20, 60))
    queries = list(Zipf(2).texts(100, 5, 10))
    analyse = analyser("english")

    class Bare:
        """What a careful person writes with bm25s."""

        def __init__(self) -> None:
            self._index = bm25s.BM25()
            self._index.index([analyse(text) for text in texts], show_progress=False)

        def invoke(self, query: str) -> object:
            return self._index.retrieve([analyse(query)], corpus=texts, k=4, show_progress=False)

    makers = {
        "BM25Retriever": lambda: BM25Retriever.from_texts(texts),
        "BM25Retriever, stop words too": lambda: BM25Retriever.from_texts(texts, stop_words=None),
        "bm25s": Bare,
        "langchain-community": lambda: Community.from_texts(texts),
        "langchain-community, same terms": lambda: Community.from_texts(texts, preprocess_func=analyse),
    }
    indexing = {name: [] for name in makers}
    searching = {name: [] for name in makers}
    for _ in range(ROUNDS):
        for name, make in makers.items():
            start = time.perf_counter()
            system = make()
            system.invoke(queries[0])
            indexing[name].append(time.perf_counter() - start)
            searching[name] += [timed(lambda query=query, system=system: system.invoke(query)) for query in queries]
    print(f"{passages} passages, {len(queries)} queries, {ROUNDS} rounds interleaved")
    for name in makers:
        p50, p95 = np.percentile(searching[name], [50, 95]) * 1e3
        seconds = statistics.median(indexing[name])
        print(f"{name:33} indexed in {seconds:6.2f} s   p50 {p50:7.2f} ms   p95 {p95:7.2f} ms")


def quality(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from langchain_community.retrievers import BM25Retriever as Community

    makers = {
        "BM25Retriever": BM25Retriever.from_documents,
        "stop_words=None": lambda documents, k: BM25Retriever.from_documents(documents, k=k, stop_words=None),
        "language=None": lambda documents, k: BM25Retriever.from_documents(documents, k=k, language=None),
        "k1=0.9, b=0.4": lambda documents, k: BM25Retriever.from_documents(documents, k=k, k1=0.9, b=0.4),
        "langchain-community": Community.from_documents,
    }
    found = {name: {} for name in makers}
    for part in sorted(path for path in folder.iterdir() if path.is_dir()):
        dataset = Dataset.load(part)
        systems = {name: make(list(dataset.corpus), k=10) for name, make in makers.items()}
        report = evaluate(systems, dataset, metrics=["ndcg@10"])
        for result in report.systems:
            found[result.name][part.name] = result.scores["ndcg@10"]
    print(f"{'nDCG@10':24}" + "".join(f"{name[:10]:>12}" for name in found["BM25Retriever"]) + f"{'mean':>12}")
    for name, values in found.items():
        cells = [*values.values(), statistics.mean(values.values())]
        print(f"{name:24}" + "".join(f"{value:12.3f}" for value in cells))


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("passages", type=int, nargs="?", default=1_000_000)
    arguments.add_argument("--beside", type=int, metavar="PASSAGES")
    arguments.add_argument("--quality", type=Path, metavar="FOLDER")
    given = arguments.parse_args()
    if given.quality:
        quality(given.quality)
    elif given.beside:
        beside(given.beside)
    else:
        with tempfile.TemporaryDirectory() as made:
            at_size(given.passages, Path(made))
            from_folder(Path(made))
