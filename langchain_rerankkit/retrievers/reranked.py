"""Retrieve, then rerank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.retrievers import BaseRetriever, RetrieverLike
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import patch_config
from pydantic import ConfigDict, Field
from typing_extensions import override

from langchain_rerankkit.base import Reranker
from langchain_rerankkit.records import RerankInput, documents_of

__all__ = ["ContextualCompressionRetriever"]


class ContextualCompressionRetriever(BaseRetriever):
    """Retrieves candidates with one retriever and reranks them.

    The same arguments as langchain-classic's class of this name, on langchain-core alone. `batch` retrieves for all
    questions and then reranks all their candidates in one pass of the model.
    """

    base_compressor: BaseDocumentCompressor
    """A reranker, or any other document compressor."""

    base_retriever: RetrieverLike
    """Where candidates come from. Let it return more than you keep: with four candidates and ``top_n=4`` there is
    nothing to choose from."""

    k: int | None = Field(default=None, ge=1)
    """How many documents to return; by default whatever the compressor keeps. Also ``invoke(question, k=…)``."""

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    @override
    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None, **kwargs: Any
    ) -> list[Document]:
        k = self._cut(k)
        config: RunnableConfig = {"callbacks": run_manager.get_child()}
        documents = self.base_retriever.invoke(query, config, **kwargs)
        if isinstance(self.base_compressor, Reranker):
            return self.base_compressor.invoke({"query": query, "documents": documents}, config, **_options(k))
        if not documents:
            return []
        return list(self.base_compressor.compress_documents(documents, query, run_manager.get_child()))[:k]

    @override
    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, k: int | None = None, **kwargs: Any
    ) -> list[Document]:
        k = self._cut(k)
        config: RunnableConfig = {"callbacks": run_manager.get_child()}
        documents = await self.base_retriever.ainvoke(query, config, **kwargs)
        if isinstance(self.base_compressor, Reranker):
            return await self.base_compressor.ainvoke({"query": query, "documents": documents}, config, **_options(k))
        if not documents:
            return []
        return list(await self.base_compressor.acompress_documents(documents, query, run_manager.get_child()))[:k]

    @override
    def batch(
        self,
        inputs: list[str],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        k: int | None = None,
        **kwargs: Any | None,
    ) -> list[list[Document]]:
        """Retrieve for all questions, then rerank all candidates in one pass, with one traced run each."""
        compressor = self.base_compressor
        if not isinstance(compressor, Reranker):
            return super().batch(inputs, config, return_exceptions=return_exceptions, k=k, **kwargs)
        cut = self._cut(k)

        def run(
            questions: list[str], run_manager: list[Any], config: list[RunnableConfig]
        ) -> list[dict[str, list[Document]] | Exception]:
            configs = _children(config, run_manager)
            found: Sequence[Any] = self.base_retriever.batch(questions, configs, return_exceptions=True, **kwargs)
            pending = _retrieved(questions, found)
            reranked: Sequence[Any] = compressor.batch(
                list(pending.values()), [configs[i] for i in pending], return_exceptions=True, **_options(cut)
            )
            return _merged(found, dict(zip(pending, reranked, strict=True)))

        answers = self._batch_with_config(
            run,  # type: ignore[arg-type]
            inputs,
            config,
            return_exceptions=return_exceptions,
            run_type="retriever",
        )
        return [documents_of(answer) for answer in answers]

    @override
    async def abatch(
        self,
        inputs: list[str],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        k: int | None = None,
        **kwargs: Any | None,
    ) -> list[list[Document]]:
        compressor = self.base_compressor
        if not isinstance(compressor, Reranker):
            return await super().abatch(inputs, config, return_exceptions=return_exceptions, k=k, **kwargs)
        cut = self._cut(k)

        async def run(
            questions: list[str], run_manager: list[Any], config: list[RunnableConfig]
        ) -> list[dict[str, list[Document]] | Exception]:
            configs = _children(config, run_manager)
            found: Sequence[Any] = await self.base_retriever.abatch(
                questions, configs, return_exceptions=True, **kwargs
            )
            pending = _retrieved(questions, found)
            reranked: Sequence[Any] = await compressor.abatch(
                list(pending.values()), [configs[i] for i in pending], return_exceptions=True, **_options(cut)
            )
            return _merged(found, dict(zip(pending, reranked, strict=True)))

        answers = await self._abatch_with_config(
            run,  # type: ignore[arg-type]
            inputs,
            config,
            return_exceptions=return_exceptions,
            run_type="retriever",
        )
        return [documents_of(answer) for answer in answers]

    def _cut(self, k: int | None) -> int | None:
        if k is not None and k < 1:
            msg = f"k must be at least 1, not {k}."
            raise ValueError(msg)
        return self.k if k is None else k


def _options(k: int | None) -> dict[str, Any]:
    return {} if k is None else {"top_n": k}


def _children(configs: list[RunnableConfig], run_managers: list[Any]) -> list[RunnableConfig]:
    return [patch_config(c, callbacks=m.get_child()) for c, m in zip(configs, run_managers, strict=True)]


def _retrieved(questions: Sequence[str], found: Sequence[Any]) -> dict[int, RerankInput]:
    """What to rerank, by position; questions whose retrieval failed are left out."""
    return {
        position: {"query": question, "documents": documents}
        for position, (question, documents) in enumerate(zip(questions, found, strict=True))
        if not isinstance(documents, Exception)
    }


def _merged(found: Sequence[Any], reranked: dict[int, Any]) -> list[dict[str, list[Document]] | Exception]:
    """In the shape that runs of retrievers have in traces."""
    answers = [reranked.get(position, error) for position, error in enumerate(found)]
    return [answer if isinstance(answer, Exception) else {"documents": answer} for answer in answers]
