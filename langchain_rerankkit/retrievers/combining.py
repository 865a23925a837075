"""What retrievers made of retrievers have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Sequence
from contextvars import ContextVar
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import get_callback_manager_for_config, get_config_list, patch_config
from pydantic import ConfigDict, Field
from typing_extensions import override

from langchain_rerankkit.records import documents_of

__all__ = ["CombiningRetriever", "Found", "found_of"]

Found = list[Document] | Exception
"""What came of one question."""

_given: ContextVar[RunnableConfig | None] = ContextVar("rerankkit-given-config", default=None)


class CombiningRetriever(BaseRetriever):
    """A retriever made of retrievers, which are asked a batch of questions at once.

    Subclasses write `_find_many` and `_afind_many`. The whole configuration of a call reaches the parts (langchain-core's
    retrievers pass on callbacks, tags and metadata alone).
    """

    k: int | None = Field(default=None, ge=1)
    """How many documents to return; all by default. Also ``invoke(question, k=…)``."""

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    @abstractmethod
    def _find_many(
        self, questions: list[str], configs: list[RunnableConfig], k: int | None, **kwargs: Any
    ) -> Sequence[Found]:
        """Documents for each question, best first, or the error that fails it alone.

        Args:
            questions: The questions.
            configs: Configuration of each question's run, for the parts: their runs nest in it.
            k: How many documents are wanted of each; more are cut off.
            kwargs: What else the caller gave, for the parts.
        """

    @abstractmethod
    def _afind_many(
        self, questions: list[str], configs: list[RunnableConfig], k: int | None, **kwargs: Any
    ) -> Awaitable[Sequence[Found]]:
        """The same, asynchronously."""

    @override
    def invoke(self, input: str, config: RunnableConfig | None = None, **kwargs: Any) -> list[Document]:
        token = _given.set(config)
        try:
            return super().invoke(input, config, **kwargs)
        finally:
            _given.reset(token)

    @override
    async def ainvoke(self, input: str, config: RunnableConfig | None = None, **kwargs: Any) -> list[Document]:
        token = _given.set(config)
        try:
            return await super().ainvoke(input, config, **kwargs)
        finally:
            _given.reset(token)

    @override
    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None, **kwargs: Any
    ) -> list[Document]:
        cut = self._cut(k)
        config = patch_config(_given.get(), callbacks=run_manager.get_child())
        (found,) = self._find_many([query], [config], cut, **kwargs)
        if isinstance(found, Exception):
            raise found
        return found[:cut]

    @override
    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, k: int | None = None, **kwargs: Any
    ) -> list[Document]:
        cut = self._cut(k)
        config = patch_config(_given.get(), callbacks=run_manager.get_child())
        (found,) = await self._afind_many([query], [config], cut, **kwargs)
        if isinstance(found, Exception):
            raise found
        return found[:cut]

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
        """Ask the parts all questions at once, with one traced run for each question."""
        cut = self._cut(k)

        def run(questions: list[str], config: list[RunnableConfig]) -> list[Any]:
            return [_outputs(found, cut) for found in self._find_many(questions, config, cut, **kwargs)]

        answers = self._batch_with_config(
            run,  # type: ignore[arg-type]
            inputs,
            self._own(config, len(inputs)),
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
        cut = self._cut(k)

        async def run(questions: list[str], config: list[RunnableConfig]) -> list[Any]:
            return [_outputs(found, cut) for found in await self._afind_many(questions, config, cut, **kwargs)]

        answers = await self._abatch_with_config(
            run,  # type: ignore[arg-type]
            inputs,
            self._own(config, len(inputs)),
            return_exceptions=return_exceptions,
            run_type="retriever",
        )
        return [documents_of(answer) for answer in answers]

    def _own(self, config: RunnableConfig | list[RunnableConfig] | None, count: int) -> list[RunnableConfig]:
        """Configurations of a batch's runs, with the retriever's own tags and metadata, as single calls have them."""
        configs: list[RunnableConfig] = []
        for one in get_config_list(config, count):
            manager = get_callback_manager_for_config(one)
            manager.add_tags(self.tags or [], inherit=False)
            manager.add_metadata({**self._get_ls_params(), **(self.metadata or {})}, inherit=False)
            configs.append({**one, "callbacks": manager})
        return configs

    def _cut(self, k: int | None) -> int | None:
        if k is not None and k < 1:
            msg = f"k must be at least 1, not {k}."
            raise ValueError(msg)
        return self.k if k is None else k


def found_of(answers: Sequence[Any]) -> list[Found]:
    """What a retriever answered each question; an answer that is no list of documents fails its own question alone."""
    return [
        answer
        if isinstance(answer, Exception)
        else list(answer)
        if isinstance(answer, (list, tuple)) and all(isinstance(one, Document) for one in answer)
        else TypeError(f"A retriever must return a list of documents, not a {type(answer).__name__}.")
        for answer in answers
    ]


def _outputs(found: Found, cut: int | None) -> dict[str, list[Document]] | Exception:
    """In the shape that runs of retrievers have in traces."""
    return found if isinstance(found, Exception) else {"documents": found[:cut]}
