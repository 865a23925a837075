"""The evaluator as a link of a chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig, RunnableSerializable
from pydantic import ConfigDict, Field, field_validator
from typing_extensions import override

from langchain_rerankkit.evaluation.gold.matching import Match
from langchain_rerankkit.evaluation.gold.qrels import Identity
from langchain_rerankkit.evaluation.gold.rows import RowJudge
from langchain_rerankkit.evaluation.metrics import DEFAULT_METRICS, parse_metrics

__all__ = ["RetrievalEvaluator"]


class RetrievalEvaluator(RunnableSerializable[dict[str, Any], dict[str, float]]):
    """Scores one question's documents against its gold answer.

    Takes ``{"question": …, "documents": […], "answer": …}`` and returns a score per metric, so it chains after
    anything that retrieves::

        RunnablePassthrough.assign(documents=itemgetter("question") | retriever) | RetrievalEvaluator()

    ``answer`` is an accepted answer or a list of them; a document is relevant if it holds one (see `match`). In place
    of it, ``relevant`` may name gold document ids, as a list or with grades. Judged by answer, recall and the ideal
    order know only the documents given.
    """

    metrics: Sequence[str] = DEFAULT_METRICS
    """Metric names with cut-offs."""

    match: Match | None = None
    """When a document holds an answer: ``"words"`` (the default), ``"regex"``, ``"number"``, a function, or a judge."""

    relevance: int = Field(default=1, ge=1)
    """Lowest grade of a gold document that counts as relevant."""

    identity: Identity = None
    """Gives a document's id: a function, or the name of a metadata field."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    @field_validator("metrics")
    @classmethod
    def _check_metrics(cls, metrics: Sequence[str]) -> Sequence[str]:
        parse_metrics(metrics)
        return metrics

    @classmethod
    @override
    def is_lc_serializable(cls) -> bool:
        return True

    @override
    def invoke(self, input: dict[str, Any], config: RunnableConfig | None = None, **kwargs: Any) -> dict[str, float]:
        """Score one question.

        Args:
            input: ``{"question", "documents", "answer"}`` or ``{"question", "documents", "relevant"}``.
            config: Runnable configuration (callbacks, tags, …).
            **kwargs: None are taken.

        Raises:
            TypeError: If documents or gold are missing or of the wrong type.
        """
        return self._call_with_config(self._evaluate, input, config, **kwargs)

    def _evaluate(self, input: dict[str, Any]) -> dict[str, float]:
        if not isinstance(input, Mapping) or "documents" not in input or not {"answer", "relevant"} & set(input):
            msg = "RetrievalEvaluator takes a dict with 'documents' and either 'answer' or 'relevant'."
            raise TypeError(msg)
        reference: dict[str, Any] = {name: input[name] for name in ("relevant", "answer") if name in input}
        rows = RowJudge(self.metrics, match=self.match, relevance=self.relevance, empty="zero", identity=self.identity)
        row = rows.judge({"documents": input["documents"]}, reference, str(input.get("question", "")))
        return {metric: values[0] for metric, values in rows.score([row]).items()}
