"""What a JSON value of an answer holds that could be an order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

__all__ = ["scalars", "texts"]

_KEYS = (
    "ranking",
    "order",
    "ranked",
    "permutation",
    "result",
    "results",
    "answer",
    "identifiers",
    "ids",
    "arguments",
    "parameters",
)
_ID_KEYS = ("id", "identifier", "index", "passage", "document", "number", "passage_id", "document_id", "doc_id")
_DEEPEST = 5  # an order is not deeper


def texts(value: Any, depth: int = 0) -> Iterator[str]:
    """Texts of a JSON value, without its keys."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)) and depth <= _DEEPEST:
        for item in value.values() if isinstance(value, dict) else value:
            yield from texts(item, depth + 1)


def scalars(value: Any, depth: int = 0) -> Iterator[str]:
    """Texts and whole numbers of a JSON value that could be identifiers, in order."""
    if isinstance(value, bool) or value is None or depth > _DEEPEST:
        return
    if isinstance(value, (int, str)):
        yield str(value)[:200] if isinstance(value, str) else (str(value) if abs(value) < 10**12 else "")
    elif isinstance(value, float):
        yield str(int(value)) if value.is_integer() and abs(value) < 10**12 else ""
    elif isinstance(value, list):
        for item in value:
            yield from scalars(item, depth + 1)
    elif isinstance(value, dict):
        lowered = {str(key).lower(): item for key, item in value.items()}
        lists = [item for item in value.values() if isinstance(item, list)]
        named = [lowered[key] for key in (*_KEYS, *_ID_KEYS) if key in lowered]
        for item in (named or lists)[:1]:
            yield from scalars(item, depth + 1)
