import math
import random
import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import langchain_rerankkit
from langchain_rerankkit import ListwiseReranker, evaluate
from langchain_rerankkit.llm.strategies import lockstep, sliding_windows, strategies
from langchain_rerankkit.llm.tokens import TokenCounter
from langchain_rerankkit.llm.usage import Meter
from tests.benchmarks import strategies as benchmark
from tests.judge import Judge


def check_plan(count, size, step):
    """The plan of the specification: every place is in a window, and each window carries some on to the next."""
    windows = sliding_windows(count, size, step)
    if count < 2:
        assert windows == []
        return
    assert windows[0][1] == count
    assert windows[-1][0] == 0
    assert len(windows) == 1 + max(0, math.ceil((count - size) / step))
    for (start, stop), (next_start, next_stop) in pairwise(windows):
        assert stop - start == size
        assert next_stop == stop - step
        assert next_start < start < next_stop


def test_every_place_is_in_a_window_for_all_lists_up_to_200_and_all_windows_and_steps():
    for size in range(2, 201):
        for step in range(1, size):
            for count in range(201):
                check_plan(count, size, step)


@pytest.mark.parametrize(
    ("count", "calls"), [(0, 0), (1, 0), (2, 1), (10, 1), (20, 1), (21, 2), (30, 2), (40, 3), (100, 9)]
)
def test_calls_of_the_default_windows(count, calls):
    assert len(sliding_windows(count, 20, 10)) == calls


@pytest.mark.parametrize(("size", "step"), [(1, 1), (20, 0), (20, 20), (5, 6)])
@pytest.mark.parametrize("strategy", ["sliding", "tournament", "setwise"])
def test_windows_that_carry_nothing_on_are_refused(strategy, size, step):
    with pytest.raises(ValueError, match="window"):
        next(strategies[strategy](list(range(30)), size, step))


def drive(run, true_rank, answer=True):
    """Calls, rounds and the largest window of a strategy whose judge never errs, or never answers."""
    calls = rounds = largest = 0
    try:
        windows = next(run)
        while True:
            assert windows
            assert all(len(set(window)) == len(window) > 1 for window in windows)
            calls, rounds = calls + len(windows), rounds + 1
            largest = max(largest, *map(len, windows))
            windows = run.send([sorted(w, key=true_rank.__getitem__) if answer else None for w in windows])
    except StopIteration:
        return calls, rounds, largest


lists = st.integers(2, 30).flatmap(
    lambda size: st.tuples(
        st.just(size), st.integers(1, size - 1), st.integers(0, 150), st.randoms(use_true_random=False)
    )
)


@pytest.mark.parametrize("strategy", strategies)
@given(given=lists)
def test_with_a_judge_that_never_errs_the_head_is_right(strategy, given):
    size, step, count, rng = given
    true_rank = rng.sample(range(count), count)
    order = list(range(count))
    _, _, largest = drive(strategies[strategy](order, size, step), true_rank)
    assert sorted(order) == list(range(count))
    best = sorted(range(count), key=true_rank.__getitem__)
    head = count if strategy == "single" else size - step
    assert order[:head] == best[:head]
    assert strategy == "single" or largest <= size


@pytest.mark.parametrize("strategy", strategies)
@given(given=lists)
def test_without_an_answer_the_order_stays(strategy, given):
    size, step, count, _ = given
    order = list(range(count))
    drive(strategies[strategy](order, size, step), order, answer=False)
    assert sorted(order) == list(range(count))
    if strategy in {"sliding", "single"}:
        assert order == list(range(count))


def test_rounds_of_a_tournament_grow_with_the_logarithm():
    rounds = [
        drive(strategies["tournament"](list(range(n)), 20, 10), list(range(n)))[1] for n in (20, 100, 1000, 10_000)
    ]
    assert rounds == [1 + math.ceil(math.log2(n / 20)) for n in (20, 100, 1000, 10_000)]
    assert drive(strategies["sliding"](list(range(1000)), 20, 10), list(range(1000)))[1] == 99


