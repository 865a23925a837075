"""Any function as a reranker."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from typing_extensions import override

from langchain_rerankkit.base import Reranker
from langchain_rerankkit.records import Answer

__all__ = ["FunctionReranker"]


class FunctionReranker(Reranker):
    """Reranks by a function of your own.

    Example::

        def shared_words(query, texts):
            words = set(query.split())
            return [len(words & set(text.split())) for text in texts]


        reranker = FunctionReranker(function=shared_words, top_n=5)
    """

    function: Callable[[str, list[str]], Sequence[float]]
    """Takes the query and the texts, returns one number per text, higher is more relevant."""

    afunction: Callable[[str, list[str]], Awaitable[Sequence[float]]] | None = None
    """The same as a coroutine function, for asynchronous calls; without it they run `function` on a thread."""

    @override
    def _score(self, query: str, texts: list[str]) -> Sequence[float]:
        return self.function(query, texts)

    @override
    async def _ascore(self, query: str, texts: list[str]) -> Answer:
        if self.afunction is not None:
            return await self.afunction(query, texts)
        return await super()._ascore(query, texts)

    @override
    def _label(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)
