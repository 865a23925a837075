import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from langchain_rerankkit.evaluation.significance import bootstrap_interval, detectable, holm, randomisation_test


def differences(questions, comparisons=3, seed=0, mean=0.05):
    """Of a discrete metric, as metrics are: many questions do not differ."""
    random = np.random.default_rng(seed)
    values = random.choice([-0.5, -0.2, 0.0, 0.0, 0.0, 0.3, 0.5], size=(questions, comparisons))
    return values + mean * (values != 0)


@pytest.mark.parametrize("questions", [20, 50, 300])
def test_the_interval_is_scipys(questions):
    values = differences(questions, seed=questions)
    low, high = bootstrap_interval(values, resamples=5000)
    for column in range(values.shape[1]):
        theirs = stats.bootstrap(
            (values[:, column],), np.mean, method="BCa", n_resamples=5000, rng=1
        ).confidence_interval
        width = theirs.high - theirs.low
        assert low[column] == pytest.approx(theirs.low, abs=0.06 * width)
        assert high[column] == pytest.approx(theirs.high, abs=0.06 * width)


@pytest.mark.parametrize(("questions", "slack"), [(8, 1e-12), (12, 1e-12), (40, 0.02), (400, 0.02)])
def test_the_p_value_is_scipys_and_exact_for_few_questions(questions, slack):
    values = differences(questions, seed=questions)
    ours = randomisation_test(values)
    for column, p in enumerate(ours):
        theirs = stats.permutation_test(
            (values[:, column],), np.mean, permutation_type="samples", n_resamples=10_000, rng=1
        ).pvalue
        assert p == pytest.approx(theirs, abs=slack)


def test_blocks_of_memory_do_not_change_the_result(monkeypatch):
    values = differences(60)
    before = bootstrap_interval(values, resamples=500), randomisation_test(values, resamples=500)
    monkeypatch.setattr("langchain_rerankkit.evaluation.significance._CELLS", 60 * 7)
    after = bootstrap_interval(values, resamples=500), randomisation_test(values, resamples=500)
    assert np.allclose(before[0], after[0], atol=0.03)
    assert before[1] == pytest.approx(after[1], abs=0.05)


def test_no_difference_and_too_few_questions():
    nothing = np.zeros((5, 2))
    assert bootstrap_interval(nothing).tolist() == [[0, 0], [0, 0]]
    assert randomisation_test(nothing) == [1.0, 1.0]
    always = np.full((6, 1), 0.25)
    assert bootstrap_interval(always).tolist() == [[0.25], [0.25]]
    assert randomisation_test(always) == [2 / 2**6], "all six swapped, or none"
    assert np.isnan(bootstrap_interval(np.array([[0.5]]))).all()
    assert randomisation_test(np.array([[0.5]])) == [1.0], "one question proves nothing"
    assert np.isnan(detectable(np.array([[0.5]]))).all()
    assert bootstrap_interval(np.zeros((0, 1))).shape == (2, 1)
    assert randomisation_test(np.zeros((0, 1))) == [1.0]


def test_holm_is_the_textbooks():
    # Holm 1979 as in every textbook: .01, .04, .03, .005 -> .03, .06, .06, .02.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_never_helps_and_keeps_the_order(p_values):
    adjusted = holm(p_values)
    assert all(a >= p for a, p in zip(adjusted, p_values, strict=True))
    ranked = sorted(range(len(p_values)), key=lambda i: p_values[i])
    assert [adjusted[i] for i in ranked] == sorted(adjusted)


@pytest.mark.parametrize("questions", [20, 200])
def test_false_alarms_are_as_rare_as_promised(questions):
    alarms = sum(
        p < 0.05
        for seed in range(40)
        for p in randomisation_test(
            np.random.default_rng(seed).choice([-0.5, -0.2, 0, 0, 0.2, 0.5], size=(questions, 25)), resamples=999
        )
    )
    # 1,000 experiments; three standard errors above 5 %.
    assert alarms / 1000 < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1000)


@pytest.mark.parametrize(("questions", "least"), [(20, 0.90), (200, 0.93)])
def test_intervals_hold_the_truth_as_often_as_promised(questions, least):
    values, shares = [-0.5, -0.2, 0.0, 0.3, 0.6], [0.1, 0.15, 0.5, 0.15, 0.1]
    truth = float(np.dot(values, shares))
    held = 0
    for seed in range(40):
        drawn = np.random.default_rng(seed).choice(values, p=shares, size=(questions, 25))
        low, high = bootstrap_interval(drawn, resamples=999)
        held += int(((low <= truth) & (truth <= high)).sum())
    assert held / 1000 >= least


def test_the_detectable_difference_is_found_four_times_out_of_five():
    random = np.random.default_rng(3)
    spread, questions = 0.3, 60
    least = detectable(random.normal(0, spread, (questions, 400))).mean()
    found = [p < 0.05 for p in randomisation_test(random.normal(least, spread, (questions, 400)), resamples=999)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.08)