def test_strategies_in_lockstep_end_as_they_would_alone():
    rng = random.Random(3)
    true_rank = rng.sample(range(90), 90)
    alone, together = [], []
    for name in ("sliding", "tournament", "setwise", "single"):
        alone.append(list(range(90)))
        drive(strategies[name](alone[-1], 20, 10), true_rank)
        together.append(list(range(90)))
    names = ("sliding", "tournament", "setwise", "single")
    runs = [strategies[name](order, 20, 10) for name, order in zip(names, together, strict=True)]
    drive(lockstep(runs), true_rank)
    assert together == alone


def test_stopped_in_the_middle_it_is_still_a_permutation():
    for name in ("sliding", "tournament", "setwise"):
        for rounds in range(1, 12):
            order = list(range(100))
            run = lockstep([strategies[name](order, 20, 10)])
            windows = next(run)
            for _ in range(rounds):
                try:
                    windows = run.send([window[::-1] for window in windows])
                except StopIteration:
                    break
            run.close()
            assert sorted(order) == list(range(100))


def test_a_budget_counts_calls_and_tokens():
    meter = Meter(TokenCounter(None), max_calls=2)
    assert [meter.admit() for _ in range(4)] == [True, True, False, False]
    assert (meter.stopped, meter.usage()["calls"]) == ("max_calls", 2)


# --- on graded passages ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def noveleval(data_folder):
    return data_folder / "noveleval"


def as_theory_predicts(pool, grade, size, step):
    """One pass of stable sorts from the back to the front, and how many."""
    ranked, stop, calls = list(pool), len(pool), 0
    while True:
        start = max(0, stop - size)
        ranked[start:stop] = sorted(ranked[start:stop], key=lambda id_: -grade.get(id_, 0))
        calls += 1
        if start == 0:
            return ranked, calls
        stop -= step


@pytest.mark.parametrize(("size", "step"), [(20, 10), (20, 5), (10, 5), (30, 7)])
def test_sliding_windows_reach_the_order_that_theory_predicts(noveleval, size, step):
    dataset, pools, grades = benchmark.load(noveleval)
    reranker = ListwiseReranker(model=Judge(by_query=grades), window_size=size, step=step, passage_tokens=None)
    report = evaluate({"pool": pools, "sliding": reranker}, dataset, ["ndcg@10"])
    expected_calls = 0
    for question in dataset.questions:
        expected, calls = as_theory_predicts(pools[question.id], question.documents, size, step)
        assert report["sliding"].rankings[question.id] == expected
        expected_calls += calls
    assert report["sliding"].usage["calls"] == expected_calls
    if size - step >= 10:
        assert report["sliding"].scores["ndcg@10"] == 1.0


@pytest.mark.slow
def test_the_table_of_strategies_is_up_to_date(noveleval):
    text = (Path(langchain_rerankkit.__file__).parents[1] / "docs" / "language_models.md").read_text()
    (shown,) = re.findall(
        r"<!-- python -m tests\.benchmarks\.strategies .*? -->\n\n(.*?)\n\n<!-- end -->", text, re.DOTALL
    )
    assert benchmark.table(noveleval) == shown


def test_a_judge_that_errs_makes_the_report_tell_strategies_apart(noveleval):
    dataset, pools, grades = benchmark.load(noveleval)
    judge = Judge(by_query=grades, error_rate=0.2)
    systems = {
        name: benchmark.reranker(judge, strategy=name) for name in ("sliding", "tournament", "setwise", "single")
    }
    report = evaluate({"candidates": pools, **systems}, dataset, ["ndcg@10"])
    calls = {name: report[name].usage["calls"] / len(dataset.questions) for name in systems}
    assert (calls["sliding"], calls["tournament"], calls["single"]) == (9, 9, 1)
    assert 15 < calls["setwise"] < 30
    scores = {name: report[name].scores["ndcg@10"] for name in systems}
    assert all(0.5 < score < 1 for score in scores.values())
    head = str(report).splitlines()[2]
    assert all(column in head for column in ("ndcg@10", "calls", "input tokens", "output tokens", "repairs"))
