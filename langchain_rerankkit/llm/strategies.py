"""Which passages a model compares, and when: strategies for lists longer than one prompt.

A strategy is a generator. It yields rounds, lists of windows that may be asked at the same time; a window is a list of
candidates. It is sent each window's order, or None for one that nobody answered, and keeps the order reached so far in
the list it was given, so that it can be stopped after any round. No models, no threads, no documents here.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Literal

__all__ = [
    "Orders",
    "Rounds",
    "Strategy",
    "Window",
    "lockstep",
    "setwise",
    "single",
    "sliding",
    "sliding_windows",
    "strategies",
    "tournament",
]

Strategy = Literal["sliding", "tournament", "setwise", "single"]

Window = list[int]
"""Candidates to compare, in the order they are shown."""

Orders = Sequence["Window | None"]
"""For each window of a round its candidates, best first (the setwise strategy reads the first only); None where it was
not answered."""

Rounds = Generator[list[Window], Orders, None]


def sliding_windows(count: int, size: int, step: int) -> list[tuple[int, int]]:
    """Windows over a list, from its back to its front, so that every candidate is in one.

    Args:
        count: Number of candidates.
        size: Candidates of a window.
        step: Places that the window moves; ``size - step`` candidates are carried on from one window to the next.

    Returns:
        First place and the one after the last, for each window: none for fewer than two candidates, one where a window
        holds them all, else ``1 + ceil((count - size) / step)``.

    Raises:
        ValueError: If a window would hold fewer than two candidates or carry none on.
    """
    _check(size, step)
    if count < 2:  # noqa: PLR2004 - nothing to compare
        return []
    windows = []
    stop = count
    while True:
        start = max(stop - size, 0)
        windows.append((start, stop))
        if start == 0:
            return windows
        stop -= step


def sliding(order: list[int], size: int, step: int) -> Rounds:
    """Move a window from the back to the front, so that the best rise through all of it.

    With a judge that never errs the first ``size - step`` places are right.
    Source: Sun et al., "Is ChatGPT Good at Search?", EMNLP 2023; its published code leaves out the front of many lists.
    """
    for start, stop in sliding_windows(len(order), size, step):
        (answer,) = yield [order[start:stop]]
        if answer is not None:
            order[start:stop] = answer


def tournament(order: list[int], size: int, step: int) -> Rounds:
    """Rank groups at the same time; the best ``size - step`` of each go on, until one group is left.

    With a judge that never errs the first ``size - step`` places are right, after a number of rounds that grows with
    the logarithm of the list. Who is out earlier ranks lower; within a round by the place in the group.
    """
    _check(size, step)
    keep = size - step
    pool = list(order)
    while len(pool) > size:
        groups, rest = divmod(len(pool), size)
        # Dealt like cards: candidates of one strength do not knock each other out. Those in front that fill no group
        # go on unasked where all of them would go on anyway.
        ahead, others = pool[:rest], pool[rest:]
        windows = [others[group::groups] for group in range(groups)]
        if rest > keep:
            windows.append(ahead)
        answers = yield windows
        ranked = [window if answer is None else answer for window, answer in zip(windows, answers, strict=True)]
        if rest <= keep:
            ranked.append(ahead)
        places = [[group[place] for group in ranked if place < len(group)] for place in range(size)]
        order[: len(pool)] = [candidate for place in places for candidate in place]
        pool = [candidate for place in places[:keep] for candidate in place]
    if len(pool) > 1:
        (answer,) = yield [pool]
        order[: len(pool)] = pool if answer is None else answer


def setwise(order: list[int], size: int, step: int) -> Rounds:
    """Sort a heap whose nodes have ``size - 1`` children; the model only ever names the best of a set.

    Stops when the first ``size - step`` places are found: right, with a judge that never errs.
    Source: Zhuang et al., "A Setwise Approach for Effective and Highly Efficient Zero-shot Ranking with Large Language
    Models", SIGIR 2024.
    """
    _check(size, step)
    children = size - 1
    found: list[int] = []
    heap = list(order)
    # Nodes of one level have no child in common, so they sink at the same time.
    levels = [[0]]
    while (first := levels[-1][0] * children + 1) < len(heap):
        levels.append(list(range(first, min(levels[-1][-1] * children + size, len(heap)))))
    try:
        for level in reversed(levels):
            yield from _sink(heap, level, children)
        while heap and len(found) < size - step:
            found.append(heap[0])
            last = heap.pop()
            if heap:
                heap[0] = last
                if len(found) < size - step:
                    yield from _sink(heap, [0], children)
    finally:  # also when it is stopped
        order[:] = found + heap


def single(order: list[int], size: int, step: int) -> Rounds:  # noqa: ARG001 - the signature of a strategy
    """Show everything at once, to models with a long context."""
    if len(order) > 1:
        (answer,) = yield [list(order)]
        if answer is not None:
            order[:] = answer


strategies: dict[Strategy, Callable[[list[int], int, int], Rounds]] = {
    "sliding": sliding,
    "tournament": tournament,
    "setwise": setwise,
    "single": single,
}


def lockstep(runs: Sequence[Rounds]) -> Rounds:
    """Several strategies as one: what each wants to know next is asked in the same round."""
    waiting: list[tuple[Rounds, list[Window]]] = []
    for run in runs:
        _advance(run, None, waiting)
    try:
        while waiting:
            answers = yield [window for _, windows in waiting for window in windows]
            asked, waiting, start = waiting, [], 0
            for run, windows in asked:
                _advance(run, answers[start : start + len(windows)], waiting)
                start += len(windows)
    finally:
        for run, _ in waiting:
            run.close()


def _advance(run: Rounds, answers: Orders | None, waiting: list[tuple[Rounds, list[Window]]]) -> None:
    try:
        waiting.append((run, next(run) if answers is None else run.send(answers)))
    except StopIteration:
        return


def _sink(heap: list[int], nodes: Sequence[int], children: int) -> Rounds:
    """Let each node sink until no child is better; the nodes' subtrees are apart."""
    active = list(nodes)
    while True:
        families = [(node, range(node * children + 1, min((node + 1) * children + 1, len(heap)))) for node in active]
        families = [(node, below) for node, below in families if below]
        if not families:
            return
        answers = yield [[heap[node], *(heap[child] for child in below)] for node, below in families]
        active = []
        for (node, below), answer in zip(families, answers, strict=True):
            if answer is None or answer[0] == heap[node]:
                continue
            best = next(child for child in below if heap[child] == answer[0])
            heap[node], heap[best] = heap[best], heap[node]
            active.append(best)


def _check(size: int, step: int) -> None:
    if size < 2 or not 1 <= step < size:  # noqa: PLR2004
        msg = f"A window must hold at least 2 passages and move by 1 to {max(1, size - 1)} of them, not {size} and {step}."
        raise ValueError(msg)
