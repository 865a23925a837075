"""FlashRankReranker beside flashrank's own Ranker: time, peak memory, scores.

One ONNX model of MiniLM-L6 shape (6 layers, 384 wide, random weights), 100 passages of 8 to 380 words. Times are medians
of interleaved calls in one process; a peak is the most resident memory during one call in a fresh process whose model is
loaded, over what the process held before it (Linux).

    python -m tests.benchmarks.flashrank
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests import models

ROUNDS = 5
QUERY = "which river flows through the city"


def systems(folder: Path):
    """Functions from texts to aligned scores, by name."""
    import flashrank

    from langchain_rerankkit import FlashRankReranker

    ranker = flashrank.Ranker(folder.name, cache_dir=str(folder.parent), log_level="ERROR")
    reranker = FlashRankReranker(model_path=str(folder))

    def theirs(texts):
        passages = [{"id": position, "text": text} for position, text in enumerate(texts)]
        ranked = ranker.rerank(flashrank.RerankRequest(QUERY, passages))
        return [float(p["score"]) for p in sorted(ranked, key=lambda p: p["id"])]

    def ours(texts):
        return [line.score for line in sorted(reranker.rank(QUERY, texts), key=lambda line: line.previous_rank)]

    return {"flashrank.Ranker": theirs, "FlashRankReranker": ours}


def peak(folder: Path, name: str) -> float:
    """Growth of the peak in MB, in a fresh process."""
    command = [sys.executable, "-m", "tests.benchmarks.flashrank", str(folder), name]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measure_peak(folder: Path, name: str) -> None:
    run = systems(folder)[name]
    run(models.passages(1))
    Path("/proc/self/clear_refs").write_text("5")  # Linux: forget the peak of loading the model
    before = resident("VmRSS")
    run(models.passages())
    print(resident("VmHWM") - before)


def resident(field: str) -> float:
    """A line of this process's memory status in MB."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith(field)) / 1024


def main() -> None:
    texts = models.passages()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / models.FLASHRANK_NAME
        models.save_flashrank(folder, hidden=384, layers=6, heads=12)
        peaks = {name: peak(folder, name) for name in ("flashrank.Ranker", "FlashRankReranker")}
        runs = systems(folder)
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        scores = {name: run(texts) for name, run in runs.items()}  # warm
        for _ in range(ROUNDS):
            for name, run in runs.items():
                start = time.perf_counter()
                run(texts)
                seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    difference = max(abs(a - b) for a, b in zip(*scores.values(), strict=True))
    print(f"{len(texts)} passages, {os.cpu_count()} cores, {ROUNDS} interleaved rounds")
    for name in runs:
        print(f"{name:20s} {medians[name]:7.2f} s   {peaks[name]:7.0f} MB at most during a call")
    theirs, ours = runs
    print(f"time {medians[theirs] / medians[ours]:.1f} times less, memory {peaks[theirs] / peaks[ours]:.1f} times less")
    print(f"largest difference of a score {difference:.1e}")
    print(json.dumps({"seconds": seconds, "peak_mb": peaks, "difference": difference}))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure_peak(Path(sys.argv[1]), sys.argv[2])
    else:
        main()
