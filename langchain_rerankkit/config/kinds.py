"""Which rerankers a configuration may name, and what it may say of their fields."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, get_args

from langchain_core.embeddings import Embeddings
from pydantic import SecretStr

import langchain_rerankkit
from langchain_rerankkit.base import Reranker
from langchain_rerankkit.errors import ConfigError
from langchain_rerankkit.hosted.profiles import profile_names
from langchain_rerankkit.llm.prompts import style_names

__all__ = [
    "KINDS",
    "annotation",
    "argument",
    "at",
    "check_plain",
    "class_of",
    "guarded",
    "holds",
    "main_field",
    "nearest",
    "never",
]

KINDS: Mapping[str, str] = {
    "embedded": "EmbeddedReranker",
    "lexical": "LexicalReranker",
    "bi-encoder": "BiEncoderReranker",
    "cross-encoder": "CrossEncoderReranker",
    "flashrank": "FlashRankReranker",
    "seq2seq": "Seq2SeqReranker",
    "late-interaction": "LateInteractionReranker",
    "rankllm": "RankLLMReranker",
    "listwise": "ListwiseReranker",
    "pointwise": "PointwiseLLMReranker",
    "ensemble": "EnsembleReranker",
    "cascade": "CascadeReranker",
    "fallback": "FallbackReranker",
    "cached": "CachedReranker",
    "diversity": "DiversityReranker",
    "hosted": "HostedReranker",
    "cohere": "CohereReranker",
    "contextual": "ContextualReranker",
    "dashscope": "DashScopeReranker",
    "deepinfra": "DeepInfraReranker",
    "elasticsearch": "ElasticsearchReranker",
    "fireworks": "FireworksReranker",
    "infinity": "InfinityReranker",
    "isaacus": "IsaacusReranker",
    "jina": "JinaReranker",
    "llamacpp": "LlamaCppReranker",
    "mixedbread": "MixedbreadReranker",
    "nvidia": "NVIDIAReranker",
    "pinecone": "PineconeReranker",
    "siliconflow": "SiliconFlowReranker",
    "tei": "TEIReranker",
    "together": "TogetherReranker",
    "vllm": "VLLMReranker",
    "voyage": "VoyageReranker",
    "watsonx": "WatsonxReranker",
    "zeroentropy": "ZeroEntropyReranker",
}
"""The name of each kind and its class. There are no others: nothing is ever imported by a name that a file holds."""

_CHAT = frozenset({"listwise", "pointwise"})
_OBJECTS = frozenset({"embeddings", "statistics", "store"})


def _always(value: Any) -> bool:
    return value is not None


_TO_WHOM = "says who is sent queries, documents and perhaps a key"
_READS = "is a path, which is read"
_WRITES = "is a path, which is written to"
_GUARDED: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "base_url": (_TO_WHOM, _always),
    "provider": (_TO_WHOM + " (names of known providers are allowed)", lambda value: value not in profile_names()),
    "params": ("may be a part of the address that a key is sent to", bool),
    "verify": ("switches checks of certificates off, or reads a file", lambda value: value is not True),
    "allow_insecure": ("lets a key travel unencrypted", bool),
    "options": ("reaches a constructor of another package unchecked", bool),
    "prompt_template_path": (_READS, _always),
    "style": (_READS + " (names of known styles are allowed)", lambda value: value not in style_names()),
    "replay": (_READS, _always),
    "record": (_WRITES, _always),
    "cache_dir": (_WRITES, _always),
    "path": (_WRITES, _always),
    "store": (_WRITES, _always),
}


def class_of(kind: Any) -> type[Reranker]:
    """The class of a kind.

    Raises:
        ConfigError: If there is no such kind.
    """
    if not isinstance(kind, str) or kind not in KINDS:
        msg = f"Unknown reranker {kind!r}{nearest(str(kind), KINDS)} There are {', '.join(KINDS)}."
        raise ConfigError(msg)
    found: type[Reranker] = getattr(langchain_rerankkit, KINDS[kind])
    return found


def main_field(kind: str) -> str:
    """The field that stands after the colon of a line: ``cross-encoder:MODEL``."""
    return "embeddings" if kind == "bi-encoder" else "model"


def annotation(kind: str, field: str) -> Any:
    """What a field of a kind may hold.

    Raises:
        ConfigError: If the kind has no such field.
    """
    fields = class_of(kind).model_fields
    if field not in fields:
        msg = f"{kind} has no field {field!r}{nearest(field, fields)}"
        raise ConfigError(msg)
    return fields[field].annotation


def holds(kind: Any, wanted: type) -> bool:
    """Whether an annotation is a kind of a class, or has one among its parts."""
    if isinstance(kind, type) and not get_args(kind):
        return issubclass(kind, wanted)
    return any(holds(part, wanted) for part in get_args(kind))


def argument(kind: str, field: str) -> str | None:
    """The argument of `load_reranker` that gives what a configuration cannot hold; None for plain fields."""
    if field == "model" and kind in _CHAT:
        return "chat_model"
    return field if field in _OBJECTS and not holds(annotation(kind, field), str) else None  # else it is a path


def never(kind: str, field: str, value: Any) -> str | None:
    """Why no configuration may say this, whoever allows it; None where it may."""
    about = class_of(kind).model_fields[field]
    if holds(about.annotation, SecretStr):
        return f"{field} is a secret, and no configuration should hold one: set the environment variable that is read for it."
    if field == "trust_remote_code" and value:
        return f"{field} runs code that comes with a model: make that reranker in your program."
    given = argument(kind, field)
    if holds(about.annotation, Embeddings):
        return None if value == "embedded" else f'{field} is "embedded", or given as load_reranker(…, {given}=…).'
    if given is not None:
        return f"{field} is an object of your program: give it as load_reranker(…, {given}=…)."
    return f"{field} is an object: make that reranker in your program." if about.exclude else None


def guarded(field: str, value: Any) -> str | None:
    """Why this has to be allowed; None where it has not."""
    reason, is_risky = _GUARDED.get(field, ("", None))
    return reason if is_risky is not None and is_risky(value) else None


def check_plain(value: Any) -> None:
    """Refuse what is no plain data.

    Raises:
        ConfigError: If a part of it is an object of another kind, a date of TOML among them.
    """
    if isinstance(value, Mapping):
        for name, one in value.items():
            check_plain(name)
            check_plain(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            check_plain(one)
    elif value is not None and not isinstance(value, (str, bool, int, float)):
        msg = f"A configuration holds texts, numbers, lists and tables, no {type(value).__name__}."
        raise ConfigError(msg)


@contextmanager
def at(place: str) -> Iterator[None]:
    """Errors in here say that they are of this place, where they do not know a closer one."""
    try:
        yield
    except ConfigError as error:
        if error.field:
            raise
        raise ConfigError(error.message, field=place) from error.__cause__


def nearest(name: str, names: Iterable[str]) -> str:
    """The end of a sentence about an unknown name, with the names that it may have been meant to be."""
    close = get_close_matches(name, list(names), n=2)
    return f". Did you mean {' or '.join(map(repr, close))}?" if close else "."
