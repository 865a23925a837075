"""Reranking by embedding similarity."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from langchain_core.embeddings import Embeddings
from pydantic import Field
from typing_extensions import override

from langchain_rerankkit.base import Reranker
from langchain_rerankkit.inference.similarity import TextVectors, cosines, model_name
from langchain_rerankkit.records import ScoreRequest, by_request

__all__ = ["BiEncoderReranker"]


class BiEncoderReranker(Reranker):
    """Reranks by the cosine of query and text vectors, with any LangChain ``Embeddings``.

    Texts are judged apart from the query, so their vectors can be computed once and kept: give the ``store`` that
    the documents came from, and only the query and unknown documents are embedded.
    """

    embeddings: Embeddings
    """The model, in LangChain's interface."""

    store: Any = Field(default=None, exclude=True, repr=False)
    """A vector store filled by the same ``embeddings``: its vectors are reused by document id. Not part of a dump."""

    @override
    def _label(self) -> str:
        return model_name(self.embeddings)

    @override
    def _score_many(self, requests: Sequence[ScoreRequest]) -> Sequence[Sequence[float] | Exception]:
        texts = TextVectors(requests, self.store)
        queries = [self.embeddings.embed_query(request.query) for request in requests]
        vectors = texts.fill(self.embeddings.embed_documents(texts.missing) if texts.missing else [])
        return _scores(requests, queries, vectors)

    @override
    async def _ascore_many(self, requests: Sequence[ScoreRequest]) -> Sequence[Sequence[float] | Exception]:
        texts = TextVectors(requests, self.store)
        queries = await asyncio.gather(*(self.embeddings.aembed_query(request.query) for request in requests))
        vectors = texts.fill(await self.embeddings.aembed_documents(texts.missing) if texts.missing else [])
        return _scores(requests, queries, vectors)


def _scores(
    requests: Sequence[ScoreRequest], queries: Sequence[Sequence[float]], vectors: Sequence[Sequence[float]]
) -> list[Sequence[float]]:
    return [cosines(query, texts) for query, texts in zip(queries, by_request(requests, vectors), strict=True)]
