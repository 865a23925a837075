"""``rerankkit bench``: all measurements in one run, as text and as JSON."""

from __future__ import annotations

import json
import math
import platform
import statistics
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_rerankkit.bench import measure
from langchain_rerankkit.bench.systems import MINILM, automatic, available, make_model, open_system
from langchain_rerankkit.inference.onnx import native_bf16

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_rerankkit.bench.systems import System

__all__ = ["run_bench", "table"]

_REFERENCE = "rerankkit onnx fp32"


def run_bench(
    *,
    model: str | None = None,
    candidates: int = 100,
    curve: tuple[int, ...] = (10, 20, 50, 100, 200, 500, 1000, 2000),
    rounds: int = 5,
    threads: int = 2,
    shape: dict[str, int] = MINILM,
) -> dict[str, Any]:
    """Compare the backends of this package with the other packages that are installed.

    Args:
        model: A cross-encoder with safetensors; by default one made here: see `make_model`.
        candidates: Passages of the main comparison.
        curve: Numbers of candidates of the scaling curve.
        rounds: Interleaved rounds; figures are medians.
        threads: Threads of every system.
        shape: Shape of the model made here.

    Returns:
        Plain data; `table` shows it.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = make_model(Path(scratch), model, shape)
        tokenizer = (folder / "tokenizer.json").read_text(encoding="utf-8")
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        texts = measure.passages(tokenizer, candidates)
        tokens = measure.tokens_of(tokenizer, measure.QUERY, texts)
        rates = {name: measure.ceiling(name, threads) for name in ("fp32", "bf16")}  # before others' threads spin
        names = available()
        fresh = {name: measure.fresh_process(name, folder, threads, candidates) for name in names}
        systems = {name: open_system(name, folder, threads) for name in names}
        logits = {name: [_logit(score) for score in system(measure.QUERY, texts)] for name, system in systems.items()}
        main = _medians(systems, texts, rounds)
        few = _medians(systems, texts[:20], rounds)
        flops = measure.model_flops(tokens, config)
        rows = []
        for name in names:
            rate = rates.get(name.rpartition(" ")[2], float("nan"))
            rows.append(
                {
                    "system": name,
                    "seconds": main[name],
                    "tokens_per_s": tokens / main[name],
                    "seconds_20": few[name],
                    "ceiling_share": flops / rate / main[name],
                    "difference": max(abs(a - b) for a, b in zip(logits[name], logits[_REFERENCE], strict=True)),
                    **fresh[name],
                }
            )
        chosen = automatic(folder, threads)
        many = measure.passages(tokenizer, max(curve), seed=2)
        points = [{"candidates": n, **_point(chosen, systems[chosen], folder, many[:n], threads)} for n in curve]
        return {
            "machine": {"processor": _processor(), "threads": threads, "native_bf16": native_bf16()},
            "passages": candidates,
            "tokens": tokens,
            "spread": statistics.pstdev(logits[_REFERENCE]),
            "rounds": rounds,
            "ceiling_flops": rates,
            "model_flops": flops,
            "systems": rows,
            "automatic": chosen,
            "scaling": points,
            "one_call": measure.anatomy(folder, texts, threads, rounds),
            "many_queries": measure.many_queries(folder, tokenizer, threads, rounds),
        }


def table(result: dict[str, Any]) -> str:
    """The result of `run_bench` as Markdown."""
    return "\n".join(_lines(result))


def _lines(result: dict[str, Any]) -> Iterator[str]:
    machine, chosen = result["machine"], result["automatic"]
    bf16 = "with" if machine["native_bf16"] else "without"
    yield (
        f"{result['passages']} passages, {result['tokens']} tokens; {machine['processor']}, {machine['threads']} threads, "
        f"{bf16} bf16; medians of {result['rounds']} interleaved rounds. Of itself, rerankkit takes {chosen.split()[1]} in "
        f"{chosen.split()[2]}; the columns 'times' compare with it."
    )
    yield ""
    yield (
        f"| system | s | times | tokens/s | 20 candidates, ms | times | of the ceiling | peak MB | first answer, s "
        f"| logits differ (spread {result['spread']:.2f}) |"
    )
    yield "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
    base = next(row for row in result["systems"] if row["system"] == chosen)
    for row in result["systems"]:
        share = f"{row['ceiling_share']:.0%}" if math.isfinite(row["ceiling_share"]) else "-"
        yield (
            f"| {row['system']} | {row['seconds']:.2f} | {row['seconds'] / base['seconds']:.1f} "
            f"| {row['tokens_per_s']:,.0f} | {1e3 * row['seconds_20']:.0f} | {row['seconds_20'] / base['seconds_20']:.1f} "
            f"| {share} | {_mb(row['peak_mb'])} | {row['first_s']:.1f} | {row['difference']:.0e} |"
        )
    yield ""
    rates = {name: rate for name, rate in result["ceiling_flops"].items() if math.isfinite(rate)}
    yield "- Matrix-product ceiling: " + ", ".join(
        f"{rate / 1e9:,.0f} GFLOP/s in {name}" for name, rate in rates.items()
    )
    yield f"- One call: {_anatomy(result)}"
    many = result["many_queries"]
    yield (
        f"- 64 questions x 10 short candidates: batch {many['batch']:.2f} s, 64 invokes {many['invoke']:.2f} s "
        f"({many['invoke'] / many['batch']:.2f} times)"
    )
    yield ""
    yield "| candidates | " + " | ".join(str(point["candidates"]) for point in result["scaling"]) + " |"
    yield "|---|" + "--:|" * len(result["scaling"])
    yield "| s | " + " | ".join(f"{point['seconds']:.2f}" for point in result["scaling"]) + " |"
    yield "| peak MB | " + " | ".join(_mb(point["peak_mb"]) for point in result["scaling"]) + " |"


def _anatomy(result: dict[str, Any]) -> str:
    """In words, where the time of a call goes."""
    parts = result["one_call"]
    total = parts["tokenizer"] + parts["model"] + parts["python"]
    words = ", ".join(f"{part} {parts[part] / total:.1%}" for part in ("tokenizer", "python", "model"))
    words += f" of {1e3 * total:.0f} ms. {parts['padding']:.0%} of the model's rows are padding"
    if math.isfinite(parts["products"]):
        seconds = parts["products"] * parts["model"]
        rate = result["model_flops"] / (1 - parts["padding"]) / seconds
        ceiling = result["ceiling_flops"][result["automatic"].split()[2]]
        words += (
            f"; products with weights take {parts['products']:.0%} of its time, at {rate / ceiling:.0%} of the ceiling, "
            "attention, norms and activations the rest"
        )
    return words


def _medians(systems: dict[str, System], texts: list[str], rounds: int) -> dict[str, float]:
    def run(system: System) -> Any:
        return lambda: system(measure.QUERY, texts)

    seconds = measure.interleaved({name: run(system) for name, system in systems.items()}, rounds)
    return {name: statistics.median(values) for name, values in seconds.items()}


def _point(name: str, system: System, folder: Path, texts: list[str], threads: int) -> dict[str, float]:
    seconds = measure.interleaved({name: lambda: system(measure.QUERY, texts)}, 1 if len(texts) > 500 else 3)  # noqa: PLR2004
    fresh = measure.fresh_process(name, folder, threads, len(texts), repeats=1)
    return {"seconds": statistics.median(seconds[name]), "peak_mb": fresh["peak_mb"]}


def _logit(score: float) -> float:
    return math.log(score / (1 - score)) if 0 < score < 1 else math.copysign(math.inf, score - 0.5)


def _mb(value: float) -> str:
    return f"{max(0.0, value):.0f}" if math.isfinite(value) else "-"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
