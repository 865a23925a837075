"""Rerankers and systems, as a word of a command line names them."""

from __future__ import annotations

import importlib
import json
from typing import Any

from langchain_rerankkit.base import Reranker

__all__ = ["RERANKERS", "assignment", "find", "make_reranker", "value_of"]

RERANKERS = {
    "embedded": "langchain_rerankkit:EmbeddedReranker",
    "lexical": "langchain_rerankkit:LexicalReranker",
    "cross-encoder": "langchain_rerankkit:CrossEncoderReranker",
    "hosted": "langchain_rerankkit:HostedReranker",
    "flashrank": "langchain_rerankkit:FlashRankReranker",
    "seq2seq": "langchain_rerankkit:Seq2SeqReranker",
    "rankllm": "langchain_rerankkit:RankLLMReranker",
}


def make_reranker(spec: str, fields: dict[str, Any]) -> Reranker:
    """Make a reranker.

    Args:
        spec: A name of `RERANKERS`, or ``package.module:Class``.
        fields: What it is made with.

    Raises:
        TypeError: If it is something else.
        ValueError: If it cannot be found.
    """
    kind = find(RERANKERS.get(spec, spec))
    if not (isinstance(kind, type) and issubclass(kind, Reranker)):
        msg = f"{spec!r} is not a Reranker class."
        raise TypeError(msg)
    return kind(**fields)


def find(spec: str) -> Any:
    """What ``package.module:name`` names.

    Raises:
        ValueError: If it cannot be found.
    """
    module, _, name = spec.partition(":")
    if not name:
        msg = f"Unknown reranker {spec!r}: choose one of {', '.join(RERANKERS)}, or package.module:Class."
        raise ValueError(msg)
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        msg = f"{spec!r} cannot be imported: {error}"
        raise ValueError(msg) from error


def assignment(text: str) -> tuple[str, str]:
    """Name and value of ``NAME=VALUE``."""
    name, sign, value = text.partition("=")
    if not sign:
        msg = f"{text!r} is not NAME=VALUE."
        raise ValueError(msg)
    return name, value


def value_of(text: str) -> Any:
    """The value, which need not be quoted where it is a text."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
