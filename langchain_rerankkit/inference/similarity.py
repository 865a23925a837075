"""Cosines between a query and texts, embedding only what a store does not already hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_rerankkit._optional import require
from langchain_rerankkit.errors import ScoreError
from langchain_rerankkit.vectorstores.reading import stored_vectors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_rerankkit.records import ScoreRequest

__all__ = ["TextVectors", "cosines", "model_name"]


class TextVectors:
    """Vectors of texts: those that a store holds, and those still to be computed, each text once.

    Args:
        requests: What is to be judged. A stored vector counts only where the model reads just the document's
            ``page_content``.
        store: A vector store to read from (see `stored_vectors`), or None.
    """

    def __init__(self, requests: Sequence[ScoreRequest], store: Any = None) -> None:
        documents = [document for request in requests for document in request.documents]
        texts = [text for request in requests for text in request.texts]
        self._keys: list[str | int] = []  # a document id of the store, or a position in missing
        self.missing: list[str] = []
        positions: dict[str, int] = {}
        same = [d.id for d, text in zip(documents, texts, strict=True) if d.id is not None and d.page_content == text]
        self._stored: dict[str, Sequence[float]] = {} if store is None else stored_vectors(store, same)
        for document, text in zip(documents, texts, strict=True):
            if document.id in self._stored and document.page_content == text:
                self._keys.append(document.id)
                continue
            if text not in positions:
                positions[text] = len(self.missing)
                self.missing.append(text)
            self._keys.append(positions[text])

    def fill(self, computed: Sequence[Sequence[float]]) -> list[Sequence[float]]:
        """Vectors aligned with the texts of all requests, one after the other.

        Args:
            computed: Vectors of ``missing``, aligned.

        Raises:
            ScoreError: If their number is wrong.
        """
        if len(computed) != len(self.missing):
            msg = f"The embeddings returned {len(computed)} vectors for {len(self.missing)} texts."
            raise ScoreError(msg)
        return [self._stored[key] if isinstance(key, str) else computed[key] for key in self._keys]


def cosines(query: Sequence[float], vectors: Sequence[Sequence[float]]) -> list[float]:
    """Cosine of the query with each vector, in -1 to 1; 0 for a vector of zeros.

    Args:
        query: Shape [dimensions].
        vectors: Shape [texts, dimensions].

    Raises:
        ScoreError: If dimensions differ: the vectors come from different models.
    """
    np = require("numpy", extra="bi-encoder")
    one = np.asarray(query, dtype=np.float32)
    lengths = {len(vector) for vector in vectors} | {len(one)}
    if len(lengths) > 1:
        msg = f"Query and text vectors differ in dimension ({sorted(lengths)}): one model must make them all."
        raise ScoreError(msg)
    many = np.asarray(vectors, dtype=np.float32).reshape(len(vectors), len(one))
    norms = np.linalg.norm(many, axis=1) * np.linalg.norm(one)
    scores: list[float] = (many @ one / np.where(norms == 0, 1, norms)).astype(float).tolist()
    return scores


def model_name(embeddings: Any) -> str:
    """What LangChain's embeddings call their model; the name of their class where they do not say it."""
    model = getattr(embeddings, "model", None) or getattr(embeddings, "model_name", None)
    return model if isinstance(model, str) else type(embeddings).__name__
