"""The evaluator as a link of a chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.documents import Document
from langchain_core.runnables import RunnableConfig, RunnableSerializable
from pydantic import ConfigDict, Field, field_validator
from typing_extensions import override

from langchain_rerankkit.evaluation.gold import document_id
from langchain_rerankkit.evaluation.matching import holds_answer, normalise
from langchain_rerankkit.evaluation.metrics import DEFAULT_METRICS, parse_metrics, score

__all__ = ["RetrievalEvaluator"]


class RetrievalEvaluator(RunnableSerializable[dict[str, Any], dict[str, float]]):
    """Scores one question's documents against its gold answer.

    Takes ``{"question": …, "documents": […], "answer": …}`` and returns a score per metric, so it chains after
    anything that retrieves::

        RunnablePassthrough.assign(documents=itemgetter("question") | retriever) | RetrievalEvaluator()

    ``answer`` is an accepted answer or a list of them; a document is relevant if it holds one as whole words. In place
    of it, ``relevant`` may name gold document ids, as a list or with grades. Judged by answer, recall and the ideal
    order know only the documents given.
    """

    metrics: Sequence[str] = DEFAULT_METRICS
    """Metric names with cut-offs."""

    relevance: int = Field(default=1, ge=1)
    """Lowest grade that counts as relevant."""

    model_config = ConfigDict(extra="forbid")

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
        documents = list(input["documents"])
        if not all(isinstance(document, Document) for document in documents):
            msg = "The documents must be langchain_core Documents."
            raise TypeError(msg)
        if "relevant" in input:
            relevant = input["relevant"]
            grades = dict(relevant) if isinstance(relevant, Mapping) else dict.fromkeys(_strings(relevant), 1)
            ids = [document_id(document) for document in documents]
        else:
            answers = [normalise(answer) for answer in _strings(input["answer"])]
            ids = [document_id(document, need_id=False) for document in documents]
            grades = {
                id_: self.relevance
                for id_, document in zip(ids, documents, strict=True)
                if holds_answer(normalise(document.page_content), answers)
            }
        scores = score({"question": grades}, {"question": ids}, self.metrics, relevance=self.relevance)
        return {metric: values["question"] for metric, values in scores.items()}


def _strings(value: Any) -> list[str]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, Sequence) or not all(isinstance(item, str) for item in values):
        msg = "An answer is a string or a list of strings; relevant documents are ids, or grades by id."
        raise TypeError(msg)
    return list(values)
