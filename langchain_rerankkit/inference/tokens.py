"""Texts to tokens: each text once, long ones by their head, any number of threads at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_rerankkit._optional import require
from langchain_rerankkit.errors import ModelNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    import numpy.typing as npt

    Ids = npt.NDArray[np.uint32]

__all__ = ["Ids", "Row", "Tokenizer", "pad", "windows"]

_TOKENISED_AT_ONCE = 1024  # texts; an encoding is far larger than the ids kept of it
_CHARACTERS_PER_TOKEN = 16  # of the head of a long text; most texts have about 4


@dataclass(frozen=True)
class Row:
    """What a model reads of one text or pair, without padding.

    Attributes:
        ids: Shape [tokens].
        types: Shape [tokens]: 0 for the query, 1 for the document, where the model tells them apart.
    """

    ids: Ids
    types: npt.NDArray[np.uint8] | None = None


class Tokenizer:
    """A tokenizer of the ``tokenizers`` package without truncation and padding.

    Those are settings inside that object which a call of another thread would change: the source of the error "Already
    borrowed". Here they are done outside, on arrays, so threads may share it.

    Args:
        definition: Content of a ``tokenizer.json``.
        types: Whether the model tells query and document apart by token types.

    Raises:
        ModelNotFoundError: If the definition is not one.
    """

    def __init__(self, definition: str, *, types: bool = True) -> None:
        tokenizers = require("tokenizers", extra="onnx")
        self._np = require("numpy", extra="onnx")
        try:
            self._tokenizer: Any = tokenizers.Tokenizer.from_str(definition)
        except Exception as error:
            msg = f"The tokenizer cannot be read ({error}). Its file tokenizer.json is damaged, or tokenizers too old."
            raise ModelNotFoundError(msg, missing=["tokenizer.json"]) from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._single = self._template(self._tokenizer.encode("a"), types=False)
        self._pair = self._template(self._tokenizer.encode("a", "a"), types=types)

    @property
    def specials(self) -> tuple[int, int]:
        """Special tokens around a single text, and around a pair."""
        return sum(len(ids) for ids, _ in self._single), sum(len(ids) for ids, _ in self._pair)

    def token_id(self, token: str) -> int | None:
        """The id of a token, if there is such a token."""
        number: int | None = self._tokenizer.token_to_id(token)
        return number

    def heads(self, texts: Sequence[str], limit: int) -> Iterator[tuple[Ids, bool]]:
        """The first tokens of each text, without special tokens, and whether that is all of it.

        Of a long text only the head is tokenised. Cut before white space, its tokens are the first of the whole text;
        where they are fewer than the limit all the same, the whole text is tokenised after all.

        Args:
            texts: The texts.
            limit: Most tokens of each.
        """
        for start in range(0, len(texts), _TOKENISED_AT_ONCE):
            chunk = texts[start : start + _TOKENISED_AT_ONCE]
            heads = [_head(text, limit * _CHARACTERS_PER_TOKEN) for text in chunk]
            encodings = self._tokenizer.encode_batch_fast(heads, add_special_tokens=False)
            for text, head, encoding in zip(chunk, heads, encodings, strict=True):
                ids = encoding.ids
                if len(ids) < limit and len(head) < len(text):
                    ids = self._tokenizer.encode(text, add_special_tokens=False).ids
                    head = text  # noqa: PLW2901 - what was tokenised in the end
                whole = len(ids) <= limit and len(head) == len(text)
                yield self._np.array(ids[:limit], dtype=self._np.uint32), whole

    def spans(self, text: str) -> tuple[Ids, list[tuple[int, int]]]:
        """All tokens of a text, without special tokens, and the characters that each stands for."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return self._np.array(encoding.ids, dtype=self._np.uint32), encoding.offsets

    def single(self, text: Ids) -> Row:
        """A text as the model reads it."""
        return self._join(self._single, [text])

    def pair(self, query: Ids, document: Ids) -> Row:
        """A pair as the model reads it."""
        return self._join(self._pair, [query, document])

    def _template(self, encoding: Any, *, types: bool) -> list[tuple[list[int], list[int] | None]]:
        """The special tokens before, between and after the sequences, each followed by the type of what comes next.

        Read from an encoding, so that every kind of post-processor is understood.
        """
        parts: list[tuple[list[int], list[int] | None]] = []
        ids: list[int] = []
        kinds: list[int] = []
        previous = None
        for token, kind, sequence in zip(encoding.ids, encoding.type_ids, encoding.sequence_ids, strict=True):
            if sequence is None:
                ids.append(token)
                kinds.append(kind)
            elif sequence != previous:
                parts.append((ids, [*kinds, kind] if types else None))
                ids, kinds = [], []
                previous = sequence
        return [*parts, (ids, kinds if types else None)]

    def _join(self, template: list[tuple[list[int], list[int] | None]], sequences: list[Ids]) -> Row:
        np = self._np
        ids, types = [], []
        for (special, kinds), sequence in zip(template, [*sequences, None], strict=True):
            ids.append(np.array(special, dtype=np.uint32))
            if kinds is not None:
                types.append(np.array(kinds[: len(special)], dtype=np.uint8))
            if sequence is not None:
                ids.append(sequence)
                if kinds is not None:
                    types.append(np.full(len(sequence), kinds[-1], dtype=np.uint8))
        return Row(np.concatenate(ids), np.concatenate(types) if types else None)


def windows(length: int, size: int, overlap: int) -> list[tuple[int, int]]:
    """Cut a sequence into overlapping windows.

    Args:
        length: Tokens of the sequence.
        size: Most tokens of a window.
        overlap: Tokens that neighbouring windows share; the last window may share more, for it is full as well.

    Returns:
        Start and stop of each window; together they cover everything.
    """
    if length <= size:
        return [(0, length)]
    starts = [*range(0, length - size, max(1, size - overlap)), length - size]
    return [(start, start + size) for start in starts]


def pad(rows: Sequence[Row], pad_id: int, *, left: bool = False) -> dict[str, Any]:
    """Arrays of shape [rows, longest row] as models take them, int64.

    Args:
        rows: What the model reads; at least one.
        pad_id: Id of the padding token.
        left: Whether padding comes before the tokens, as language models want it.
    """
    np = require("numpy", extra="onnx")
    width = max(len(row.ids) for row in rows)
    input_ids = np.full((len(rows), width), pad_id, dtype=np.int64)
    mask, types = np.zeros_like(input_ids), np.zeros_like(input_ids)
    for number, row in enumerate(rows):
        columns = slice(width - len(row.ids), None) if left else slice(len(row.ids))
        input_ids[number, columns] = row.ids
        mask[number, columns] = 1
        if row.types is not None:
            types[number, columns] = row.types
    return {"input_ids": input_ids, "attention_mask": mask, "token_type_ids": types}


def _head(text: str, characters: int) -> str:
    """The text up to the last blank or line end within the first characters; all of it where there is none."""
    if len(text) <= characters:
        return text
    end = max(text.rfind(" ", 0, characters), text.rfind("\n", 0, characters))
    return text if end < 0 else text[:end]
