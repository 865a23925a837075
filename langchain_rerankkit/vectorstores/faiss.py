"""A FAISS vector store whose files are data and nothing else: no pickle, nothing that could run when it is loaded.

Calls, defaults and scores are those of ``langchain_community.vectorstores.FAISS``. What differs, on purpose:

- a ``filter`` is exact: as many documents come back as match (there, only the nearest ``fetch_k`` were looked at);
- adding an id that is there replaces the document; deleting one that is not there is no error;
- ``distance="cosine"`` is the cosine distance (there, ``DistanceStrategy.COSINE`` was a squared Euclidean one);
- relevance scores are never below 0, and those of inner products rise with similarity (there, they fell);
- documents are copied in and out, and threads may search while one adds;
- the constructor takes the embedding model alone: the first vectors show the dimension.

To move a store that langchain-community saved — and only one you trust, since unpickling runs code::

    old = langchain_community.vectorstores.FAISS.load_local(folder, model, allow_dangerous_deserialization=True)
    documents = old.get_by_ids(list(old.index_to_docstore_id.values()))
    new = FAISS.from_embeddings(
        zip((document.page_content for document in documents), old.index.reconstruct_n(0, len(documents))),
        model,
        metadatas=[document.metadata for document in documents],
        ids=[document.id for document in documents],
    )
"""

from __future__ import annotations

import math
import operator
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.runnables.config import run_in_executor
from langchain_core.vectorstores import VectorStore
from typing_extensions import Self, override

from langchain_rerankkit._optional import require
from langchain_rerankkit.documents import Ids, Metadatas, copy_document, from_lines, make_documents, several, to_lines
from langchain_rerankkit.errors import IndexFormatError
from langchain_rerankkit.saved import Format, Saved, read_folder, write_folder
from langchain_rerankkit.vectorstores.filters import Filter, compile_filter

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["FAISS"]

Pairs = Iterable[tuple[str, Sequence[float]]]

# langchain-community's DistanceStrategy, and our names.
_DISTANCES = {"EUCLIDEAN_DISTANCE": "euclidean", "COSINE": "cosine", "MAX_INNER_PRODUCT": "inner_product"}
_FORMAT = Format(
    name="langchain-rerankkit-faiss",
    saved_by="FAISS.save_local",
    fields={"distance": '"(euclidean|cosine|inner_product)"', "dimension": "[0-9]+", "count": "[0-9]+"},
    files={"documents": "jsonl", "index": "faiss"},
)
_LARGEST = 8e37  # of a vector's squared length: four times this still fits float32, so that no distance overflows


