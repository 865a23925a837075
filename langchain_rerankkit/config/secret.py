"""What may be a secret in plain data: by its name in a mapping, by the header or the address that it stands in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_plus

from langchain_rerankkit.model_id import names_secret

__all__ = ["secret_in"]

_MORE_NAMES = re.compile(r"^keys$|subscription_key$|^cookie$|^sig(nature)?$", re.IGNORECASE)
_PLACEHOLDER = re.compile(r"(\w+ )?(\$\w+|\{\w+\})")  # of a provider's profile: filled in when a request is made
_WHETHER = frozenset({"required", "optional", "none"})  # whether a provider has a key
_HEADER = re.compile(
    r"(?:proxy-)?authorization\s*:\s*(.*)|(bearer\s+\S+|basic\s+(?-i:(?=\S*[A-Z0-9=]))\S{6,})\s*", re.IGNORECASE
)
_LOGIN = re.compile(r"//[^/\s?#]*@")
_PARAMETER = re.compile(r"[?&;#]([^=&;?#\s]+)=([^&;#\s]+)")
_ADDRESS = re.compile(r"\s*([a-z][a-z0-9+.-]*://|/)|\S*$", re.IGNORECASE)


def secret_in(value: Any, *, in_mapping: bool = False) -> str | None:
    """Where a field's value may hold a secret, in words that do not hold it; None where it does not.

    Args:
        value: Plain data.
        in_mapping: Whether it stands in a mapping, where a text may be a header.
    """
    if isinstance(value, Mapping):
        for name, one in value.items():
            if _is_name(str(name)) and _is_said(one):
                return f"under {str(name)!r}"
            if found := secret_in(one, in_mapping=True):
                return found
    elif isinstance(value, (list, tuple)):
        return next(filter(None, (secret_in(one, in_mapping=in_mapping) for one in value)), None)
    elif isinstance(value, str):
        header = _HEADER.fullmatch(value) if in_mapping else None
        if header is not None and _is_said(header[1] or header[2]):
            return "in a header"
        if _ADDRESS.match(value):
            return _in_address(value)
    return None


def _in_address(address: str) -> str | None:
    if _LOGIN.search(address):
        return "before the @ of an address"
    said = (unquote_plus(name) for name, value in _PARAMETER.findall(address) if _is_said(value))
    return next((f"in an address, under {name!r}" for name in said if _is_name(name)), None)


def _is_name(name: str) -> bool:
    plain = re.sub(r"[-.\s]", "_", name.strip())
    return names_secret(plain) or _MORE_NAMES.search(plain) is not None


def _is_said(value: Any) -> bool:
    """Whether what has the name of a secret is one: a text, and no number, placeholder or name of a variable."""
    if isinstance(value, str):
        return bool(value) and value not in _WHETHER and _PLACEHOLDER.fullmatch(value) is None
    if isinstance(value, Mapping):
        return any(_is_said(one) for name, one in value.items() if name != "env")
    return isinstance(value, (list, tuple)) and any(map(_is_said, value))
