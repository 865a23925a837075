"""The command ``rerankkit``."""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from langchain_core.documents import Document
from pydantic import ValidationError

import langchain_rerankkit
from langchain_rerankkit.base import Reranker
from langchain_rerankkit.errors import DatasetError, MissingExtraError, RerankKitError, mistakes

__all__ = ["main"]

_RERANKERS = {
    "embedded": "langchain_rerankkit:EmbeddedReranker",
    "lexical": "langchain_rerankkit:LexicalReranker",
    "cross-encoder": "langchain_rerankkit:CrossEncoderReranker",
    "hosted": "langchain_rerankkit:HostedReranker",
    "flashrank": "langchain_rerankkit:FlashRankReranker",
    "seq2seq": "langchain_rerankkit:Seq2SeqReranker",
    "rankllm": "langchain_rerankkit:RankLLMReranker",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Words after the command; by default those of the process.

    Returns:
        The exit status: 0, or 2 with a sentence on standard error for a user's mistake.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # Terminals that cannot show a character show a question mark instead of failing.
            stream.reconfigure(errors="replace")
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except ValidationError as error:
        print(f"rerankkit: {mistakes(error)}", file=sys.stderr)
        return 2
    except (RerankKitError, OSError, ValueError, TypeError) as error:
        print(f"rerankkit: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rerankkit", description="Rerankers for LangChain.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {langchain_rerankkit.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="retrieve, rerank and evaluate bundled documents")
    demo.set_defaults(run=_demo)

    rerank = commands.add_parser(
        "rerank",
        help="rerank passages from a file and write JSON lines",
        description="Reads passages as text lines, or as JSON lines with a field 'text' (and perhaps 'id' and "
        "'metadata'), and writes them best first as JSON lines.",
    )
    rerank.add_argument("query", help="the question")
    rerank.add_argument("file", nargs="?", default="-", help="passages; standard input by default")
    which = rerank.add_mutually_exclusive_group()
    which.add_argument(
        "--reranker", default="embedded", help=f"{', '.join(_RERANKERS)}, or package.module:Class of your own"
    )
    _add_endpoint(rerank, which)
    rerank.add_argument("--model", help="model name or folder, for rerankers that take one")
    rerank.add_argument("--top-n", type=int, help="how many to keep")
    rerank.add_argument("--min-score", type=float, help="lowest score to keep")
    rerank.add_argument("--format", choices=("auto", "jsonl", "text"), default="auto", help="what the lines are")
    rerank.set_defaults(run=_rerank)

    doctor = commands.add_parser(
        "doctor",
        help="say what a rerank endpoint answers, how it orders, what it takes and whether its scores are logits",
        description="Sends three or four small requests to a rerank endpoint and says what it found.",
    )
    _add_endpoint(doctor, doctor, required=True)
    doctor.add_argument("--model", help="model name, where the provider takes one")
    doctor.add_argument("--limits", action="store_true", help="also try how many documents it takes, up to 1024")
    doctor.set_defaults(run=_doctor)

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
    return parser


def _add_endpoint(parser: argparse.ArgumentParser, which: Any, *, required: bool = False) -> None:
    which.add_argument(
        "--provider",
        required=required,
        help="rerank endpoint to ask: a name such as cohere, tei, vllm, llamacpp, custom, or a YAML file of your own",
    )
    parser.add_argument("--base-url", help="address of the endpoint; by default the provider's own")
    parser.add_argument(
        "--api-key-env", metavar="NAME", help="environment variable with its key; by default the provider's own"
    )
    parser.add_argument(
        "--param", action="append", default=[], metavar="NAME=VALUE", help="what the provider needs besides: region=…"
    )
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME=JSON", help="what else the request's body says"
    )


def _endpoint(options: argparse.Namespace) -> dict[str, Any]:
    fields: dict[str, Any] = {"provider": options.provider, "base_url": options.base_url}
    if options.api_key_env:
        if not os.environ.get(options.api_key_env):
            msg = f"The environment variable {options.api_key_env} is not set."
            raise ValueError(msg)
        fields["api_key"] = os.environ[options.api_key_env]
    if options.param:
        fields["params"] = dict(_assignment(text) for text in options.param)
    if options.option:
        fields["request_options"] = {name: _json(value) for name, value in map(_assignment, options.option)}
    return fields


def _assignment(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        msg = f"{text!r} is not NAME=VALUE."
        raise ValueError(msg)
    return name, value


def _json(text: str) -> Any:
    """The value, which need not be quoted where it is a text."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _doctor(options: argparse.Namespace) -> None:
    from langchain_rerankkit.rerankers.hosted import HostedReranker

    with HostedReranker(**_endpoint(options), model=options.model) as reranker:
        print(reranker.diagnose(limits=options.limits))


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


def _demo(_: argparse.Namespace) -> None:
    from langchain_rerankkit.demo import run_demo

    try:
        for paragraph in run_demo():
            print(paragraph, end="\n\n", flush=True)
    except MissingExtraError as error:  # one line for all that the demo needs, not one after the other
        raise MissingExtraError(error.module, "demo", error.reason) from error


def _rerank(options: argparse.Namespace) -> None:
    fields = {"model": options.model, "top_n": options.top_n, "min_score": options.min_score}
    if options.provider:
        fields |= _endpoint(options)
    elif options.base_url or options.api_key_env or options.param or options.option:
        msg = "--base-url, --api-key-env, --param and --option need --provider."
        raise ValueError(msg)
    spec = "hosted" if options.provider else options.reranker
    reranker = _reranker(spec, {name: value for name, value in fields.items() if value is not None})
    if options.file == "-":
        documents = list(_documents(sys.stdin, options.format, None))
    else:
        with Path(options.file).open(encoding="utf-8-sig") as lines:
            documents = list(_documents(lines, options.format, options.file))
    for line in reranker.rank(options.query, documents):
        # JSON has no infinity: a document without a text to judge has no score.
        row = {
            "rank": line.rank,
            "previous_rank": line.previous_rank,
            "score": line.score if math.isfinite(line.score) else None,
            "status": line.status,
            "id": line.document.id,
            "text": line.document.page_content,
            "metadata": line.document.metadata,
        }
        print(json.dumps(row, ensure_ascii=False))


def _reranker(spec: str, fields: dict[str, Any]) -> Reranker:
    module, _, name = _RERANKERS.get(spec, spec).partition(":")
    if not name:
        msg = f"Unknown reranker {spec!r}: choose one of {', '.join(_RERANKERS)}, or package.module:Class."
        raise ValueError(msg)
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        msg = f"The reranker {spec!r} cannot be imported: {error}"
        raise ValueError(msg) from error
    if not (isinstance(kind, type) and issubclass(kind, Reranker)):
        msg = f"{spec!r} is not a Reranker class."
        raise TypeError(msg)
    return kind(**fields)


def _documents(lines: Iterable[str], kind: str, file: str | None) -> Iterator[Document]:
    for number, line in enumerate(lines, start=1):
        text = line.rstrip("\r\n")
        if not text.strip():
            continue
        if kind == "auto":
            kind = "jsonl" if text.lstrip().startswith("{") else "text"
        yield _from_json(text, file, number) if kind == "jsonl" else Document(page_content=text)


def _from_json(text: str, file: str | None, number: int) -> Document:
    try:
        row = json.loads(text)
    except json.JSONDecodeError as error:
        msg = f"The line is not JSON ({error.msg}); use --format text for plain lines."
        raise DatasetError(msg, file=file, line=number) from error
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        msg = "The line must be an object with a string in this field."
        raise DatasetError(msg, file=file, line=number, field="text")
    id_, metadata = row.get("id"), row.get("metadata") or {}
    if not isinstance(metadata, dict):
        msg = "The field must be an object."
        raise DatasetError(msg, file=file, line=number, field="metadata")
    return Document(page_content=row["text"], id=None if id_ is None else str(id_), metadata=metadata)
