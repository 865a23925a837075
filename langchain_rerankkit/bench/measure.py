"""The measurements: interleaved medians, fresh processes, the machine's own ceiling."""

from __future__ import annotations

import dataclasses
import math
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_rerankkit._optional import require
from langchain_rerankkit.bench.systems import open_system
from langchain_rerankkit.inference.onnx import installed, native_bf16
from langchain_rerankkit.inference.tokens import Tokenizer
from langchain_rerankkit.rerankers.cross_encoder import CrossEncoderReranker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "QUERY",
    "anatomy",
    "ceiling",
    "fresh_process",
    "interleaved",
    "many_queries",
    "model_flops",
    "passages",
    "tokens_of",
]

QUERY = "what did the report say about bridges"


def passages(tokenizer: str, count: int, *, shortest: int = 8, longest: int = 380, seed: int = 0) -> list[str]:
    """Passages of random words of a vocabulary, as long as passages are: log-normal, median about 60 words.

    Args:
        tokenizer: Content of a ``tokenizer.json``.
        count: How many.
        shortest: Fewest words.
        longest: Most words.
        seed: Of the random choice.
    """
    tokenizers = require("tokenizers", extra="onnx")
    words = sorted(
        w
        for w in tokenizers.Tokenizer.from_str(tokenizer).get_vocab()
        if len(w) > 2 and w.isascii() and w.isalpha()  # noqa: PLR2004
    )
    choose = random.Random(seed)  # noqa: S311 - not for secrets
    lengths = [int(min(longest, max(shortest, choose.lognormvariate(4.1, 0.7)))) for _ in range(count)]
    return [" ".join(choose.choices(words, k=length)) for length in lengths]


def tokens_of(tokenizer: str, query: str, texts: Sequence[str], limit: int = 512) -> int:
    """Tokens that a model reads of the pairs, without padding."""
    encoder = Tokenizer(tokenizer)
    ((head, _),) = encoder.heads([query], limit)
    return sum(min(limit, len(encoder.pair(head, ids).ids)) for ids, _ in encoder.heads(texts, limit))


