import dataclasses
import json
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda

import langchain_rerankkit
from langchain_rerankkit import (
    CohereReranker,
    CrossEncoderReranker,
    Dataset,
    DatasetError,
    EmbeddedReranker,
    EnsembleReranker,
    FunctionReranker,
    LexicalReranker,
    Question,
    Reranker,
)
from langchain_rerankkit.demo import load_demo
from langchain_rerankkit.evaluation.calibration.calibrate import Calibration, calibrate
from langchain_rerankkit.evaluation.calibration.thresholds import Pairs
from langchain_rerankkit.lexical import TermStatistics
from langchain_rerankkit.model_id import _NOT_THE_MODEL, model_id
from langchain_rerankkit.records import DetailedScores


class Said(Reranker):
    """The score is the text."""

    def _score(self, query, texts):
        return [float(text) for text in texts]


def questions_of(scored, **more):
    """A dataset and its retriever from one list of (score, relevant) for each question."""
    found = {
        f"q{n}": [Document(id=f"{n}-{place}", page_content=str(score)) for place, (score, _) in enumerate(pairs)]
        for n, pairs in enumerate(scored)
    }
    questions = tuple(
        Question(id_, id_, documents={d.id: int(relevant) for d, (_, relevant) in zip(found[id_], pairs, strict=True)})
        for id_, pairs in zip(found, scored, strict=True)
    )
    return Dataset(questions, **more), RunnableLambda(lambda question: found[question])


def calibrated(scored, reranker=None, **wanted):
    dataset, retriever = questions_of(scored)
    return calibrate(reranker or Said(), dataset, retriever=retriever, **wanted)


def noisy(count, separation, seed=0, depth=8):
    """Questions with two relevant documents each, whose scores lie higher."""
    random = np.random.default_rng(seed)
    return [
        [(float(random.normal(separation * (place < 2))), place < 2) for place in range(depth)] for _ in range(count)
    ]


levels = st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0, 3.0])
pools = st.lists(
    st.lists(st.tuples(levels, st.booleans()), min_size=1, max_size=6).map(lambda pairs: [*pairs, (1.0, True)]),
    min_size=10,
    max_size=14,
).filter(lambda pools: not all(relevant for pairs in pools for _, relevant in pairs))


def flat(pools):
    return [(score, relevant, n) for n, pairs in enumerate(pools) for score, relevant in pairs]


def pairs_of(pools):
    scores, relevant, questions = zip(*flat(pools), strict=True)
    return Pairs(scores, relevant, questions, len(pools))


@given(pools)
def test_the_curve_and_the_auc_are_scikit_learns(pools):
    metrics = pytest.importorskip("sklearn.metrics")
    scores, relevant, _ = zip(*flat(pools), strict=True)
    precision, recall, thresholds = metrics.precision_recall_curve(relevant, scores)
    curve = pairs_of(pools).curve()
    assert curve.threshold == pytest.approx(thresholds[::-1])
    assert curve.precision == pytest.approx(precision[:-1][::-1])
    assert curve.recall == pytest.approx(recall[:-1][::-1])
    assert curve.kept == pytest.approx([sum(s >= t for s in scores) / len(pools) for t in curve.threshold])
    assert pairs_of(pools).auc().value == pytest.approx(metrics.roc_auc_score(relevant, scores))


@given(pools, st.sampled_from(["precision", "recall"]), st.sampled_from([0.3, 0.5, 0.75, 0.9, 1.0]))
def test_a_threshold_reaches_what_was_wanted_and_none_serves_better(pools, target, wanted):
    pairs = pairs_of(pools)
    threshold, why_not = pairs.choose(target, wanted)
    assert (threshold is None) == bool(why_not)
    points = {}
    everything = flat(pools)
    relevant = sum(r for _, r, _ in everything)
    for t in {score for score, _, _ in everything}:
        kept = [r for score, r, _ in everything if score >= t]
        points[t] = {"precision": sum(kept) / len(kept), "recall": sum(kept) / relevant, "others": kept.count(False)}
    reaching = {t: point for t, point in points.items() if point[target] >= wanted}
    if threshold is None:
        others = len(everything) - relevant
        if target == "precision":
            assert all(point["recall"] < 0.1 for point in reaching.values())
        else:
            assert all(1 - point["others"] / others < 0.1 for point in reaching.values())
        return
    assert threshold in reaching
    best = max(reaching.values(), key=lambda point: (point["recall"], point["precision"]))
    if target == "precision":
        assert points[threshold] == best
    else:
        assert threshold == max(reaching)
    kept = pairs.at(threshold)
    assert kept.precision.value == pytest.approx(points[threshold]["precision"])
    assert kept.recall.value == pytest.approx(points[threshold]["recall"])
    for estimate in (kept.precision, kept.recall):
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
        assert estimate.low < estimate.high, "nothing is certain"


