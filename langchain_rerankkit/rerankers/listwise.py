"""Reranking by a chat model that orders passages."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any, Literal

from langchain_core.runnables import Runnable
from pydantic import Field, model_validator
from typing_extensions import Self, override

from langchain_rerankkit.errors import OrderError
from langchain_rerankkit.llm.parsing import parse_best, parse_order, said
from langchain_rerankkit.llm.prompts import ListwiseStyle, draw, fence, identifiers, load_listwise
from langchain_rerankkit.llm.strategies import Strategy, Window, lockstep, sliding_windows, strategies
from langchain_rerankkit.ranking import best_first, fuse, kendall_tau, scores_from_order
from langchain_rerankkit.rerankers.chat import Asked, ChatReranker, Conversation, Verdict, corrected

__all__ = ["ListwiseReranker"]

_SCHEMA = {
    "title": "ranking",
    "description": "The passages by their relevance to the query.",
    "type": "object",
    "properties": {
        "ranking": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Identifiers of passages, the most relevant first.",
        }
    },
    "required": ["ranking"],
    "additionalProperties": False,
}
_FEWEST_TOKENS = 8  # of a passage; less says nothing
_ECHO = 2000  # characters of an unusable answer that the model is shown again


class ListwiseReranker(ChatReranker):
    """Reranks by asking a chat model to order passages: RankGPT and its successors, over any LangChain chat model.

    Example::

        ListwiseReranker(model=ChatOpenAI(model="gpt-5-mini"), top_n=5)
        ListwiseReranker(model=ChatOpenAI(model="castorini/rank_zephyr_7b_v1_full", base_url=…), style="rankzephyr")

    Scores are 1, 1/2, 1/3 … and carry no more than the order. With ``long_documents="chunk"`` chunks are what is put in
    order, and a document has the place of its best one. Every answer becomes a permutation of the passages shown;
    ``usage["repairs"]`` counts what had to be mended. An answer without any order is asked for again, then it is an
    `OrderError`, or with ``on_error="keep_order"`` the order the documents came in, with the status ``"fallback"``.

    Passages go into user messages, between fences drawn anew for each prompt, under identifiers that they cannot know
    (styles of fine-tuned models keep the numbers these were trained on). Nothing in a passage can add, drop or double a
    document; how far it can talk the model into a better place depends on the model.
    """

    style: str = "rankgpt"
    """How the model is asked: ``"rankgpt"``, ``"structured"`` (tool call or JSON schema, for models that have it),
    ``"rankzephyr"`` or ``"rankvicuna"`` (for these models), or the path of a YAML file with the same keys."""

    strategy: Strategy = "sliding"
    """How lists longer than a window are ordered: ``"sliding"`` windows from the back to the front; ``"tournament"``,
    whose few rounds ask all windows at the same time; ``"setwise"``, a heap sort that only asks for the best of a set;
    ``"single"``, all in one prompt. With a judge that never errs all of them find the first ``window_size - step``
    places."""

    window_size: int = Field(default=20, ge=2)
    """Passages in one prompt."""

    step: int = Field(default=10, ge=1)
    """Places that a window moves; the others of it are carried on."""

    passes: int = Field(default=1, ge=1)
    """Repetitions over the documents in another order, whose ranks are fused: the second in reverse, others shuffled
    (permutation self-consistency, Tang et al., NAACL 2024). ``metadata["rerank"]["order_agreement"]`` is the mean
    Kendall tau between them: 1 where the order they are shown in makes no difference."""

    prompt_tokens: int | None = Field(default=None, ge=1)
    """Most tokens of one prompt: its longest passages are cut until it fits. By default what the model's own profile says
    that it takes, if it has one."""

    @property
    @override
    def scores_are(self) -> Literal["relevance", "rank"]:
        return "rank"

    @model_validator(mode="after")
    def _check(self) -> Self:
        sliding_windows(0, self.window_size, self.step)
        if self.chunk_score != "max":
            msg = "Places in an order cannot be averaged: a document has that of its best chunk, chunk_score='max'."
            raise ValueError(msg)
        style = load_listwise(self.style)
        if self.strategy == "setwise" and not style.best:
            msg = f"The prompt style {self.style!r} cannot ask for the best passage only, as strategy='setwise' does."
            raise ValueError(msg)
        if style.structured and not hasattr(self.model, "with_structured_output"):
            msg = f"{type(self.model).__name__} has no structured output: use style='rankgpt'."
            raise ValueError(msg)
        return self

    @override
    def _prepared(self) -> Runnable[Any, Any]:
        model: Any = self.model
        if not load_listwise(self.style).structured:
            return self.model
        prepared: Runnable[Any, Any] = model.with_structured_output(_SCHEMA, include_raw=True)
        return prepared

    @override
    def _verdict(self, asked: Asked) -> Verdict:
        style, count = load_listwise(self.style), len(asked.texts)
        orders = self._starts(asked, count)
        rounds = lockstep([strategies[self.strategy](order, self.window_size, self.step) for order in orders])
        answers: list[Window | None] | None = None
        while True:
            try:
                windows = next(rounds) if answers is None else rounds.send(answers)
            except StopIteration:
                break
            if asked.meter.stopped is not None:
                rounds.close()
                break
            answers = yield [self._conversation(asked, style, window) for window in windows]
        lists = [scores_from_order(order, count) for order in orders]
        if len(lists) == 1:
            return asked.answer(lists[0])
        agreements = [kendall_tau(first, second) for first, second in combinations(lists, 2)]
        fused = scores_from_order(best_first(fuse(lists, method="rrf")), count)
        return asked.answer(fused, order_agreement=round(sum(agreements) / len(agreements), 4))

    def _starts(self, asked: Asked, count: int) -> list[list[int]]:
        """The order that each pass begins with."""
        given = list(range(count))
        rng = draw(self.seed, "passes", asked.query, *asked.texts)
        return [given, given[::-1], *(rng.sample(given, count) for _ in range(self.passes - 2))][: self.passes]

    def _conversation(self, asked: Asked, style: ListwiseStyle, window: Window) -> Conversation:
        """Ask for the order of one window, again where the answer is none."""
        best = self.strategy == "setwise"
        texts = self._fitted(asked, style, window)
        rng = draw(self.seed, asked.query, *texts)
        names = identifiers(style.identifiers, len(texts), rng)
        messages = style.messages(asked.query, list(zip(names, texts, strict=True)), fence(rng), best=best)
        for left in range(self.max_retries, -1, -1):
            answer = said((yield messages))
            try:
                parsed = (parse_best if best else parse_order)(answer, names)
                break
            except OrderError as error:
                if not left:
                    raise
                asked.meter.retry()
                told = f"{error} Answer again, in the form that was asked for and with nothing else."
                messages = [*messages, *corrected(answer, told, _ECHO)]
        asked.meter.repair(parsed.repairs)
        return [window[place] for place in parsed.order]

    def _fitted(self, asked: Asked, style: ListwiseStyle, window: Window) -> list[str]:
        """The texts of a window, the longest of them cut until the prompt fits."""
        texts = [asked.texts[position] for position in window]
        limit = self.prompt_tokens or (getattr(self.model, "profile", None) or {}).get("max_input_tokens")
        if limit is None:
            return texts
        count = asked.counter.count
        frame = style.messages(asked.query, [("A2A2", "")] * len(texts), "passage-" + "0" * 12)
        room = limit - sum(count(str(message.text)) + 4 for message in frame)
        longest = _water_level([count(text) for text in texts], room)
        if longest is None:
            return texts
        if longest < _FEWEST_TOKENS:
            msg = f"{len(texts)} passages do not fit into {limit} tokens: make window_size smaller or prompt_tokens larger."
            raise ValueError(msg)
        if self.long_documents == "error":
            msg = (
                f"{len(texts)} passages are longer than the {limit} tokens of a prompt. Make window_size or passage_tokens "
                "smaller, or set long_documents='truncate'."
            )
            raise ValueError(msg)
        return [asked.cut(position, longest) for position in window]


def _water_level(lengths: Sequence[int], room: int) -> int | None:
    """The most that each may have so that all fit; None where all fit as they are."""
    if sum(lengths) <= room:
        return None
    left = max(room, 0)
    for taken, length in enumerate(sorted(lengths)):
        share = left // (len(lengths) - taken)
        if length > share:
            return share
        left -= length
    return None  # pragma: no cover - the sum is larger than the room
