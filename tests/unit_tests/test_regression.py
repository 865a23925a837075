import math
import random
import re
import warnings
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_rerankkit import Dataset, DatasetError, Question, evaluate
from langchain_rerankkit.evaluation.regression import assert_no_regression
from langchain_rerankkit.evaluation.report import EvaluationReport, SystemResult

SCORES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=8)


def a_report(scores, metric="ndcg@10", **fields):
    """A report of one system for each name, from its scores question by question."""
    count = len(next(iter(scores.values())))
    ids = [f"q{n}" for n in range(count)]
    systems = [
        SystemResult(
            name=name,
            scores={metric: sum(values) / count},
            per_question={metric: dict(zip(ids, values, strict=True))},
            rankings={id_: [] for id_ in ids},
        )
        for name, values in scores.items()
    ]
    texts = {id_: f"Which  river\nis {id_}?" for id_ in ids}
    return replace(EvaluationReport("rivers", count, systems, question_texts=texts), **fields)


def failure(*arguments, **options):
    with pytest.raises(AssertionError) as caught:
        assert_no_regression(*arguments, **options)
    return str(caught.value)


@given(SCORES, st.data(), st.sampled_from([0.0, 0.05, 0.2]))
def test_it_fails_exactly_where_the_mean_falls_by_more_than_the_tolerance(before, data, tolerance):
    after = data.draw(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=len(before), max_size=len(before)))
    fall = (sum(before) - sum(after)) / len(before)
    old, new = a_report({"words": before}), a_report({"words": after})
    if fall > tolerance + 1e-9:
        assert f"words: ndcg@10 fell by {fall:.4f}" in failure(new, old, tolerance=tolerance)
    else:
        assert_no_regression(new, old, tolerance=tolerance)


def test_the_same_evaluation_again_passes(tmp_path):
    dataset = Dataset((Question("q1", "?", documents={"a": 1}), Question("q2", "?", documents={"b": 2})), name="two")
    systems = {"one": {"q1": ["b", "a"], "q2": ["b"]}, "two": {"q1": ["a"], "q2": ["a", "b"]}}
    path = evaluate(systems, dataset).save(tmp_path / "baseline.json")
    for metric in ("ndcg@10", "hit@1", "recall@5"):
        assert_no_regression(evaluate(systems, dataset), path, metric)
    worse = evaluate({**systems, "two": {"q1": ["c"], "q2": ["a", "b"]}}, dataset)
    said = failure(worse, path, "hit@1")
    assert said.startswith("two: hit@1 fell by 0.5000, from 0.5000 to 0.0000 over 2 questions.")
    assert f"accept the new figures as the baseline: report.save({str(path)!r})" in said
    worse.save(path)
    assert_no_regression(worse, path, "hit@1")


def test_a_fall_beyond_chance_is_told_from_one_that_may_be_chance():
    count = 40
    steady = failure(a_report({"words": [0.5] * count}), a_report({"words": [1.0] * count}))
    assert "beyond chance (p = 0.0001; 95 % interval -0.5000 to -0.5000)" in steady
    assert f"Questions that lost: {count}, that gained: 0, the same: 0" in steady
    random_ = random.Random(0)
    before = [random_.random() for _ in range(count)]
    after = [random_.random() - 0.02 for _ in range(count)]
    before, after = sorted((before, after), key=sum, reverse=True)
    noisy = failure(a_report({"words": after}), a_report({"words": before}))
    assert "may be chance" in noisy
    assert f"{count} questions would show a difference of" in noisy
    lone = failure(a_report({"words": [0.0]}), a_report({"words": [1.0]}))
    assert "may be chance" in lone
    assert "nan" not in lone
    assert "over 1 question." in lone


def test_a_fall_within_what_repeated_runs_differ_by_is_called_so():
    old, new = a_report({"words": [1.0] * 40}), a_report({"words": [0.5] * 40})
    repeated = replace(new.systems[0], repeats=[{"ndcg@10": 0.2}, {"ndcg@10": 0.8}])
    assert "Repeated runs of one system differ by 0.6000" in failure(replace(new, systems=[repeated]), old)


