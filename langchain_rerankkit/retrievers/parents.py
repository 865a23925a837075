"""Find small, read large: chunks are searched and reranked, and what comes back is the text they were cut from."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from langchain_core.documents import Document
from langchain_core.retrievers import RetrieverLike
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.utils import ConfigurableFieldSpec
from langchain_core.stores import BaseStore
from pydantic import Field
from typing_extensions import override

from langchain_rerankkit.retrievers.combining import CombiningRetriever, Found, found_of

__all__ = ["ParentRetriever"]

_WORD = 40  # characters in which a cut looks for a blank, so that words stay whole; some scripts have none
_CARRIED = ("fusion", "rerank", "relevance_score")  # what the best chunk says of how it came here
_logger = logging.getLogger("langchain_rerankkit")


@dataclass(frozen=True)
class _Placed:
    """A chunk that was found, and where its parent's text has it."""

    rank: int
    chunk: Document
    start: int
    known: bool


class ParentRetriever(CombiningRetriever):
    """Retrieves chunks and returns the documents that they were cut from, or the text around them.

    Small chunks are judged best, since they are about one thing; a reader needs what stands around them. So let
    ``base_retriever`` search and rerank chunks::

        splitter = RecursiveCharacterTextSplitter(chunk_size=400, chunk_overlap=50, add_start_index=True)
        store.add_documents(splitter.split_documents(documents))  # each with metadata["doc_id"]
        docstore.mset([(document.metadata["doc_id"], document) for document in documents])
        ParentRetriever(
            base_retriever=ContextualCompressionRetriever(
                base_retriever=store.as_retriever(search_kwargs={"k": 50}), base_compressor=reranker
            ),
            docstore=docstore,
            k=4,
        )

    An index that langchain-classic's ``ParentDocumentRetriever`` made can be used as it is.

    The order is that of the best chunk of each. ``metadata["context"]`` has the ``best_chunk`` (its ``id`` and ``text``, the
    ``score`` where it has one, and its ``start`` in the text that is returned) and in ``chunks`` the ids of all chunks
    that led here, best first; what the best chunk's metadata say of its reranking or fusion is taken over. A chunk whose
    parent is not known, or does not hold it where a ``window`` is asked for, is returned itself, with a logged warning.
    """

    base_retriever: RetrieverLike
    """Finds the chunks. Several of them may lead to one parent, so let it return more than you keep."""

    docstore: BaseStore[str, Document]
    """The parents by their key."""

    id_key: str = "doc_id"
    """Metadata field of a chunk that holds its parent's key; ``"source"``, say."""

    window: int | None = Field(default=None, ge=0)
    """Return no more of a parent than this many characters on each side of a chunk; the whole parent by default. Windows
    that meet become one, so no text comes twice. Where a chunk begins is read from ``metadata["start_index"]``, which
    text splitters write with ``add_start_index=True``; else its text is looked for."""

    @property
    @override
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        return self.base_retriever.config_specs

    @override
    def _find_many(
        self, questions: list[str], configs: list[RunnableConfig], k: int | None, **kwargs: Any
    ) -> list[Found]:
        answers = self.base_retriever.batch(questions, configs, return_exceptions=True, **kwargs)
        found = found_of(answers)
        keys = self._keys(found)
        return self._expand_many(found, dict(zip(keys, self.docstore.mget(keys), strict=True)))

    @override
    async def _afind_many(
        self, questions: list[str], configs: list[RunnableConfig], k: int | None, **kwargs: Any
    ) -> list[Found]:
        answers = await self.base_retriever.abatch(questions, configs, return_exceptions=True, **kwargs)
        found = found_of(answers)
        keys = self._keys(found)
        return self._expand_many(found, dict(zip(keys, await self.docstore.amget(keys), strict=True)))

    def _keys(self, found: Sequence[Sequence[Document] | Exception]) -> list[str]:
        chunks = (chunk for one in found if not isinstance(one, Exception) for chunk in one)
        return list(dict.fromkeys(key for chunk in chunks if (key := self._key(chunk)) is not None))

    def _key(self, chunk: Document) -> str | None:
        """Key of a chunk's parent; None where it has none that can be one."""
        key = chunk.metadata.get(self.id_key)
        return key if isinstance(key, str) else None

    def _expand_many(
        self, found: Sequence[Sequence[Document] | Exception], parents: Mapping[str, Document | None]
    ) -> list[Found]:
        return [one if isinstance(one, Exception) else self._expand(one, parents) for one in found]

    def _expand(self, chunks: Sequence[Document], parents: Mapping[str, Document | None]) -> list[Document]:
        families: dict[str, tuple[Document, list[_Placed]]] = {}
        results: list[tuple[int, Document]] = []
        for rank, chunk in enumerate(chunks):
            key = self._key(chunk)
            parent = None if key is None else parents[key]
            start = None if parent is None else _start(parent.page_content, chunk)
            if key is None or parent is None or (start is None and self.window is not None):
                results.append((rank, chunk))
            else:
                families.setdefault(key, (parent, []))[1].append(
                    _Placed(rank, chunk, start or 0, known=start is not None)
                )
        if results:
            _logger.warning(
                "%d of %d chunks are returned themselves: they have no metadata[%r], or no parent of that key that holds "
                "them is in the docstore.",
                len(results),
                len(chunks),
                self.id_key,
            )
        for key, (parent, members) in families.items():
            results += self._passages(key, parent, members)
        return [document for _, document in sorted(results, key=lambda result: result[0])]

    def _passages(self, key: str, parent: Document, members: Sequence[_Placed]) -> list[tuple[int, Document]]:
        """Each passage of a parent with the rank of its best chunk."""
        if self.window is None:
            return [(members[0].rank, self._passage(key, parent, 0, len(parent.page_content), members))]
        text = parent.page_content
        passages: list[tuple[int, int, list[_Placed]]] = []
        for member in sorted(members, key=lambda member: member.start):
            start, end = _widened(text, member, self.window)
            if passages and not text[passages[-1][1] : start].strip():
                first, last, together = passages[-1]
                passages[-1] = (first, max(last, end), [*together, member])
            else:
                passages.append((start, end, [member]))
        results = []
        for start, end, together in passages:
            together.sort(key=lambda member: member.rank)
            results.append((together[0].rank, self._passage(key, parent, start, end, together)))
        return results

    def _passage(self, key: str, parent: Document, start: int, end: int, members: Sequence[_Placed]) -> Document:
        best = members[0].chunk
        about: dict[str, Any] = {"id": best.id, "text": best.page_content}
        if "relevance_score" in best.metadata:
            about["score"] = best.metadata["relevance_score"]
        if members[0].known:
            about["start"] = members[0].start - start
        metadata = {name: value for name, value in deepcopy(parent.metadata).items() if name not in _CARRIED}
        metadata[self.id_key] = key
        metadata["context"] = {"best_chunk": about, "chunks": [member.chunk.id for member in members]}
        metadata |= {name: best.metadata[name] for name in _CARRIED if name in best.metadata}
        return parent.model_copy(
            update={
                "id": (parent.id or str(key)) if self.window is None else f"{key}#{start}",
                "page_content": parent.page_content[start:end],
                "metadata": metadata,
            }
        )


def _start(text: str, chunk: Document) -> int | None:
    """Where a parent's text has a chunk, or None."""
    start = chunk.metadata.get("start_index")
    # It may be a place in another text: a splitter hands on the metadata of what it splits.
    if isinstance(start, int) and start >= 0 and text.startswith(chunk.page_content, start):
        return start
    start = text.find(chunk.page_content)
    return start if start >= 0 else None


def _widened(text: str, placed: _Placed, window: int) -> tuple[int, int]:
    """Where the passage around a chunk begins and ends."""
    inner, outer = placed.start, placed.start + len(placed.chunk.page_content)
    start, end = max(0, inner - window), min(len(text), outer + window)
    if start > 0 and (blank := re.search(r"\s", text[start - 1 : min(inner, start + _WORD)])):
        start += blank.start()
    if end < len(text) and (blank := re.search(r"\s", text[max(outer, end - _WORD) : end + 1][::-1])):
        end -= blank.start()
    return inner - len(text[start:inner].lstrip()), outer + len(text[outer:end].rstrip())