class FAISS(VectorStore):
    """Documents and their vectors in memory, searched exactly.

    Args:
        embedding: The model that makes the vectors of documents and queries.
        distance: ``"euclidean"`` (the default; scores are squared distances, smaller is nearer), ``"cosine"`` (scores
            are 1 - cosine, smaller is nearer) or ``"inner_product"`` (larger is nearer).
        distance_strategy: langchain-community's argument for the same, one of its ``DistanceStrategy``.
        relevance_score_fn: Turns a score into a relevance from 0 to 1, in place of the usual formula.

    Raises:
        MissingExtraError: If faiss or numpy is not installed.
        ValueError: If the distance is unknown, or named twice and differently.
    """

    def __init__(
        self,
        embedding: Embeddings,
        *,
        distance: str | None = None,
        distance_strategy: str | None = None,
        relevance_score_fn: Callable[[float], float] | None = None,
    ) -> None:
        named = {_DISTANCES.get(name, name) for name in (distance, distance_strategy) if name is not None}
        if len(named) > 1 or not named <= set(_DISTANCES.values()):
            msg = f"The distance must be one of {sorted(_DISTANCES.values())}, not {sorted(named)}."
            raise ValueError(msg)
        self.distance = named.pop() if named else "euclidean"
        self._embedding = embedding
        self._relevance_score_fn = relevance_score_fn
        self._lock = _SharedLock()
        # Row n of the index is the vector of document n. Documents in the list are never changed and never given away.
        self._index = self._flat_index(0)
        self._documents: list[Document] = []
        self._rows: dict[str | None, int] = {}

    @property
    @override
    def embeddings(self) -> Embeddings:
        return self._embedding

    @classmethod
    @override
    def from_texts(
        cls, texts: Iterable[str], embedding: Embeddings, metadatas: Metadatas = None, ids: Ids = None, **kwargs: Any
    ) -> Self:
        store = cls(embedding, **kwargs)
        store.add_texts(texts, metadatas, ids)
        return store

    @classmethod
    @override
    async def afrom_texts(
        cls, texts: Iterable[str], embedding: Embeddings, metadatas: Metadatas = None, ids: Ids = None, **kwargs: Any
    ) -> Self:
        store = cls(embedding, **kwargs)
        await store.aadd_texts(texts, metadatas, ids)
        return store

    @classmethod
    def from_embeddings(
        cls, text_embeddings: Pairs, embedding: Embeddings, metadatas: Metadatas = None, ids: Ids = None, **kwargs: Any
    ) -> Self:
        """A store of pairs of text and vector; for the other arguments see `add_texts` and the class."""
        store = cls(embedding, **kwargs)
        store.add_embeddings(text_embeddings, metadatas, ids)
        return store

    @override
    def add_texts(self, texts: Iterable[str], metadatas: Metadatas = None, ids: Ids = None, **kwargs: Any) -> list[str]:
        """Embed texts and add them; a document of the same id is replaced.

        Args:
            texts: The texts.
            metadatas: The metadata of each; copied.
            ids: The id of each; made up where there is none.
            kwargs: Ignored: langchain-core's indexing passes a batch size.

        Returns:
            The ids, aligned with the texts.

        Raises:
            ValueError: If lengths differ, an id comes twice, or the model's vectors cannot be used.
        """
        documents = make_documents(texts, metadatas, ids)  # first, so that nobody pays for a mistake
        vectors = self._embedding.embed_documents([d.page_content for d in documents]) if documents else []
        return self._put(documents, vectors)

    @override
    async def aadd_texts(
        self, texts: Iterable[str], metadatas: Metadatas = None, ids: Ids = None, **kwargs: Any
    ) -> list[str]:
        documents = make_documents(texts, metadatas, ids)
        vectors = await self._embedding.aembed_documents([d.page_content for d in documents]) if documents else []
        return await run_in_executor(None, self._put, documents, vectors)

    def add_embeddings(self, text_embeddings: Pairs, metadatas: Metadatas = None, ids: Ids = None) -> list[str]:
        """Like `add_texts`, for pairs of text and vector."""
        pairs = list(text_embeddings)
        documents = make_documents([text for text, _ in pairs], metadatas, ids)
        return self._put(documents, [vector for _, vector in pairs])

    def merge_from(self, target: FAISS) -> None:
        """Add all documents of another store, which stays as it is; documents of the same id are replaced.

        Raises:
            ValueError: If the stores differ in distance or dimension.
        """
        if target.distance != self.distance:
            msg = f"A store of {target.distance} distance cannot go into one of {self.distance} distance."
            raise ValueError(msg)
        with target._lock.reading():
            documents, vectors = list(target._documents), target._index.reconstruct_n(0, len(target._documents))
        self._put(documents, vectors)

    @override
    def delete(self, ids: Iterable[str] | None = None, **kwargs: Any) -> bool:
        """Delete documents, passing over ids that are not there.

        Raises:
            ValueError: If ``ids`` is None. As in langchain-community, that does not stand for everything.
        """
        if ids is None:
            msg = "No ids to delete were given."
            raise ValueError(msg)
        with self._lock.writing():
            self._remove([self._rows[id_] for id_ in set(several(ids, "ids")) if id_ in self._rows])
        return True

    @override
    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        with self._lock.reading():
            found = [self._documents[self._rows[id_]] for id_ in several(ids, "ids") if id_ in self._rows]
        return [copy_document(document) for document in found]

    def get_vectors_by_ids(self, ids: Sequence[str]) -> dict[str, npt.NDArray[np.float32]]:
        """Vectors of documents by id, each of shape [dimension], of length 1 where the distance is cosine.

        Ids that are not there are left out. The arrays are the caller's own.
        """
        np = require("numpy", extra="faiss")
        with self._lock.reading():
            rows = {id_: self._rows[id_] for id_ in ids if id_ in self._rows}
            vectors = self._index.reconstruct_batch(np.array(list(rows.values()), dtype=np.int64))
        return dict(zip(rows, vectors, strict=True))

    def texts(self) -> list[str]:
        """The text of every document."""
        with self._lock.reading():
            return [document.page_content for document in self._documents]

    # Searches pass their options on as they are: a misspelt `filter` is a TypeError, not an unfiltered result.

    def similarity_search_with_score_by_vector(
        self,
        embedding: Sequence[float],
        k: int = 4,
        filter: Filter | None = None,
        fetch_k: int | None = None,  # noqa: ARG002
        score_threshold: float | None = None,
    ) -> list[tuple[Document, float]]:
        """The documents nearest to a vector with their scores (see the class), nearest first.

        Args:
            embedding: Shape [dimension].
            k: How many documents, at most.
            filter: Which documents count. A function is given a document's metadata. A dict must match in every key,
                by equality, by membership if the value is a list, or by operators, as in ``{"year": {"$gte": 2020}}``:
                ``$eq $neq $gt $gte $lt $lte $in $nin``, and around conditions ``$and $or $not``.
            fetch_k: Ignored: langchain-community needs it, an exact search does not.
            score_threshold: The worst score that may come back.

        Raises:
            TypeError: If the filter is neither dict nor function.
            ValueError: If ``k`` is below 1, the vector cannot be used, or the filter has an unknown operator.
        """
        documents, scores, _ = self._search(embedding, k, filter)
        pairs = zip(documents, scores, strict=True)
        if score_threshold is None:
            return list(pairs)
        reaches = operator.ge if self.distance == "inner_product" else operator.le
        return [(document, score) for document, score in pairs if reaches(score, score_threshold)]

    @override
    def similarity_search_by_vector(self, embedding: Sequence[float], k: int = 4, **kwargs: Any) -> list[Document]:
        return [document for document, _ in self.similarity_search_with_score_by_vector(embedding, k, **kwargs)]

    @override
    def similarity_search_with_score(self, query: str, k: int = 4, **kwargs: Any) -> list[tuple[Document, float]]:
        return self.similarity_search_with_score_by_vector(self._embedding.embed_query(query), k, **kwargs)

    @override
    async def asimilarity_search_with_score(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        embedding = await self._embedding.aembed_query(query)
        return await run_in_executor(None, self.similarity_search_with_score_by_vector, embedding, k, **kwargs)

    @override
    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        return [document for document, _ in self.similarity_search_with_score(query, k, **kwargs)]

    @override
    async def asimilarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        return [document for document, _ in await self.asimilarity_search_with_score(query, k, **kwargs)]

    @override
    def max_marginal_relevance_search_by_vector(
        self,
        embedding: Sequence[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """Documents near to a vector but not to each other, in the order they were chosen.

        Args:
            embedding: Shape [dimension].
            k: How many documents, at most.
            fetch_k: From how many of the nearest that match the filter; at least ``k``.
            lambda_mult: From 0, most diverse, to 1, nearest.
            filter: See `similarity_search_with_score_by_vector`.
            kwargs: None are known.
        """
        from langchain_core.vectorstores.utils import maximal_marginal_relevance

        if kwargs:
            msg = f"Unknown arguments: {sorted(kwargs)}."
            raise TypeError(msg)
        np = require("numpy", extra="faiss")
        documents, _, vectors = self._search(embedding, k, filter, fetch_k)
        chosen = maximal_marginal_relevance(np.array(embedding), vectors, lambda_mult=lambda_mult, k=k)
        return [documents[place] for place in chosen]

    @override
    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        embedding = self._embedding.embed_query(query)
        return self.max_marginal_relevance_search_by_vector(embedding, k, fetch_k, lambda_mult, **kwargs)

    @override
    async def amax_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        embedding = await self._embedding.aembed_query(query)
        search = self.max_marginal_relevance_search_by_vector
        return await run_in_executor(None, search, embedding, k, fetch_k, lambda_mult, **kwargs)

    @override
    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        if self._relevance_score_fn is not None:
            return self._relevance_score_fn
        if self.distance == "inner_product":
            return float  # unbounded: langchain-core warns outside of 0 to 1, and a relevance_score_fn is needed
        formula = self._cosine_relevance_score_fn if self.distance == "cosine" else self._euclidean_relevance_score_fn
        return lambda score: min(1.0, max(0.0, formula(score)))

    def save_local(self, folder_path: str | os.PathLike[str], index_name: str = "index") -> None:
        """Save the store in a folder, which is made if need be.

        The manifest is replaced last and in one step: whatever stops this half-way, the folder loads as before.

        Args:
            folder_path: The folder; several stores may share it under different names.
            index_name: How the names of the files begin.

        Raises:
            TypeError: If metadata would not come back from JSON as it is (a date, a set, a tuple, bytes, a NaN, a numpy
                number, a key that is not a str); names the document and the key, and nothing is written.
            ValueError: If the name is a path, or is that of another kind of store in this folder.
        """
        with self._lock.reading():
            documents, dimension = list(self._documents), self._index.d
            index = require("faiss", extra="faiss").serialize_index(self._index).tobytes()
        fields = {"distance": self.distance, "dimension": dimension, "count": len(documents)}
        data = {"documents": to_lines(documents), "index": index}
        write_folder(folder_path, index_name, _FORMAT, fields, data)

    @classmethod
    def load_local(
        cls,
        folder_path: str | os.PathLike[str],
        embeddings: Embeddings,
        index_name: str = "index",
        *,
        allow_dangerous_deserialization: bool = False,  # noqa: ARG003
        **kwargs: Any,
    ) -> Self:
        """Load what `save_local` saved.

        Nothing loaded can run. Each file's SHA-256 is compared with the manifest's, the bytes compared are the bytes
        parsed, and faiss is given nothing but a flat index. This finds damage and mix-ups. It is no signature: whoever
        may write to the folder can write a manifest that fits, and so decide what searches find.

        Args:
            folder_path: The folder.
            embeddings: The model that made the vectors. Another dimension shows at the first query.
            index_name: How the names of the files begin.
            allow_dangerous_deserialization: Ignored: there is nothing dangerous to allow. It is here so that calls made
                for langchain-community work.
            kwargs: For the constructor; a distance must be the saved one.

        Raises:
            IndexFormatError: If a file is missing, damaged, foreign, or of an unknown version; names the file.
        """
        _refuse_pickle(folder_path, index_name)
        saved = read_folder(folder_path, index_name, _FORMAT)
        store = cls(embeddings, distance=saved.fields["distance"], **kwargs)
        store._documents = from_lines(saved.paths["documents"], saved.data["documents"], saved.fields["count"])
        store._rows = {document.id: row for row, document in enumerate(store._documents)}
        store._index = store._parse_index(saved)
        return store

    def _put(self, documents: list[Document], vectors: Any) -> list[str]:
        if not documents:
            return []
        matrix = self._matrix(vectors, len(documents))
        ids = [str(document.id) for document in documents]
        with self._lock.writing():
            if not self._documents:
                self._index = self._flat_index(matrix.shape[1])
            self._check_dimension(matrix)
            replaced = [self._rows[id_] for id_ in ids if id_ in self._rows]
            self._index.add(matrix)  # before anything is removed: should memory run out, nothing has happened
            self._rows.update(zip(ids, range(len(self._documents), self._index.ntotal), strict=True))
            self._documents.extend(documents)
            self._remove(replaced)
        return ids

    def _remove(self, rows: list[int]) -> None:
        if rows:
            np = require("numpy", extra="faiss")
            self._index.remove_ids(np.array(rows, dtype=np.int64))  # later rows move up
            gone = set(rows)
            self._documents = [document for row, document in enumerate(self._documents) if row not in gone]
            self._rows = {document.id: row for row, document in enumerate(self._documents)}

    def _search(
        self, embedding: Any, k: int, filter: Filter | None, fetch_k: int = 1
    ) -> tuple[list[Document], list[float], Any]:
        """The nearest documents, copied; their scores; their vectors, of shape [found, dimension]."""
        if k < 1:
            msg = f"k must be at least 1, not {k}."
            raise ValueError(msg)
        faiss, np = require("faiss", extra="faiss"), require("numpy", extra="faiss")
        query = self._matrix([embedding], 1)
        matching = None if filter is None else self._matching(compile_filter(filter))
        with self._lock.reading():
            # With a selector, even of all, faiss keeps a query on one thread. Without, it divides it between threads
            # that wait for each other: 3 times slower on two busy cores, and no help to a server with many queries.
            selector, count = faiss.IDSelectorAll(), len(self._documents)
            if matching is not None:
                # Documents deleted or replaced since they matched are out.
                rows = [self._rows.get(document.id, -1) for document in matching]
                rows = [row for row, d in zip(rows, matching, strict=True) if row >= 0 and self._documents[row] is d]
                selected = np.zeros(count, dtype=bool)
                selected[rows] = True
                bits = np.packbits(selected, bitorder="little")
                selector, count = faiss.IDSelectorBitmap(bits), len(rows)
            if not count:
                return [], [], []
            self._check_dimension(query)
            options = faiss.SearchParameters(sel=selector)
            scores, rows = (
                found[0] for found in self._index.search(query, min(max(k, fetch_k), count), params=options)
            )
            scores = 1 - scores if self.distance == "cosine" else scores
            order = np.lexsort((rows, -scores if self.distance == "inner_product" else scores))  # ties by age
            documents = [self._documents[row] for row in rows[order]]
            vectors = self._index.reconstruct_batch(rows[order])
        return [copy_document(document) for document in documents], scores[order].tolist(), vectors

    def _matching(self, matches: Callable[[dict[str, Any]], bool]) -> list[Document]:
        with self._lock.reading():
            documents = list(self._documents)
        # Outside of the lock: a user's function may be slow, or call this store.
        return [document for document in documents if matches(document.metadata)]

    def _matrix(self, vectors: Any, count: int) -> Any:
        """Vectors of shape [count, dimension] as float32: checked, and of length 1 where the distance is cosine."""
        np = require("numpy", extra="faiss")
        try:
            with np.errstate(over="ignore"):
                matrix = np.array(vectors, dtype=np.float32)
        except (TypeError, ValueError) as error:
            msg = f"The vectors are not lists of numbers, all of one length: {error}"
            raise ValueError(msg) from error
        if matrix.shape != (count, matrix.size // count) or not matrix.size:
            msg = f"The embedding model must make one vector for each of {count} texts, not shape {matrix.shape}."
            raise ValueError(msg)
        squares = _squared_lengths(matrix)
        if not (fits := squares < _LARGEST).all():
            msg = f"Vector {fits.argmin()} (from 0) holds NaN, infinity, or numbers too large for float32."
            raise ValueError(msg)
        if self.distance == "cosine":
            matrix /= np.where(squares > 0, np.sqrt(squares), 1)[:, np.newaxis]
        return matrix

    def _check_dimension(self, matrix: Any) -> None:
        if matrix.shape[1] != self._index.d:
            msg = (
                f"A vector of dimension {matrix.shape[1]} came to a store of dimension {self._index.d}: "
                "one embedding model must make them all."
            )
            raise ValueError(msg)

    def _flat_index(self, dimension: int) -> Any:
        require("numpy", extra="faiss")  # which faiss would miss with a less helpful message
        faiss = require("faiss", extra="faiss")
        return (faiss.IndexFlatL2 if self.distance == "euclidean" else faiss.IndexFlatIP)(dimension)

    def _parse_index(self, saved: Saved) -> Any:
        faiss, np = require("faiss", extra="faiss"), require("numpy", extra="faiss")
        data, shape = saved.data["index"], (saved.fields["count"], saved.fields["dimension"])
        empty = self._flat_index(0)
        index: Any = None
        if data[:4] == faiss.serialize_index(empty)[:4].tobytes():  # they choose which of faiss's many parsers runs
            with suppress(RuntimeError, MemoryError):
                index = faiss.deserialize_index(np.frombuffer(data, dtype=np.uint8))
        sound = index is not None and (index.ntotal, index.d, index.metric_type) == (*shape, empty.metric_type)
        if sound and index.ntotal:  # a NaN would match no query, and break the count of results
            vectors = faiss.rev_swig_ptr(index.get_xb(), math.prod(shape)).reshape(shape)
            sound = (_squared_lengths(vectors) < _LARGEST).all()
        if not sound:
            path = saved.paths["index"]
            msg = f"{path}: not {shape[0]} finite vectors of dimension {shape[1]} for {self.distance} distance."
            raise IndexFormatError(msg)
        return index


class _SharedLock:
    """Held by many readers or one writer. A waiting writer keeps new readers out, so that it gets its turn."""

    def __init__(self) -> None:
        self._door = threading.Lock()
        self._inside = threading.Condition()
        self._readers = 0

    @contextmanager
    def reading(self) -> Iterator[None]:
        with self._door, self._inside:
            self._readers += 1
        try:
            yield
        finally:
            with self._inside:
                self._readers -= 1
                self._inside.notify_all()

    @contextmanager
    def writing(self) -> Iterator[None]:
        with self._door, self._inside:
            self._inside.wait_for(lambda: not self._readers)
            yield


def _refuse_pickle(folder: str | os.PathLike[str], name: str) -> None:
    pickled = Path(folder) / f"{name}.pkl"
    if pickled.exists() and not pickled.with_name(f"{name}.manifest.json").exists():
        msg = (
            f"{pickled}: a pickle, as langchain-community saves its index. Loading it can run any code, so this package "
            "never opens one. If you trust it, load it with langchain-community and hand the documents and vectors to "
            "FAISS.from_embeddings, then save; langchain_rerankkit.vectorstores.faiss shows how."
        )
        raise IndexFormatError(msg)


def _squared_lengths(vectors: Any) -> Any:
    return require("numpy", extra="faiss").einsum("ij,ij->i", vectors, vectors, dtype="float64")