def test_what_is_kept_is_what_the_reranker_keeps_with_the_threshold_applied():
    dataset, retriever = questions_of(noisy(60, 2.5))
    found = calibrate(Said(top_n=1, min_score=100.0), dataset, retriever=retriever, precision=0.8)
    applied = found.apply(Said())
    assert applied.min_score == found.threshold
    kept = [
        dataset.questions[n].documents[document.id]
        for n in range(60)
        for document in applied.invoke({"query": "", "documents": retriever.invoke(f"q{n}")})
    ]
    assert found.precision.value == pytest.approx(sum(kept) / len(kept))
    assert found.precision.value >= 0.8
    assert found.kept == pytest.approx(len(kept) / 60)
    assert found.recall.value == pytest.approx(sum(kept) / 120)


def test_clean_separation_is_found_and_is_still_not_certain():
    found = calibrated([[(9.0, True), (1.0, False)]] * 12, precision=1.0)
    assert found.threshold == 9.0
    assert found.auc.value == found.held_out_precision.value == 1
    assert 0.6 < found.held_out_precision.low < 0.9, "twelve questions"
    assert found.nothing_kept == 0
    assert any("Only 12 questions" in note for note in found.notes)


@pytest.mark.parametrize("wanted", [{"precision": 0.9}, {"recall": 0.9}])
@pytest.mark.parametrize("separation", [0.0, None], ids=["scores at random", "scores all the same"])
def test_without_clean_separation_there_is_no_threshold(separation, wanted):
    pools = [[(1.0, True), (1.0, False)]] * 40 if separation is None else noisy(40, separation)
    found = calibrated(pools, **wanted)
    assert found.threshold is found.precision is found.recall is found.kept is None
    assert found.verdict.startswith(
        "No clean separation: a relevant document outscores another one with probability 0."
    )
    assert "chance" in str(found)
    assert found.curve.threshold, "the curve can still be looked at"
    with pytest.raises(ValueError, match="no threshold to apply: No clean separation"):
        found.apply(Said())


def test_a_precision_that_a_few_lucky_hits_reach_is_no_separation():
    pools = [[(1.0, True), (0.5, False), (1.0, False)] for _ in range(39)] + [[(2.0, True), (0.0, False)]]
    found = calibrated(pools, precision=0.9)
    assert found.threshold is None
    assert "no threshold that keeps 10% of the relevant documents; the best is 0.506" in found.verdict


def test_a_recall_that_needs_everything_kept_is_no_separation():
    pools = [[(1.0, True), (0.5, False), (0.4, False)] for _ in range(39)] + [[(0.0, True), (0.5, False)]]
    found = calibrated(pools, recall=1.0)
    assert found.threshold is None
    assert "only by keeping 100.0% of the others" in found.verdict
    assert calibrated(pools, recall=0.9).threshold == 1.0


def test_a_threshold_that_fails_elsewhere_is_no_separation():
    # The document that sets the threshold is missed by the threshold that the other questions set.
    pools = noisy(60, 4.0)
    found = calibrated(pools, recall=1.0)
    assert found.threshold is None
    assert "on questions that did not choose the threshold recall is 0.9" in found.verdict
    assert found.held_out_recall.high < 1
    assert calibrated(pools, recall=0.95).threshold is not None


@pytest.mark.parametrize(
    ("pools", "message"),
    [
        ([[(1.0, True), (0.0, False)]] * 9, "9 of 9 questions have a relevant document"),
        ([[(1.0, False), (0.0, False)]] * 30, "0 of 30 questions"),
        ([[(1.0, True), (0.0, True)]] * 30, "All candidates are relevant"),
    ],
)
def test_too_little_to_go_by_is_refused(pools, message):
    with pytest.raises(ValueError, match=message):
        calibrated(pools, precision=0.9)


@pytest.mark.parametrize(
    "wanted", [{}, {"precision": 0.5, "recall": 0.5}, {"precision": 0}, {"recall": 1.1}, {"recall": math.nan}]
)
def test_exactly_one_target_is_needed(wanted):
    with pytest.raises(ValueError, match="either precision or recall"):
        calibrated(noisy(20, 2), **wanted)