def test_the_questions_that_lost_most_are_named_worst_first_and_short():
    old = a_report({"words": [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0]})
    new = a_report({"words": [0.9, 0.2, 0.8, 0.7, 0.6, 0.5, 1.0]})
    new = replace(
        new,
        question_texts={**new.question_texts, "q1": "long " * 40},
        systems=[replace(new.systems[0], failures={"q5": "OSError: the endpoint is down"})],
    )
    old = replace(old, question_texts=new.question_texts)
    lines = failure(new, old).splitlines()
    shown = [line for line in lines if "→" in line]
    assert [re.match(r" +(q\d):", line)[1] for line in shown] == ["q1", "q5", "q4", "q3", "q2"]
    assert shown[0].endswith("… 1.000 → 0.200")
    assert len(shown[0]) < 100
    assert shown[1].endswith("Which river is q5? 1.000 → 0.500 (failed: OSError: the endpoint is down)")
    assert "Questions that lost: 6, that gained: 1, the same: 0" in "\n".join(lines)


def test_every_system_that_fell_is_named_and_one_can_be_picked():
    old = a_report({"one": [1.0], "two": [1.0], "three": [1.0]})
    new = a_report({"one": [0.5], "two": [1.0], "three": [0.0]})
    said = failure(new, old)
    assert ("one: " in said, "two: " in said, "three: " in said) == (True, False, True)
    assert_no_regression(new, old, system="two")
    assert "three: " not in failure(new, old, system="one")
    with pytest.raises(ValueError, match=r"no system 'four'; it has \['one', 'two', 'three'\]"):
        assert_no_regression(new, old, system="four")


def test_a_system_that_is_gone_fails_and_a_new_one_is_said():
    one, two = a_report({"one": [1.0]}), a_report({"one": [1.0], "two": [1.0]})
    assert "two: is in the baseline and not in the report, which has ['one']" in failure(one, two)
    with pytest.warns(UserWarning, match=r"systems that are not in the baseline: two\. .*accept a new baseline"):
        assert_no_regression(two, one)
    assert_no_regression(one, two, system="one")


def test_other_questions_texts_and_gold_are_said_and_only_common_questions_compared():
    old = a_report({"words": [1.0, 0.5, 0.5]})
    more = a_report({"words": [1.0, 0.5, 0.5, 0.0]})
    with pytest.warns(UserWarning, match="questions that count only in the report: q3"):
        assert_no_regression(more, old)
    with pytest.warns(UserWarning, match="questions that count only in the baseline: q3"):
        assert_no_regression(old, more)
    new = a_report({"words": [0.0, 0.5, 0.5]})
    with pytest.warns(UserWarning, match="questions that read differently now and are left out: q0"):
        assert_no_regression(replace(new, question_texts={**new.question_texts, "q0": "Another?"}), old)
    with pytest.warns(UserWarning, match="questions whose gold has changed: q2"):
        assert_no_regression(replace(old, gold={"q2": {"nile": 1}}), old)
    said = failure(replace(more, systems=new.systems), old)
    assert "Note: " not in said
    assert "Note: questions that count only in the report: q3." in failure(a_report({"words": [0.0] * 4}), old)


def test_what_cannot_be_compared_is_refused():
    report = a_report({"words": [1.0]})
    with pytest.raises(ValueError, match=r"The baseline has no metric 'mrr@10'; it has \['ndcg@10'\]"):
        assert_no_regression(a_report({"words": [1.0]}, "mrr@10"), report, "mrr@10")
    with pytest.raises(ValueError, match="The report has no metric 'mrr'"):
        assert_no_regression(report, report, "mrr")
    with pytest.raises(ValueError, match="relevance is 1 and the baseline's 2"):
        assert_no_regression(report, replace(report, relevance=2))
    with pytest.raises(ValueError, match=r"'rivers'.*'lakes'.*no question in common"):
        assert_no_regression(report, replace(report, dataset="lakes", question_texts={"q0": "Which lake?"}))
    for tolerance in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match="0 or more"):
            assert_no_regression(report, report, tolerance=tolerance)


def test_a_missing_baseline_says_how_to_write_it(tmp_path):
    path = tmp_path / "baseline.json"
    with pytest.raises(DatasetError, match=r"no baseline yet.*report\.save\(") as caught:
        assert_no_regression(a_report({"words": [1.0]}), path)
    assert str(path) in str(caught.value)
    path.write_text("{}")
    with pytest.raises(DatasetError, match="no report"):
        assert_no_regression(a_report({"words": [1.0]}), path)


def test_nothing_is_said_where_nothing_differs():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_no_regression(a_report({"words": [1.0]}), a_report({"words": [1.0]}))


def test_questions_that_no_longer_count_are_a_failure():
    old = a_report({"words": [0.5, 0.5, 1.0, 0.0]})
    new = replace(
        old,
        systems=[
            replace(
                s,
                per_question={
                    m: {q: v for q, v in values.items() if q != "q1"} for m, values in s.per_question.items()
                },
            )
            for s in old.systems
        ],
    )
    assert "1 question that counted are asked and count no longer" in failure(new, old)
