"""Retrieve, then rerank."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from langchain_core.documents import BaseDocumentCompressor
from langchain_core.retrievers import RetrieverLike
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import get_executor_for_config
from langchain_core.runnables.utils import ConfigurableFieldSpec
from typing_extensions import override

from langchain_rerankkit.base import Reranker
from langchain_rerankkit.records import RerankInput
from langchain_rerankkit.retrievers.combining import CombiningRetriever, Found, found_of

__all__ = ["ContextualCompressionRetriever"]


class ContextualCompressionRetriever(CombiningRetriever):
    """Retrieves candidates with one retriever and reranks them.

    The same arguments as langchain-classic's class of this name, on langchain-core alone. `batch` retrieves for all
    questions and then reranks all their candidates in one pass of the model.
    """

    base_compressor: BaseDocumentCompressor
    """A reranker, or any other document compressor."""

    base_retriever: RetrieverLike
    """Where candidates come from. Let it return more than you keep: with four candidates and ``top_n=4`` there is
    nothing to choose from."""

    @property
    @override
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        return self.base_retriever.config_specs

    @override
    def _find_many(
        self, questions: list[str], configs: list[RunnableConfig], k: int | None, **kwargs: Any
    ) -> list[Found]:
        found = found_of(self.base_retriever.batch(questions, configs, return_exceptions=True, **kwargs))
        pending, compressor = _retrieved(questions, found), self.base_compressor
        inputs, of_inputs = list(pending.values()), [configs[position] for position in pending]
        reranked: Sequence[Any]
        if isinstance(compressor, Reranker):
            reranked = compressor.batch(inputs, of_inputs, return_exceptions=True, **_options(k))
        else:

            def compress(given: RerankInput, config: RunnableConfig) -> Found:
                try:
                    return list(compressor.compress_documents(given["documents"], given["query"], config["callbacks"]))
                except Exception as error:  # noqa: BLE001 - fails its question alone
                    return error

            with get_executor_for_config(configs[0]) as threads:
                reranked = list(threads.map(compress, inputs, of_inputs))
        return _merged(found, dict(zip(pending, reranked, strict=True)))

    @override
    async def _afind_many(
        self, questions: list[str], configs: list[RunnableConfig], k: int | None, **kwargs: Any
    ) -> list[Found]:
        found = found_of(await self.base_retriever.abatch(questions, configs, return_exceptions=True, **kwargs))
        pending, compressor = _retrieved(questions, found), self.base_compressor
        inputs, of_inputs = list(pending.values()), [configs[position] for position in pending]
        reranked: Sequence[Any]
        if isinstance(compressor, Reranker):
            reranked = await compressor.abatch(inputs, of_inputs, return_exceptions=True, **_options(k))
        else:

            async def compress(given: RerankInput, config: RunnableConfig) -> Found:
                try:
                    documents, query = given["documents"], given["query"]
                    return list(await compressor.acompress_documents(documents, query, config["callbacks"]))
                except Exception as error:  # noqa: BLE001 - fails its question alone
                    return error

            reranked = await asyncio.gather(*map(compress, inputs, of_inputs))
        return _merged(found, dict(zip(pending, reranked, strict=True)))


def _options(k: int | None) -> dict[str, Any]:
    return {} if k is None else {"top_n": k}


def _retrieved(questions: Sequence[str], found: Sequence[Any]) -> dict[int, RerankInput]:
    """What to rerank, by position; questions for which nothing was found, or retrieval failed, are left out."""
    return {
        position: {"query": question, "documents": documents}
        for position, (question, documents) in enumerate(zip(questions, found, strict=True))
        if not isinstance(documents, Exception) and documents
    }


def _merged(found: Sequence[Any], reranked: dict[int, Found]) -> list[Found]:
    return [reranked.get(position, documents) for position, documents in enumerate(found)]
