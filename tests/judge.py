"""A chat model that judges by grades it was given: what a language model would say, without one."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from langchain_rerankkit.llm.prompts import harmless

FENCED = re.compile(r"(?:\[(\w+)\]\n)?<(passage-[0-9a-f]{12})>\n(.*?)\n</\2>", re.DOTALL)
NUMBERED = re.compile(r"^\[(\d+)\] (.*?)(?=\n\[\d+\] |\n\nSearch Query|\Z)", re.DOTALL | re.MULTILINE)


class Judge(BaseChatModel):
    """Answers listwise and pointwise prompts of every style."""

    grades: dict[str, float] = {}
    """Grade of each text; one that is not there has as many as its words that are in the query, over its length."""

    by_query: dict[str, dict[str, float]] = {}
    """Grades of texts for each query; others are not relevant to it. In place of `grades`."""

    error_rate: float = 0.0
    """How often it takes the lower of two passages for the better one when they are one grade apart: it sees each grade
    with normal noise, drawn anew for every prompt (Thurstone's model of comparative judgement)."""

    model_name: str = "judge"

    @classmethod
    def is_lc_serializable(cls) -> bool:
        return True

    @property
    def _llm_type(self) -> str:
        return "judge"

    def _generate(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **_: Any) -> ChatResult:
        text = self.say(messages)
        prompt = sum(len(str(m.text)) for m in messages) // 4
        usage = {"input_tokens": prompt, "output_tokens": len(text) // 4, "total_tokens": prompt + len(text) // 4}
        return ChatResult(generations=[ChatGeneration(message=AIMessage(text, usage_metadata=usage))])

    def say(self, messages: Sequence[BaseMessage]) -> str:
        prompt = "\n".join(str(message.text) for message in messages if message.type == "human")
        query = re.findall(r"^(?:Search )?Query: (.*)$", prompt, flags=re.MULTILINE)[-1]
        passages = [(name, text) for name, _, text in FENCED.findall(prompt)] or NUMBERED.findall(prompt)
        seen = [self._grade(query, text) for _, text in passages]
        rng = random.Random(prompt)
        if self.error_rate:
            noise = 1 / (math.sqrt(2) * NormalDist().inv_cdf(1 - self.error_rate))
            seen = [rng.gauss(grade, noise) for grade in seen]
        if "one word, Yes or No" in prompt:
            return "Yes" if seen[0] >= 1 else "No"
        if "0, 1, 2 or 3" in prompt:
            return str(max(0, min(3, round(seen[0]))))
        order = sorted(range(len(seen)), key=lambda place: -seen[place])
        if "Which of the" in prompt:
            return f"[{passages[order[0]][0]}]"
        return " > ".join(f"[{passages[place][0]}]" for place in order)

    def _grade(self, query: str, text: str) -> float:
        if self.by_query:
            return _harmless_keys(self.by_query[query]).get(text, 0.0)
        known = _harmless_keys(self.grades)
        if text in known:
            return known[text]
        words = set(re.findall(r"\w+", query.lower()))
        return 3 * len(words & set(re.findall(r"\w+", text.lower()))) / len(words) - len(text) * 1e-4


_seen: dict[int, tuple[dict[str, float], dict[str, float]]] = {}


def _harmless_keys(grades: dict[str, float]) -> dict[str, float]:
    """Grades by what a prompt shows of a text; worked out once for each dict, which is held so that its id stays."""
    if id(grades) not in _seen:
        _seen[id(grades)] = grades, {harmless(text): grade for text, grade in grades.items()}
    return _seen[id(grades)][1]
