"""Rerankers and systems, as a word of a command line names them."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import unquote

from langchain_rerankkit.base import Reranker
from langchain_rerankkit.config.kinds import KINDS
from langchain_rerankkit.config.loading import Give, read_config
from langchain_rerankkit.config.loading import make as make_of_config
from langchain_rerankkit.config.specs import is_spec
from langchain_rerankkit.errors import ConfigError

__all__ = ["RERANKERS", "add_allow", "assignment", "find", "is_config", "make", "make_reranker", "value_of"]

RERANKERS = f"""KIND[:MODEL][?FIELD=VALUE&FIELD=VALUE…] as in cross-encoder:./model?top_n=10 (KIND is one of {", ".join(KINDS)}), \
a configuration.toml, or package.module:Class[?FIELD=VALUE…] of your own, found from the current folder"""


def add_allow(parser: argparse.ArgumentParser) -> None:
    """Add the option that lets a file say more."""
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="FIELD",
        help="let a configuration file set a field that reaches out, reads or writes, such as base_url; again for more",
    )


def make_reranker(
    spec: str, fields: Mapping[str, Any], *, allow: Collection[str] = (), give: Give | None = None
) -> Reranker:
    """Make a reranker.

    Args:
        spec: See `RERANKERS`.
        fields: Other fields, which go before those that it says.
        allow: Names of fields that a configuration file may say besides.
        give: Gives objects to those rerankers of a configuration that can use them; nothing by default.

    Raises:
        ConfigError: If it is a configuration and wrong.
        TypeError: If it is something else than a reranker.
        ValueError: If it cannot be found.
    """
    if is_config(spec):
        # Who types a line knows where it leads; who was given a file may not.
        if is_spec(spec):
            return make_of_config({**read_config(spec), **fields}, "all", give or _nothing)
        try:
            return make_of_config({**read_config(spec), **fields}, allow, give or _nothing)
        except ConfigError as error:
            if error.file or not spec.endswith(".toml"):
                raise
            raise ConfigError(error.message, file=spec, field=error.field) from error.__cause__
    found = make(spec, fields)
    if not isinstance(found, Reranker):
        msg = f"{spec!r} is not a Reranker class."
        raise TypeError(msg)
    return found


def is_config(spec: str) -> bool:
    """Whether it is a line or file of a configuration, and not an object of the user's own."""
    return is_spec(spec) or spec.endswith(".toml") or ":" not in spec


def make(spec: str, fields: Mapping[str, Any]) -> Any:
    """What ``package.module:name?field=value`` names; a class is called with the fields.

    Raises:
        ValueError: If it cannot be found, or there are fields for something else than a class.
    """
    path, mark, query = spec.partition("?")
    said = [assignment(part) for part in query.split("&")] if mark else []
    fields = {**{name: value_of(unquote(value)) for name, value in said}, **fields}
    found = find(path)
    if fields and not isinstance(found, type):
        msg = f"Fields are for classes; {path} is an object."
        raise ValueError(msg)
    return found(**fields) if isinstance(found, type) else found


def find(spec: str) -> Any:
    """What ``package.module:name`` names, from the current folder too.

    Raises:
        ValueError: If it cannot be found.
    """
    module, _, name = spec.partition(":")
    folder = os.getcwd()  # noqa: PTH109 - a text, as the path has them
    sys.path.insert(0, folder)
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        msg = f"{spec!r} cannot be imported: {error}"
        raise ValueError(msg) from error
    finally:
        sys.path.remove(folder)


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


def _nothing(*_: Any) -> None:
    """What is given where there is nothing to give."""
