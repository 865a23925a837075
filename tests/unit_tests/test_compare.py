from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document

from langchain_rerankkit import Dataset, FunctionReranker, Question, compare, evaluate
from langchain_rerankkit.testing import FixedRetriever

WORDS = [f"w{n}" for n in range(10)]
CORPUS = tuple(Document(id=word, page_content=f"{word} text") for word in WORDS)


def dataset(questions):
    """Every question's gold is the document of its word."""
    return Dataset(
        tuple(Question(f"q{n}", f"{WORDS[n % 10]} ?", documents={WORDS[n % 10]: 1}) for n in range(questions)), CORPUS
    )


def right_for(share):
    """Puts the gold first for a share of the questions, and last for the others."""

    def judge(query, texts):
        right = int(query[1]) < share * 10
        return [float((query.split()[0] in text) == right) for text in texts]

    return FunctionReranker(function=judge)


def report(questions, **systems):
    base = FixedRetriever(documents=list(CORPUS))
    return evaluate({"first": base, **systems}, dataset(questions), ["mrr", "ndcg@10"])


def test_a_clear_gain_is_called_better_and_a_loss_worse():
    found = compare(report(40, good=right_for(1.0), bad=right_for(0.0)))
    assert found.baseline == "first"
    good, bad = found["good", "mrr"], found["bad", "mrr"]
    assert (good.verdict, bad.verdict) == ("better", "worse")
    assert (good.wins, good.ties, good.losses) == (36, 4, 0)
    assert good.difference == pytest.approx(good.score - good.baseline_score)
    assert good.low < good.difference < good.high
    assert good.ceiling == good.score == 1.0
    assert "better than the baseline" in str(good)
    assert any(str(bad) == note for note in found.table().notes), "that a reranker hurts is said"


def test_what_few_questions_cannot_show_is_called_noise_in_words():
    few = compare(report(15, mixed=right_for(0.3)))["mixed", "mrr"]
    assert few.verdict == "below noise"
    assert f"15 questions would show a difference of {few.detectable:.3f} or more" in str(few)


def test_so_few_that_nothing_can_be_shown():
    five = compare(report(5, good=right_for(1.0)))["good", "mrr"]
    assert five.verdict == "below noise"
    assert "only 4 questions differ, which cannot show anything (p is at least 0.12)" in str(five)
    one = compare(evaluate({"a": {"q1": ["x"]}, "b": {"q1": ["w1"]}}, Dataset(dataset(2).questions[1:]), "mrr"))[
        "b", "mrr"
    ]
    assert (
        str(one)
        == "b: mrr +1.000 is below noise (adjusted p = 1.000): only 1 question differs, which cannot show anything (p is at least 1)."
    )


def test_what_failed_is_not_called_equal():
    def fail(query, texts):
        raise TimeoutError

    found = compare(report(10, dead=FunctionReranker(function=fail)))["dead", "mrr"]
    assert found.verdict == "failed"
    assert "failed at all of 10 questions, so nothing is compared" in str(found)


def test_the_same_ranking_is_called_equal():
    same = compare(report(10, same=FunctionReranker(function=lambda query, texts: [0.0] * len(texts))))["same", "mrr"]
    assert (same.verdict, same.p, same.ties) == ("equal", 1.0, 10)
    assert "same as the baseline's on all of 10 questions" in str(same)


def test_helped_and_hurt_questions_are_named():
    found = report(10, mixed=right_for(0.5)).compare()
    helped, hurt = found.helped("mixed", "mrr", most=3), found.hurt("mixed", "mrr", most=3)
    assert [id_ for id_, _ in helped] == ["q4", "q3", "q2"], "the further down the gold was, the more it gained"
    assert [gain for _, gain in helped] == pytest.approx([0.8, 0.75, 2 / 3])
    assert all(loss < 0 for _, loss in hurt)
    assert {id_ for id_, _ in hurt} <= {f"q{n}" for n in range(5, 10)}
    assert found.per_question["mrr"]["mixed"]["q0"] == 0.0


def test_any_system_may_be_the_baseline_and_metrics_may_be_chosen():
    found = report(10, good=right_for(1.0), bad=right_for(0.0)).compare("good", metrics=["mrr"])
    assert [(line.system, line.metric) for line in found.differences] == [("first", "mrr"), ("bad", "mrr")]
    assert found["first", "mrr"].difference < 0
    with pytest.raises(ValueError, match="lacks the metrics"):
        report(10, good=right_for(1.0)).compare(metrics=["hit@1"])
    with pytest.raises(ValueError, match="no system"):
        report(10, good=right_for(1.0)).compare("goood")
    with pytest.raises(ValueError, match="one system"):
        report(10).compare()


