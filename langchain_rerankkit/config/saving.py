"""From a reranker to the configuration that makes it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import langchain_rerankkit
from langchain_rerankkit._optional import require
from langchain_rerankkit.base import Reranker
from langchain_rerankkit.config.kinds import KINDS, annotation, at, check_plain, class_of, holds, never
from langchain_rerankkit.config.secret import secret_in
from langchain_rerankkit.errors import ConfigError

__all__ = ["config_of", "reranker_config", "save_reranker", "write_config"]

_NAMES = {name: kind for kind, name in KINDS.items()}


def reranker_config(reranker: Reranker, *, without: Collection[str] = ()) -> dict[str, Any]:
    """The configuration that `load_reranker` makes the same reranker of: a dict of plain data.

    Args:
        reranker: A reranker of this package.
        without: Names of fields to leave out, of members too, where a configuration cannot hold them: what will be given
            when it is loaded, such as ``{"statistics", "store"}``, and keys that the environment will hold.

    Returns:
        ``type`` and the fields that are not at their default.

    Raises:
        ConfigError: If it is a class of your own, or a field holds what a configuration cannot.
    """
    return config_of(reranker, without)[0]


def save_reranker(reranker: Reranker, path: str | Path, *, without: Collection[str] = (), comment: str = "") -> Path:
    """Write a reranker as a TOML file, whole or not at all; `load_reranker` makes the same one of it.

    Args:
        reranker: A reranker of this package.
        path: The file.
        without: See `reranker_config`.
        comment: What to say at its head, in one or more lines.

    Raises:
        ConfigError: If the reranker cannot be written.
        MissingExtraError: If tomli-w is not installed.
    """
    return write_config(reranker_config(reranker, without=without), path, comment)


def write_config(config: Mapping[str, Any], path: str | Path, comment: str = "") -> Path:
    """Write a configuration as a TOML file, whole or not at all.

    Args:
        config: What `reranker_config` gives.
        path: The file.
        comment: See `save_reranker`.

    Raises:
        ConfigError: If TOML cannot hold it.
        MissingExtraError: If tomli-w is not installed.
    """
    said = _for_toml(config)
    try:
        body: str = require("tomli_w", extra="config").dumps(said)
        head = "".join(f"# {_printable(line)}".rstrip() + "\n" for line in comment.splitlines())
        content = f"{head}\n{body}".encode() if head else body.encode()
    except (TypeError, UnicodeEncodeError) as error:
        msg = f"TOML cannot hold this reranker ({error})."
        raise ConfigError(msg, file=path) from error
    path = Path(path)
    draft = path.with_name(f".{path.name}-{uuid4().hex}")
    try:
        draft.write_bytes(content)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def config_of(reranker: Reranker, without: Collection[str]) -> tuple[dict[str, Any], set[str]]:
    """What `reranker_config` gives, and the names of fields that had to be left out.

    Args:
        reranker: A reranker of this package.
        without: See `reranker_config`.

    Raises:
        ConfigError: As `reranker_config`.
    """
    left_out: set[str] = set()
    return _config(reranker, frozenset(without), left_out), left_out


def _config(reranker: Reranker, without: frozenset[str], left_out: set[str]) -> dict[str, Any]:
    kind = _NAMES.get(type(reranker).__name__)
    if kind is None or type(reranker) is not class_of(kind):
        msg = f"A configuration names rerankers of this package, and {type(reranker).__name__} is none of {', '.join(KINDS)}."
        raise ConfigError(msg)
    config: dict[str, Any] = {"type": kind}
    for field, about in type(reranker).model_fields.items():
        value = getattr(reranker, field)
        default = about.get_default(call_default_factory=True, validated_data={})
        if type(value) is type(default) and value == default:
            continue
        with at(field):
            plain = _plain(value, without, left_out)
            refused = never(kind, field, plain) or _secret(kind, field, plain)
            if refused is not None and field in without:
                left_out.add(field)
                continue
            if refused is not None:
                msg = f"{refused} To write the rest, leave it out: without={{{field!r}}}."
                raise ConfigError(msg)
            check_plain(plain)
        config[field] = plain
    return config


def _secret(kind: str, field: str, plain: Any) -> str | None:
    """Why a field is not written that may hold a secret; None where it may be."""
    if holds(annotation(kind, field), Reranker):
        return None  # whose own fields were looked at
    where = secret_in(plain)
    return where and f"{field} may hold a secret ({where}), and no configuration should."


def _plain(value: Any, without: frozenset[str], left_out: set[str]) -> Any:
    """Rerankers as their configurations, tuples as lists; what is no data stays as it is, to be refused."""
    if isinstance(value, Reranker):
        return _config(value, without, left_out)
    if type(value) is langchain_rerankkit.EmbeddedEmbeddings:
        return "embedded"
    if isinstance(value, Mapping):
        return {str(name): _plain(one, without, left_out) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one, without, left_out) for one in value]
    return value


def _for_toml(config: Mapping[str, Any]) -> dict[str, Any]:
    """The same without None, which TOML lacks: the text ``"null"`` stands for it where a field can be None."""
    said: dict[str, Any] = {}
    kind = config["type"]
    for field, value in config.items():
        if value == "null":
            msg = "The text 'null' stands for nothing at all in a file, so it cannot be written."
            raise ConfigError(msg, field=field)
        if value is None:
            said[field] = "null"
        elif field != "type" and holds(annotation(kind, field), Reranker):
            said[field] = [_for_toml(one) for one in value] if isinstance(value, list) else _for_toml(value)
        else:
            said[field] = value
    return said


def _printable(line: str) -> str:
    return "".join(character if character.isprintable() else "\ufffd" for character in line)
