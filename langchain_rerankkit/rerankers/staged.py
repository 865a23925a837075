"""What the rerankers whose members are asked in turn have in common: time that ends, and what a stage costs."""

from __future__ import annotations

import asyncio
import contextvars
import math
import os
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Coroutine, Generator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from langchain_core.runnables import RunnableConfig
from typing_extensions import ParamSpec, override

from langchain_rerankkit._steps import advance
from langchain_rerankkit.base import Reranker, _threads
from langchain_rerankkit.records import Answer, Judged, RerankInput, ScoreRequest
from langchain_rerankkit.rerankers.combining import CombiningReranker

__all__ = ["Cost", "Outcomes", "Stage", "StagedReranker", "hurried"]

_P = ParamSpec("_P")
_Item = TypeVar("_Item")

_THREADS = 64  # of a stage; under a deadline more calls at the same time than these wait, and may be late for it
_PASSES, _QUANTILE = 20, 0.9  # passes that an estimate looks back on, and how many of them it would have held for
_FURTHER = 4  # times the most documents of any of them are given at once; beyond it, in further passes
_OLD = 10.0  # seconds after which a stage that was too slow is given another chance

Outcomes = list[Judged | Exception] | None
"""What came of a stage, for each of its inputs; None where it was late."""


@dataclass(frozen=True)
class Stage:
    """What to ask whom, and for how many seconds at most."""

    number: int
    reranker: Reranker
    inputs: list[RerankInput]
    configs: list[RunnableConfig | None]
    seconds: float | None


class StagedReranker(CombiningReranker):
    """Asks its members in turn, in one pass for all queries; one that is late is left behind."""

    @abstractmethod
    def _stages(self, requests: Sequence[ScoreRequest]) -> Generator[Stage, Outcomes, list[Answer | Exception]]:
        """Yields what to ask, is sent what came of it, returns the answers."""

    @override
    def _load(self) -> list[_Lane]:
        return [_Lane(number) for number in range(1, len(self.rerankers) + 1)]

    def _cost(self, number: int) -> Cost:
        lane: _Lane = self._ready()[number]
        return lane.cost

    @override
    def close(self) -> None:
        lanes: list[_Lane] | None = self._once.peek()
        super().close()
        for lane in lanes or ():
            lane.shutdown(wait=False)

    @override
    def _score_many(self, requests: Sequence[ScoreRequest]) -> Sequence[Answer | Exception]:
        stages = self._stages(requests)
        done, stage = advance(stages)
        while not done:
            judge = partial(stage.reranker._judge_many, stage.inputs, stage.configs)
            judged = judge() if stage.seconds is None else self._in_time(stage, judge)
            done, stage = advance(stages, judged)
        answers: Sequence[Answer | Exception] = stage
        return answers

    def _in_time(self, stage: Stage, judge: Callable[[], Any]) -> Outcomes:
        lane: _Lane = self._ready()[stage.number]
        future = lane.submit(contextvars.copy_context().run, judge)
        try:
            judged: Outcomes = future.result(stage.seconds)
        except FutureTimeoutError:
            future.cancel()  # where it has not begun
            return None
        return judged

    @override
    async def _ascore_many(self, requests: Sequence[ScoreRequest]) -> Sequence[Answer | Exception]:
        stages = self._stages(requests)
        done, stage = advance(stages)
        while not done:
            judging = stage.reranker._ajudge_many(stage.inputs, stage.configs)
            judged = await (judging if stage.seconds is None else self._ain_time(stage, judging))
            done, stage = advance(stages, judged)
        answers: Sequence[Answer | Exception] = stage
        return answers

    async def _ain_time(self, stage: Stage, judging: Coroutine[Any, Any, Outcomes]) -> Outcomes:
        before = _threads.set(self._ready()[stage.number])
        try:
            return await asyncio.wait_for(judging, stage.seconds)
        except asyncio.TimeoutError:
            return None
        finally:
            _threads.reset(before)


