"""Reranking by a chat model that judges each passage by itself."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig
from pydantic import model_validator
from typing_extensions import Self, override

from langchain_rerankkit.errors import ScoreError
from langchain_rerankkit.llm.parsing import said, without_thoughts
from langchain_rerankkit.llm.prompts import GradedStyle, draw, fence, load_graded
from langchain_rerankkit.rerankers.chat import Asked, ChatReranker, Conversation, Verdict, corrected

__all__ = ["PointwiseLLMReranker"]

_REFUSED = {400, 404, 422}  # HTTP status of a request whose options the server does not take
_ECHO = 500  # characters of an unusable answer that the model is shown again


class PointwiseLLMReranker(ChatReranker):
    """Reranks by asking a chat model how relevant each passage is, in a call for each.

    The score is the model's mean grade over the highest one, from 0 to 1: under its probabilities of the possible
    answers where the provider returns them, else the grade that it gave, so that many passages tie and keep their order.
    A score stands by itself, so ``min_score`` works. ``metadata["rerank"]["judged_by"]`` says which it was,
    ``"logprobs"`` or ``"answer"``. Equal texts are asked about once.

    An answer without a grade is asked for again, then it is a `ScoreError`, or with ``on_nan="last"`` its document goes
    last. Documents that a budget leaves out go last with the status ``"unjudged"``.
    """

    style: str = "yes_no"
    """What is asked: ``"yes_no"``, ``"graded"`` (0 to 3), or the path of a YAML file with such keys."""

    logprobs: bool | None = None
    """Whether probabilities are asked for. By default where the model's class has such a setting, and not again once the
    server has refused it."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        load_graded(self.style)
        return self

    @override
    def _prepared(self) -> Runnable[Any, Any]:
        fields = getattr(type(self.model), "model_fields", {})
        if self.logprobs is False or (self.logprobs is None and "logprobs" not in fields):
            return self.model
        # Twice the answers, for their spellings; few servers give more than ten.
        most = min(10, max(5, 2 * len(load_graded(self.style).grades)))
        bound: Runnable[Any, Any] = self.model.bind(logprobs=True, top_logprobs=most)
        return bound if self.logprobs else _UntilRefused(bound, self.model)

    @override
    def _verdict(self, asked: Asked) -> Verdict:
        style = load_graded(self.style)
        verdicts = yield [self._conversation(asked, style, text) for text in asked.texts]
        broken = [position for position, verdict in enumerate(verdicts) if verdict and math.isnan(verdict[0])]
        if broken and self.on_nan == "raise":
            msg = (
                f"{len(broken)} of {len(verdicts)} answers hold no grade (first for text {broken[0]}). Set "
                "on_nan='last' to put those documents last."
            )
            raise ScoreError(msg)
        return asked.answer(
            [verdict[0] if verdict else 0.0 for verdict in verdicts],
            each=[{"judged_by": verdict[1]} if verdict else {} for verdict in verdicts],
            unjudged={position for position, verdict in enumerate(verdicts) if verdict is None},
        )

    def _conversation(self, asked: Asked, style: GradedStyle, text: str) -> Conversation:
        """Ask about one text, again where the answer holds no grade; returns the score and what it comes from."""
        messages = style.messages(asked.query, text, fence(draw(self.seed, asked.query, text)))
        highest = max(style.grades.values())
        for attempt in range(self.max_retries + 1):
            answer = yield messages
            by_logprobs = _mean_grade(answer, style.grades)
            if by_logprobs is not None:
                return by_logprobs / highest, "logprobs"
            grade = _grade(said(answer), style.grades)
            if grade is not None:
                return grade / highest, "answer"
            if attempt < self.max_retries:
                asked.meter.retry()
                wanted = ", ".join(style.grades)
                told = f"That is none of the possible answers. Answer with one of: {wanted}."
                messages = [*messages, *corrected(said(answer), told, _ECHO)]
        return math.nan, "answer"


class _UntilRefused(Runnable[Any, Any]):
    """A model with options, until its server refuses them; from then on without."""

    def __init__(self, bound: Runnable[Any, Any], plain: Runnable[Any, Any]) -> None:
        self._bound, self._plain = bound, plain
        self._refused = False

    @override
    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        if not self._refused:
            try:
                return self._bound.invoke(input, config, **kwargs)
            except Exception as error:  # noqa: BLE001 - raised again unless it is about the options
                self._note(error)
        return self._plain.invoke(input, config, **kwargs)

    @override
    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        if not self._refused:
            try:
                return await self._bound.ainvoke(input, config, **kwargs)
            except Exception as error:  # noqa: BLE001 - raised again unless it is about the options
                self._note(error)
        return await self._plain.ainvoke(input, config, **kwargs)

    def _note(self, error: Exception) -> None:
        """Called while the error is handled: raises it again if it is not about the options."""
        if not isinstance(error, TypeError) and getattr(error, "status_code", None) not in _REFUSED:
            raise error
        self._refused = True


def _grade(answer: str, grades: Mapping[str, float]) -> float | None:
    """The grade that an answer gives, if it gives exactly one."""
    folded = {label.casefold(): grade for label, grade in grades.items()}
    labels = "|".join(re.escape(label) for label in sorted(folded, key=len, reverse=True))
    text = without_thoughts(answer)[:10_000].casefold()
    found = re.findall(rf"(?<!\w)({labels})(?!\w)", text)
    named = re.findall(rf"(?:answer|grade|score|relevance|rating)\W*(?:is\W*)?({labels})(?!\w)", text)
    first = re.match(rf"[\W_]*({labels})(?!\w)", text)
    if first:
        return folded[first.group(1)]
    chosen = set(named) or set(found)
    return folded[chosen.pop()] if len(chosen) == 1 else None


def _mean_grade(answer: Any, grades: Mapping[str, float]) -> float | None:
    """The mean grade under the probabilities of the token that answers; None where there are none of it."""
    folded = {label.casefold(): grade for label, grade in grades.items()}
    said_tokens = list(_tokens(answer))
    text = "".join(token for token, _ in said_tokens)
    after = len(text) - len(without_thoughts(text))
    start = 0
    for token, alternatives in said_tokens:
        start += len(token)
        if start <= after or _label(token) not in folded:
            continue
        mass: dict[str, float] = {}
        for other, logprob in {token: alternatives.get(token, -math.inf), **alternatives}.items():
            if _label(other) in folded:
                mass[_label(other)] = mass.get(_label(other), 0.0) + math.exp(min(logprob, 0.0))
        total = math.fsum(mass.values())
        if total > 0:
            return math.fsum(folded[label] * share for label, share in mass.items()) / total
    return None


def _tokens(answer: Any) -> Iterator[tuple[str, dict[str, float]]]:
    """Each token that the model wrote, with the log-probabilities of what it might have written."""
    metadata = getattr(answer, "response_metadata", None) or {}
    logprobs = metadata.get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, Mapping) else logprobs
    for step in content if isinstance(content, list) else ():
        if not (isinstance(step, Mapping) and isinstance(step.get("token"), str)):
            return
        entries = [step, *(step.get("top_logprobs") or ())]
        yield (
            step["token"],
            {
                entry["token"]: float(entry["logprob"])
                for entry in entries
                if isinstance(entry.get("token"), str) and isinstance(entry.get("logprob"), (int, float))
            },
        )


def _label(token: str) -> str:
    return token.strip(" \t\n*\"'.:`▁Ġ").casefold()