def interleaved(runs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each run in each round; all runs take turns, so that a busy machine is busy for all."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()  # warm
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def fresh_process(name: str, folder: Path, threads: int, count: int, repeats: int = 3) -> dict[str, float]:
    """One system in processes of its own.

    Returns:
        ``first_s``, from the start of the process to its first answer (10 candidates), the median of ``repeats``;
        ``peak_mb``, the most resident memory during a call with ``count`` candidates over what the process held before
        (Linux; else NaN); ``torch``, 1 if torch was imported.
    """
    command = [sys.executable, "-m", "langchain_rerankkit.bench.measure", name, str(folder), str(threads), str(count)]
    firsts, answers = [], ""
    for _ in range(repeats):
        start = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:  # noqa: S603
            answers = process.stdout.readline() if process.stdout else ""
            firsts.append(time.perf_counter() - start)
            answers += process.stdout.readline() if process.stdout and len(firsts) == repeats else ""
            process.kill()  # only the last one goes on to measure its memory
    torch, _, peak = answers.partition("\n")
    if not torch:
        return {"first_s": float("nan"), "peak_mb": float("nan"), "torch": float("nan")}
    return {"first_s": statistics.median(firsts), "peak_mb": float(peak or "nan"), "torch": float(torch)}


def ceiling(precision: str, threads: int) -> float:
    """Multiply-add rate of this machine in FLOP/s for matrices as in the model: the best of many short windows.

    bf16 by torch, fp32 by numpy; NaN where the package or the processor's support is missing.
    """
    rate = float("nan")
    rows, inner, outer, repeats = 1024, 384, 1536, 10
    if precision == "bf16":
        if not (installed("torch") and native_bf16()):
            return rate
        torch = require("torch", extra="local")
        torch.set_num_threads(threads)
        left, right = torch.randn(rows, inner).bfloat16(), torch.randn(outer, inner).bfloat16()

        def multiply() -> Any:
            return torch.nn.functional.linear(left, right)

    else:
        np = require("numpy", extra="onnx")
        left, right = np.random.rand(rows, inner).astype("f4"), np.random.rand(inner, outer).astype("f4")
        out = np.empty((rows, outer), "f4")

        def multiply() -> Any:
            return np.matmul(left, right, out=out)

    best = float("inf")
    for _ in range(60):
        start = time.perf_counter()
        for _ in range(repeats):
            multiply()
        best = min(best, time.perf_counter() - start)
    return 2 * rows * inner * outer * repeats / best


def model_flops(tokens: int, config: dict[str, float]) -> float:
    """Floating-point operations of a BERT's matrix products with weights; attention over the tokens comes on top.

    NaN for models whose configuration speaks another language.
    """
    hidden, wide = config.get("hidden_size", math.nan), config.get("intermediate_size", math.nan)
    return 2.0 * tokens * config.get("num_hidden_layers", math.nan) * (4 * hidden * hidden + 2 * hidden * wide)


def anatomy(folder: Path, texts: list[str], threads: int, rounds: int) -> dict[str, float]:
    """Where the time of one call goes, on the backend that is chosen by itself.

    Returns:
        Seconds in the ``tokenizer``, in the ``model`` and in everything else, which is our own ``python``; ``padding``,
        the share of the model's rows that are padding; and, where the model runs on OpenVINO, ``products``, the share of
        the model's time in products with weights (its own counters, in a run apart), else NaN.
    """
    reranker = CrossEncoderReranker(model=str(folder), device="cpu", threads=threads)
    model = reranker._ready()
    seconds = {"tokenizer": 0.0, "model": 0.0}
    feeds: list[dict[str, Any]] = []

    def timed(part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            try:
                return call(*arguments, **options)
            finally:
                seconds[part] += time.perf_counter() - start

        return run

    def recorded(feed: dict[str, Any]) -> Any:
        feeds.append(feed)
        return graph.run(feed)

    class Timed:
        encode_batch_fast = staticmethod(timed("tokenizer", model._tokenizer._tokenizer.encode_batch_fast))

    tokenizer, graph = model._tokenizer._tokenizer, model._graph
    model._tokenizer._tokenizer = Timed()
    model._graph = dataclasses.replace(graph, run=timed("model", graph.run))
    try:
        reranker.rank(QUERY, texts)
        seconds.update(tokenizer=0.0, model=0.0)
        start = time.perf_counter()
        for _ in range(rounds):
            reranker.rank(QUERY, texts)
        total = time.perf_counter() - start
        parts = {part: value / rounds for part, value in seconds.items()}
        model._graph = dataclasses.replace(graph, run=recorded)
        reranker.rank(QUERY, texts)
    finally:
        model._tokenizer._tokenizer, model._graph = tokenizer, graph
    read = sum(int(feed["attention_mask"].sum()) for feed in feeds)
    padded = sum(feed["attention_mask"].size for feed in feeds)
    return {
        **parts,
        "python": total / rounds - sum(parts.values()),
        "padding": 1 - read / padded,
        "products": _products(folder, feeds, threads) if graph.runtime.startswith("openvino") else float("nan"),
    }


def _products(folder: Path, feeds: list[dict[str, Any]], threads: int) -> float:
    """Share of an OpenVINO model's time in products with weights."""
    options = {
        "INFERENCE_PRECISION_HINT": "bf16" if native_bf16() else "f32",
        "INFERENCE_NUM_THREADS": str(threads),
        "PERFORMANCE_HINT": "LATENCY",
        "PERF_COUNT": "YES",
    }
    core = require("openvino", extra="openvino").Core()
    compiled = core.compile_model(str(folder / "onnx" / "model.onnx"), "CPU", options)
    names = {tensor.get_any_name() for tensor in compiled.inputs}
    request = compiled.create_infer_request()
    seconds = {True: 0.0, False: 0.0}
    for measured in (False, True):  # the first time, kernels are made for each shape
        for feed in feeds:
            request.infer({name: array for name, array in feed.items() if name in names})
            for node in request.profiling_info if measured else ():
                seconds[node.node_type == "FullyConnected"] += node.real_time.total_seconds()
    return seconds[True] / sum(seconds.values())


def many_queries(folder: Path, tokenizer: str, threads: int, rounds: int) -> dict[str, float]:
    """Seconds for 64 questions with 10 short candidates each: one ``batch`` against 64 ``invoke``."""
    from langchain_core.documents import Document

    reranker = CrossEncoderReranker(model=str(folder), device="cpu", threads=threads).warmup()
    texts = passages(tokenizer, 640, shortest=8, longest=16, seed=1)
    inputs: list[Any] = [
        {
            "query": f"{QUERY} {number}",
            "documents": [Document(page_content=text) for text in texts[10 * number : 10 * number + 10]],
        }
        for number in range(64)
    ]
    seconds = interleaved(
        {
            "batch": lambda: reranker.batch(inputs),
            "invoke": lambda: [reranker.invoke(one) for one in inputs],
        },
        rounds,
    )
    return {name: statistics.median(values) for name, values in seconds.items()}


def _resident(field: str) -> float:
    """A line of this process's memory status in MB."""
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith(field)) / 1024


def _probe(name: str, folder: Path, threads: int, count: int) -> None:
    """What `fresh_process` runs."""
    system = open_system(name, folder, threads)
    system(QUERY, [f"The report says that bridge {number} is closed. " * number for number in range(1, 11)])
    print(int("torch" in sys.modules), flush=True)  # noqa: T201 - read by the parent
    texts = passages((folder / "tokenizer.json").read_text(encoding="utf-8"), count)
    peak = float("nan")
    if (forget := Path("/proc/self/clear_refs")).exists():
        forget.write_text("5", encoding="ascii")  # forget the peak of loading the model
        before = _resident("VmRSS")
        system(QUERY, texts)
        peak = _resident("VmHWM") - before
    print(peak, flush=True)  # noqa: T201 - read by the parent


if __name__ == "__main__":
    _probe(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
