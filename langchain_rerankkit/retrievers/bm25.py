"""Retrieving by words in common: BM25 over documents in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables.config import run_in_executor
from pydantic import ConfigDict, Field, PrivateAttr, ValidationError, model_validator
from typing_extensions import Self, override

from langchain_rerankkit.documents import Ids, Metadatas, copy_document, make_documents, several
from langchain_rerankkit.errors import IndexFormatError, mistakes
from langchain_rerankkit.index_files import SUFFIXES, from_bytes, to_bytes
from langchain_rerankkit.inverted_index import InvertedIndex, Method, Scoring
from langchain_rerankkit.lexical import K1, B, TermStatistics, analyser, stemmer, stop_words, words
from langchain_rerankkit.saved import Format, read_folder, write_folder

__all__ = ["BM25Retriever"]

_analyser = lru_cache(maxsize=64)(analyser)  # which keeps the stems of words
_FORMAT = Format(
    name="langchain-rerankkit-bm25",
    saved_by="BM25Retriever.save_local",
    fields={"settings": r"\{.*\}", "preprocess_func": 'null|".*"', "count": "[0-9]+"},
    files=SUFFIXES,
)
_CUTTING = {"language", "stop_words"}  # of texts into terms: what a preprocess_func replaces
_SETTINGS = {"k", "method", "k1", "b"} | _CUTTING


class BM25Retriever(BaseRetriever):
    """Retrieves the documents that share words with the query, rare words first. No model, no download.

    Calls are those of ``langchain_community.retrievers.BM25Retriever``. What differs, on purpose:

    - words are case folded and stemmed, and a query's stop words are passed over (there, texts are cut at blanks): over
      seven test sets nDCG@10 is .774 on the mean instead of .550;
    - documents without a word of the query do not come back, even where that leaves fewer than ``k``;
    - documents come back as copies, with their scores in ``metadata["relevance_score"]``;
    - documents are added, replaced and deleted, and all of it is saved and loaded without pickle.

    Stop words are in the index. They leave a query only where something else is left of it, so that "to be or not to
    be" finds its passage.

    A million passages of 40 words take about 3 GB with their texts, and a search milliseconds. The first search after a
    change counts all words anew: seconds at that size, so add many documents at once. `InvertedIndex` says more.
    """

    k: int = Field(default=4, ge=1)
    """How many documents to return, at most. Also ``invoke(query, k=…)``."""

    language: str | None = Field(default="english", frozen=True)
    """Language of the Snowball stemmer, or None for no stemming."""

    stop_words: str | tuple[str, ...] | None = Field(default="auto", frozen=True)
    """Words that a query may hold and that are not searched for: ``"auto"`` for the list of ``language`` where there is
    one, the name of a language, words, or None."""

    preprocess_func: Callable[[str], Iterable[str]] | None = Field(default=None, frozen=True)
    """Cuts texts and queries into terms, in place of ``language`` and ``stop_words``."""

    method: Method = "lucene"
    """The form of BM25: see `langchain_rerankkit.inverted_index.InvertedIndex`."""

    k1: float = Field(default=K1, ge=0, allow_inf_nan=False)
    """How soon repeating a word stops helping."""

    b: float = Field(default=B, ge=0, le=1, allow_inf_nan=False)
    """How much long documents are held back."""

    index: Any = Field(default=None, repr=False, exclude=True)
    """The documents and their words. Leave it out, or give another retriever's to share them."""

    _stop_words: frozenset[str] = PrivateAttr(default=frozenset())

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.preprocess_func is not None:
            fields = type(self).model_fields
            if given := [name for name in sorted(_CUTTING) if getattr(self, name) != fields[name].default]:
                msg = f"preprocess_func cuts texts into terms as it likes: leave out {', '.join(given)}."
                raise ValueError(msg)
        else:
            _analyser(self.language)  # to know at once that there is one
            self._stop_words = _find_stop_words(self.stop_words, self.language)
        analysis = self.preprocess_func or self.language
        if self.index is None:
            self.index = InvertedIndex(analysis)
        elif not isinstance(self.index, InvertedIndex) or self.index.analysis != analysis:
            msg = "The index holds terms of another language or preprocess_func. Make a new retriever of the documents."
            raise ValueError(msg)
        return self

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str],
        metadatas: Metadatas = None,
        ids: Ids = None,
        bm25_params: Mapping[str, float] | None = None,
        preprocess_func: Callable[[str], Iterable[str]] | None = None,
        **fields: Any,
    ) -> Self:
        """A retriever of texts.

        Args:
            texts: The texts.
            metadatas: The metadata of each; copied.
            ids: The id of each; made up where there is none.
            bm25_params: langchain-community's argument for ``k1`` and ``b``. Its ``epsilon`` has no meaning here, as no
                word weighs less than 0; nor has ``delta``.
            preprocess_func: See the class.
            fields: The other fields of the class.

        Raises:
            MissingExtraError: If bm25s, numpy or PyStemmer is not installed.
            ValueError: If a field is wrong, lengths differ, or an id comes twice.
        """
        if unknown := sorted(set(bm25_params or {}) - {"k1", "b"}):
            msg = f"bm25_params may hold k1 and b; {', '.join(unknown)} would change nothing here. Leave it out."
            raise ValueError(msg)
        if preprocess_func is not None:
            fields["preprocess_func"] = preprocess_func
        retriever = cls(**{**(bm25_params or {}), **fields})
        retriever.add_texts(texts, metadatas, ids)
        return retriever

    @classmethod
    def from_documents(cls, documents: Iterable[Document], **fields: Any) -> Self:
        """A retriever of documents; for the other arguments see `from_texts`."""
        return cls.from_texts(*_columns(documents), **fields)

    def add_texts(self, texts: Iterable[str], metadatas: Metadatas = None, ids: Ids = None) -> list[str]:
        """Add texts; a document of the same id is replaced.

        Args:
            texts: The texts.
            metadatas: The metadata of each; copied.
            ids: The id of each; made up where there is none.

        Returns:
            The ids, aligned with the texts.

        Raises:
            ValueError: If lengths differ or an id comes twice; nothing is added.
        """
        documents = make_documents(texts, metadatas, ids)
        stem = None if self.language is None or self.preprocess_func else stemmer(self.language)
        cut = self.preprocess_func or words
        self.index.add(documents, (cut(document.page_content) for document in documents), stem)
        return [str(document.id) for document in documents]

    def add_documents(self, documents: Iterable[Document]) -> list[str]:
        """Add copies of documents; one of the same id is replaced. Returns and raises what `add_texts` does."""
        return self.add_texts(*_columns(documents))

    def delete(self, ids: Iterable[str] | None = None) -> bool:
        """Delete documents, passing over ids that are not there.

        Raises:
            ValueError: If ``ids`` is None, which does not stand for everything.
        """
        if ids is None:
            msg = "No ids to delete were given."
            raise ValueError(msg)
        self.index.delete(several(ids, "ids"))
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Copies of documents by id; ids that are not there are passed over."""
        return [copy_document(document) for document in self.index.get(several(ids, "ids"))]

    def texts(self) -> list[str]:
        """Every text, oldest first: what rerankers read to learn how rare words are."""
        return [document.page_content for document in self.index.contents().documents]

    def statistics(self) -> TermStatistics:
        """How rare words are, for ``LexicalReranker(statistics=…)`` and others, without counting again.

        Raises:
            ValueError: If a ``preprocess_func`` cuts texts, since rerankers would cut theirs otherwise.
        """
        if self.preprocess_func is not None:
            msg = "The terms of a preprocess_func are not those of a reranker. Give it the texts: from_texts(texts())."
            raise ValueError(msg)
        frequencies, documents, terms = self.index.frequencies(self._scoring)
        return TermStatistics(
            documents=documents,
            average_length=terms / documents if documents else 0.0,
            frequencies=frequencies,
            language=self.language,
        )

    def save_local(self, folder_path: str | os.PathLike[str], index_name: str = "bm25") -> None:
        """Save the retriever in a folder, which is made if need be.

        The manifest is replaced last and in one step: whatever stops this half-way, the folder loads as before.

        Args:
            folder_path: The folder; several stores may share it under different names.
            index_name: How the names of the files begin.

        Raises:
            TypeError: If metadata would not come back from JSON as it is; names the document and the key, and nothing
                is written.
            ValueError: If the name is a path, or is that of another kind of store in this folder.
        """
        contents = self.index.contents()
        settings = self.model_dump(include=_SETTINGS - _CUTTING)
        if self.preprocess_func is None:
            settings |= {"language": self.language, "stop_words": sorted(self._stop_words)}
        fields = {
            "settings": settings,
            "preprocess_func": _name(self.preprocess_func),
            "count": len(contents.documents),
        }
        write_folder(folder_path, index_name, _FORMAT, fields, to_bytes(contents))

    @classmethod
    def load_local(
        cls,
        folder_path: str | os.PathLike[str],
        index_name: str = "bm25",
        *,
        preprocess_func: Callable[[str], Iterable[str]] | None = None,
        **fields: Any,
    ) -> Self:
        """Load what `save_local` saved.

        Nothing loaded can run. Each file's SHA-256 is compared with the manifest's, and the content is checked. That
        finds damage and mix-ups. It is no signature: whoever may write to the folder can decide what searches find.

        Args:
            folder_path: The folder.
            index_name: How the names of the files begin.
            preprocess_func: The function that cut the saved texts, if one did. Functions are not saved.
            fields: Fields of the class, in place of the saved ones.

        Raises:
            IndexFormatError: If a file is missing, damaged, foreign, or of an unknown version; names the file.
            ValueError: If a field is wrong, or the saved texts were cut otherwise.
        """
        saved = read_folder(folder_path, index_name, _FORMAT)
        name = saved.fields["preprocess_func"]
        if name is None and preprocess_func is not None:
            msg = "No preprocess_func cut the saved texts: leave it out."
            raise ValueError(msg)
        if name is not None and preprocess_func is None:
            msg = f"{name} cut the saved texts: give it as preprocess_func."
            raise ValueError(msg)
        own = {} if preprocess_func is None else {"preprocess_func": preprocess_func}
        settings = _checked_settings(folder_path, saved.fields["settings"], own)
        index = InvertedIndex.of(from_bytes(saved), preprocess_func or settings["language"])
        return cls(**{**settings, **own, **fields, "index": index})

    @override
    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        return self._search(query, k)

    @override
    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        return await run_in_executor(None, self._search, query, k)

    @property
    def _scoring(self) -> Scoring:
        return Scoring(self.method, self.k1, self.b)

    def _search(self, query: str, k: int | None) -> list[Document]:
        if k is not None and k < 1:
            msg = f"k must be at least 1, not {k}."
            raise ValueError(msg)
        found = self.index.search(self._terms(query), self.k if k is None else k, self._scoring)
        documents = []
        for document, score in found:
            ours = copy_document(document)
            ours.metadata.pop("relevance_score", None)  # to be written last
            ours.metadata["relevance_score"] = score
            documents.append(ours)
        return documents

    def _terms(self, query: str) -> Iterable[str]:
        if self.preprocess_func is not None:
            return self.preprocess_func(query)
        return _analyser(self.language, self._stop_words)(query) or _analyser(self.language)(query)


def _columns(documents: Iterable[Document]) -> tuple[list[str], list[dict[str, Any]], list[str | None]]:
    documents = list(documents)
    return (
        [document.page_content for document in documents],
        [document.metadata for document in documents],
        [document.id for document in documents],
    )


def _find_stop_words(given: str | tuple[str, ...] | None, language: str | None) -> frozenset[str]:
    if given is None or (given == "auto" and language is None):
        return frozenset()
    if not isinstance(given, str):
        return frozenset(word for entry in given for word in words(entry))  # cut as texts are
    found = stop_words(language if given == "auto" and language else given)
    if not found and given != "auto":
        msg = f"There is no list of stop words for {given!r}; give the words themselves, or None."
        raise ValueError(msg)
    return found


def _checked_settings(folder: Any, settings: dict[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    wrong = "" if settings.keys() == (_SETTINGS - _CUTTING if own else _SETTINGS) else "other keys than expected"
    try:
        BM25Retriever(**{} if wrong else settings)
    except ValidationError as error:
        wrong = mistakes(error)
    if wrong:
        msg = f"{folder}: the manifest has wrong settings: {wrong}."
        raise IndexFormatError(msg)
    return settings


def _name(function: Any) -> str | None:
    if function is None:
        return None
    return f"{getattr(function, '__module__', None)}.{getattr(function, '__qualname__', type(function).__qualname__)}"
