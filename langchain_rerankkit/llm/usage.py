"""What asking a model costs: calls, tokens, repairs, seconds; and a budget that ends it."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import BaseMessage

from langchain_rerankkit.llm.tokens import TokenCounter

__all__ = ["Meter"]


class Meter:
    """Counts what one query costs. Threads may share it.

    Args:
        counter: Counts tokens where the provider does not say.
        max_calls: Calls after which no other one is admitted.
        max_tokens: Tokens, of prompts and answers, after which no other call is admitted; those under way are finished.
        price: Money for a million tokens of prompts, and of answers.
    """

    def __init__(
        self,
        counter: TokenCounter,
        *,
        max_calls: int | None = None,
        max_tokens: int | None = None,
        price: tuple[float, float] | None = None,
    ) -> None:
        self._counter = counter
        self._max_calls, self._max_tokens, self._price = max_calls, max_tokens, price
        self._lock = threading.Lock()
        self._start = time.perf_counter()
        self._calls = self._input = self._output = self._retries = self._repairs = 0
        self._estimated = False
        self.stopped: str | None = None
        """Name of the budget that ended, if one did."""

    def admit(self) -> bool:
        """Whether the budget allows another call, which is counted then."""
        with self._lock:
            if self._max_calls is not None and self._calls >= self._max_calls:
                self.stopped = "max_calls"
            elif self._max_tokens is not None and self._input + self._output >= self._max_tokens:
                self.stopped = "max_tokens"
            else:
                self._calls += 1
                return True
            return False

    def add(self, messages: Sequence[BaseMessage], answer: Any) -> None:
        """Count the tokens of one call: as the provider says, else by the counter.

        Args:
            messages: What was asked.
            answer: What came back: a message, or a text.
        """
        said: Mapping[str, int] | None = getattr(answer, "usage_metadata", None)
        if said:
            asked, answered = said.get("input_tokens", 0), said.get("output_tokens", 0)
        else:
            asked = sum(self._counter.count(str(message.text)) for message in messages)
            answered = self._counter.count(str(getattr(answer, "text", answer)))
        with self._lock:
            self._input += asked
            self._output += answered
            self._estimated = self._estimated or not said

    def retry(self) -> None:
        """Count an answer that could not be used and is asked for again."""
        with self._lock:
            self._retries += 1

    def repair(self, count: int) -> None:
        """Count what had to be mended in an answer."""
        with self._lock:
            self._repairs += count

    def usage(self) -> dict[str, Any]:
        """What it cost so far.

        ``calls``, ``input_tokens``, ``output_tokens``, ``retries``, ``repairs`` and ``seconds``; ``cost`` where there is a
        price, ``estimated`` where the provider did not count the tokens.
        """
        with self._lock:
            usage: dict[str, Any] = {
                "calls": self._calls,
                "input_tokens": self._input,
                "output_tokens": self._output,
                "retries": self._retries,
                "repairs": self._repairs,
                "seconds": round(time.perf_counter() - self._start, 3),
            }
            if self._price is not None:
                usage["cost"] = (self._input * self._price[0] + self._output * self._price[1]) / 1e6
            if self._estimated:
                usage["estimated"] = True
            return usage
