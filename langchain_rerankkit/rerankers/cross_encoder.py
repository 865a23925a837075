"""Reranking by a cross-encoder, which reads query and text together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, model_validator
from typing_extensions import Self, override

from langchain_rerankkit.errors import ScoreError
from langchain_rerankkit.inference.cross_encoders import load_cross_encoder
from langchain_rerankkit.inference.shared import shared
from langchain_rerankkit.inference.torch import TorchPairs
from langchain_rerankkit.records import Answer, ScoreRequest, by_request
from langchain_rerankkit.rerankers.local import LocalReranker, log_odds

__all__ = ["CrossEncoderReranker"]


class CrossEncoderReranker(LocalReranker):
    """Reranks with a cross-encoder, on the fastest backend that is installed, or with any LangChain ``BaseCrossEncoder``.

    Example::

        CrossEncoderReranker(model="cross-encoder/ms-marco-MiniLM-L6-v2", top_n=5)
        CrossEncoderReranker(client=any_langchain_cross_encoder)
    """

    model: str = ""
    """Name on the model hub, or a folder. Needed unless there is a ``client``."""

    client: Any = Field(default=None, exclude=True, repr=False)
    """A ``langchain_core.cross_encoders.BaseCrossEncoder`` or a ``sentence_transformers.CrossEncoder``."""

    activation: Literal["auto", "sigmoid", "identity"] = "auto"
    """From raw score to score. ``"auto"`` is ``"sigmoid"`` for models of sentence-transformers, whose logits are
    read, and ``"identity"`` for a ``BaseCrossEncoder``, which may have applied its own."""

    file_name: str | None = None
    """The graph to take, where a model has several: ``"model_O3.onnx"``."""

    revision: str | None = None
    """Commit, tag or branch on the model hub."""

    trust_remote_code: bool = False
    """Run Python code that comes with the model. Needs a ``revision``: without one the code can change any day."""

    @model_validator(mode="after")
    def _check_model(self) -> Self:
        if not self.model and self.client is None:
            msg = "CrossEncoderReranker needs a model name or folder, or a client."
            raise ValueError(msg)
        if self.client is not None and not (
            _scores_pairs(self.client) or callable(getattr(self.client, "predict", None))
        ):
            msg = f"The client must be a BaseCrossEncoder or a sentence_transformers.CrossEncoder, not {type(self.client)}."
            raise ValueError(msg)
        if self.trust_remote_code and self.revision is None:
            msg = "trust_remote_code=True runs code from the model hub: pin it with revision=<commit>."
            raise ValueError(msg)
        if self.instruction is not None and _scores_pairs(self.client):
            msg = "A BaseCrossEncoder takes no instruction; give a model, or put the instruction into the query."
            raise ValueError(msg)
        return self

    @override
    def _label(self) -> str:
        if self.model:
            return self.model
        name = getattr(self.client, "model_name", None)
        return name if isinstance(name, str) else type(self.client).__name__

    @override
    def _load(self) -> Any:
        if _scores_pairs(self.client):
            return self.client
        if self.client is not None:
            return shared(("client", id(self.client)), lambda: TorchPairs(self.client))
        return load_cross_encoder(
            self.model,
            backend=self.backend,
            precision=self.precision,
            device=self.device,
            threads=self.threads,
            file_name=self.file_name,
            revision=self.revision,
            cache_dir=self.cache_dir,
            local_files_only=self.local_files_only,
            trust_remote_code=self.trust_remote_code,
        )

    @override
    def _activate(self, raw_score: float) -> float:
        if self.activation == "identity" or (self.activation == "auto" and _scores_pairs(self.client)):
            return raw_score
        return super()._activate(raw_score)

    @override
    def _score_many(self, requests: Sequence[ScoreRequest]) -> Sequence[Answer | Exception]:
        if not _scores_pairs(self.client):
            return super()._score_many(requests)
        pairs = [(request.query, text) for request in requests for text in request.texts]
        rows = self._ready().score(pairs)
        rows = rows.tolist() if hasattr(rows, "tolist") else rows
        if len(rows) != len(pairs):
            msg = f"{self._label()} returned {len(rows)} scores for {len(pairs)} pairs; no document was dropped."
            raise ScoreError(msg)
        return by_request(requests, [log_odds(row, self.label) if isinstance(row, Sequence) else row for row in rows])


def _scores_pairs(model: Any) -> bool:
    """Whether a model has the interface of LangChain's ``BaseCrossEncoder``.

    Told by its method and not by its class: langchain-core has the class only since 1.2, langchain-classic and
    langchain-community have others of the same shape.
    """
    return callable(getattr(model, "score", None)) and not callable(getattr(model, "predict", None))
