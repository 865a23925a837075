"""Local rerankers on a GPU: the same scores as on the processor, and how long they take on both.

Run it as ``python -m tests.benchmarks.gpu`` on a machine with CUDA; it needs no network, and ends with status 1 where
scores differ. Models have random weights and the shape of MiniLM-L6.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

from langchain_rerankkit import CrossEncoderReranker, LateInteractionReranker
from langchain_rerankkit.ranking import kendall_tau
from tests.benchmarks.late_interaction import DIMENSIONS, MINILM, QUERY, TOKENS, passages

# In full precision a GPU only adds in another order. bf16 has 8 bits: scores of random weights lie close together, so the
# order of pairs is what is looked at (Kendall's tau).
LARGEST_DIFFERENCE = 2e-3
LEAST_AGREEMENT = 0.85


def models(folder: Path):
    """Makers of a late-interaction reranker and of a cross-encoder, from a device, a precision and other fields."""
    from tests.models import save_cross_encoder, save_late_interaction

    late = save_late_interaction(folder / "late", dimensions=DIMENSIONS, initializer_range=0.05, **MINILM)
    cross = save_cross_encoder(folder / "cross", hidden=384, layers=6, heads=12, spread=0.05)

    def make_late(device: str, precision: str, **fields):
        return LateInteractionReranker(
            model=str(late), device=device, precision=precision, max_length=TOKENS, **fields
        ).warmup()

    def make_cross(device: str, precision: str):
        return CrossEncoderReranker(
            model=str(cross), backend="torch", device=device, precision=precision, max_length=512
        ).warmup()

    return {"late interaction": make_late, "cross-encoder": make_cross}


def raw_scores(reranker, texts: list[str]) -> list[float]:
    return [line.raw_score for line in sorted(reranker.rank(QUERY, texts), key=lambda line: line.previous_rank)]


def report(what: str, found: list[float], expected: list[float], *, exact: bool) -> bool:
    apart = max(abs(one - other) for one, other in zip(found, expected, strict=True))
    tau = kendall_tau(found, expected)
    right = apart <= LARGEST_DIFFERENCE if exact else tau >= LEAST_AGREEMENT
    print(f"{'ok  ' if right else 'FAIL'} {what}: at most {apart:.1e} apart, Kendall's tau {tau:.3f}", flush=True)
    return right


def same_scores(makers, device: str, store: Path) -> bool:
    """Whether the device scores as the processor does."""
    texts = passages(100)
    right = []
    for name, make in makers.items():
        expected = raw_scores(make("cpu", "fp32"), texts)
        for precision in ("fp32", "bf16"):
            found = raw_scores(make(device, precision), texts)
            what = f"{name}, {device} {precision} against cpu fp32"
            right.append(report(what, found, expected, exact=precision == "fp32"))
    make = makers["late interaction"]
    make(device, "bf16", store=store).encode_documents(texts)
    reader = make("cpu", "fp32", store=store)
    right.append(all(line.details.get("stored") for line in reader.rank(QUERY, texts)))
    expected = raw_scores(make("cpu", "fp32"), texts)
    found = raw_scores(reader, texts)
    right.append(report(f"vectors stored by {device} in bf16, read by cpu", found, expected, exact=False))
    return all(right)


def milliseconds(run, rounds: int) -> float:
    run()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times)


def timings(makers, device: str, store: Path) -> None:
    """Print the median times of one query."""
    for where, count, rounds in ((device, 100, 9), (device, 1000, 5), ("cpu", 100, 3)):
        texts = passages(count, seed=count)
        stored = makers["late interaction"](where, "auto", store=store)
        stored.encode_documents(texts)
        rows = {
            "cross-encoder": partial(makers["cross-encoder"](where, "auto").rank, QUERY, texts),
            "late interaction, nothing stored": partial(makers["late interaction"](where, "auto").rank, QUERY, texts),
            "late interaction, stored": partial(stored.rank, QUERY, texts),
            "the query alone": partial(stored._ready().encoder.queries, [QUERY]),
        }
        for name, run in rows.items():
            print(f"{where:5} {count:5} passages, {name:34}{milliseconds(run, rounds):9.1f} ms", flush=True)


def main(device: str = "cuda") -> int:
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        print("There is no CUDA device.")
        return 1
    print(f"{torch.cuda.get_device_name() if device == 'cuda' else device}, torch {torch.__version__}", flush=True)
    with tempfile.TemporaryDirectory() as place:
        makers = models(Path(place))
        right = same_scores(makers, device, Path(place) / "store")
        timings(makers, device, Path(place) / "store")
    print("all right" if right else "scores differ")
    return int(not right)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
