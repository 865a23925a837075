"""What the rerankers that run a cross-encoder on this machine have in common: its arithmetic, its passes, long texts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pydantic import Field
from typing_extensions import override

from langchain_rerankkit.base import Reranker
from langchain_rerankkit.errors import ScoreError
from langchain_rerankkit.inference.cross_encoders import Backend
from langchain_rerankkit.inference.models import Precision
from langchain_rerankkit.inference.pairs import Limits, PairOutputs, score_pairs
from langchain_rerankkit.inference.shared import release
from langchain_rerankkit.passages import ChunkScore, LongDocuments, combined
from langchain_rerankkit.ranking import sigmoid
from langchain_rerankkit.records import Answer, DetailedScores, ScoreRequest, by_request

__all__ = ["LocalReranker", "log_odds"]


class LocalReranker(Reranker):
    """A cross-encoder on this machine. Subclasses say which one: their `_load` returns a `PairModel`.

    The raw score is the model's logit in float32; the score is its sigmoid, computed in float64. Order comes from
    the raw score, so hits that all saturate to 1.0 keep their order.

    A query keeps its tokens; what does not fit of a text is cut, and ``metadata["rerank"]["truncated"]`` says so.
    Equal pairs are scored once. All rerankers of a process share one model of a kind, and requests of several threads
    share its passes. `close`, or leaving a ``with`` block, lets go of it.
    """

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
    bf16 moves a score by what the texts beside it change in rounding; int8 quantises what flows through the model by
    the range of a whole pass, so a score moves more with the texts beside it."""

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

    chunk_score: ChunkScore = "max"
    """The raw score of a text in chunks: of its best chunk, their mean, or that of the first."""

    batch_tokens: int | None = Field(default=None, ge=1)
    """Tokens in one pass, padding included: bounds memory whatever the number of candidates. By default what was fastest:
    512 on a processor, 1,024 in bf16 or on torch, 16,384 on a GPU."""

    cache_dir: str | None = None
    """Folder for downloaded models; by default the hub client's."""

    local_files_only: bool = False
    """Never download; also switched on by the environment variable ``HF_HUB_OFFLINE``."""

    call_options = Reranker.call_options | {"instruction"}

    @override
    def __repr_args__(self) -> Any:
        yield from super().__repr_args__()
        runtime = getattr(self._once.peek(), "runtime", None)
        if runtime is not None:
            yield "runtime", runtime

    @override
    def close(self) -> None:
        release(self._once.peek())
        super().close()

    @override
    def _activate(self, raw_score: float) -> float:
        return sigmoid(raw_score)

    @override
    def _score_many(self, requests: Sequence[ScoreRequest]) -> Sequence[Answer | Exception]:
        model = self._ready()
        pairs = [(request.query, text) for request in requests for text in request.texts]
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
        score, best = combined(scores, self.chunk_score)
        return score, details | {"chunks": len(scores), "best_span": list(output.spans[best])}


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
