"""Hybrid retrieval: several retrievers asked at once, their lists fused into one."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import ChainMap
from collections.abc import Callable, Hashable, Sequence
from numbers import Real
from typing import Any, Literal, cast

from langchain_core.callbacks.base import BaseCallbackManager
from langchain_core.documents import Document
from langchain_core.retrievers import RetrieverLike
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import get_executor_for_config, patch_config
from langchain_core.runnables.utils import ConfigurableFieldSpec, get_unique_config_specs
from pydantic import Field, model_validator
from typing_extensions import Self, override

from langchain_rerankkit.errors import ScoreError
from langchain_rerankkit.ranking import FusionMethod, check_weights, fuse_rankings, with_floor
from langchain_rerankkit.retrievers.combining import CombiningRetriever, Found, found_of
from langchain_rerankkit.retrievers.scoring import scoring

__all__ = ["FusionRetriever"]

_logger = logging.getLogger("langchain_rerankkit")


class FusionRetriever(CombiningRetriever):
    """Asks several retrievers at the same time and fuses what they find into one ranking.

    The arguments of langchain-classic's ``EnsembleRetriever``, and its order where no document occurs twice in a list.
    A lexical and a semantic retriever miss different documents, so the two together are usually better than either::

        FusionRetriever(retrievers=[bm25, store.as_retriever(search_kwargs={"k": 50})], k=10)

    A document found by several retrievers comes back once, as the copy of the first of them in the order of
    ``retrievers``, and each retriever has one vote for it: its best rank. ``metadata["relevance_score"]`` is the fused score,
    and ``metadata["fusion"]`` says where it comes from: the ``score``, and in ``lists`` the ``retriever``, ``rank`` and, where
    there is one, ``score`` of each list that has the document. Fused scores are relative to these lists.
    """

    retrievers: list[RetrieverLike] = Field(min_length=1)
    """The retrievers. Let each return more than you keep."""

    weights: list[float] | None = None
    """One factor per retriever, none negative; all 1 by default."""

    method: FusionMethod = "rrf"
    """How ranks or scores become comparable before they are added: ``"rrf"`` (reciprocal ranks; needs no scores),
    ``"z-score"`` (better wherever there are scores to have, on seven test sets), ``"min-max"`` (relative scores) or ``"sum"``
    (as they are). A list that lacks a document adds 0, or its lowest value where that is below 0."""

    c: int = Field(default=60, ge=0)
    """Of ``"rrf"``: ``1 / (c + rank)``. The larger, the less the first places stand out."""

    id_key: str | Callable[[Document], Hashable] | None = None
    """When two documents are the same: a metadata field, or a function of the document that gives something to compare.
    By default those of one ``id``. Where ids cannot be compared, because a document has none or two lists have not one id in
    common (stores make up their own), those of equal text."""

    score_key: str = "relevance_score"
    """Metadata field that holds a retriever's own score, higher for better. A plain ``store.as_retriever()`` writes none, so
    its store is asked for scores (a distance counts negative) where the method needs them."""

    names: list[str] | None = None
    """What the retrievers are called in ``metadata["fusion"]``; by default what they are called in traces."""

    on_error: Literal["raise", "skip"] = "raise"
    """What a failing retriever does: its error is raised; or its list is left out, with a logged warning, and
    ``metadata["fusion"]["skipped"]`` names the retriever and the type of its error. Where all fail, the first error is
    raised."""

    def __init__(self, retrievers: Sequence[RetrieverLike] = (), **fields: Any) -> None:
        """Make it of its retrievers and of the other fields."""
        fields["retrievers"] = retrievers
        super().__init__(**fields)

    @model_validator(mode="after")
    def _check_lists(self) -> Self:
        count = len(self.retrievers)
        if self.weights is not None:
            check_weights(self.weights, count)
        if self.names is not None and (len(self.names) != count or len(set(self.names)) != count):
            msg = f"{count} retrievers need as many names, each another one, got {self.names}."
            raise ValueError(msg)
        return self

    @property
    @override
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        return get_unique_config_specs(spec for retriever in self.retrievers for spec in retriever.config_specs)

    @override
    def _find_many(
        self, questions: list[str], configs: list[RunnableConfig], k: int | None, **kwargs: Any
    ) -> list[Found]:
        def ask(retriever: RetrieverLike, configs: list[RunnableConfig]) -> list[Found]:
            try:
                return found_of(retriever.batch(questions, configs, return_exceptions=True, **kwargs))
            except Exception as error:  # noqa: BLE001 - what it does is on_error's to say
                return [error] * len(questions)

        with get_executor_for_config(configs[0]) as threads:
            lists = list(threads.map(ask, *self._parts(configs)))
        return self._fuse_many(lists)

    @override
    async def _afind_many(
        self, questions: list[str], configs: list[RunnableConfig], k: int | None, **kwargs: Any
    ) -> list[Found]:
        async def ask(retriever: RetrieverLike, configs: list[RunnableConfig]) -> list[Found]:
            try:
                return found_of(await retriever.abatch(questions, configs, return_exceptions=True, **kwargs))
            except Exception as error:  # noqa: BLE001 - what it does is on_error's to say
                return [error] * len(questions)

        return self._fuse_many(await asyncio.gather(*map(ask, *self._parts(configs))))

    def _parts(self, configs: list[RunnableConfig]) -> tuple[list[RetrieverLike], list[list[RunnableConfig]]]:
        """The retrievers, and for each of them the configurations of its runs."""
        retrievers = (
            self.retrievers
            if self.method == "rrf"
            else [scoring(retriever, self.score_key) for retriever in self.retrievers]
        )
        tags = [f"retriever_{number}" for number in range(1, len(retrievers) + 1)]
        return retrievers, [[_tagged(config, tag) for config in configs] for tag in tags]

    def _fuse_many(self, lists: Sequence[Sequence[Found]]) -> list[Found]:
        fused: list[Found] = []
        for found in zip(*lists, strict=True):
            try:
                fused.append(self._fuse(found))
            except Exception as error:  # noqa: BLE001 - fails its question alone
                fused.append(error)
        return fused

    def _fuse(self, found: Sequence[Found]) -> list[Document]:
        names, failed = self._names(), [one for one in found if isinstance(one, Exception)]
        if failed and (self.on_error == "raise" or len(failed) == len(found)):
            raise failed[0]
        skipped = [
            {"retriever": name, "reason": type(one).__name__}
            for name, one in zip(names, found, strict=True)
            if isinstance(one, Exception)
        ]
        for one in skipped:
            _logger.warning("%s failed (%s) and is left out of the fusion.", one["retriever"], one["reason"])
        lists = [[] if isinstance(one, Exception) else one for one in found]
        by_key = self._one_vote(lists)
        scores = [
            {key: self._score(document, name) for key, document in documents.items()}
            for name, documents in zip(names, by_key, strict=True)
        ]
        fused = fuse_rankings(list(map(with_floor, scores)), method=self.method, weights=self.weights, k=self.c)
        origins: dict[Hashable, list[dict[str, Any]]] = {key: [] for key in fused}
        copies: dict[Hashable, Document] = {}
        ids: dict[Hashable, str] = {}
        for name, documents, own in zip(names, by_key, scores, strict=True):
            for rank, (key, document) in enumerate(documents.items(), start=1):
                score = {"score": own[key]} if math.isfinite(own[key]) else {}
                origins[key].append({"retriever": name, "rank": rank, **score})
                copies.setdefault(key, document)
                if document.id:
                    ids.setdefault(key, document.id)
        return [
            _annotated(copies[key], ids.get(key), score, origins[key], [dict(one) for one in skipped])
            for key, score in fused.items()
        ]

    def _one_vote(self, lists: Sequence[Sequence[Document]]) -> list[dict[Hashable, Document]]:
        """The documents of each list by what they are known by, each where it comes first."""
        by_key: list[dict[Hashable, Document]] = []
        for documents, keys in zip(lists, self._keys(lists), strict=True):
            first: dict[Hashable, Document] = {}
            for document, key in zip(documents, keys, strict=True):
                first.setdefault(key, document)
            by_key.append(first)
        return by_key

    def _keys(self, lists: Sequence[Sequence[Document]]) -> list[list[Hashable]]:
        id_key = self.id_key
        if id_key is None:
            return _ids_or_texts(lists)
        if callable(id_key):
            return [list(map(id_key, documents)) for documents in lists]
        return [[_field(document, id_key) for document in documents] for documents in lists]

    def _names(self) -> list[str]:
        if self.names is not None:
            return self.names
        names = [retriever.get_name() for retriever in self.retrievers]
        return [f"{name} {number}" if names.count(name) > 1 else name for number, name in enumerate(names, start=1)]

    def _score(self, document: Document, name: str) -> float:
        """The retriever's own score of a document; -inf, as a reranker gives it, where nobody judged it."""
        score = document.metadata.get(self.score_key)
        if isinstance(score, Real) and (math.isfinite(score) or score == -math.inf):
            return float(score)
        if self.method == "rrf":
            return -math.inf
        msg = (
            f"A document of {name!r} has no number in metadata[{self.score_key!r}], which method={self.method!r} "
            "needs. Use method='rrf', which needs none; name the field with score_key; or let the retriever write its "
            "score there. Vector stores are asked for scores where store.as_retriever() is given as it is and does not "
            "search by 'mmr'."
        )
        raise ScoreError(msg)


