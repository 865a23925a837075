"""What a vector store already knows — texts and vectors — so that rerankers need not compute it again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["stored_texts", "stored_vectors"]


def stored_texts(store: Any) -> list[str]:
    """Every text of a vector store.

    Args:
        store: This package's or langchain-community's ``FAISS``, langchain-core's ``InMemoryVectorStore``, or any
            object with a method ``texts()``.

    Raises:
        TypeError: If the store has no known way to list its texts.
    """
    if callable(getattr(store, "texts", None)):
        return list(store.texts())
    if _is_community_faiss(store):
        ids = store.index_to_docstore_id.values()
        return [document.page_content for document in map(store.docstore.search, ids)]
    if _is_in_memory(store):
        return [entry["text"] for entry in store.store.values()]
    msg = f"{type(store).__name__} does not list its texts. Give the documents instead: from_documents(…)."
    raise TypeError(msg)


def stored_vectors(store: Any, ids: Sequence[str]) -> dict[str, Sequence[float]]:
    """Vectors of stored documents, by document id.

    Args:
        store: This package's or langchain-community's ``FAISS``, langchain-core's ``InMemoryVectorStore``, or any
            object with a method ``get_vectors_by_ids(ids)``.
        ids: Ids of documents.

    Returns:
        Vectors of the documents that are stored, each of shape [dimensions]; unknown ids are left out.

    Raises:
        TypeError: If the store has no known way to give its vectors.
    """
    if callable(getattr(store, "get_vectors_by_ids", None)):
        vectors: dict[str, Sequence[float]] = store.get_vectors_by_ids(ids)
        return vectors
    if _is_community_faiss(store):
        wanted = set(ids)
        rows = {id_: row for row, id_ in store.index_to_docstore_id.items() if id_ in wanted}
        return {id_: store.index.reconstruct(row) for id_, row in rows.items()}
    if _is_in_memory(store):
        return {id_: store.store[id_]["vector"] for id_ in ids if id_ in store.store}
    msg = f"{type(store).__name__} does not give its vectors away; leave out store= and texts are embedded instead."
    raise TypeError(msg)


def _is_community_faiss(store: Any) -> bool:
    return all(hasattr(store, name) for name in ("index", "docstore", "index_to_docstore_id"))


def _is_in_memory(store: Any) -> bool:
    return isinstance(getattr(store, "store", None), dict)
