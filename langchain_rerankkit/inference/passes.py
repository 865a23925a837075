"""Rows through a model: in passes of a token budget, one pass at a time, small requests of several threads together."""

from __future__ import annotations

import logging
import re
import threading
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from langchain_rerankkit._optional import require
from langchain_rerankkit.inference.batching import token_batches

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from langchain_rerankkit.inference.tokens import Row

__all__ = ["Passes", "out_of_memory"]

_logger = logging.getLogger("langchain_rerankkit")
_OUT_OF_MEMORY = re.compile(
    r"out of memory|bad.?alloc|fail\w* to allocate|can(no|')t allocate|not enough memory", re.IGNORECASE
)


class Passes:
    """Runs rows through a model.

    One pass runs at a time and has all threads of the model, so memory is bounded by the token budget however many
    threads ask. A request that fits into one pass waits for the running pass only, and goes with all others that
    waited in the meantime: nobody waits for company, and a lone caller never waits.

    Args:
        run: From rows, the longest first, to an array of shape [rows, …].
    """

    def __init__(self, run: Callable[[list[Row]], Any]) -> None:
        self._run = run
        self._np = require("numpy", extra="onnx")
        self._lock = threading.RLock()
        self._waiting: deque[_Waiting] = deque()
        self._fits: int | None = None  # tokens of a pass, once the memory was found to be too small for more

    def outputs(self, rows: Sequence[Row], budget: int) -> Any:
        """The model's outputs, shape [rows, …], in the order of the rows.

        Args:
            rows: What the model reads; at least one.
            budget: Tokens of one pass, padding included. Where memory does not suffice it is halved, for good.

        Raises:
            Exception: What the model raised; that memory is out only where a single row does not fit.
        """
        if max(len(row.ids) for row in rows) * len(rows) > budget:
            return self._batched(rows, budget)  # between two of its passes others have their turn
        mine = _Waiting(rows)
        self._waiting.append(mine)
        with self._lock:
            if not mine.answer.done():
                self._serve(budget)
        return mine.answer.result()

    def alone(self) -> AbstractContextManager[Any]:
        """While it is open, no pass runs but those of this thread: for models that may not be touched meanwhile."""
        return self._lock

    def _serve(self, budget: int) -> None:
        """Answer all who wait; called under the lock."""
        waiting = [self._waiting.popleft() for _ in range(len(self._waiting))]
        try:
            outputs = self._batched([row for one in waiting for row in one.rows], budget)
            stop = 0
            for one in waiting:
                start, stop = stop, stop + len(one.rows)
                one.answer.set_result(outputs[start:stop])
        except Exception:  # noqa: BLE001 - whose rows it was is found out by asking one by one
            for one in waiting:
                try:
                    one.answer.set_result(self._batched(one.rows, budget))
                except Exception as error:  # noqa: BLE001 - raised in the thread that asked
                    one.answer.set_exception(error)
        finally:
            for one in waiting:
                one.answer.cancel()  # on an interrupt; does nothing to an answer that is there

    def _batched(self, rows: Sequence[Row], budget: int) -> Any:
        outputs: Any = None
        for batch in token_batches([len(row.ids) for row in rows], budget):
            with self._lock:
                result = self._pass([rows[position] for position in batch])
            if outputs is None:
                outputs = self._np.empty((len(rows), *result.shape[1:]), dtype=result.dtype)
            outputs[batch] = result
        return outputs

    def _pass(self, rows: list[Row]) -> Any:
        tokens = len(rows) * len(rows[0].ids)
        if self._fits is not None and tokens > self._fits and len(rows) > 1:
            return self._halves(rows)
        try:
            return self._run(rows)
        except Exception as error:
            if len(rows) == 1 or not out_of_memory(error):
                raise
            self._fits = tokens // 2
            _logger.warning("Memory does not suffice for %d tokens in one pass; going on with %d.", tokens, self._fits)
        return self._halves(rows)  # outside the handler, whose traceback holds the failed pass's memory

    def _halves(self, rows: list[Row]) -> Any:
        middle = len(rows) // 2
        return self._np.concatenate([self._pass(rows[:middle]), self._pass(rows[middle:])])


class _Waiting:
    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        self.answer: Future[Any] = Future()


def out_of_memory(error: BaseException) -> bool:
    """Whether a runtime (ONNX Runtime, OpenVINO, torch, Python) ran out of memory. They share no class of error."""
    return isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(f"{type(error).__name__}: {error}") is not None