class _Lane(Executor):
    """What is kept of a stage from call to call: what it costs, and threads for members that are not asynchronous.

    One that is late is left behind on its thread, since no thread can be interrupted. Each stage has its own threads,
    so that those that are late keep neither the next stage nor anybody else from its turn. They are made when they are
    needed, also after a shutdown, which may come while others judge, and in a forked process.
    """

    def __init__(self, number: int) -> None:
        self._name = f"rerankkit-stage-{number}"
        self.cost = Cost()
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()  # a forked process may find it locked, with nobody there to open it
        self.threads: ThreadPoolExecutor | None = None
        self._pid = os.getpid()

    @override
    def submit(self, fn: Callable[_P, _Item], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_Item]:
        if self._pid != os.getpid():
            self._begin()
        with self._lock:
            if self.threads is None:
                self.threads = ThreadPoolExecutor(_THREADS, thread_name_prefix=self._name)
            return self.threads.submit(fn, *args, **kwargs)

    @override
    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        if self._pid != os.getpid():
            self._begin()
        with self._lock:
            threads, self.threads = self.threads, None
        if threads is not None:
            threads.shutdown(wait=wait, cancel_futures=cancel_futures)


class Cost:
    """How long a stage takes, from its last passes: so many seconds, and more for each document.

    The very first pass is not counted: it loads a model, or opens connections. There is no lock: where two passes end
    at once, either may be missing.
    """

    def __init__(self) -> None:
        self._begun = False
        self._passes: tuple[tuple[int, float, float], ...] = ()  # documents, seconds, when; replaced as a whole

    def add(self, documents: int, seconds: float) -> None:
        """Remember a pass over so many documents."""
        if self._begun:
            self._passes = (*self._passes, (documents, seconds, time.monotonic()))[-_PASSES:]
        self._begun = True

    def most(self) -> int:
        """How many documents to give it at once: not many more than are known to have come back."""
        return _FURTHER * max((documents for documents, _, _ in self._passes), default=0)

    def documents(self, seconds: float) -> float | None:
        """How many documents it judges in so many seconds, nine times out of ten; None where nothing is known yet."""
        passes = self._passes
        if not passes:
            return None
        mean = math.fsum(documents for documents, _, _ in passes) / len(passes)
        mean_seconds = math.fsum(taken for _, taken, _ in passes) / len(passes)
        spread = math.fsum((documents - mean) ** 2 for documents, _, _ in passes)
        # Least squares, with neither part below nothing. Passes of one size cannot tell the parts apart: all is taken to
        # be for the documents.
        each = mean_seconds / mean
        if spread:
            slope = math.fsum((documents - mean) * (taken - mean_seconds) for documents, taken, _ in passes) / spread
            each = min(each, max(0.0, slope))
        once = mean_seconds - each * mean
        slower = sorted(taken / (once + each * documents) for documents, taken, _ in passes if taken > 0)
        factor = max(1.0, slower[math.ceil(_QUANTILE * len(slower)) - 1]) if slower else 1.0
        left = seconds / factor - once
        if left < 0:
            return 0.0
        return left / each if each else math.inf

    def forget(self) -> None:
        """Forget old passes: called where they keep the stage from its turn, so that it gets another chance."""
        oldest = time.monotonic() - _OLD
        self._passes = tuple(one for one in self._passes if one[2] >= oldest)


def hurried(reranker: Reranker, seconds: float | None) -> Reranker:
    """The reranker, told how long it has, if it can be and its scores mean the same then."""
    # A budget is kept by leaving out the rest, and what there is must be here before it is too late.
    for name, share in (("deadline", 1.0), ("budget", 0.9)):
        if seconds is None or name not in reranker.call_options:
            continue
        own = getattr(getattr(reranker, "reranker", reranker), name, None)
        told = reranker._with({name: share * seconds if own is None else min(own, share * seconds)})
        if told.scores_are == reranker.scores_are:
            return told
    return reranker
