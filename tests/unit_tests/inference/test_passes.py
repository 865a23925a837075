import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_rerankkit.inference.passes import Passes, out_of_memory
from langchain_rerankkit.inference.tokens import Row


def row(length, value=1):
    return Row(np.full(length, value, np.uint32))


def sums(rows):
    return np.array([[float(one.ids.sum())] for one in rows], np.float32)


class Recording:
    """Sums each row; keeps the tokens of its passes, and fails above a memory limit."""

    def __init__(self, memory=10**9, seconds=0.0):
        self.memory, self.seconds, self.passes = memory, seconds, []

    def __call__(self, rows):
        tokens = len(rows) * max(len(one.ids) for one in rows)
        time.sleep(self.seconds)
        if tokens > self.memory:
            message = "[ONNXRuntimeError] : 6 : Failed to allocate memory for requested buffer of size 9"
            raise RuntimeError(message)
        self.passes.append(tokens)
        return sums(rows)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(1, 200))
def test_outputs_are_aligned_and_passes_within_the_budget(lengths, budget):
    run = Recording()
    outputs = Passes(run).outputs([row(length) for length in lengths], budget)
    assert outputs[:, 0].tolist() == lengths
    assert max(run.passes) <= max(budget, *lengths)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(40, 200), st.integers(40, 400))
def test_where_memory_runs_out_the_passes_get_smaller_and_nothing_is_lost(lengths, memory, budget):
    run = Recording(memory)
    passes = Passes(run)
    for _ in range(2):
        assert passes.outputs([row(length) for length in lengths], budget)[:, 0].tolist() == lengths
    assert max(run.passes) <= memory


def test_a_smaller_pass_is_remembered():
    run = Recording(memory=100)
    passes = Passes(run)
    passes.outputs([row(20)] * 16, 320)
    tried = []
    passes._run = lambda rows: tried.append(len(rows) * 20) or run(rows)
    passes.outputs([row(20)] * 16, 320)
    assert max(tried) <= 100


def test_a_row_that_does_not_fit_raises():
    with pytest.raises(RuntimeError, match="Failed to allocate"):
        Passes(Recording(memory=10)).outputs([row(20), row(5)], 100)


def test_requests_that_waited_together_go_together():
    run = Recording(seconds=0.2)
    passes = Passes(run)
    answers = {}

    def ask(number):
        answers[number] = passes.outputs([row(3, number), row(2, number)], 512)[:, 0].tolist()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(1, 33)]
    threads[0].start()
    time.sleep(0.05)  # the first one has begun, alone: it waited for nobody
    for thread in threads[1:]:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {number: [3.0 * number, 2.0 * number] for number in range(1, 33)}
    assert run.passes[0] == 6
    assert len(run.passes) <= 4, run.passes


def test_a_request_that_fails_fails_alone():
    started, go_on = threading.Event(), threading.Event()

    def run(rows):
        started.set()
        go_on.wait(5)
        if any(one.ids[0] == 13 for one in rows):
            raise ZeroDivisionError
        return sums(rows)

    passes, answers = Passes(run), {}

    def ask(number):
        try:
            answers[number] = passes.outputs([row(1, number)], 512)[:, 0].tolist()
        except ZeroDivisionError:
            answers[number] = "failed"

    threads = [threading.Thread(target=ask, args=(number,)) for number in (1, 13, 14, 15)]
    threads[0].start()
    started.wait(5)
    for thread in threads[1:]:
        thread.start()
    time.sleep(0.1)
    go_on.set()
    for thread in threads:
        thread.join()
    assert answers == {1: [1.0], 13: "failed", 14: [14.0], 15: [15.0]}


def test_a_small_request_need_not_wait_for_all_of_a_large_one():
    run = Recording(seconds=0.02)
    passes, done = Passes(run), []
    large = threading.Thread(target=lambda: done.append(("large", passes.outputs([row(10)] * 100, 10))))
    large.start()
    time.sleep(0.05)
    done.append(("small", passes.outputs([row(1)], 512)))
    large.join()
    assert [name for name, _ in done] == ["small", "large"]


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("std::bad_alloc"), RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")],
)
def test_errors_of_memory_are_known(error):
    assert out_of_memory(error)
    assert not out_of_memory(ValueError("wrong shape"))
