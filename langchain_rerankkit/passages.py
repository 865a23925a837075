"""Long texts in parts: where they are cut, and what the scores of the parts say of the text. Pure."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

__all__ = ["ChunkScore", "Chunks", "LongDocuments", "Result", "Span", "combined", "cut"]

LongDocuments = Literal["truncate", "chunk", "error"]
"""What happens to a text that is too long: its beginning is judged, all of it in overlapping chunks, or it is an error."""

ChunkScore = Literal["max", "mean", "first"]
"""The score of a text in chunks: of its best chunk, their mean, or that of the first."""

Span = tuple[int, int]
"""First character of a part and the one after its last."""

# One sign, since a pattern of many would look at a row of them again from each; the last one is the end.
_SENTENCE_END = re.compile(r"[.!?…][\"'”’»)\]]*(?=\s)|[。！？．｡]+[”’」』）】]*|\n")  # noqa: RUF001 - of Chinese and Japanese
_SOMETHING = re.compile(r"\S")


def cut(text: str, reach: Callable[[int], int], overlap: float, most: int | None = None) -> list[Span]:
    """Cut a text into overlapping parts.

    A part ends after a sentence or a line, else after a word, where one ends in the second half of what there is room
    for, and begins with a sentence or a line, else with a word, where one begins in what it may repeat. Where there are
    neither it ends and begins between any two characters.

    Args:
        text: The text.
        reach: From the first character of a part to the one after the last that it may have; beyond the text is fine.
        overlap: The most of a part that the next one repeats, from 0 to 0.5 of it.
        most: Most parts; what comes after them is left out.

    Returns:
        First character and the one after the last, for each part: without white space at either end, and together all
        that is no white space, unless ``most`` ends it.
    """
    length = len(text.rstrip())
    parts: list[Span] = []
    start = _something(text, 0)
    while start < length and len(parts) != most:
        end = max(start + 1, reach(start))
        stop = length if end >= length else _end(text, start, end)
        if parts and stop <= parts[-1][1]:  # nothing new
            start = _something(text, parts[-1][1])
            continue
        parts.append((start, stop))
        if stop == length:
            break
        start = _something(text, _beginning(text, max(start + 1, stop - int((stop - start) * overlap)), stop))
    return parts


def _something(text: str, start: int) -> int:
    found = _SOMETHING.search(text, start)
    return len(text) if found is None else found.start()


def _end(text: str, start: int, end: int) -> int:
    """Where a part ends that begins at ``start``, with something, and could go on to ``end``."""
    half = start + (end - start) // 2
    ends = [found.end() for found in _SENTENCE_END.finditer(text, half, end + 1) if half < found.end() <= end]
    blanks = (place for place in range(end, half, -1) if text[place].isspace())
    stop = ends[-1] if ends else next(blanks, end)
    return start + len(text[start:stop].rstrip())


def _beginning(text: str, start: int, stop: int) -> int:
    """Where the part begins that follows one which ends at ``stop``, and may repeat what is from ``start`` on."""
    ends = (found.end() for found in _SENTENCE_END.finditer(text, start - 1, stop) if found.end() < stop)
    blanks = (place for place in range(start - 1, stop + 1) if text[place].isspace())
    return max(start, next(ends, None) or next(blanks, start))


def combined(scores: Sequence[float], how: ChunkScore) -> tuple[float, int]:
    """The score of a text from those of its chunks, and the position of the best chunk.

    Args:
        scores: One number per chunk, at least one.
        how: See `ChunkScore`.

    Returns:
        The score, NaN where one of them is; and the first of the highest.
    """
    best = max(range(len(scores)), key=lambda chunk: -math.inf if math.isnan(scores[chunk]) else scores[chunk])
    if any(math.isnan(score) for score in scores):
        return math.nan, best
    # Not fsum: an endpoint may say any number, and inf is told apart from errors later.
    return {"max": scores[best], "mean": sum(scores) / len(scores), "first": scores[0]}[how], best


class _Text(NamedTuple):
    places: list[int]
    spans: Sequence[Span] | None
    truncated: bool


class Result(NamedTuple):
    """What is known of one text.

    Attributes:
        score: None where nobody judged any of it.
        best: Place of its best chunk.
        details: For ``metadata["rerank"]``: ``chunks`` and ``best_span`` of a long text, ``truncated`` where some of a
            text was not read.
    """

    score: float | None
    best: int
    details: dict[str, Any]


class Chunks:
    """What is judged of the texts of one request, each different chunk once. A text that is not long is one chunk."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}
        self._texts: list[_Text] = []

    def add(self, chunks: Sequence[str], spans: Sequence[Span] | None = None, *, truncated: bool = False) -> None:
        """Add a text.

        Args:
            chunks: What is judged of it; at least one, and no more where there are no spans.
            spans: Where they stand in a long text.
            truncated: Whether that is not all of it.
        """
        places = [self._known.setdefault(chunk, len(self._known)) for chunk in chunks]
        self._texts.append(_Text(places, spans, truncated))

    @property
    def different(self) -> list[str]:
        """The chunks, each once; a position in this list is the chunk's place."""
        return list(self._known)

    @property
    def count(self) -> int:
        """How many chunks the texts have together."""
        return sum(len(text.places) for text in self._texts)

    @property
    def any_long(self) -> bool:
        """Whether a text is in chunks."""
        return any(text.spans is not None for text in self._texts)

    def results(
        self, scores: Mapping[int, float], how: ChunkScore, truncated: AbstractSet[int] = frozenset()
    ) -> list[Result]:
        """What the scores say of each text.

        Args:
            scores: By place; a text is judged by those of its chunks that are there.
            how: See `ChunkScore`.
            truncated: Places of chunks of which some was not read.
        """
        results: list[Result] = []
        for places, spans, cut_short in self._texts:
            details: dict[str, Any] = {}
            score, best = scores.get(places[0]), places[0]
            if spans is not None:
                details["chunks"] = len(places)
                judged = [number for number, place in enumerate(places) if place in scores]
                if judged:
                    score, found = combined([scores[places[number]] for number in judged], how)
                    best = places[judged[found]]
                    details["best_span"] = list(spans[judged[found]])
                    cut_short = cut_short or len(judged) < len(places)  # noqa: PLW2901 - of this text
            if cut_short or (truncated and not truncated.isdisjoint(places)):
                details["truncated"] = True
            results.append(Result(score, best, details))
        return results
