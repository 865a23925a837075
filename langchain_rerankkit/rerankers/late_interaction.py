"""Reranking by late interaction: every token of the query looks for its best match among a document's tokens."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from langchain_core.documents import Document
from pydantic import Field, field_validator, model_validator
from typing_extensions import Self, override

from langchain_rerankkit._progress import progress
from langchain_rerankkit.base import Reranker
from langchain_rerankkit.errors import IndexFormatError
from langchain_rerankkit.inference.late_interaction import load_token_encoder
from langchain_rerankkit.inference.models import Precision
from langchain_rerankkit.inference.shared import release, shared
from langchain_rerankkit.inference.token_encoder import TokenEncoder
from langchain_rerankkit.inference.token_store import TokenStore
from langchain_rerankkit.inference.token_vectors import Stored, TokenVectors, compress, maxsim
from langchain_rerankkit.passages import LongDocuments
from langchain_rerankkit.records import Answer, DetailedScores, ScoreRequest, encodable

__all__ = ["LateInteractionReranker"]

_logger = logging.getLogger("langchain_rerankkit")
_TEXTS = 256  # whose vectors are held, and kept in the store, at a time


@dataclass(frozen=True)
class _Loaded:
    encoder: TokenEncoder
    store: TokenStore | None

    @property
    def runtime(self) -> str:
        return self.encoder.runtime


class LateInteractionReranker(Reranker):
    """Reranks with a model of the ColBERT family: checkpoints of sentence-transformers, PyLate and Stanford (extra ``local``).

    Query and document are read apart, a vector for each token. The score is MaxSim: the sum, over the query's vectors, of
    the largest dot product with any of the document's (Khattab and Zaharia, SIGIR 2020). Documents can therefore be read
    ahead of the query, once: with a ``store``, a text that was seen before costs a few microseconds.

    The vectors of the known checkpoints have length 1, so a score lies between plus and minus the number of the query's
    vectors: 32 for ColBERT's, which fill every query up to that, and else the length of the query. A ``min_score`` means
    the same for every query only in the former case, or with ``similarity="meanmaxsim"``.

    ``metadata["rerank"]`` has ``backend``; ``stored`` where vectors came from the store; ``chunks`` of a long document;
    ``truncated`` where the end of query or text was not read.

    Example::

        reranker = LateInteractionReranker(model="colbert-ir/colbertv2.0", store="colbert-vectors", top_n=5)
        reranker.encode_documents(documents)  # ahead; else at first sight
    """

    model: str = ""
    """Name on the model hub, or a folder. Needed unless there is a ``client``."""

    client: Any = Field(default=None, exclude=True, repr=False)
    """A ready ``sentence_transformers.MultiVectorEncoder``. Nothing of it changes. Where it is trained further, call `close`
    or make another reranker before the next use: with a ``store`` its weights are looked at only then."""

    store: str | None = None
    """A folder that keeps document vectors; by default none are kept. It may hold those of several models and settings,
    and be shared by threads and processes, but not over a network. Where it cannot be read or written, vectors are computed,
    with a logged warning. To clear it, delete it."""

    store_precision: Stored = "int8"
    """How they are kept: ``"int8"`` in 1 byte a value, ``"fp16"`` in 2. Scores with a store come from the kept values
    whether or not they were there before."""

    similarity: Literal["auto", "maxsim", "meanmaxsim"] = "auto"
    """``"maxsim"`` sums over the query's vectors; ``"meanmaxsim"`` divides by their number, which orders one query's
    documents alike, and makes scores of different queries comparable: -1 to 1. ``"auto"`` is the checkpoint's own, nearly
    always the sum."""

    precision: Precision = "auto"
    """Arithmetic of the model: ``"fp32"``, ``"bf16"`` or ``"fp16"``. ``"auto"`` is bf16 (fp16) where processor or GPU has
    it natively, else fp32. MaxSim is always computed in fp32."""

    device: str | None = None
    """``"cpu"``, ``"cuda"``, ``"mps"`` …, for the model; by default the fastest one found."""

    threads: int | None = Field(default=None, ge=1)
    """Threads of one operation, which torch sets for the whole process; by default left as it is. One query is little work:
    on a busy machine a single thread is several times faster than threads that wait for each other."""

    max_length: int | None = Field(default=None, ge=8)
    """Longest document in tokens, markers included; by default the checkpoint's (180 for ColBERTv2). It may be larger than
    that, up to what the model can read."""

    long_documents: LongDocuments = "truncate"
    """What happens to a longer one: ``"truncate"`` reads its beginning; ``"chunk"`` reads all of it in overlapping passages,
    whose vectors are put together, so that each token of the query finds its best match anywhere; ``"error"`` raises."""

    batch_tokens: int | None = Field(default=None, ge=1)
    """Tokens in one pass, padding included. By default 1,024 on a processor, 16,384 on a GPU."""

    revision: str | None = None
    """Commit, tag or branch on the model hub."""

    cache_dir: str | None = None
    """Folder for downloaded models; by default the hub client's."""

    local_files_only: bool = False
    """Never download; also switched on by the environment variable ``HF_HUB_OFFLINE``."""

    trust_remote_code: bool = False
    """Run Python code that comes with the model. Needs a ``revision``: without one the code can change any day."""

    @field_validator("store", mode="before")
    @classmethod
    def _path(cls, value: Any) -> Any:
        return os.fspath(value) if isinstance(value, os.PathLike) else value

    @model_validator(mode="after")
    def _check_model(self) -> Self:
        if not self.model and self.client is None:
            msg = "LateInteractionReranker needs a model name or folder, or a client."
            raise ValueError(msg)
        if self.client is not None and "MultiVectorEncoder" not in (
            base.__name__ for base in type(self.client).__mro__
        ):
            msg = f"The client must be a sentence_transformers.MultiVectorEncoder, not {type(self.client)}."
            raise ValueError(msg)
        if self.trust_remote_code and self.revision is None:
            msg = "trust_remote_code=True runs code from the model hub: pin it with revision=<commit>."
            raise ValueError(msg)
        return self

    def encode_documents(self, documents: Sequence[Document | str]) -> int:
        """Read documents ahead of any query, and keep their vectors in the ``store``.

        Those that are there already cost nothing, so a run that was stopped goes on where it was. Shows a progress bar.

        Args:
            documents: Documents, or texts.

        Returns:
            How many different texts were encoded.

        Raises:
            ValueError: If there is no ``store``.
            OSError: If it cannot be written.
        """
        store = self._ready().store
        if store is None:
            msg = "encode_documents needs a folder to keep the vectors in: set store=<folder>."
            raise ValueError(msg)
        encoded = 0
        starts = range(0, len(documents), _TEXTS)
        for start in progress(starts, len(starts), "Encoding documents"):
            batch = documents[start : start + _TEXTS]
            texts = [encodable(item if isinstance(item, str) else self._text(item)) for item in batch]
            different = [text for text in dict.fromkeys(texts) if text.strip()]
            missing = sorted(set(different) - store.get(different).keys())
            if missing:
                store.put(self._encoded(missing))
                encoded += len(missing)
        return encoded

    @override
    def __repr_args__(self) -> Any:
        yield from super().__repr_args__()
        loaded = self._once.peek()
        if loaded is not None:
            yield "runtime", loaded.runtime

    @override
    def _label(self) -> str:
        return self.model or type(self.client).__name__

    @override
    def _load(self) -> _Loaded:
        if self.client is not None:
            encoder = shared(("late interaction", id(self.client)), lambda: TokenEncoder(self.client))
        else:
            encoder = load_token_encoder(
                self.model,
                precision=self.precision,
                device=self.device,
                threads=self.threads,
                revision=self.revision,
                cache_dir=self.cache_dir,
                local_files_only=self.local_files_only,
                trust_remote_code=self.trust_remote_code,
            )
        if self.store is None:
            return _Loaded(encoder, None)
        identity = encoder.identity(self.max_length, self.long_documents)
        folder = Path(self.store).expanduser() / f"{identity[:16]}-{self.store_precision}"
        return _Loaded(encoder, TokenStore(folder, identity, encoder.dimensions, self.store_precision))

    @override
    def close(self) -> None:
        loaded = self._once.peek()
        if loaded is not None:
            release(loaded.encoder)
            if loaded.store is not None:
                loaded.store.close()
        super().close()

    @override
    def _score_many(self, requests: Sequence[ScoreRequest]) -> Sequence[Answer | Exception]:
        loaded: _Loaded = self._ready()
        encoder = loaded.encoder
        mean = encoder.mean if self.similarity == "auto" else self.similarity == "meanmaxsim"
        queries = list(dict.fromkeys(request.query for request in requests))
        vectors, cut = encoder.queries(queries, self.batch_tokens)
        of_query = dict(zip(queries, zip(vectors, cut, strict=True), strict=True))
        scores: list[dict[str, tuple[float, dict[str, Any]]]] = [{} for _ in requests]
        different = list(dict.fromkeys(text for request in requests for text in request.texts))
        for start in range(0, len(different), _TEXTS):  # so that memory is bounded whatever the number of candidates
            documents, stored = self._vectors(different[start : start + _TEXTS], loaded.store)
            for request, found in zip(requests, scores, strict=True):
                query, query_cut = of_query[request.query]
                texts = [text for text in dict.fromkeys(request.texts) if text in documents]
                factor = 1 / max(1, len(query)) if mean else 1.0
                for text, score in zip(texts, maxsim(query, [documents[text] for text in texts]), strict=True):
                    details: dict[str, Any] = {"backend": encoder.runtime}
                    if text in stored:
                        details["stored"] = True
                    if documents[text].chunks > 1:
                        details["chunks"] = documents[text].chunks
                    if query_cut or documents[text].truncated:
                        details["truncated"] = True
                    found[text] = score * factor, details
        return [
            DetailedScores([found[text][0] for text in request.texts], [dict(found[text][1]) for text in request.texts])
            for request, found in zip(requests, scores, strict=True)
        ]

    def _vectors(self, texts: list[str], store: TokenStore | None) -> tuple[dict[str, TokenVectors], set[str]]:
        """Vectors of different texts, and which of them were in the store."""
        if store is None:
            return self._encoded(texts), set()
        kept: dict[str, TokenVectors] = {}
        try:  # a full, locked or damaged disk does not stop the search
            kept = store.get(texts)
        except (OSError, IndexFormatError) as error:
            _logger.warning("Kept token vectors cannot be read: %s", error)
        missing = [text for text in texts if text not in kept]
        if not missing:
            return kept, set(kept)
        encoded = self._encoded(missing)
        try:
            small = store.put(encoded)
        except (OSError, IndexFormatError) as error:
            _logger.warning("Token vectors are not kept: %s", error)
            small = {text: compress(vectors, store.kind) for text, vectors in encoded.items()}
        return kept | small, set(kept)

    def _encoded(self, texts: list[str]) -> dict[str, TokenVectors]:
        vectors = self._ready().encoder.documents(
            texts, max_length=self.max_length, long_documents=self.long_documents, batch_tokens=self.batch_tokens
        )
        return dict(zip(texts, vectors, strict=True))
