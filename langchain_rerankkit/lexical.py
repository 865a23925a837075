"""BM25 over short lists of texts: words, term statistics, scores. Pure, but for the stemmer."""

from __future__ import annotations

import math
import re
import threading
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cache

from langchain_core.load.serializable import Serializable
from typing_extensions import override

from langchain_rerankkit._optional import require

__all__ = [
    "K1",
    "UNSPACED",
    "Analyser",
    "B",
    "TermStatistics",
    "analyser",
    "bm25",
    "bm25_limit",
    "stemmer",
    "stop_words",
    "words",
]

Analyser = Callable[[str], list[str]]
"""Turns a text into terms."""

# Scripts that are written without spaces: Han, kana and Hangul syllables are cut into pairs, as Lucene's CJK analyser.
UNSPACED = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"

# Vowel signs and accents that no letter has taken in are parts of words, though Python's \w has none of them. Not those of
# Thai, Lao, Burmese and Khmer, whose words have no spaces between them and would become one; nor signs of how to draw.
_NO_PARTS = rf"{UNSPACED}\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\ua9e0-\ua9ff\uaa60-\uaa7f\ufe00-\ufe0f"

_REMEMBERED = 100_000  # words whose stems a thread keeps: most of a text's words come again and again
_LONGEST = 40  # letters of a word that is kept, so that strange texts take no memory


def analyser(language: str | None, stop_words: frozenset[str] = frozenset()) -> Analyser:
    """A function from text to terms: those of `words`, stemmed.

    Args:
        language: Language of the Snowball stemmer (``"english"``, ``"german"``, …), or None for no stemming.
        stop_words: Words to leave out, as the text has them: before stemming.

    Raises:
        MissingExtraError: If a language is asked for and PyStemmer is not installed.
        ValueError: If there is no stemmer for the language.
    """

    def cut(text: str) -> list[str]:
        return [word for word in words(text) if word not in stop_words] if stop_words else words(text)

    if language is None:
        return cut
    stemmer(language)  # to fail at once
    threads = threading.local()

    def analyse(text: str) -> list[str]:
        if not hasattr(threads, "stems"):
            threads.stems = _Stems(stemmer(language))
        return list(map(threads.stems.__getitem__, cut(text)))

    return analyse


def stemmer(language: str) -> Callable[[str], str]:
    """A function from word to term: Snowball's of a language. It keeps state: not to be shared by threads.

    Raises:
        MissingExtraError: If PyStemmer is not installed.
        ValueError: If there is no stemmer for the language.
    """
    stemming = require("Stemmer", extra="lexical")
    if language not in stemming.algorithms():
        msg = f"There is no stemmer for {language!r}; choose one of {stemming.algorithms()}, or None."
        raise ValueError(msg)
    stem: Callable[[str], str] = stemming.Stemmer(language, 0).stemWord  # without a cache of its own
    return stem


class _Stems(dict[str, str]):
    """Stems by word; an unknown word is stemmed."""

    def __init__(self, stem: Callable[[str], str]) -> None:
        super().__init__()
        self._stem = stem

    def __missing__(self, word: str) -> str:
        stem = self._stem(word)
        if len(word) <= _LONGEST:
            if len(self) >= _REMEMBERED:
                self.clear()
            self[word] = stem
        return stem


@cache
def stop_words(language: str) -> frozenset[str]:
    """Words that are too common in a language to tell texts apart; none for a language without a list.

    Source: NLTK's lists, and for Korean that of stopwords-iso, as bm25s carries them.

    Raises:
        MissingExtraError: If bm25s is not installed.
    """
    lists = require("bm25s.stopwords", extra="bm25")
    name = "EN_PLUS" if language == "english" else language.upper()
    return frozenset(word for entry in getattr(lists, f"STOPWORDS_{name}", ()) for word in words(entry))


@cache  # at first use, since so large a class takes milliseconds to make
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    """Words of any script; a character of an unspaced script; words of other scripts, which are found faster."""
    signs = map(chr, range(0x300, 0x20000))  # what follows are variants of signs
    marks = re.sub(f"[{_NO_PARTS}]", "", "".join(s for s in signs if unicodedata.category(s) in {"Mn", "Mc"}))
    near, far = ("".join(mark for mark in marks if (mark < "\U00010000") is low) for low in (True, False))

    def word(letter: str) -> str:
        # Far signs are looked for one after the other, so only where there is one.
        return rf"{letter}+(?:(?:[{near}]+|(?=[\U00010000-\U0001ffff])[{far}]){letter}*)*"

    spaced = word(rf"[^\W_{UNSPACED}]")
    return re.compile(rf"([{UNSPACED}]+)|{spaced}"), re.compile(rf"[{UNSPACED}]"), re.compile(word(r"[^\W_]"))


_ascii_words = re.compile(r"[^\W_]+", re.ASCII).findall


def words(text: str) -> list[str]:
    """The words of a text: case folded, composed (NFC), cut at non-letters, and into pairs where a script has no spaces."""
    if text.isascii():
        return _ascii_words(text.lower())
    # Twice, since folding takes letters apart: canonical caseless matching, Unicode 3.13, D145.
    text = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    pattern, unspaced, spaced = _patterns()
    if not unspaced.search(text):
        return spaced.findall(text)
    found_words: list[str] = []
    for found in pattern.finditer(text):
        word = found[0]
        if len(word) > 1 and found[1]:
            found_words.extend(word[i : i + 2] for i in range(len(word) - 1))
        else:
            found_words.append(word)
    return found_words


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
