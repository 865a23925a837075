"""Tokens of texts, counted as the model counts them, and texts cut to a number of them."""

from __future__ import annotations

import logging
from typing import Any

from langchain_core.language_models import BaseLanguageModel

__all__ = ["TokenCounter"]

_logger = logging.getLogger("langchain_rerankkit")
_BYTES_PER_TOKEN = 4  # of most tokenizers, in English; other scripts have more bytes a character
_LONGEST_TOKEN = 16  # characters of a text looked at for each token that may stay


class TokenCounter:
    """Counts with the model's own counter where it has one, else estimates.

    langchain-core's default for models without one is GPT-2's tokenizer, downloaded: it is never used.

    Args:
        model: The model.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._own = isinstance(model, BaseLanguageModel) and (
            model.custom_get_token_ids is not None
            or type(model).get_token_ids is not BaseLanguageModel.get_token_ids
            or type(model).get_num_tokens is not BaseLanguageModel.get_num_tokens
        )

    def count(self, text: str) -> int:
        """Tokens of a text."""
        if self._own:
            try:
                return int(self._model.get_num_tokens(text))
            except Exception as error:  # noqa: BLE001 - most often: its tokenizer would have to be downloaded
                self._own = False
                _logger.warning(
                    "The model's own token counter failed (%s): token budgets are estimated from now on.",
                    type(error).__name__,
                )
        return -(-len(text.encode("utf-8", "replace")) // _BYTES_PER_TOKEN)

    def cut(self, text: str, limit: int) -> tuple[str, bool]:
        """The beginning of a text, up to a number of tokens, and whether something was cut."""
        end = self.reach(text, 0, limit)
        if end == len(text):
            return text, False
        word = max(text.rfind(" ", 0, end), text.rfind("\n", 0, end))
        # Back to the last whole word, where there are words.
        return text[: word if word > end // 2 and not text[end].isspace() else end].rstrip(), True

    def reach(self, text: str, start: int, limit: int) -> int:
        """The character after the longest part of a text, from ``start`` on, that has no more tokens than the limit."""
        head = text[start : start + limit * _LONGEST_TOKEN]
        if self.count(head) <= limit:
            return start + len(head)
        low, high = 0, len(head) - 1
        while low < high:
            middle = (low + high + 1) // 2
            if self.count(head[:middle]) <= limit:
                low = middle
            else:
                high = middle - 1
        return start + low
