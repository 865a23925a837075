"""Does a document hold an accepted answer? Whole words, never a bare substring: "India" is not in "Indiana"."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

from langchain_rerankkit.lexical import UNSPACED

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["holds_answer", "normalise"]

# Scripts without spaces have no words to compare, so there each character is one.
_TOKEN = re.compile(rf"[{UNSPACED}]|[^\W_{UNSPACED}]+")


def normalise(text: str) -> str:
    """The words of a text with a space on either side: case, accents and punctuation are gone.

    Two normalised texts can be compared by ``in``: ``normalise("The Ganges!")`` is ``" the ganges "``.
    """
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    # NFKD takes Hangul and voiced kana apart; composing again makes both sides alike.
    words = _TOKEN.findall(unicodedata.normalize("NFKC", plain).casefold())
    return f" {' '.join(words)} " if words else " "


def holds_answer(normalised_text: str, normalised_answers: Iterable[str]) -> bool:
    """Whether any answer occurs in the text as whole words; an answer without words never does.

    Both must come from `normalise`.
    """
    return any(answer.strip() and answer in normalised_text for answer in normalised_answers)
