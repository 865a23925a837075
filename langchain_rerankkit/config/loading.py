"""From a line, a TOML file or a dict to a reranker."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from langchain_core.embeddings import Embeddings
from langchain_core.runnables import Runnable
from pydantic import ValidationError

import langchain_rerankkit
from langchain_rerankkit._optional import require
from langchain_rerankkit.base import Reranker
from langchain_rerankkit.config.kinds import (
    KINDS,
    annotation,
    argument,
    at,
    check_plain,
    class_of,
    guarded,
    holds,
    never,
)
from langchain_rerankkit.config.specs import is_spec, parse_spec
from langchain_rerankkit.errors import ConfigError, mistakes
from langchain_rerankkit.lexical import TermStatistics

__all__ = ["Give", "load_reranker", "make", "read_config"]

_MOST_BYTES = 1 << 20  # of a file

Config = str | Path | Mapping[str, Any]
"""A line, the path of a TOML file, or a dict."""

Give = Callable[[str, Mapping[str, Any]], Any]
"""What a program gives to a reranker: of the name of an argument of `load_reranker`, and what the configuration says of that
reranker, to the object; None where there is none. Called where a reranker can use one, and not before."""


def load_reranker(
    config: Config,
    *,
    allow: Collection[str] | Literal["all"] = (),
    embeddings: Embeddings | None = None,
    statistics: TermStatistics | None = None,
    store: Any = None,
    chat_model: Runnable[Any, Any] | None = None,
) -> Reranker:
    """Make the reranker that a configuration describes.

    Example::

        load_reranker("cross-encoder:cross-encoder/ms-marco-MiniLM-L6-v2?top_n=5")
        load_reranker({"type": "ensemble", "rerankers": ["lexical", "embedded"], "top_n": 5})
        load_reranker("reranker.toml")

    The file has the same keys; rerankers inside a reranker are lines or tables::

        type = "fallback"
        deadline = 2.0

        [[rerankers]]
        type = "cohere"
        model = "rerank-v3.5"

        [[rerankers]]
        type = "embedded"

    **What a configuration can do.** The same rule holds for lines, files and dicts: it names a reranker of this package
    and plain values of its fields, and nothing in it is imported or run. A model is read from a folder or the model hub, in
    formats without code, and a provider is asked at its own address, with the key that your environment holds for it. Whatever
    else would reach out, read or write is refused unless the caller names the field in ``allow``: ``base_url`` (which says who
    is sent queries and documents), profiles of one's own as ``provider``, ``params``, ``verify``, ``allow_insecure``,
    ``options``, and paths such as ``cache_dir``, ``record``, ``replay``. Secrets, code that comes with a model
    (``trust_remote_code``) and objects (``client`` …) are refused always. What it costs to run the model is not looked at.

    Args:
        config: A line (see `langchain_rerankkit.config.specs`), the path of a TOML file (a ``Path``, or a string that ends
            with ``.toml``), or a dict with ``type`` and fields.
        allow: Names of fields that it may set though they reach out, read or write; ``"all"`` for a configuration that
            your own program has written.
        embeddings: What rerankers that need embeddings get where the configuration does not say ``"embedded"``.
        statistics: Word statistics of the collection, for all that count words.
        store: A vector store whose vectors are used again, for all that embed.
        chat_model: The chat model of ``listwise`` and ``pointwise``.

    Raises:
        ConfigError: If it is no such configuration: with the file, the place and what to write instead.
        MissingExtraError: If a package is missing, such as tomli where Python is older than 3.11.
        OSError: If the file cannot be read.
    """
    objects = {"embeddings": embeddings, "statistics": statistics, "store": store, "chat_model": chat_model}
    return make(config, allow, lambda argument, _: objects[argument])


def make(config: Config, allow: Collection[str] | Literal["all"], give: Give) -> Reranker:
    """`load_reranker` with objects that are made where they are needed.

    Args:
        config: See `load_reranker`.
        allow: See `load_reranker`.
        give: Gives the objects.

    Raises:
        ConfigError: As `load_reranker`.
        MissingExtraError: As `load_reranker`.
        OSError: If the file cannot be read.
    """
    allowed = {allow} if isinstance(allow, str) and allow != "all" else allow
    found = read_config(config)
    try:
        return _Maker(allowed, give).make(found)
    except RecursionError as error:
        msg = "The configuration is too deep."
        raise ConfigError(msg) from error
    except ConfigError as error:
        if not _is_file(config):
            raise
        raise ConfigError(error.message, file=str(config), field=error.field) from error.__cause__


def read_config(config: Config) -> dict[str, Any]:
    """A configuration as a dict with ``type`` and fields; what these say is not looked at.

    Raises:
        ConfigError: If it is no line, no dict and no file of TOML.
        OSError: If the file cannot be read.
    """
    if isinstance(config, Mapping):
        return dict(config)
    if _is_file(config):
        return _read(Path(config))
    return parse_spec(str(config))


def _is_file(config: Config) -> bool:
    return isinstance(config, Path) or (isinstance(config, str) and config.endswith(".toml") and not is_spec(config))


def _read(path: Path) -> dict[str, Any]:
    toml = require("tomllib" if sys.version_info >= (3, 11) else "tomli", extra="config")
    with path.open("rb") as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        msg = f"The file is larger than {_MOST_BYTES >> 20} MiB: it is no configuration."
        raise ConfigError(msg, file=path)
    try:
        found: dict[str, Any] = toml.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        msg = f"The file is not TOML ({type(error).__name__}: {error})."
        raise ConfigError(msg, file=path) from error
    return found


@dataclass(frozen=True)
class _Maker:
    """What is allowed, and what the program gives."""

    allow: Collection[str]
    give: Give

    def make(self, config: Any, place: str = "") -> Reranker:
        """The reranker at a place of the configuration."""
        with at(place):
            if isinstance(config, str):
                config = parse_spec(config)
            if not isinstance(config, Mapping) or "type" not in config:
                msg = f"A reranker is a table with a type, which is one of {', '.join(KINDS)}; or a line."
                raise ConfigError(msg)
            kind = config["type"]
            made = class_of(kind)
        dot = f"{place}." if place else ""
        fields = {
            name: self._value(kind, name, value, f"{dot}{name}") for name, value in config.items() if name != "type"
        }
        for name, about in made.model_fields.items():
            given = argument(kind, name)
            if given is None or name in fields:
                continue
            value = self.give(given, fields)
            if value is not None:
                fields[name] = value
            elif about.is_required():
                msg = f"{kind} needs this: {never(kind, name, None)}"
                raise ConfigError(msg, field=f"{dot}{name}")
        try:
            return made(**fields)
        except ValidationError as error:
            raise ConfigError(mistakes(error), field=place) from error

    def _value(self, kind: str, name: str, value: Any, place: str) -> Any:
        with at(place):
            wanted = annotation(kind, name)
            check_plain(value)
            refused = never(kind, name, value)
            if refused is None and self.allow != "all" and name not in self.allow:
                reason = guarded(name, value)
                refused = reason and f"{name} {reason}. If you know that it is right, load it with allow={{{name!r}}}."
            if refused is not None:
                raise ConfigError(refused)
        if holds(wanted, Reranker):
            if isinstance(value, (list, tuple)):
                return [self.make(one, f"{place}[{number}]") for number, one in enumerate(value)]
            return self.make(value, place)
        if holds(wanted, Embeddings):
            return langchain_rerankkit.EmbeddedEmbeddings()
        # TOML has no null.
        return None if value == "null" and type(None) in get_args(wanted) else value
