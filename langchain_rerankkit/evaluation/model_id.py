"""Which reranker is it? Scores, thresholds and kept answers of one mean nothing for another."""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from langchain_core.runnables import RunnableLambda
from pydantic import BaseModel, SecretStr

from langchain_rerankkit.base import Reranker

__all__ = ["model_id", "settings"]

# Fields that may hold one as plain text.
_SECRET = re.compile(
    r"api_?key|access_?key|private_?key|^key$|token$|secret|passw|credential|authorization", re.IGNORECASE
)
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

    Long values, addresses, collections and the code of functions are shown by a digest, secrets not at all. What a function
    takes from around it goes unnoticed, and so does what a store or client holds.
    """
    label = repr(reranker._label())  # noqa: SLF001 - the name that metadata["rerank"] shows
    fields = {name: value for name, value in _fields(reranker).items() if name not in _NOT_THE_MODEL}
    said = [f"{name}={_shown(value)}" for name, value in fields.items() if repr(value) != label]
    return f"{type(reranker).__name__}({', '.join([label, *said])})"


def settings(system: Any) -> str:
    """What tells one system from another of the same kind: for a reranker its `model_id` and what it keeps."""
    if isinstance(system, Reranker):
        kept = {name: getattr(system, name) for name in ("top_n", "min_score", "on_nan", "on_error")}
        return f"{model_id(system)} {kept}"
    return _shown(system)


def _fields(model: BaseModel) -> dict[str, Any]:
    """Fields that are not at their default, without secrets."""
    fields = {}
    for name, about in type(model).model_fields.items():
        value = getattr(model, name)
        if not about.exclude and not isinstance(value, SecretStr) and not _SECRET.search(name):
            default = about.get_default(call_default_factory=True, validated_data={})
            if type(value) is not type(default) or value != default:
                fields[name] = value
    return fields


def _shown(value: Any) -> str:  # noqa: PLR0911 - a return for each kind of value
    if isinstance(value, Reranker):
        return model_id(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, Mapping):
        kept = sorted((str(key), _shown(item)) for key, item in value.items() if not _SECRET.search(str(key)))
        return f"#{_digest(repr(kept))}"
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        return repr(value.item())  # a number of numpy
    if value is None or isinstance(value, (str, bool, int, float)):
        said = repr(value)
        return f"#{_digest(said)}" if len(said) > _LONG or "://" in said else said
    if isinstance(value, BaseModel):
        said = ", ".join(f"{name}={_shown(field)}" for name, field in _fields(value).items())
        ours = type(value).__module__.startswith(
            "langchain_rerankkit."
        )  # of others nobody knows which text is a secret
        return (
            f"{type(value).__name__}({said})"
            if ours and len(said) <= _LONG
            else f"{type(value).__name__}#{_digest(said)}"
        )
    if isinstance(value, RunnableLambda):
        return f"RunnableLambda({_shown(getattr(value, 'func', None) or getattr(value, 'afunc', None))})"
    code = getattr(value, "__code__", None)
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{getattr(named, '__module__', '')}.{named.__qualname__}" + (
        f"#{_digest(repr(_code(code)))}" if code else ""
    )


def _code(code: Any) -> tuple[Any, ...]:
    """What a function does, wherever it stands; not from one Python to another."""
    constants = [_code(one) if hasattr(one, "co_code") else repr(one) for one in code.co_consts]
    return code.co_code, code.co_names, constants


def _digest(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
