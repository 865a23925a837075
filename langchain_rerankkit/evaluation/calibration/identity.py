"""Which reranker is it? Scores, and so thresholds, of one mean nothing for another."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from langchain_core.load import Serializable, dumps
from pydantic import SecretStr

from langchain_rerankkit.base import Reranker

__all__ = ["model_id"]

_LONG = 60  # characters of a value that is shown by its digest

# What a reranker may differ in without scoring differently, but for rounding.
_NOT_THE_MODEL = frozenset(
    "name top_n min_score on_nan on_error details api_key timeout deadline shares max_retries backoff max_concurrency "  # noqa: SIM905 - a line each would be a page
    "requests_per_minute break_after break_seconds max_response_bytes proxy verify allow_insecure allow_private_networks "
    "device threads batch_tokens cache_dir local_files_only trust_remote_code afunction max_calls max_tokens prices record "
    "replay".split()
)


def model_id(reranker: Reranker) -> str:
    """What a threshold belongs to: class, model, and each field that changes scores and is not at its default.

    Long values, addresses and collections are shown by a digest, secrets not at all. Functions count by their name, so one
    that changes under the same name goes unnoticed.
    """
    said = [repr(reranker._label())]  # noqa: SLF001 - the name that metadata["rerank"] shows
    for name, about in type(reranker).model_fields.items():
        value = getattr(reranker, name)
        if name in _NOT_THE_MODEL or about.exclude or isinstance(value, SecretStr):
            continue
        if value != about.get_default(call_default_factory=True) and repr(value) != said[0]:
            said.append(f"{name}={_shown(value)}")
    return f"{type(reranker).__name__}({', '.join(said)})"


def _shown(value: Any) -> str:
    if isinstance(value, Reranker):
        return model_id(value)
    if isinstance(value, Serializable) and value.is_lc_serializable():
        return f"{type(value).__name__}#{_digest(dumps(value, sort_keys=True))}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, Mapping):
        return f"#{_digest(json.dumps(value, sort_keys=True, default=_shown))}"
    if value is None or isinstance(value, (str, bool, int, float)):
        said = repr(value)
        return f"#{_digest(said)}" if len(said) > _LONG or "://" in said else said
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"


def _digest(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
