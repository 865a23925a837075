"""What a document costs that a cache knows, and one that it does not: 100 documents of about 120 tokens.

Run it as ``python -m tests.benchmarks.cached [ROUNDS]``. The member is the embedded reranker with its statistics; the rounds
of all are interleaved.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

from langchain_core.documents import Document

from langchain_rerankkit import CachedReranker, EmbeddedReranker, TermStatistics
from langchain_rerankkit.score_cache import KeptScore, MemoryScores, SQLiteScores
from tests.models import WORDS

ENTRIES = 100_000


def texts(count: int, seed: int) -> list[str]:
    words = random.Random(seed)
    return [" ".join(words.choices(WORDS, k=110)) for _ in range(count)]


def main(rounds: int) -> None:
    pool = texts(100, 0)
    documents = [Document(page_content=text) for text in pool]
    member = EmbeddedReranker(statistics=TermStatistics.from_texts(pool)).warmup()
    with tempfile.TemporaryDirectory() as folder:
        caches = {
            "memory": CachedReranker(member),
            "file": CachedReranker(member, path=Path(folder) / "scores.sqlite"),
        }
        taken: dict[str, list[float]] = {}
        for number in range(rounds):
            for name, reranker in {"uncached": member, **caches}.items():
                for state in ("",) if name == "uncached" else ("all new", "all known"):
                    given = {"query": f"which river flows through city {number}", "documents": documents}
                    start = time.perf_counter()
                    reranker.invoke(given)
                    taken.setdefault(f"{name} {state}", []).append(time.perf_counter() - start)
        for name, seconds in taken.items():
            print(f"{name:20} median {1e3 * statistics.median(seconds):8.2f} ms, worst {1e3 * max(seconds):8.2f} ms")

        entries = {number.to_bytes(32, "big"): KeptScore(number / 7, {}) for number in range(ENTRIES)}
        tracemalloc.start()
        memory = MemoryScores(ENTRIES, None)
        memory.put({key: KeptScore(kept.score + 0.5, {}) for key, kept in entries.items()})
        held, _ = tracemalloc.get_traced_memory()
        keys = ENTRIES * sys.getsizeof(next(iter(entries)))
        print(f"{ENTRIES} scores in memory: {(held + keys) / 2**20:.0f} MB")
        tracemalloc.stop()
        path = Path(folder) / "full.sqlite"
        file = SQLiteScores(str(path), ENTRIES, None)
        start = time.perf_counter()
        file.put(entries)
        print(f"{ENTRIES} scores into a file: {time.perf_counter() - start:.1f} s at once")
        some = random.Random(1).sample(list(entries), 100)
        seconds = []
        for number in range(200):
            start = time.perf_counter()
            file.get(some)
            seconds.append(time.perf_counter() - start)
            start = time.perf_counter()
            file.put({(ENTRIES + 100 * number + n).to_bytes(32, "big"): KeptScore(1.0, {}) for n in range(100)})
            taken.setdefault("put", []).append(time.perf_counter() - start)
        file.close()
        print(
            f"100 of a full file: read in {1e3 * statistics.median(seconds):.2f} ms, "
            f"put in {1e3 * statistics.median(taken['put']):.2f} ms; worst {1e3 * max(taken['put']):.0f} ms"
        )
        print(f"the file: {path.stat().st_size / 2**20:.0f} MB")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
