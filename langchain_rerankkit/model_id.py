"""Which reranker is it? Scores, thresholds and kept answers of one mean nothing for another."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator, Mapping
from hashlib import sha256
from numbers import Number
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableLambda
from pydantic import BaseModel, SecretStr

from langchain_rerankkit import __version__
from langchain_rerankkit._optional import require
from langchain_rerankkit.base import Reranker
from langchain_rerankkit.errors import MissingExtraError

__all__ = [
    "Identity",
    "kept_scores_id",
    "model_id",
    "names_secret",
    "option_names",
    "parts",
    "settings",
    "unidentified",
]

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
    "replay path max_entries ttl".split()
)

# What they may hold without scoring differently: connections, and vectors that the same model made.
_BESIDE = frozenset({"http_client", "http_async_client", "store", "document_text"})


def model_id(reranker: Reranker) -> str:
    """What a threshold belongs to: class, model, and each field that changes scores and is not at its default.

    Long values, addresses, collections and the code of functions are shown by a digest, secrets not at all. What a function
    takes from around it goes unnoticed, and so does what a store or client holds.
    """
    label = repr(reranker._label())  # the name that metadata["rerank"] shows
    fields = {name: value for name, value in _fields(reranker).items() if name not in _NOT_THE_MODEL}
    said = [f"{name}={_shown(value)}" for name, value in fields.items() if repr(value) != label]
    return f"{type(reranker).__name__}({', '.join([label, *said])})"


def names_secret(name: str) -> bool:
    """Whether what has this name may be a secret in plain text: ``api_key``, ``token``, but not ``max_tokens``."""
    return _SECRET.search(name) is not None


def settings(system: Any) -> str:
    """What tells one system from another of the same kind: for a reranker its `model_id` and what it keeps."""
    if isinstance(system, Reranker):
        kept = {name: getattr(system, name) for name in ("top_n", "min_score", "on_nan", "on_error")}
        return f"{model_id(system)} {kept}"
    return _shown(system)


def parts(reranker: Reranker) -> Iterator[Reranker]:
    """The reranker, and all those that it is made of."""
    yield reranker
    for name in type(reranker).model_fields:
        value = getattr(reranker, name)
        for one in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(one, Reranker):
                yield from parts(one)


def unidentified(reranker: Reranker) -> list[str]:
    """What another process could not tell from something else: classes and functions of others, ready clients.

    Returns:
        Names such as ``"FunctionReranker.function"``; none where `kept_scores_id` says all that scores depend on.
    """
    unknown = []
    for part in parts(reranker):
        kind = type(part)
        if not _is_ours(kind):
            unknown.append(kind.__name__)
            continue
        unknown += [
            f"{kind.__name__}.{name}"
            for name in kind.model_fields
            if name not in _NOT_THE_MODEL and not _SECRET.search(name) and not _is_known(name, getattr(part, name))
        ]
    return unknown


def kept_scores_id(reranker: Reranker) -> str:
    """What kept scores belong to: `model_id` without what a call may override, this version, and which files there are.

    Files go by name, size and time, and a model of the hub by the commit that is in the cache. No network is used.
    """
    options = {name: type(reranker).model_fields[name].default for name in option_names(reranker)}
    files = [_files(part) for part in parts(reranker)]
    return f"{__version__} {model_id(reranker.model_copy(update=options))} {files}"


class Identity:
    """The `kept_scores_id` of a reranker: found out once, again when its fields change, and for good once it is loaded."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._state: Any = None
        self._id = ""
        self._changes = 0
        self._settled = False

    def of(self, reranker: Reranker) -> tuple[str, int]:
        """What it is, and how often that has changed: an id does not tell apart two clients, nor what functions take from around them."""
        with self._lock:
            state = _state(reranker)
            if self._state != state:
                self._state, self._id, self._settled = state, kept_scores_id(reranker), False
                self._changes += 1
            return self._id, self._changes

    def is_settled(self, reranker: Reranker) -> bool:
        """Whether that will not change by loading its model."""
        return self._settled and bool(self._state == _state(reranker))

    def settle(self, reranker: Reranker) -> bool:
        """Load its model, which may find other files than there were; whether it is another one then."""
        reranker.warmup()
        found = kept_scores_id(reranker)
        with self._lock:
            changed, self._id, self._settled = found != self._id, found, True
            return changed