def test_scores_that_only_order_one_list_are_refused():
    ensemble = EnsembleReranker(rerankers=[Said(), LexicalReranker()])
    with pytest.raises(ValueError, match=r"only order one list.*Use top_n"):
        calibrated(noisy(20, 2), ensemble, precision=0.9)


class Partly(Reranker):
    """Does not come to every text."""

    def _score(self, query, texts):
        scores = [math.nan if text == "nan" else float(text.removeprefix("skip ")) for text in texts]
        unjudged = frozenset(n for n, text in enumerate(texts) if text.startswith("skip"))
        return DetailedScores(scores, [{}] * len(texts), unjudged)


def test_documents_without_a_score_are_counted_as_min_score_treats_them():
    pools = [[*[(2.0, True)] * 4, (" ", True), ("nan", True), ("skip 1", False), (1.0, False)]] * 60
    found = calibrated(pools, Partly(on_nan="last"), recall=0.6)
    assert (found.pairs, found.relevant) == (420, 360), "min_score cuts no document that was not judged"
    assert found.recall.value == pytest.approx(2 / 3)
    assert found.curve.recall[-1] == pytest.approx(2 / 3)
    said = " ".join(found.notes)
    assert "60 documents have no score (blank)" in said
    assert "60 documents have no score (not finite)" in said
    assert "60 documents were not judged by the reranker and are left out" in said
    assert (
        "could be judged at all"
        in calibrated([[*pool, (0.0, False)] for pool in pools], Partly(on_nan="last"), recall=0.9).verdict
    )


def test_a_failing_reranker_fails_the_calibration_whatever_it_does_on_error():
    def fail(query, texts):
        msg = "down"
        raise ConnectionError(msg)

    with pytest.raises(ConnectionError, match="down"):
        calibrated(noisy(20, 2), FunctionReranker(function=fail, on_error="keep_order"), precision=0.9)


def test_what_an_earlier_reranker_said_does_not_count():
    dataset, retriever = questions_of([[(2.0, True), (1.0, False)]] * 20)
    stale = {"relevance_score": 77.0, "rerank": {"status": "unjudged"}}
    again = retriever | (lambda documents: [d.model_copy(update={"metadata": stale}) for d in documents])
    found = calibrate(Said(details=False), dataset, retriever=again, recall=1.0)
    assert (found.threshold, found.pairs) == (2.0, 40)


def test_a_document_that_comes_twice_counts_once():
    dataset, retriever = questions_of(noisy(20, 2))
    twice = calibrate(Said(), dataset, retriever=retriever | (lambda found: [*found, *found]), recall=0.5)
    assert twice == calibrate(Said(), dataset, retriever=retriever, recall=0.5)


def test_incomplete_judgements_and_lost_gold_are_said():
    pools = noisy(20, 3)
    dataset, retriever = questions_of(pools)
    partly = Dataset(
        (
            *(
                dataclasses.replace(q, documents={d: g for d, g in q.documents.items() if g} | {"gone": 1})
                for q in dataset.questions
            ),
            Question("q0 again", "q0"),
        )
    )
    found = calibrate(Said(), partly, retriever=retriever, recall=0.9)
    said = " ".join(found.notes)
    assert "120 of 160 scored documents have no grade" in said
    assert "lower bound" in said
    assert "20 of 60 relevant documents were not among those scored" in said
    assert "1 questions without gold are left out" in said
    assert found.threshold == calibrate(Said(), dataset, retriever=retriever, recall=0.9).threshold


def test_grades_below_the_relevance_wanted_do_not_count():
    dataset, retriever = questions_of([[(2.0, 2), (1.0, 1), (0.0, 0)]] * 20)
    assert calibrate(Said(), dataset, retriever=retriever, recall=1.0).threshold == 1.0
    assert calibrate(Said(), dataset, retriever=retriever, recall=1.0, relevance=2).threshold == 2.0


def test_without_a_retriever_the_corpus_gives_candidates_and_that_is_said():
    demo = load_demo()
    reranker = LexicalReranker.from_documents(demo.corpus)
    found = calibrate(reranker, demo, precision=0.9, candidates=30)
    assert found == calibrate(reranker, demo, precision=0.9, candidates=30)
    assert found.pairs == 30 * found.questions
    assert found.relevant == sum(g >= 1 for q in demo.questions for g in q.documents.values()), "all gold is scored"
    assert any("drawn from the corpus" in note for note in found.notes)
    assert found.pairs != calibrate(reranker, demo, precision=0.9, candidates=10_000).pairs
    with pytest.raises(ValueError, match="give a retriever"):
        calibrate(reranker, Dataset(demo.questions), precision=0.9)