def test_more_systems_make_it_harder():
    alone = compare(report(20, mixed=right_for(0.8)))["mixed", "mrr"]
    among = compare(report(20, mixed=right_for(0.8), a=right_for(0.0), b=right_for(0.1), c=right_for(0.2)))
    among = among["mixed", "mrr"]
    assert alone.p == alone.p_adjusted == pytest.approx(among.p, abs=0.02)
    assert among.p_adjusted > among.p


class Moody(FunctionReranker):
    """Answers another way each time it is asked."""

    function: object = None
    asked: list = []

    def _score(self, query, texts):
        self.asked.append(query)
        lucky = (len(self.asked) + len(self.asked) // 10) % 2
        return [float(query.split()[0] in text) * (1 if lucky else -1) for text in texts]


def test_what_varies_by_itself_more_than_it_differs_is_noise():
    moody = Moody(asked=[])
    found = evaluate({"first": FixedRetriever(documents=list(CORPUS)), "moody": moody}, dataset(10), ["mrr"], repeats=3)
    assert len(moody.asked) == 30
    result = found["moody"]
    assert len(result.repeats) == 3
    assert result.scores["mrr"] == pytest.approx(sum(means["mrr"] for means in result.repeats) / 3)
    spread = max(m["mrr"] for m in result.repeats) - min(m["mrr"] for m in result.repeats)
    line = compare(found)["moody", "mrr"]
    assert line.spread == pytest.approx(spread)
    assert spread > 0


class Tiring(FunctionReranker):
    """Always better than the baseline, and from run to run less so."""

    function: object = None
    asked: list = []

    def _score(self, query, texts):
        self.asked.append(query)
        first = len(self.asked) <= 40 or query.startswith(("w6", "w7", "w8", "w9"))
        return [float(query.split()[0] in text) if first else -float(place) for place, text in enumerate(texts)]


def test_a_difference_within_the_spread_is_noise_however_small_p_is():
    tiring = Tiring(asked=[])
    found = evaluate({"first": FixedRetriever(documents=list(CORPUS)), "tiring": tiring}, dataset(40), "mrr", repeats=2)
    line = compare(found)["tiring", "mrr"]
    assert line.p_adjusted < 0.01
    worse = replace(found["tiring"], repeats=[{"mrr": 0.0}, {"mrr": 1.0}])
    noisy = compare(replace(found, systems=[found.baseline, worse]))["tiring", "mrr"]
    assert noisy.verdict == "below noise"
    assert "repeated runs of one system differ by 1.000" in str(noisy)
    back = compare(replace(found, systems=[found.baseline, worse]), "tiring")["first", "mrr"]
    assert back.verdict == "below noise", "the baseline's spread counts as well"
    assert (
        compare(replace(found, systems=[found.baseline, replace(worse, repeats=[])]))["tiring", "mrr"].verdict
        == "better"
    )


def test_it_prints_as_a_table():
    found = report(10, good=right_for(1.0)).compare()
    lines = str(found).splitlines()
    assert lines[0] == "Against first, 10 questions"
    assert "| mrr " in lines[4]
    assert "<table" in found._repr_html_()
    with pytest.raises(KeyError, match="no comparison of"):
        found["good", "hit@1"]


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=2, max_size=12), st.data())
def test_swapping_the_systems_swaps_the_finding(scores, data):
    others = data.draw(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=len(scores), max_size=len(scores)))
    ranks = {1.0: 0, 0.5: 1, 0.25: 3, 0.0: None}

    def run(values):
        made = {}
        for n, value in enumerate(values):
            rest = [word for word in WORDS[:4] if word != "w0"]
            place = ranks[value]
            made[f"q{n}"] = rest if place is None else [*rest[:place], "w0", *rest[place:]]
        return made

    gold = Dataset(tuple(Question(f"q{n}", "?", documents={"w0": 1}) for n in range(len(scores))))
    both = evaluate({"a": run(scores), "b": run(others)}, gold, ["mrr"])
    there, back = compare(both, "a", resamples=200)["b", "mrr"], compare(both, "b", resamples=200)["a", "mrr"]
    assert there.difference == pytest.approx(-back.difference)
    assert (there.wins, there.ties, there.losses) == (back.losses, back.ties, back.wins)
    assert there.p == pytest.approx(back.p, abs=1e-9)


def test_gains_and_losses_that_cancel_are_noise_and_nobody_speaks_of_repeated_runs():
    gold = Dataset(tuple(Question(f"q{n}", "?", documents={"w0": 1}) for n in range(12)))
    turns = [["w0", "w1"], ["w1", "w0"]]
    both = {name: {f"q{n}": turns[(n + shift) % 2] for n in range(12)} for name, shift in (("a", 0), ("b", 1))}
    line = compare(evaluate(both, gold, "mrr"))["b", "mrr"]
    assert (line.difference, line.wins, line.losses) == (0.0, 6, 6)
    assert "12 questions would show a difference of" in str(line)