def option_names(reranker: Reranker) -> list[str]:
    """Fields that a call may override and that change scores."""
    return sorted(
        name for name in reranker.call_options & set(type(reranker).model_fields) if name not in _NOT_THE_MODEL
    )


def _state(reranker: Reranker) -> list[Any]:
    """What is equal until a field changes: of the reranker, or of one that it is made of."""
    whole, *members = parts(reranker)  # a call's own options are told by who keeps scores; those of members are not
    options = [[(name, getattr(part, name)) for name in option_names(part)] for part in members]
    return [whole._once, *(part._once for part in members), repr(options)]


def _is_ours(kind: type) -> bool:
    return kind.__module__.startswith("langchain_rerankkit.")


def _is_known(name: str, value: Any) -> bool:
    if name in _BESIDE or value is None or isinstance(value, (str, bool, int, float, SecretStr)):
        return True
    if isinstance(value, (list, tuple, Mapping)):
        return all(_is_known(name, one) for one in (value.values() if isinstance(value, Mapping) else value))
    if name == "client":
        return False
    return _is_ours(type(value)) or (isinstance(value, BaseModel) and _is_known_of_others(value))


def _is_known_of_others(model: BaseModel) -> bool:
    """Of LangChain's packages those whose fields say all: what is excluded from them is not part of an id."""
    if not type(model).__module__.startswith("langchain") or model.model_extra:
        return False
    shown = _fields(model)
    return all(
        _is_known(name, value) and (name in shown or name in _BESIDE or isinstance(value, SecretStr))
        for name, value in _fields(model, every=True).items()
        if not _SECRET.search(name)
    )


def _files(reranker: Reranker) -> list[str]:
    """Which files its settings name, as they are at the moment."""
    found = []
    for name in type(reranker).model_fields:
        value = getattr(reranker, name)
        if not isinstance(value, str) or name in _NOT_THE_MODEL | _BESIDE or _SECRET.search(name):
            continue
        place = os.path.expanduser(value)  # noqa: PTH111 - a Path refuses some texts that name no file
        if os.path.exists(place):  # noqa: PTH110
            paths = [path for path in sorted([Path(place), *Path(place).rglob("*")]) if path.is_file()]
            about = [(path.relative_to(place).as_posix(), path.stat()) for path in paths]
            found.append(_digest(repr([(path, stat.st_size, stat.st_mtime_ns) for path, stat in about])))
        elif name == "model" and "revision" in type(reranker).model_fields:
            found.append(_commit(value, getattr(reranker, "cache_dir", None), getattr(reranker, "revision", None)))
    return found


def _commit(model: str, cache_dir: str | None, revision: str | None) -> str:
    """Of a model of the hub, if it is in the cache."""
    try:
        hub = require("huggingface_hub", extra="local")
        found = hub.try_to_load_from_cache(model, "config.json", cache_dir, revision)
    except (MissingExtraError, ValueError):
        return ""
    return Path(found).parent.name if isinstance(found, str) else ""


def _fields(model: BaseModel, *, every: bool = False) -> dict[str, Any]:
    """Fields that are not at their default, without secrets and what is excluded unless every one is wanted."""
    fields = {}
    for name, about in type(model).model_fields.items():
        value = getattr(model, name)
        if every or not (about.exclude or isinstance(value, SecretStr) or _SECRET.search(name)):
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
        kept = sorted(
            (str(key), _shown(item))
            for key, item in value.items()
            if isinstance(item, Number) or not _SECRET.search(str(key))  # a word that is counted is no secret
        )
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
    constants = [
        _code(one) if hasattr(one, "co_code") else sorted(map(repr, one)) if isinstance(one, frozenset) else repr(one)
        for one in code.co_consts
    ]
    return code.co_code, code.co_names, constants


def _digest(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