def test_answers_can_be_the_gold():
    demo = load_demo()
    by_answers = calibrate(LexicalReranker.from_documents(demo.corpus), demo, recall=0.5, candidates=30, gold="answers")
    assert by_answers.threshold is not None
    assert not any("no grade" in note for note in by_answers.notes)
    with pytest.raises(ValueError, match="no gold"):
        calibrate(LexicalReranker(), Dataset((Question("q", "q"),), demo.corpus), recall=0.5)


def test_the_embedded_reranker_separates_the_demo():
    demo = load_demo()
    few = Dataset(demo.questions[:60], demo.corpus[:120], "demo")
    found = calibrate(EmbeddedReranker(), few, precision=0.8, candidates=20)
    assert found.auc.low > 0.8
    assert found.precision.value >= 0.8
    assert found.held_out_precision.high >= 0.8
    assert repr(found.threshold) in found.verdict
    assert found.model == "EmbeddedReranker('all-MiniLM-L6-v2 + BM25')"


@pytest.fixture(scope="module")
def found():
    return calibrated(noisy(60, 2.5), precision=0.8)


@pytest.mark.parametrize("separation", [2.5, 0.0])
def test_a_saved_calibration_comes_back_equal(separation, tmp_path):
    one = calibrated(noisy(60, separation), precision=0.8)
    one.save(tmp_path / "one.json")
    assert Calibration.load(tmp_path / "one.json") == one
    assert str(Calibration.load(str(tmp_path / "one.json"))) == str(one)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"threshold": "high"}, "threshold"),
        ({"threshold": math.nan}, "threshold"),
        ({"auc": {"value": 1}}, "auc.low"),
        ({"target": "f1"}, "target"),
        ({"more": 1}, "more"),
        ({"format": "other"}, "format"),
    ],
)
def test_a_wrong_file_is_refused_with_file_and_field(found, tmp_path, change, field):
    path = tmp_path / "one.json"
    found.save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DatasetError, match=r"one\.json") as caught:
        Calibration.load(path)
    assert caught.value.field == field


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", None])
def test_what_is_no_calibration_is_refused(tmp_path, content):
    path = tmp_path / "one.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"one\.json"):
        Calibration.load(path)


def test_a_threshold_is_refused_on_another_model(found):
    with pytest.raises(ValueError, match=r"found for Said\('Said'\) and means nothing for LexicalReranker"):
        found.apply(LexicalReranker())
    with pytest.raises(ValueError, match="document_text=\\['title'\\]"):
        found.apply(Said(document_text=["title"]))
    before = Said(top_n=3, on_error="keep_order")
    after = found.apply(before)
    assert (before.min_score, after.min_score, after.top_n) == (None, found.threshold, 3)


def test_the_model_id_tells_apart_what_scores_differently_and_nothing_else():
    base = CrossEncoderReranker(model="a/b")
    assert model_id(base) == "CrossEncoderReranker('a/b')"
    same = [{"top_n": 3}, {"threads": 2}, {"cache_dir": "here"}, {"min_score": 0.5}, {"on_error": "keep_order"}]
    other = [
        {"precision": "int8"},
        {"revision": "1"},
        {"max_length": 64},
        {"document_text": str},
        {"instruction": "x" * 99},
    ]
    assert {model_id(CrossEncoderReranker(model="a/b", **fields)) for fields in same} == {model_id(base)}
    assert len({model_id(CrossEncoderReranker(model="a/b", **fields)) for fields in other} | {model_id(base)}) == 6
    first, second = (TermStatistics.from_texts(texts) for texts in (["a b"], ["a c"]))
    again = TermStatistics.from_texts(["a b"])
    ids = [model_id(LexicalReranker(statistics=statistics)) for statistics in (first, second, again)]
    assert ids[0] == ids[2] != ids[1]


def test_the_model_id_holds_no_secret_and_no_address():
    key, host = "sk-not-for-anyone", "inside.example"
    reranker = CohereReranker(
        model="rerank-v3.5",
        api_key=key,
        base_url=f"https://{host}/v2",
        request_options={"token": key},
        proxy=f"http://u:{key}@p",
    )
    assert key not in model_id(reranker)
    assert host not in model_id(reranker)
    assert model_id(reranker) != model_id(CohereReranker(model="rerank-v3.5", api_key=key))
    assert model_id(CohereReranker(model="rerank-v3.5", api_key=key)) == "CohereReranker('rerank-v3.5')"


