"""Late interaction with stored vectors against a cross-encoder on the same passages: median times, interleaved.

Run it as ``python -m tests.benchmarks.late_interaction``. Models have random weights: an encoder of MiniLM-L6's shape
(``--large``: of ColBERTv2's, BERT-base) with vectors of 128 dimensions, whose queries are filled up to 32 tokens; and a
cross-encoder of MiniLM-L6's shape on the fastest backend installed. With ``--texts N`` it fills a store with N texts of 8
vectors instead, and times what opening and reading take then.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

MINILM = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
BERT_BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
QUERY = "which river flows through the city under nine bridges?"
TOKENS, DIMENSIONS = 120, 128


def passages(count: int, seed: int = 0) -> list[str]:
    """Passages of 120 tokens, markers included."""
    import random

    from tests.models import WORDS

    choose = random.Random(seed)
    return [" ".join(choose.choices(WORDS, k=TOKENS - 3)) for _ in range(count)]


def compare(folder: Path, *, large: bool, rounds: int, count: int, threads: int | None) -> str:
    """Lines of a report."""
    from langchain_rerankkit import CrossEncoderReranker, LateInteractionReranker
    from langchain_rerankkit.bench.systems import make_model
    from tests.models import save_late_interaction

    shape = BERT_BASE if large else MINILM
    encoder_folder = save_late_interaction(folder / "encoder", dimensions=DIMENSIONS, initializer_range=0.05, **shape)
    texts = passages(count)
    cross = CrossEncoderReranker(model=str(make_model(folder / "cross", None)), device="cpu").warmup()
    fields = {"model": str(encoder_folder), "device": "cpu", "max_length": TOKENS, "threads": threads}
    late = LateInteractionReranker(store=folder / "store", **fields).warmup()
    plain = LateInteractionReranker(**fields).warmup()
    late.encode_documents(texts)
    encoder = late._ready().encoder
    vectors = encoder.documents(texts, max_length=TOKENS)
    ready = encoder.queries([QUERY])

    def query_given():
        encoder.queries = lambda *_: ready
        try:
            late.rank(QUERY, texts)
        finally:
            del encoder.queries

    systems = {
        "cross-encoder": lambda: cross.rank(QUERY, texts),
        "late interaction, stored": lambda: late.rank(QUERY, texts),
        "  beyond encoding the query": query_given,
        "late interaction, nothing stored": lambda: plain.rank(QUERY, texts),
    }
    for run in systems.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(rounds):
        for name, run in systems.items():
            start = time.perf_counter()
            run()
            times[name].append((time.perf_counter() - start) * 1000)
    medians = {name: statistics.median(values) for name, values in times.items()}
    lines = [f"{name:34}{median:10.1f} ms" for name, median in medians.items()]
    size = sum(path.stat().st_size for path in (folder / "store").rglob("*") if path.is_file())
    return "\n".join(
        [
            f"{count} passages of {sum(len(one.values) for one in vectors) / count:.0f} vectors, {rounds} rounds",
            f"cross-encoder: {cross.rank(QUERY, texts[:1])[0].details['backend']}; encoder: {encoder.runtime}, threads={threads}, {shape}",
            *lines,
            f"times faster than the cross-encoder: {medians['cross-encoder'] / medians['late interaction, stored']:.0f}",
            f"on disk: {size / count / 1024:.1f} KiB a passage",
        ]
    )


def grow(folder: Path, count: int) -> str:
    """Lines of a report."""
    import numpy as np

    from langchain_rerankkit.inference.token_store import TokenStore
    from langchain_rerankkit.inference.token_vectors import TokenVectors

    values = np.random.default_rng(0).normal(size=(8, DIMENSIONS)).astype(np.float32)
    store = TokenStore(folder / "store", "benchmark", DIMENSIONS)
    start = time.perf_counter()
    last = 0.0
    for first in range(0, count, 1000):
        began = time.perf_counter()
        store.put({f"text {number}": TokenVectors(values) for number in range(first, min(count, first + 1000))})
        last = time.perf_counter() - began
    filled = time.perf_counter() - start
    times = []
    for seed in range(20):
        asked = [f"text {number}" for number in np.random.default_rng(seed).integers(0, count, 100)]
        start = time.perf_counter()
        fresh = TokenStore(folder / "store", "benchmark", DIMENSIONS)
        opened = time.perf_counter()
        found = fresh.get(asked)
        times.append((opened - start, time.perf_counter() - opened))
        if len(found) != len(set(asked)):
            sys.exit("texts are missing")
        fresh.close()
    index = (folder / "store" / "index.sqlite").stat().st_size
    return (
        f"{count:,} texts: filled in {filled:.0f} s (the last 1,000 in {last * 1000:.0f} ms), opened in "
        f"{statistics.median(a for a, _ in times) * 1000:.1f} ms, 100 read in "
        f"{statistics.median(b for _, b in times) * 1000:.1f} ms; index {index / count:.0f} bytes a text"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--large", action="store_true", help="an encoder of BERT-base's shape")
    parser.add_argument("--threads", type=int, help="of the encoder; the cross-encoder has all")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--passages", type=int, default=100)
    parser.add_argument("--texts", type=int, default=0, help="fill a store with so many texts instead")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        if given.texts:
            print(grow(Path(place), given.texts))
        else:
            print(
                compare(
                    Path(place), large=given.large, rounds=given.rounds, count=given.passages, threads=given.threads
                )
            )
