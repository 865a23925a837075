"""Which documents hold which terms, scored by BM25. It sees terms, never texts: cutting those is the caller's part."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable, Iterable, Sequence
from itertools import compress
from typing import Any, Literal, NamedTuple

from langchain_core.documents import Document
from typing_extensions import Self

from langchain_rerankkit._optional import require

__all__ = ["Contents", "InvertedIndex", "Method", "Scoring"]

Method = Literal["lucene", "robertson", "atire"]


class Scoring(NamedTuple):
    """A form of BM25.

    Attributes:
        method: Lucene's, Robertson's, or that of ATIRE: see `InvertedIndex`.
        k1: How soon repeating a term stops helping; at least 0.
        b: How much long documents are held back, from 0 (not at all) to 1.
    """

    method: Method
    k1: float
    b: float


class Contents(NamedTuple):
    """What an index holds. None of it is ever changed.

    Attributes:
        documents: The documents, oldest first.
        vocabulary: The different terms; a term's number is its place.
        lengths: How many terms each document has: int32 of shape [documents].
        terms: The numbers of those terms, one document after the other: int32.
    """

    documents: Sequence[Document]
    vocabulary: Sequence[str]
    lengths: Any
    terms: Any


class InvertedIndex:
    """Documents and their terms.

    Nothing is counted when documents come and go. The first search after that sorts all terms anew, which takes about
    6 seconds for a million passages of 40 words, and milliseconds for thousands. Searches see the documents before a
    change or after it, and run while others add.

    Scores are those of Kamphuis et al., "Which BM25 Do You Mean?", ECIR 2020, for Lucene (accurate), Robertson et al.
    and ATIRE, and to float32 precision those of bm25s. With Lucene's a document that holds a term of the query scores
    above 0. With Robertson's, terms in half of the documents or more weigh nothing, with ATIRE's those in all.

    Args:
        analysis: What cuts texts into terms. It is kept for the caller to compare.
    """

    def __init__(self, analysis: Any = None) -> None:
        self.analysis = analysis
        self._lock = threading.Lock()
        # Searches read these documents and this vocabulary outside of the lock: both may grow, and are replaced when
        # something goes.
        self._documents: list[Document] = []
        self._vocabulary: dict[str, int] = {}
        self._rows: dict[str | None, int] = {}
        self._gone: set[int] = set()
        self._batches: list[tuple[Any, Any]] = []  # lengths and terms of documents, as in `Contents`
        self._ready: tuple[Scoring, _Searchable] | None = None

    @classmethod
    def of(cls, contents: Contents, analysis: Any = None) -> Self:
        """An index that holds what another one did."""
        index = cls(analysis)
        index._documents = list(contents.documents)
        index._rows = {document.id: row for row, document in enumerate(index._documents)}
        index._vocabulary = {term: number for number, term in enumerate(contents.vocabulary)}
        index._batches = [(contents.lengths, contents.terms)]
        return index

    def contents(self) -> Contents:
        """What it holds."""
        with self._lock:
            self._settle()
            lengths, terms = self._batches[0]
            return Contents(self._documents[:], list(self._vocabulary), lengths, terms)

    def add(
        self,
        documents: Sequence[Document],
        texts: Iterable[Iterable[str]],
        stem: Callable[[str], str] | None = None,
    ) -> None:
        """Add documents; one of the same id is replaced.

        Args:
            documents: Documents of different ids. They are kept, and must not be changed afterwards.
            texts: The words of each.
            stem: The term of a word, asked for once for each different word; by default words are terms.

        Raises:
            TypeError: If terms are not a list of str; nothing is added.
        """
        np = require("numpy", extra="bm25")
        numbers, terms, lengths = _Numbers(stem), array("i"), array("i")
        for words in texts:
            if isinstance(words, str):
                msg = "A text must be cut into a list of terms; what came is a str."
                raise TypeError(msg)
            before = len(terms)
            terms.extend(map(numbers.__getitem__, words))
            lengths.append(len(terms) - before)
        if not documents:
            return
        with self._lock:
            vocabulary = self._vocabulary
            ours = [vocabulary.setdefault(term, len(vocabulary)) for term in numbers.terms]
            batch = np.array(lengths, np.int32), np.array(ours, np.int32)[np.array(terms, np.int32)]
            for row, document in enumerate(documents, start=len(self._documents)):
                if document.id in self._rows:
                    self._gone.add(self._rows[document.id])
                self._rows[document.id] = row
            self._documents.extend(documents)
            self._batches.append(batch)
            self._ready = None

    def delete(self, ids: Iterable[str]) -> None:
        """Delete documents, passing over ids that are not there."""
        with self._lock:
            rows = [self._rows.pop(id_) for id_ in set(ids) if id_ in self._rows]
            self._gone.update(rows)
            self._ready = None if rows else self._ready

    def get(self, ids: Iterable[str]) -> list[Document]:
        """Documents by id; ids that are not there are passed over."""
        with self._lock:
            return [self._documents[self._rows[id_]] for id_ in ids if id_ in self._rows]

    def search(self, terms: Iterable[str], k: int, scoring: Scoring) -> list[tuple[Document, float]]:
        """The documents that fit best with their scores, best first, of equal ones the oldest first.

        Args:
            terms: Terms of the query; a repeated one counts again.
            k: How many documents, at most. Those without a term of the query are left out.
            scoring: The form of BM25. Another one than the last search's costs as much as a change of documents.
        """
        index = self._searchable(scoring)
        numbers = [index.vocabulary.get(term, index.terms) for term in terms]
        known = [number for number in numbers if number < index.terms]  # newer terms are none of this state
        if not known:
            return []
        scores = index.bm25.get_scores_from_ids(known)
        return [(index.documents[row], float(scores[row])) for row in _highest(scores, k)]

    def frequencies(self, scoring: Scoring) -> tuple[dict[str, int], int, int]:
        """In how many documents each term occurs; the number of documents; the number of terms, repeated ones too."""
        index = self._searchable(scoring)
        counts = require("numpy", extra="bm25").diff(index.bm25.scores["indptr"]).tolist()
        with self._lock:  # others may be adding terms
            vocabulary = list(index.vocabulary)
        return dict(zip(vocabulary, counts, strict=False)), index.size, index.length

    def __getstate__(self) -> tuple[Contents, Any]:
        return self.contents(), self.analysis

    def __setstate__(self, state: tuple[Contents, Any]) -> None:
        self.__dict__ = self.of(*state).__dict__

    def _searchable(self, scoring: Scoring) -> _Searchable:
        with self._lock:
            if self._ready is None or self._ready[0] != scoring:
                self._ready = None  # to be gone before its successor takes as much memory
                self._settle()
                lengths, terms = self._batches[0]
                count = len(self._vocabulary)
                self._ready = (
                    scoring,
                    _Searchable(
                        documents=self._documents,
                        vocabulary=self._vocabulary,
                        terms=count,
                        size=len(lengths),
                        length=len(terms),
                        bm25=_scored(lengths, terms, count, scoring),
                    ),
                )
            return self._ready[1]

    def _settle(self) -> None:
        """Bring documents and terms together, without those that are gone."""
        np = require("numpy", extra="bm25")
        if len(self._batches) != 1:
            empty = np.empty(0, np.int32)
            columns = zip((empty, empty), *self._batches, strict=True)
            self._batches = [tuple(np.concatenate(column) for column in columns)]
        if not self._gone:
            return
        lengths, terms = self._batches[0]
        kept = np.ones(len(lengths), bool)
        kept[list(self._gone)] = False
        terms = terms[np.repeat(kept, lengths)]
        held = np.zeros(len(self._vocabulary), bool)  # a deleted document's words go too: nothing of it is left
        held[terms] = True
        documents = list(compress(self._documents, kept.tolist()))
        vocabulary = {term: number for number, term in enumerate(compress(self._vocabulary, held.tolist()))}
        batch = lengths[kept], (np.cumsum(held, dtype=np.int32) - 1)[terms]
        self._documents, self._vocabulary, self._batches = documents, vocabulary, [batch]
        self._rows = {document.id: row for row, document in enumerate(documents)}
        self._gone = set()


class _Searchable(NamedTuple):
    """One state of an index: its first documents and terms, and the scores of each term in each document."""

    documents: Sequence[Document]
    vocabulary: dict[str, int]
    terms: int
    size: int
    length: int
    bm25: Any


class _Numbers(dict[str, int]):
    """Numbers of terms by word; a new term gets the next."""

    def __init__(self, stem: Callable[[str], str] | None) -> None:
        super().__init__()
        self.terms: dict[str, int] = {}
        self._stem = stem

    def __missing__(self, word: str) -> int:
        if not isinstance(word, str):
            msg = f"A term must be a str, not a {type(word).__name__}."
            raise TypeError(msg)
        term = self._stem(word) if self._stem else word
        number = self[word] = self.terms.setdefault(term, len(self.terms))
        return number


def _scored(lengths: Any, terms: Any, vocabulary: int, scoring: Scoring) -> Any:
    """bm25s's index, made of arrays at once; its own way of making one is a loop over documents."""
    np, bm25s = require("numpy", extra="bm25"), require("bm25s", extra="bm25")
    pairs = terms.astype(np.int64)
    pairs <<= 32
    pairs += np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    pairs.sort()  # by term, then by document
    first = np.flatnonzero(np.concatenate([[True], pairs[1:] != pairs[:-1]])) if len(pairs) else pairs
    counts = np.diff(first, append=len(pairs)).astype(np.float32)
    pairs = pairs[first]
    del first
    rows = pairs.astype(np.int32)  # the lower half
    pairs >>= 32
    frequencies = np.bincount(pairs, minlength=vocabulary)
    del pairs
    weights = _idf(np, np.maximum(frequencies, 1), len(lengths), scoring.method)
    norms = scoring.k1 * (1 - scoring.b + scoring.b * lengths / (lengths.mean() if lengths.any() else 1))
    scores = norms[rows]
    scores += counts
    np.divide(counts, scores, out=scores)
    scores *= np.repeat(weights * (scoring.k1 + 1 if scoring.method == "atire" else 1), frequencies)
    index = bm25s.BM25(backend="numpy")
    index.nonoccurrence_array = None
    index.scores = {
        "data": scores.astype(np.float32),
        "indices": rows,
        "indptr": np.concatenate([[0], np.cumsum(frequencies)]),
        "num_docs": len(lengths),
    }
    return index


def _idf(np: Any, frequencies: Any, documents: int, method: Method) -> Any:
    if method == "atire":
        return np.log(documents / frequencies)
    odds = (documents - frequencies + 0.5) / (frequencies + 0.5)
    return np.log1p(odds) if method == "lucene" else np.log(np.maximum(odds, 1))


_BLOCK = 64


def _highest(scores: Any, k: int) -> Any:
    """Rows of the k highest scores above 0, highest first, of equal ones the first first."""
    np = require("numpy", extra="bm25")
    # The k highest blocks hold a score each that reaches the k-th of their maxima: what lies below is out. That leaves
    # few, where a partition of all scores has to move a million.
    maxima = np.maximum.reduceat(scores, np.arange(0, len(scores), _BLOCK))
    limit = np.partition(maxima, -k)[-k] if k < len(maxima) else 0
    candidates = np.flatnonzero(scores >= limit if limit > 0 else scores > 0)
    return candidates[np.argsort(-scores[candidates], kind="stable")[:k]]