def test_the_model_id_of_all_processes_is_the_same():
    code = """
from langchain_rerankkit import LexicalReranker
from langchain_rerankkit.model_id import model_id
print(model_id(LexicalReranker.from_texts(["a river", "a bridge and a river"], document_text=["title", "year"])))
"""
    ids = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert len(ids) == 1


def test_every_field_left_out_of_the_model_id_exists():
    fields = {
        name
        for public in langchain_rerankkit.__all__
        if isinstance(kind := getattr(langchain_rerankkit, public), type) and issubclass(kind, Reranker)
        for name in kind.model_fields
    }
    assert fields >= _NOT_THE_MODEL


def test_intervals_agree_with_the_bootstrap_over_questions():
    pairs = pairs_of(noisy(300, 1.0, seed=5))
    pools = noisy(300, 1.0, seed=5)
    random = np.random.default_rng(0)
    counts = np.array(
        [
            [sum(s >= 0.5 and r for s, r in pool), sum(s >= 0.5 for s, _ in pool), sum(r for _, r in pool)]
            for pool in pools
        ]
    )
    hits, kept, relevant = counts[random.integers(300, size=(4000, 300))].sum(axis=1).T
    for estimate, shares in ((pairs.at(0.5).precision, hits / kept), (pairs.at(0.5).recall, hits / relevant)):
        low, high = np.quantile(shares, [0.025, 0.975])
        assert estimate.low == pytest.approx(low, abs=0.01)
        assert estimate.high == pytest.approx(high, abs=0.01)
    aucs = []
    metrics = pytest.importorskip("sklearn.metrics")
    for _ in range(400):
        drawn = [pair for n in random.integers(300, size=300) for pair in pools[n]]
        aucs.append(metrics.roc_auc_score([r for _, r in drawn], [s for s, _ in drawn]))
    low, high = np.quantile(aucs, [0.025, 0.975])
    assert pairs.auc().low == pytest.approx(low, abs=0.01)
    assert pairs.auc().high == pytest.approx(high, abs=0.01)


@given(pools)
def test_copies_of_a_pair_within_its_question_add_no_certainty(pools):
    assume(pairs_of(pools).at(1.0).precision is not None)
    tripled = [[pair for pair in pairs for _ in range(3)] for pairs in pools]
    once, thrice = pairs_of(pools).at(1.0), pairs_of(tripled).at(1.0)
    assert thrice.precision.value == pytest.approx(once.precision.value)
    # Pairs that vary less than chance are not counted as more than they are; only then copies count.
    assert thrice.precision.low == pytest.approx(once.precision.low) or thrice.precision.low > once.precision.low


@pytest.mark.slow
@pytest.mark.parametrize("questions", [12, 25, 100])
@pytest.mark.parametrize("precision", [0.6, 0.9, 0.98])
def test_intervals_hold_the_truth_as_often_as_they_say(questions, precision):
    random = np.random.default_rng(0)
    held, rounds = 0, 1000
    for _ in range(rounds):
        kept = random.poisson(2, size=questions) + (np.arange(questions) < 2)
        shares = random.beta(4 * precision, 4 * (1 - precision), size=questions)  # questions differ
        hits = random.binomial(kept, shares)
        pools = [[(1.0, n < h) for n in range(k)] + [(0.0, True)] for h, k in zip(hits, kept, strict=True)]
        estimate = pairs_of([*pools, []]).at(1.0).precision
        held += estimate.low <= precision <= estimate.high
    assert held / rounds >= 0.93


@pytest.mark.slow
def test_held_out_precision_errs_less_than_that_of_the_questions_that_chose_and_to_the_safe_side():
    """The threshold is chosen on 40 questions; the truth is what it does on very many others."""
    everyone = pairs_of(noisy(20_000, 2.0, seed=1))
    inside, outside, held = [], [], []
    for seed in range(500):
        pairs = pairs_of(noisy(40, 2.0, seed=seed + 2))
        threshold, _ = pairs.choose("precision", 0.9)
        if threshold is None:
            continue
        truth = everyone.at(threshold).precision.value
        estimate = pairs.held_out("precision", 0.9, seed)[0].precision
        inside.append(pairs.at(threshold).precision.value - truth)
        outside.append(estimate.value - truth)
        held.append(estimate.low <= truth <= estimate.high)
    assert len(held) > 480
    assert np.mean(inside) > 0 > np.mean(outside) > -np.mean(inside)
    # Below 0.95, as the module says: the tenths have thresholds of their own.
    assert np.mean(held) >= 0.85
