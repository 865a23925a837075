"""The command ``rerankkit``."""

from __future__ import annotations

import argparse
import importlib
import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from langchain_core.documents import Document
from pydantic import ValidationError

import langchain_rerankkit
from langchain_rerankkit.base import Reranker
from langchain_rerankkit.errors import DatasetError, MissingExtraError, RerankKitError

__all__ = ["main"]

_RERANKERS = {
    "embedded": "langchain_rerankkit:EmbeddedReranker",
    "lexical": "langchain_rerankkit:LexicalReranker",
    "cross-encoder": "langchain_rerankkit:CrossEncoderReranker",
    "flashrank": "langchain_rerankkit:FlashRankReranker",
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
        mistakes = [f"{'.'.join(map(str, mistake['loc']))}: {mistake['msg']}" for mistake in error.errors()]
        print(f"rerankkit: {'; '.join(mistakes)}", file=sys.stderr)
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
    rerank.add_argument(
        "--reranker", default="embedded", help=f"{', '.join(_RERANKERS)}, or package.module:Class of your own"
    )
    rerank.add_argument("--model", help="model name or folder, for rerankers that take one")
    rerank.add_argument("--top-n", type=int, help="how many to keep")
    rerank.add_argument("--min-score", type=float, help="lowest score to keep")
    rerank.add_argument("--format", choices=("auto", "jsonl", "text"), default="auto", help="what the lines are")
    rerank.set_defaults(run=_rerank)
    return parser


def _demo(_: argparse.Namespace) -> None:
    from langchain_rerankkit.demo import run_demo

    try:
        for paragraph in run_demo():
            print(paragraph, end="\n\n", flush=True)
    except MissingExtraError as error:  # one line for all that the demo needs, not one after the other
        raise MissingExtraError(error.module, "demo", error.reason) from error


def _rerank(options: argparse.Namespace) -> None:
    fields = {"model": options.model, "top_n": options.top_n, "min_score": options.min_score}
    reranker = _reranker(options.reranker, {name: value for name, value in fields.items() if value is not None})
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
