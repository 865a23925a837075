"""Reranking by a cross-encoder, which reads query and text together."""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, model_validator
from typing_extensions import Self, override

from langchain_rerankkit._optional import require
from langchain_rerankkit.base import Reranker
from langchain_rerankkit.errors import ModelNotFoundError, ScoreError
from langchain_rerankkit.ranking import sigmoid
from langchain_rerankkit.records import ScoreRequest, by_request

__all__ = ["CrossEncoderReranker", "log_odds"]


class CrossEncoderReranker(Reranker):
    """Reranks with a cross-encoder of sentence-transformers, or with any LangChain ``BaseCrossEncoder``.

    The raw score is the model's logit in float32; the score is its sigmoid, computed in float64. Order comes from
    the raw score, so hits that all saturate to 1.0 keep their order.

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

    label: int | None = None
    """Which label means "relevant". A head with one label needs none; with two it is the second; with more (entailment,
    grades) it must be said. The raw score is then the log-odds of that label, so its sigmoid is the softmax
    probability."""

    instruction: str | None = None
    """What to look for, in words. Rerankers that are language models have a place for it in their template; for others
    it comes right before the query, so end it with a space."""

    device: str | None = None
    """``"cpu"``, ``"cuda"``, ``"mps"`` …; by default the fastest one found."""

    max_length: int | None = Field(default=None, ge=8)
    """Longest pair in tokens; by default the model's own limit."""

    batch_size: int = Field(default=32, ge=1)
    """Pairs in one pass."""

    revision: str | None = None
    """Commit, tag or branch on the model hub."""

    cache_dir: str | None = None
    """Folder for downloaded models; by default the hub client's."""

    local_files_only: bool = False
    """Never download."""

    trust_remote_code: bool = False
    """Run Python code that comes with the model. Needs a ``revision``: without one the code can change any day."""

    call_options = Reranker.call_options | {"instruction"}

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
        if self.client is not None:
            return self.client
        sentence_transformers = require("sentence_transformers", extra="local")
        try:
            model = sentence_transformers.CrossEncoder(
                self.model,
                device=self.device,
                max_length=self.max_length,
                revision=self.revision,
                cache_folder=self.cache_dir,
                local_files_only=self.local_files_only,
                trust_remote_code=self.trust_remote_code,
            )
        except OSError as error:
            msg = (
                f"The cross-encoder {self.model!r} could not be loaded: {error} Give an existing folder, or a model "
                "that is in the cache when there is no network."
            )
            raise ModelNotFoundError(msg, searched=[self.cache_dir or self.model]) from error
        _ensure_padding(model)
        return model

    @override
    def _activate(self, raw_score: float) -> float:
        if self.activation == "identity" or (self.activation == "auto" and _scores_pairs(self.client)):
            return raw_score
        return sigmoid(raw_score)

    @override
    def _score_many(self, requests: Sequence[ScoreRequest]) -> Sequence[Sequence[float] | Exception]:
        pairs = [(request.query, text) for request in requests for text in request.texts]
        return by_request(requests, self._score_pairs(pairs))

    def _score_pairs(self, pairs: list[tuple[str, str]]) -> list[float]:
        model = self._ready()
        if _scores_pairs(model):
            rows: Any = model.score(pairs)
        else:
            torch = require("torch", extra="local")
            # A fast tokenizer is changed while it truncates and pads; two threads in it raise "Already borrowed".
            with _lock_of(model):
                rows = model.predict(
                    pairs,
                    prompt=self.instruction,
                    batch_size=self.batch_size,
                    activation_fn=torch.nn.Identity(),
                    apply_softmax=False,
                    show_progress_bar=False,
                )
        rows = rows.tolist() if hasattr(rows, "tolist") else rows
        if len(rows) != len(pairs):
            msg = f"{self._label()} returned {len(rows)} scores for {len(pairs)} pairs; no document was dropped."
            raise ScoreError(msg)
        return [log_odds(row, self.label) if isinstance(row, Sequence) else row for row in rows]


def log_odds(logits: Sequence[float], label: int | None = None) -> float:
    """One raw score from the logits of a classification head.

    Args:
        logits: One logit per label.
        label: The label that means "relevant"; may be left out for one label (its logit is the score) or two (the
            second label).

    Returns:
        The logit of a single label; else the log-odds of ``label``, whose sigmoid is its softmax probability.

    Raises:
        ScoreError: If there are more than two labels and none is named, or the label does not exist.
    """
    if len(logits) == 1:
        return logits[0]
    if label is None and len(logits) != 2:  # noqa: PLR2004 - two labels: not relevant, relevant
        msg = f"The model has {len(logits)} labels: say which one means 'relevant' with label=<index>."
        raise ScoreError(msg)
    chosen = 1 if label is None else label
    if not 0 <= chosen < len(logits):
        msg = f"label={chosen} does not exist: the model has {len(logits)} labels."
        raise ScoreError(msg)
    others = [logit for position, logit in enumerate(logits) if position != chosen]
    highest = max(others)
    if not math.isfinite(highest):
        return math.nan
    return logits[chosen] - highest - math.log(math.fsum(math.exp(logit - highest) for logit in others))


def _scores_pairs(model: Any) -> bool:
    """Whether a model has the interface of LangChain's ``BaseCrossEncoder``.

    Told by its method and not by its class: langchain-core has the class only since 1.2, langchain-classic and
    langchain-community have others of the same shape.
    """
    return callable(getattr(model, "score", None)) and not callable(getattr(model, "predict", None))


_locks: weakref.WeakKeyDictionary[Any, threading.Lock] = weakref.WeakKeyDictionary()
_locks_lock = threading.Lock()


def _lock_of(model: Any) -> threading.Lock:
    """One lock per model, however many rerankers share it."""
    with _locks_lock:
        return _locks.setdefault(model, threading.Lock())


def _ensure_padding(model: Any) -> None:
    """Language models often have no padding token, and then cannot score more than one pair at a time."""
    tokenizer = model.tokenizer
    if getattr(tokenizer, "pad_token", None) is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    config = getattr(getattr(model, "model", None), "config", None)
    if config is not None and getattr(config, "pad_token_id", None) is None:
        config.pad_token_id = tokenizer.pad_token_id
