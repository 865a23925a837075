"""Reranking by a cross-encoder, which reads query and text together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, model_validator
from typing_extensions import Self, override

from langchain_rerankkit.base import Reranker
from langchain_rerankkit.errors import ScoreError
from langchain_rerankkit.inference.cross_encoders import Backend, load_cross_encoder
from langchain_rerankkit.inference.models import Precision
from langchain_rerankkit.inference.pairs import Limits, LongDocuments, PairOutputs, score_pairs
from langchain_rerankkit.inference.shared import release, shared
from langchain_rerankkit.inference.torch import TorchPairs
from langchain_rerankkit.ranking import sigmoid
from langchain_rerankkit.records import Answer, DetailedScores, ScoreRequest, by_request

__all__ = ["CrossEncoderReranker", "log_odds"]


class CrossEncoderReranker(Reranker):
    """Reranks with a cross-encoder, on the fastest backend that is installed, or with any LangChain ``BaseCrossEncoder``.

    The raw score is the model's logit in float32; the score is its sigmoid, computed in float64. Order comes from
    the raw score, so hits that all saturate to 1.0 keep their order.

    A query keeps its tokens; what does not fit of a text is cut, and ``metadata["rerank"]["truncated"]`` says so.
    Equal pairs are scored once. All rerankers of a process share one model of a kind, and requests of several threads
    share its passes. `close`, or leaving a ``with`` block, lets go of it.

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

    backend: Backend = "auto"
    """What runs the model. ``"openvino"`` and ``"onnx"`` need a graph among its files and no torch (extras ``openvino``
    and ``onnx``); ``"torch"`` goes through sentence-transformers (extra ``local``) and runs everything, language models
    with their template included. ``"auto"`` takes the fastest that is installed and that files and machine allow; the
    representation, and ``metadata["rerank"]["backend"]``, say which."""

    precision: Precision = "auto"
    """Arithmetic. ``"auto"`` is full precision, or bf16 (fp16) where the processor or GPU has it natively. ``"int8"``
    takes a graph with int8 weights, ``"fp16"`` on ONNX Runtime one with fp16 weights: ``rerankkit export`` makes them.
    int8 quantises what flows through the model by the range of a whole pass, so a score moves a little with the texts
    beside it."""

    device: str | None = None
    """``"cpu"``, ``"cuda"``, ``"mps"`` …; by default the fastest one found."""

    threads: int | None = Field(default=None, ge=1)
    """Threads of one pass; by default one for each physical core that the process may use."""

    max_length: int | None = Field(default=None, ge=8)
    """Longest pair in tokens; by default the model's own limit, which it cannot exceed."""

    max_query_length: int | None = Field(default=None, ge=1)
    """Longest query in tokens; by default half of a pair."""

    long_documents: LongDocuments = "truncate"
    """What happens to a text that does not fit beside its query: ``"truncate"`` reads its beginning, ``"chunk"`` scores
    all of it in overlapping parts, ``"error"`` raises. The characters of the best part are
    ``metadata["rerank"]["best_span"]``, counted in what the model reads (see ``document_text``)."""

    chunk_overlap: int = Field(default=32, ge=0)
    """Tokens that neighbouring chunks share."""

    chunk_score: Literal["max", "mean", "first"] = "max"
    """The raw score of a text in chunks: of its best chunk, their mean, or that of the first."""

    batch_tokens: int | None = Field(default=None, ge=1)
    """Tokens in one pass, padding included: bounds memory whatever the number of candidates. By default what was fastest:
    512 on a processor, 1,024 in bf16 or on torch, 16,384 on a GPU."""

    file_name: str | None = None
    """The graph to take, where a model has several: ``"model_O3.onnx"``."""

    revision: str | None = None
    """Commit, tag or branch on the model hub."""

    cache_dir: str | None = None
    """Folder for downloaded models; by default the hub client's."""

    local_files_only: bool = False
    """Never download; also switched on by the environment variable ``HF_HUB_OFFLINE``."""

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
    def __repr_args__(self) -> Any:
        yield from super().__repr_args__()
        model = self._once.peek()
        if model is not None and not _scores_pairs(model):
            yield "runtime", model.runtime

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
    def close(self) -> None:
        release(self._once.peek())
        super().close()

    @override
    def _activate(self, raw_score: float) -> float:
        if self.activation == "identity" or (self.activation == "auto" and _scores_pairs(self.client)):
            return raw_score
        return sigmoid(raw_score)

    @override
    def _score_many(self, requests: Sequence[ScoreRequest]) -> Sequence[Answer | Exception]:
        model = self._ready()
        pairs = [(request.query, text) for request in requests for text in request.texts]
        if _scores_pairs(model):
            return by_request(requests, self._client_scores(model, pairs))
        limits = Limits(self.max_length, self.max_query_length, self.long_documents, self.chunk_overlap)
        outputs = score_pairs(model, pairs, limits, self.batch_tokens, self.instruction)
        judged = [self._judged_pair(output, model.runtime) for output in outputs]
        return [
            DetailedScores([score for score, _ in of_request], [details for _, details in of_request])
            for of_request in by_request(requests, judged)
        ]

    def _judged_pair(self, output: PairOutputs, runtime: str) -> tuple[float, dict[str, Any]]:
        """Raw score of a pair, and what there is to say of it."""
        scores = [log_odds(row, self.label) for row in output.logits]
        details: dict[str, Any] = {"backend": runtime}
        if output.truncated:
            details["truncated"] = True
        if output.spans is None:
            return scores[0], details
        best = max(range(len(scores)), key=lambda chunk: -math.inf if math.isnan(scores[chunk]) else scores[chunk])
        details |= {"chunks": len(scores), "best_span": list(output.spans[best])}
        if any(math.isnan(score) for score in scores):
            return math.nan, details
        return {"max": scores[best], "mean": math.fsum(scores) / len(scores), "first": scores[0]}[
            self.chunk_score
        ], details

    def _client_scores(self, client: Any, pairs: list[tuple[str, str]]) -> list[float]:
        rows = client.score(pairs)
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
