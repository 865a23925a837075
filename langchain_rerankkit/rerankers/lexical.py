"""Reranking by words in common: BM25."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from langchain_core.documents import Document
from pydantic import Field, model_validator
from typing_extensions import Self, override

from langchain_rerankkit.base import Reranker
from langchain_rerankkit.lexical import K1, Analyser, B, TermStatistics, analyser, bm25
from langchain_rerankkit.vectorstores.reading import stored_texts

__all__ = ["LexicalReranker"]


class LexicalReranker(Reranker):
    """Reranks by BM25: rare words of the query that a text repeats. No model, no download, milliseconds.

    BM25 lives on knowing which words are rare. Give it the collection — `from_texts`, `from_documents`, `from_store`
    — or ready ``statistics``. Without, rarity is counted **in the candidates alone**, which is weaker: these were
    retrieved for the query, so just its important words are frequent among them and get the least weight. Over seven
    test sets that costs 1.5 points of nDCG@10 on the mean and 3.4 at worst (table in the embedded model's card).
    """

    statistics: TermStatistics | None = Field(default=None, repr=False)
    """Document frequencies of the collection."""

    language: str | None = "english"
    """Language of the Snowball stemmer, or None for no stemming."""

    k1: float = Field(default=K1, ge=0)
    """How soon repeating a word stops helping."""

    b: float = Field(default=B, ge=0, le=1)
    """How much long texts are held back."""

    @classmethod
    def from_texts(cls, texts: Iterable[str], *, language: str | None = "english", **fields: Any) -> Self:
        """A reranker that knows how rare words are in a collection of texts."""
        statistics = TermStatistics.from_texts(texts, language=language)
        return cls(statistics=statistics, language=language, **fields)

    @classmethod
    def from_documents(cls, documents: Iterable[Document], **fields: Any) -> Self:
        """A reranker that knows how rare words are in a collection of documents."""
        return cls.from_texts((document.page_content for document in documents), **fields)

    @classmethod
    def from_store(cls, store: Any, **fields: Any) -> Self:
        """A reranker that knows how rare words are in a vector store.

        Raises:
            TypeError: If the store does not give its documents away; use `from_documents` then.
        """
        return cls.from_texts(stored_texts(store), **fields)

    @model_validator(mode="after")
    def _check_language(self) -> Self:
        if self.statistics is not None and self.statistics.language != self.language:
            msg = f"The statistics were counted for language={self.statistics.language!r}, not {self.language!r}."
            raise ValueError(msg)
        return self

    @property
    @override
    def judges_alone(self) -> bool:
        return self.statistics is not None  # else what is rare depends on the candidates

    @override
    def _load(self) -> Analyser:
        return analyser(self.language)

    @override
    def _score(self, query: str, texts: list[str]) -> Sequence[float]:
        analyse = self._ready()
        terms = [analyse(text) for text in texts]
        statistics = self.statistics or TermStatistics.from_terms(terms, language=self.language)
        return bm25(analyse(query), terms, statistics, k1=self.k1, b=self.b)