def _tagged(config: RunnableConfig, tag: str) -> RunnableConfig:
    """The configuration with a tag for the retriever's own run, as langchain-classic's EnsembleRetriever gives it."""
    manager = cast("BaseCallbackManager", config["callbacks"]).copy()
    manager.add_tags([tag], inherit=False)
    return patch_config(config, callbacks=manager)


def _ids_or_texts(lists: Sequence[Sequence[Document]]) -> list[list[Hashable]]:
    """What documents are known by where nobody says it: see ``id_key``."""
    rows: list[list[Hashable]] = []
    by_id: dict[str, Hashable] = {}
    by_text: dict[str, Hashable] = {}
    without_id: dict[str, Hashable] = {}  # by text
    seen: list[tuple[set[str], dict[str, Hashable]]] = []  # of each list the ids, and the keys by text
    for documents in lists:
        ids = {document.id for document in documents if document.id}
        strangers = ChainMap(*(texts for others, texts in seen if ids.isdisjoint(others)), without_id)
        texts: dict[str, Hashable] = {}
        row: list[Hashable] = []
        for document in documents:
            id_, text = document.id, document.page_content
            if id_:
                # Of several ids with one text in a list, the first meets the stranger: the others stay themselves.
                stranger = None if text in texts else strangers.get(text)
                key = by_id.setdefault(id_, stranger or ("id", id_))
            else:
                key = without_id.setdefault(text, by_text.get(text, ("text", text)))
            by_text.setdefault(text, key)
            texts.setdefault(text, key)
            row.append(key)
        rows.append(row)
        seen.append((ids, texts))
    return rows


def _field(document: Document, name: str) -> Hashable:
    if name not in document.metadata:
        msg = (
            f"A document has no metadata field {name!r} to be known by (id_key); it has {sorted(document.metadata)}. Give "
            "every document one, or a function of the document as id_key."
        )
        raise ValueError(msg)
    value: Hashable = document.metadata[name]
    return value


def _annotated(
    document: Document, id_: str | None, score: float, lists: list[dict[str, Any]], skipped: list[dict[str, str]]
) -> Document:
    metadata = dict(document.metadata)
    metadata.pop("relevance_score", None)
    metadata["fusion"] = {"score": score, "lists": lists, **({"skipped": skipped} if skipped else {})}
    metadata["relevance_score"] = score  # last, as rerankers write it
    return document.model_copy(update={"id": document.id or id_, "metadata": metadata})
