"""BM25 over short lists of texts: words, term statistics, scores. Pure, but for the stemmer."""

from __future__ import annotations

import math
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cache

from langchain_core.load.serializable import Serializable
from typing_extensions import override

from langchain_rerankkit._optional import require

__all__ = ["K1", "UNSPACED", "Analyser", "B", "TermStatistics", "analyser", "bm25", "bm25_limit"]

Analyser = Callable[[str], list[str]]
"""Turns a text into terms."""

# Scripts that are written without spaces: Han, kana and Hangul syllables are cut into pairs, as Lucene's CJK analyser.
UNSPACED = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"


def analyser(language: str | None) -> Analyser:
    """A function from text to terms: case folded, cut at non-letters, stemmed.

    Args:
        language: Language of the Snowball stemmer (``"english"``, ``"german"``, …), or None for no stemming.

    Raises:
        MissingExtraError: If a language is asked for and PyStemmer is not installed.
        ValueError: If there is no stemmer for the language.
    """
    if language is None:
        return _words
    stemming = require("Stemmer", extra="lexical")
    if language not in stemming.algorithms():
        msg = f"There is no stemmer for {language!r}; choose one of {stemming.algorithms()}, or None."
        raise ValueError(msg)
    stemmers = threading.local()  # a Snowball stemmer keeps state and is not safe to share

    def analyse(text: str) -> list[str]:
        if not hasattr(stemmers, "stem"):
            stemmers.stem = stemming.Stemmer(language).stemWords
        terms: list[str] = stemmers.stem(_words(text))
        return terms

    return analyse


@cache  # at first use, since so large a class takes milliseconds to compile
def _pattern() -> re.Pattern[str]:
    return re.compile(rf"([{UNSPACED}]+)|[^\W_{UNSPACED}]+")


def _words(text: str) -> list[str]:
    words: list[str] = []
    for found in _pattern().finditer(text.casefold()):
        word = found[0]
        if len(word) > 1 and found[1]:
            words.extend(word[i : i + 2] for i in range(len(word) - 1))
        else:
            words.append(word)
    return words


class TermStatistics(Serializable):
    """In how many documents of a collection each term occurs, and how long its documents are."""

    documents: int
    """Number of documents."""

    average_length: float
    """Mean number of terms in a document."""

    frequencies: dict[str, int]
    """Number of documents that hold each term."""

    language: str | None = "english"
    """Language of the stemmer that made the terms."""

    @classmethod
    def from_texts(cls, texts: Iterable[str], *, language: str | None = "english") -> TermStatistics:
        """Count the terms of a collection."""
        analyse = analyser(language)
        return cls.from_terms((analyse(text) for text in texts), language=language)

    @classmethod
    def from_terms(cls, texts: Iterable[Sequence[str]], *, language: str | None) -> TermStatistics:
        """Count texts that are already cut into terms."""
        count, total = 0, 0
        frequencies: Counter[str] = Counter()
        for terms in texts:
            count += 1
            total += len(terms)
            frequencies.update(set(terms))
        return cls(
            documents=count,
            average_length=total / count if count else 0.0,
            frequencies=dict(frequencies),
            language=language,
        )

    @classmethod
    @override
    def is_lc_serializable(cls) -> bool:
        return True

    def idf(self, term: str) -> float:
        """``ln(1 + (N - n + 0.5) / (n + 0.5))``: Lucene's inverse document frequency, never negative."""
        frequency = min(self.frequencies.get(term, 0), self.documents)
        return math.log1p((self.documents - frequency + 0.5) / (frequency + 0.5))


K1 = 1.2
"""How soon repeating a term stops helping, by default."""

B = 0.75
"""How much long texts are held back, by default."""


def bm25(
    query: Sequence[str],
    texts: Sequence[Sequence[str]],
    statistics: TermStatistics,
    *,
    k1: float = K1,
    b: float = B,
) -> list[float]:
    """BM25 of each text, in Lucene's form.

    Source: Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009; the variants are
    told apart in Kamphuis et al., "Which BM25 Do You Mean?", ECIR 2020.

    Args:
        query: Terms of the query; a repeated term counts again.
        texts: Terms of each text.
        statistics: Where document frequencies and the average length come from.
        k1: How soon repeating a term stops helping.
        b: How much long texts are held back, from 0 (not at all) to 1.

    Returns:
        One score of at least 0 per text, below `bm25_limit`.
    """
    weights = _weights(query, statistics)
    average = statistics.average_length or 1.0
    scores = []
    for terms in texts:
        norm = k1 * (1 - b + b * len(terms) / average)
        counts = Counter(term for term in terms if term in weights)
        scores.append(math.fsum(weights[term] * count / (count + norm) for term, count in counts.items()))
    return scores


def bm25_limit(query: Sequence[str], statistics: TermStatistics) -> float:
    """The score that no text can exceed for a query: every term, endlessly repeated."""
    return math.fsum(_weights(query, statistics).values())


def _weights(query: Sequence[str], statistics: TermStatistics) -> dict[str, float]:
    return {term: count * statistics.idf(term) for term, count in Counter(query).items()}
