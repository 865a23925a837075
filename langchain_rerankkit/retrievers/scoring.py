"""Retrievers of vector stores that say how well each document fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import RetrieverLike
from langchain_core.vectorstores import VectorStoreRetriever
from typing_extensions import override

__all__ = ["scoring"]


def scoring(retriever: RetrieverLike, key: str) -> RetrieverLike:
    """The same retriever, with the store's scores in the metadata where it is a plain ``store.as_retriever()``.

    Args:
        retriever: Any retriever.
        key: Metadata field for the scores, higher for better.

    Returns:
        A retriever of the same documents in the same order. One that searches by ``"mmr"`` is given back as it is, since
        its order is not that of the scores, and so is anything but langchain-core's own class.
    """
    if type(retriever) is not VectorStoreRetriever or retriever.search_type == "mmr":
        return retriever
    fields = {name: getattr(retriever, name) for name in VectorStoreRetriever.model_fields}
    return _ScoringRetriever(**{**fields, "name": retriever.get_name(), "key": key})


class _ScoringRetriever(VectorStoreRetriever):
    key: str

    @override
    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[Document]:
        store, options = self.vectorstore, self.search_kwargs | kwargs
        if self.search_type == "similarity":
            return self._scored(store.similarity_search_with_score(query, **_at_least_two(options)))[: _k(options)]
        return self._scored(store.similarity_search_with_relevance_scores(query, **options))

    @override
    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[Document]:
        store, options = self.vectorstore, self.search_kwargs | kwargs
        if self.search_type == "similarity":
            found = await store.asimilarity_search_with_score(query, **_at_least_two(options))
            return self._scored(found)[: _k(options)]
        return self._scored(await store.asimilarity_search_with_relevance_scores(query, **options))

    def _scored(self, pairs: Sequence[tuple[Document, float]]) -> list[Document]:
        # Some stores score by similarity, others by distance. Relevance scores would be alike, but not every store has
        # them, and many cut them off at 0, where the worse half of a list may lie. The best comes first: so the scores
        # themselves tell, but for a store of one document.
        sign = -1.0 if pairs and pairs[0][1] < pairs[-1][1] else 1.0
        return [
            document.model_copy(update={"metadata": {**document.metadata, self.key: sign * float(score)}})
            for document, score in pairs
        ]


def _k(options: Mapping[str, Any]) -> int:
    """How many documents are wanted: langchain-core's own default where nobody says it."""
    return int(options.get("k", 4))


def _at_least_two(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a search in which two scores can show which way they go."""
    return {**options, "k": max(2, _k(options))}
