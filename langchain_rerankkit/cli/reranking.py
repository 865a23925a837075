"""``rerankkit rerank`` and ``rerankkit doctor``."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from langchain_core.documents import Document

from langchain_rerankkit.cli.specs import RERANKERS, add_allow, assignment, make_reranker, value_of
from langchain_rerankkit.errors import DatasetError

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add the commands to a parser."""
    rerank = commands.add_parser(
        "rerank",
        help="rerank passages from a file and write JSON lines",
        description="Reads passages as text lines, or as JSON lines with a field 'text' (and perhaps 'id' and "
        "'metadata'), and writes them best first as JSON lines.",
    )
    rerank.add_argument("query", help="the question")
    rerank.add_argument("file", nargs="?", default="-", help="passages; standard input by default")
    which = rerank.add_mutually_exclusive_group()
    which.add_argument("--reranker", default="embedded", metavar="SPEC", help=RERANKERS)
    _add_endpoint(rerank, which)
    add_allow(rerank)
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
        fields["params"] = dict(assignment(text) for text in options.param)
    if options.option:
        fields["request_options"] = {name: value_of(value) for name, value in map(assignment, options.option)}
    return fields


def _doctor(options: argparse.Namespace) -> None:
    from langchain_rerankkit.rerankers.hosted import HostedReranker

    with HostedReranker(**_endpoint(options), model=options.model) as reranker:
        print(reranker.diagnose(limits=options.limits))


def _rerank(options: argparse.Namespace) -> None:
    from langchain_rerankkit.rerankers.hosted import HostedReranker

    fields = {"model": options.model, "top_n": options.top_n, "min_score": options.min_score}
    if options.provider:
        fields |= _endpoint(options)
    elif options.base_url or options.api_key_env or options.param or options.option:
        msg = "--base-url, --api-key-env, --param and --option need --provider."
        raise ValueError(msg)
    said = {name: value for name, value in fields.items() if value is not None}
    reranker = (
        HostedReranker(**said) if options.provider else make_reranker(options.reranker, said, allow=options.allow)
    )
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
            "rerank": line.details,
        }
        print(json.dumps(row, ensure_ascii=False))


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
