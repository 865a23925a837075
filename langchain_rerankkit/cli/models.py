"""``rerankkit bench``, ``rerankkit export`` and ``rerankkit prefetch``."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add the commands to a parser."""
    bench = commands.add_parser(
        "bench", help="speed, memory and agreement of local cross-encoders, beside other packages that are installed"
    )
    bench.add_argument(
        "--model", help="cross-encoder with safetensors; by default MiniLM-L6's shape with random weights"
    )
    bench.add_argument("--candidates", type=int, default=100, help="passages of the main comparison (100)")
    bench.add_argument("--largest", type=int, default=2000, help="most candidates of the scaling curve (2000)")
    bench.add_argument("--rounds", type=int, default=5, help="interleaved rounds (5)")
    bench.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="threads; by default all processors")
    bench.add_argument("--json", metavar="FILE", help="write the figures there as well")
    bench.set_defaults(run=_bench)

    export = commands.add_parser("export", help="write a cross-encoder as an ONNX graph that runs without torch")
    export.add_argument("model", help="model name on the hub, or a folder with safetensors")
    export.add_argument("folder", help="where to")
    export.add_argument(
        "--precision",
        action="append",
        choices=("fp32", "fp16", "int8"),
        default=[],
        help="also a graph with such weights",
    )
    export.add_argument("--revision", help="commit, tag or branch on the hub")
    export.set_defaults(run=_export)

    prefetch = commands.add_parser(
        "prefetch",
        help="put a model's files into a folder with a manifest of checksums, for machines without a network",
    )
    prefetch.add_argument("model", help="model name on the hub, or a folder")
    prefetch.add_argument("folder", help="where to")
    prefetch.add_argument("--backend", choices=("onnx", "openvino", "torch"), default="onnx", help="what will run it")
    prefetch.add_argument("--precision", choices=("auto", "fp32", "fp16", "int8"), default="auto", help="which graph")
    prefetch.add_argument("--file-name", help="which graph, by name")
    prefetch.add_argument("--revision", help="commit, tag or branch on the hub")
    prefetch.set_defaults(run=_prefetch)


def _bench(options: argparse.Namespace) -> None:
    from langchain_rerankkit.bench.report import run_bench, table

    curve = tuple(n for n in (10, 20, 50, 100, 200, 500, 1000, 2000) if n <= options.largest)
    result = run_bench(
        model=options.model,
        candidates=options.candidates,
        curve=curve,
        rounds=options.rounds,
        threads=options.threads,
    )
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(result))


def _export(options: argparse.Namespace) -> None:
    from langchain_rerankkit.inference.export import export

    for path in export(
        options.model, options.folder, precisions=options.precision or ["fp32"], revision=options.revision
    ):
        print(f"{path}  {path.stat().st_size / 1e6:.1f} MB")


def _prefetch(options: argparse.Namespace) -> None:
    from langchain_rerankkit.inference.models import prefetch

    formats: dict[str, tuple[Any, ...]] = {"onnx": ("onnx",), "openvino": ("openvino", "onnx"), "torch": ()}
    print(
        prefetch(
            options.model,
            options.folder,
            formats=formats[options.backend],
            precision=options.precision,
            file_name=options.file_name,
            revision=options.revision,
        )
    )
