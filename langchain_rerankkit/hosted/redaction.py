"""What servers say, without what they were told: their messages may quote keys, queries and documents."""

from __future__ import annotations

import re
import unicodedata
from base64 import b64encode
from collections.abc import Sequence
from functools import cached_property
from html import unescape
from urllib.parse import unquote

__all__ = ["Secrets"]

_PIECE = 12  # a quotation is found by pieces of so many characters, or bytes of letters: four of Chinese
_KEY_PIECE = 8
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2}))")


class Secrets:
    """What no message may hold.

    Args:
        keys: Keys of providers.
        texts: Query and documents.
    """

    def __init__(self, keys: Sequence[str], texts: Sequence[str]) -> None:
        self._keys = [key for key in keys if key]
        self._texts = texts

    def add(self, keys: Sequence[str]) -> None:
        """Add keys that were made for one request: tokens, signatures."""
        self._keys += [key for key in keys if len(key) >= _KEY_PIECE]

    def hide(self, message: str) -> str:
        """The message in one printable line, without texts and passages of them; nothing of it if it quotes a key.

        Quotations are found in other cases, escapes and spacings too; of those the whole message is left out.
        """
        message = _ESCAPE.sub(lambda found: chr(int(found[1] or found[2], 16)), message)
        message = message.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        message = "".join(sign if sign.isprintable() else " " for sign in message)
        if self._quotes_key(_letters(message)):
            return "[a message that quotes the key]"
        for key in self._keys:  # those that are too short to be looked for in pieces
            message = re.sub(rf"(?<!\w){re.escape(key)}(?!\w)", "[key]", message)
        for text in sorted(self._texts, key=len, reverse=True):
            if 3 < len(text.strip()) <= len(message):  # noqa: PLR2004 - less is in every message
                message = message.replace(text.strip(), "[…]")
        starts = range(0, len(message) - _PIECE + 1, 4)
        for start in [start for start in starts if message[start : start + _PIECE] in self._joined]:
            message = f"{message[:start]}{chr(0) * _PIECE}{message[start + _PIECE :]}"
        message = re.sub(r"\0+(?:[^\0]{1,3}\0+)*", "[…]", message)
        for part in map(_letters, message.split("[…]")):
            if any(
                part[start : start + _PIECE] in self._joined_letters for start in range(0, len(part) - _PIECE + 1, 4)
            ):
                return "[a message that quotes the request]"
        return message

    def _quotes_key(self, said: bytes) -> bool:
        for key in self._keys:
            for form in map(_letters, (key, key[::-1], b64encode(key.encode()).decode())):
                pieces = range(len(form) - _KEY_PIECE + 1)
                if any(form[start : start + _KEY_PIECE] in said for start in pieces):
                    return True
        return False

    @cached_property
    def _joined(self) -> str:
        return "\n".join(self._texts)

    @cached_property
    def _joined_letters(self) -> bytes:
        return b" ".join(map(_letters, self._texts))


def _letters(text: str) -> bytes:
    """Letters and digits of a text, whatever their case, escapes and spacing."""
    text = unicodedata.normalize("NFKC", unquote(unescape(text))).casefold()
    return re.sub(r"[\W_]+", "", re.sub(r"\\[nrt]", " ", text)).encode(errors="replace")
