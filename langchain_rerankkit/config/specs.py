"""A reranker on a line: ``KIND[:MODEL][?FIELD=VALUE[&FIELD=VALUE…]]``.

``cross-encoder:BAAI/bge-reranker-base?top_n=5&precision=int8``. The kind ends at the first ``:`` or ``?``, the model at the
first ``?``; other colons and slashes are its own. ``%3F`` stands for a ``?`` in a model's name, ``%26`` for a ``&`` in a
value, ``%25`` for a ``%``, as in a URL. A value is JSON where that fits the field (``5``, ``true``, ``null``, ``[1, 0.5]``),
else the text itself; a text that would fit as JSON is put in quotes.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any
from urllib.parse import unquote

from langchain_core.embeddings import Embeddings
from pydantic import ConfigDict, TypeAdapter

from langchain_rerankkit.base import Reranker
from langchain_rerankkit.config.kinds import KINDS, annotation, class_of, holds, main_field
from langchain_rerankkit.errors import ConfigError

__all__ = ["is_spec", "parse_spec"]


def is_spec(text: str) -> bool:
    """Whether a text begins as the line of a known kind."""
    return text.partition("?")[0].partition(":")[0] in KINDS


def parse_spec(spec: str) -> dict[str, Any]:
    """What a line says, as a dict with ``type`` and fields.

    Raises:
        ConfigError: If there is no such kind or field, or one is said twice or without a value.
    """
    head, mark, query = spec.partition("?")
    kind, colon, model = head.partition(":")
    class_of(kind)
    config: dict[str, Any] = {"type": kind}
    if colon:
        main = main_field(kind)
        annotation(kind, main)
        config[main] = unquote(model)
    for part in query.split("&") if mark else ():
        field, sign, value = part.partition("=")
        if not sign:
            msg = f"{part!r} is not FIELD=VALUE."
            raise ConfigError(msg)
        if field in config:
            msg = f"{field} is said twice."
            raise ConfigError(msg)
        config[field] = _typed(kind, field, unquote(value))
    return config


def _typed(kind: str, field: str, text: str) -> Any:
    wanted = annotation(kind, field)
    try:
        value = json.loads(text)
        if not (holds(wanted, Reranker) or holds(wanted, Embeddings)):
            _adapter(kind, field).validate_python(value)
    except (ValueError, RecursionError):
        return text
    return value


@cache
def _adapter(kind: str, field: str) -> TypeAdapter[Any]:
    return TypeAdapter(annotation(kind, field), config=ConfigDict(arbitrary_types_allowed=True))
