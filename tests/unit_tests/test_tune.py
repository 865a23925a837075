import math
import random
import statistics
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda
from pydantic import PrivateAttr

from langchain_rerankkit import (
    CascadeReranker,
    ContextualCompressionRetriever,
    Dataset,
    EnsembleReranker,
    FunctionReranker,
    LexicalReranker,
    Reranker,
    RerankKitError,
    TermStatistics,
    evaluate,
    load_reranker,
    tune,
)
from langchain_rerankkit.testing import FixedRetriever
from langchain_rerankkit.tuning import timing
from langchain_rerankkit.tuning.choosing import Times, within_noise
from langchain_rerankkit.tuning.remembering import RememberingReranker
from langchain_rerankkit.tuning.report import NO_RERANKING, UNTUNED
from langchain_rerankkit.tuning.settings import Setting, Step, every_setting
from langchain_rerankkit.tuning.timing import fastest_batches

# --- a world in which the best setting is known -----------------------------------------------------------------------


class Clock:
    """Time goes on by what rerankers say that they take."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing, "perf_counter", clock)
    monkeypatch.setattr(Reads, "clock", clock)
    return clock


class Reads(Reranker):
    """Scores by a number that stands in the text, and takes so long for each."""

    place: int = 0
    each: float = 0.0
    batch_tokens: int | None = None
    clock: ClassVar[Clock] = Clock()
    _calls: list = PrivateAttr(default_factory=list)

    def _score_many(self, requests):
        answers = []
        for request in requests:
            self._calls += [(request.query, text) for text in request.texts]
            type(self).clock.now += self.seconds(request)
            answers.append([float(text.split()[self.place]) for text in request.texts])
        return answers

    def seconds(self, request):
        return self.each * len(request.texts)


def world(numbers, questions=50, candidates=20):
    """A dataset and a run; ``numbers`` gives place of the gold document and, by place, the numbers of each text."""
    rows, corpus, run = [], [], {}
    for number in range(questions):
        draw = random.Random(number)
        gold, texts = numbers(draw, candidates)
        ids = [f"q{number}-{place}" for place in range(candidates)]
        corpus += [
            Document(id=id_, page_content=" ".join(map(repr, values))) for id_, values in zip(ids, texts, strict=True)
        ]
        rows.append({"id": f"q{number}", "question": f"question {number}", "documents": {ids[gold]: 1}})
        run[f"q{number}"] = ids
    return Dataset.from_questions(rows, corpus, name="world"), run


def reader_is_fooled_below_ten(draw, candidates):
    """The gold document is among the first 10; further down stands one that looks better still."""
    gold = draw.randrange(10)
    return gold, [[10.0 if p == gold else 20.0 if p == 15 else draw.random()] for p in range(candidates)]


def cheap_finds_five(draw, candidates):
    """The gold document is anywhere; the cheap reader has it among its first five, the expensive one at the top."""
    gold, above = draw.randrange(candidates), draw.randrange(5)
    others = iter(draw.sample(range(candidates - 1), candidates - 1))
    return gold, [
        [1.0 if p == gold else 0.0, 100.0 - above + 0.5 if p == gold else 100.0 - next(others)]
        for p in range(candidates)
    ]


def each_knows_a_part(draw, candidates):
    """The gold document is good by both readers, others are better still by one of them alone; sums tell."""
    gold = draw.randrange(candidates)
    others = [(1.6, 0.3 * draw.random()), (0.3 * draw.random(), 1.6)] * candidates
    return gold, [[1.0, 1.0] if p == gold else others[p - (p > gold)] for p in range(candidates)]


def nobody_knows(draw, candidates):
    return draw.randrange(candidates), [[draw.random(), draw.random()] for _ in range(candidates)]


def the_first_stage_knows(draw, candidates):
    return 0, [[draw.random()] for _ in range(candidates)]


def test_the_best_depth_is_found():
    dataset, run = world(reader_is_fooled_below_ten)
    found = tune(dataset, run, {"reader": Reads(each=0.001)}, budgets=[1.0], depths=[5, 10, 17])
    assert found[1.0].setting == "reader on 10"
    assert found[1.0].held_out == 1.0
    assert found[1.0].gain.verdict == found[1.0].against_untuned.verdict == "better"


def test_a_cheap_one_chooses_for_an_expensive_one_where_time_is_short():
    dataset, run = world(cheap_finds_five)
    rerankers = {"cheap": Reads(place=1, each=0.0001), "strong": Reads(each=0.01)}
    found = tune(dataset, run, rerankers, budgets=[0.08, 10.0], depths=[5, 10])
    assert found[0.08].setting == "cheap on all, then strong on 5"
    assert found[0.08].held_out == 1.0
    assert found[0.08].seconds == pytest.approx(20 * 0.0001 + 5 * 0.01)
    assert found[0.08].against_untuned.verdict == "equal"  # as good as the untuned one, which reads all
    assert found[10.0].setting == found[0.08].setting  # more time brings no more
    assert isinstance(found[0.08].reranker, CascadeReranker)


def test_the_best_weights_are_found():
    dataset, run = world(each_knows_a_part, candidates=21)
    rerankers = {"first": Reads(each=0.001), "second": Reads(place=1, each=0.001)}
    found = tune(dataset, run, rerankers, budgets=[1.0], depths=[])
    assert found[1.0].setting == "0.5 first + 0.5 second on all"
    assert isinstance(found[1.0].reranker, EnsembleReranker)


def test_where_nothing_helps_nothing_is_chosen(tmp_path):
    dataset, run = world(the_first_stage_knows)
    found = tune(dataset, run, {"guess": Reads(each=0.001)}, budgets=[1.0])
    assert found[1.0].setting == NO_RERANKING
    assert found[1.0].reranker is None
    assert found.save(tmp_path / "files") == []
    assert "no reranker is better" in str(found)


def test_what_was_better_by_chance_is_found_out():
    dataset, run = world(nobody_knows)
    found = tune(dataset, run, {"a": Reads(), "b": Reads(place=1)}, budgets=[1.0], depths=[], seed=2)
    assert found[1.0].reranker is not None
    assert found[1.0].score > found[1.0].held_out + 0.05  # which the tuning half cannot know
    assert found[1.0].gain.verdict == "below noise"
    assert "Leave the reranker out" in str(found)


def test_where_the_untuned_one_was_better_it_is_said_to_be_the_one_to_take():
    dataset, run = world(cheap_finds_five)
    rerankers = {"cheap": Reads(place=1, each=0.0001), "strong": Reads(each=0.01)}
    found = tune(dataset, run, rerankers, budgets=[0.04, 0.08], depths=[5, 10])
    worse, equal = (
        next(note for note in found.notes if f"Within {budget} ms, against the untuned" in note) for budget in (40, 80)
    )
    assert found[0.04].against_untuned.verdict == "worse"
    assert worse.endswith(" Take the untuned one if its time fits.")
    assert "Take the untuned" not in equal


def test_each_difference_stands_under_what_it_is_from():
    dataset, run = world(reader_is_fooled_below_ten)
    found = tune(dataset, run, {"reader": Reads(each=0.001)}, budgets=[1.0], depths=[10])
    table = found.table()
    row = dict(zip(table.header, table.rows[-1], strict=True))
    report = found.report
    for column, name in (("vs none", NO_RERANKING), ("vs untuned", UNTUNED)):
        behind = found[1.0].held_out - report[name].scores[found.metric]
        assert row[column] == f"{behind:+.3f} better"


def test_what_fits_no_budget_is_not_chosen():
    dataset, run = world(cheap_finds_five)
    found = tune(dataset, run, {"strong": Reads(each=0.01)}, budgets=[0.01, 0.5], depths=[])
    assert [choice.setting for choice in found.choices] == [NO_RERANKING, "strong on all"]
    assert found[0.5].system == UNTUNED  # the same, and asked once
    assert found[0.5].against_untuned is None


class Hurries(Reads):
    """Takes less time for what stands in the order of the first stage than in a cascade."""

    def seconds(self, request):
        places = [int(document.id.partition("-")[2]) for document in request.documents]
        return super().seconds(request) * (1 if places == sorted(places) else 3)


def test_times_are_taken_and_not_only_predicted():
    dataset, run = world(cheap_finds_five)
    rerankers = {"cheap": Reads(place=1, each=0.0001), "strong": Hurries(each=0.01)}
    found = tune(dataset, run, rerankers, budgets=[0.08], depths=[5, 10])
    # Predicted are 0.052 s for the cascade, which would be best; it takes 0.152.
    assert found[0.08].setting != "cheap on all, then strong on 5"
    assert found[0.08].seconds <= 0.08


class Batched(Reads):
    def seconds(self, request):
        return {None: 1.0, 1024: 0.5}.get(self.batch_tokens, 0.97) + super().seconds(request)


def test_batches_are_tuned_where_it_pays():
    asked = [("1", "q", [Document(page_content="1.0")])] * 3
    slow, given = Batched(), Batched(batch_tokens=256)
    tuned = fastest_batches({"open": slow, "given": given, "other": LexicalReranker()}, asked, None)
    assert tuned["open"].batch_tokens == 1024
    assert slow.batch_tokens is None  # the caller's own is left alone
    assert tuned["given"] is given

    class HardlyFaster(Reads):
        def seconds(self, request):
            return 1.0 if self.batch_tokens is None else 0.97

    assert fastest_batches({"open": HardlyFaster()}, asked, None)["open"].batch_tokens is None


# --- honest -----------------------------------------------------------------------------------------------------------

WORDS = ("river", "city", "bridge", "museum", "train", "coast", "bread", "cheese", "plain", "hour", "art", "nine")


def words(questions=60, candidates=20):
    """A dataset in words, and a retriever of its own for each question."""
    rows, corpus, run = [], [], {}
    for number in range(questions):
        draw = random.Random(number)
        wanted = draw.sample(WORDS, 3)
        texts = [" ".join(draw.choices(WORDS, k=8)) for _ in range(candidates)]
        gold = draw.randrange(candidates)
        texts[gold] += " " + " ".join(wanted[:2])
        ids = [f"{number}-{place}" for place in range(candidates)]
        corpus += [Document(id=id_, page_content=text) for id_, text in zip(ids, texts, strict=True)]
        rows.append({"id": str(number), "question": " ".join(wanted), "documents": {ids[gold]: 2}})
        run[str(number)] = ids
    return Dataset.from_questions(rows, corpus, name="words"), run


def test_the_held_out_figures_are_those_of_the_file_that_is_written(tmp_path, clock):
    dataset, run = words()
    texts = [document.page_content for document in dataset.corpus]
    rerankers = {"flat": LexicalReranker.from_texts(texts, b=0), "usual": LexicalReranker.from_texts(texts)}
    found = tune(dataset, run, rerankers, budgets=[0.05, 1.0], depths=[5, 10], seed=3)
    files = found.save(tmp_path / "tuned")
    assert [file.name for file in files] == ["within-50ms.toml", "within-1000ms.toml"]
    _, held_out = dataset.split(0.5, seed=3)
    for file, choice in zip(files, found.choices, strict=True):
        assert choice.setting in file.read_text()
        loaded = load_reranker(file, statistics=TermStatistics.from_texts(texts))
        report = evaluate({"run": run, "loaded": loaded}, held_out, "ndcg@10")
        assert report["loaded"].rankings == found.report[choice.system].rankings
        assert report["loaded"].scores["ndcg@10"] == choice.held_out
        scores = list(report["loaded"].per_question["ndcg@10"].values())
        assert choice.low < statistics.fmean(scores) < choice.high
        assert choice.gain.difference == pytest.approx(choice.held_out - report["run"].scores["ndcg@10"], abs=1e-9)
    assert found.held_out_questions + found.tuning_questions == len(dataset.questions)


def test_the_tuning_half_scores_are_those_of_a_real_evaluation():
    dataset, run = words()
    found = tune(dataset, run, ["lexical", "lexical?b=0"], budgets=[1.0], depths=[5, 10])
    tuning, _ = dataset.split(0.5)
    report = evaluate({"run": run, "chosen": found[1.0].reranker}, tuning, "ndcg@10")
    assert found[1.0].score == pytest.approx(report["chosen"].scores["ndcg@10"], abs=1e-12)


def test_settings_are_never_chosen_by_the_held_out_half():
    dataset, run = world(cheap_finds_five, questions=80)
    asked = []

    class Watched(Reads):
        def _score_many(self, requests):
            asked.extend((request.query, len(request.texts)) for request in requests)
            return super()._score_many(requests)

    tune(dataset, run, {"watched": Watched(each=0.001)}, budgets=[1.0], depths=[10])
    tuning, held_out = dataset.split(0.5)
    first_held_out = min(
        place for place, (query, _) in enumerate(asked) if query in {q.text for q in held_out.questions}
    )
    assert {query for query, _ in asked[:first_held_out]} == {q.text for q in tuning.questions}
    assert {query for query, _ in asked[first_held_out:]} == {q.text for q in held_out.questions}


def test_the_same_seed_gives_the_same_choices():
    dataset, run = world(nobody_knows, questions=40)
    rerankers = {"first": Reads(each=0.001), "second": Reads(place=1, each=0.001)}

    def choices(seed):
        found = tune(dataset, run, rerankers, budgets=[0.0155, 1.0], depths=[5], seed=seed)
        return [(c.setting, c.score, c.held_out, c.low, c.high, round(c.seconds, 9)) for c in found.choices]

    assert choices(1) == choices(1)
    assert choices(1) != choices(2)


def test_few_questions_are_said():
    dataset, run = world(cheap_finds_five, questions=20)
    found = tune(dataset, run, {"strong": Reads(each=0.001)}, budgets=[1.0])
    assert "too few to tell settings apart" in str(found)
    assert "does not ask" not in str(found)  # which the run answers, as the questions of the other half
    dataset, run = world(cheap_finds_five, questions=140)
    assert "too few" not in str(tune(dataset, run, {"strong": Reads(each=0.001)}, budgets=[1.0]))


def test_a_retriever_may_find_the_candidates_and_answers_may_judge_them():
    documents = [Document(page_content=text) for text in ("the city of nine", "a river flows", "bread", "cheese")]
    dataset = Dataset.from_questions(
        [{"question": f"which river flows {n}?", "answers": ["a river flows"]} for n in range(30)]
    )
    found = tune(dataset, FixedRetriever(documents=documents), "lexical", budgets=[1.0], metric="mrr")
    assert found[1.0].held_out == 1.0


def test_it_is_shown_as_a_table():
    dataset, run = world(cheap_finds_five, questions=40)
    found = tune(dataset, run, {"strong": Reads(each=0.001)}, budgets=[1.0], depths=[10])
    said = str(found)
    assert "| within  | setting" in said
    assert "| 1000 ms | strong on" in said
    assert "<table>" in found._repr_html_()
    assert "1 s: strong" in repr(found)
    with pytest.raises(KeyError, match=r"there are \[1.0\]"):
        found[2.0]


# --- parts ------------------------------------------------------------------------------------------------------------

DOWN = "the server is down"
NUMBERS = st.lists(st.tuples(*[st.integers(-3, 3)] * 2), min_size=1, max_size=12)


@settings(max_examples=30)
@given(NUMBERS, st.lists(st.integers(1, 12), max_size=2, unique=True).map(sorted), st.booleans())
def test_what_is_remembered_orders_like_the_rerankers_themselves(numbers, depths, alone):
    class Neighbourly(Reads):  # where it does not judge alone, the sum of a list is in each of its scores
        @property
        def judges_alone(self):
            return alone

        def _score_many(self, requests):
            answers = super()._score_many(requests)
            return answers if alone else [[s * (1 + sum(scores)) for s in scores] for scores in answers]

    members = {"a": Neighbourly(place=0), "b": Neighbourly(place=1)}
    remembering = {name: RememberingReranker(reranker=member) for name, member in members.items()}
    documents = [Document(page_content=f"{a} {b}", id=str(n)) for n, (a, b) in enumerate(numbers)]
    for setting in every_setting(["a", "b"], [*depths, None]):
        orders = [
            [line.previous_rank for line in setting.build(them).rank("q", documents)] for them in (members, remembering)
        ]
        assert orders[0] == orders[1], str(setting)


def test_each_document_is_asked_about_once():
    member = Reads()
    remembering = RememberingReranker(reranker=member)
    documents = [Document(page_content=f"{n}.0", id=str(n)) for n in range(20)]
    for setting in every_setting(["a"], [5, 10, None]):
        setting.build({"a": remembering}).rank("q", documents)
    assert len(member._calls) == len(set(member._calls)) == 20


def test_errors_are_not_remembered_and_come_through():
    fails = iter([True, False])

    def function(query, texts):
        if next(fails):
            raise OSError(DOWN)
        return [1.0] * len(texts)

    remembering = RememberingReranker(reranker=FunctionReranker(function=function))
    documents = [Document(page_content="a")]
    with pytest.raises(OSError, match=DOWN):
        remembering.rank("q", documents)
    assert remembering.rank("q", documents)[0].score == 1.0
    assert remembering.rank("q", documents)[0].score == 1.0


def test_what_a_member_drops_or_cannot_judge_stays_so():
    from langchain_rerankkit.records import DetailedScores

    class Drops(Reranker):
        def _score(self, query, texts):
            return DetailedScores([3.0, 2.0, 1.0], [{}] * 3, unjudged={1}, dropped={0})

    for member in (Drops(), RememberingReranker(reranker=Drops())):
        ranked = member.rank("q", ["a", "b", "c"])
        assert [(line.previous_rank, line.status) for line in ranked] == [(3, "ok"), (2, "unjudged")]


@given(
    st.integers(1, 8).flatmap(
        lambda n: st.lists(st.lists(st.integers(0, 4).map(float), min_size=n, max_size=n), min_size=2, max_size=6)
    ),
    st.lists(st.integers(0, 20).map(lambda tenths: tenths / 10), min_size=6, max_size=6),
)
def test_as_good_is_within_one_standard_error_of_the_paired_difference(columns, taken):
    settings = [None, *(Setting((Step(depth, (("a", 1.0),)),)) for depth in range(1, len(columns)))]
    values = dict(zip(settings, columns, strict=True))
    predicted = dict(zip(settings, [0.0, *taken], strict=False))
    chosen = within_noise(values, Times(predicted, dict(predicted)), budget=1.0)
    fitting = [setting for setting in settings if predicted[setting] <= 1.0]
    best = np.array(max((values[setting] for setting in fitting), key=sum))
    assert set(chosen) <= set(fitting)
    assert [predicted[setting] for setting in chosen] == sorted(predicted[setting] for setting in chosen)
    tops = [one for one in fitting if sum(values[one]) == best.sum()]
    assert set(chosen) & set(tops)
    if len(tops) > 1:
        return  # of several best ones any may be the measure
    assert predicted[chosen[0]] <= predicted[tops[0]]
    for setting in fitting:
        behind = best - np.array(values[setting])
        error = behind.std(ddof=1) / math.sqrt(len(behind)) if len(behind) > 1 else 0.0
        if abs(behind.mean() - error) > 1e-9:
            assert (setting in chosen) == (behind.mean() < error)


def broken(*_):
    raise OSError(DOWN)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"rerankers": []}, "one to four"),
        ({"rerankers": ["lexical"] * 2}, "called alike"),
        ({"rerankers": ["lexical?top_n=5"]}, "top_n"),
        ({"rerankers": ["lexica"]}, "Did you mean 'lexical'"),
        ({"rerankers": {"a": len}}, "no Reranker"),
        ({"budgets": []}, "at least one budget"),
        ({"budgets": [0]}, "above 0"),
        ({"budgets": [math.nan, 1.0]}, "above 0"),
        ({"budgets": [1.0, math.nan]}, "above 0"),
        ({"budgets": [0.1 + 0.2, 0.3]}, "both called 300 ms"),
        ({"depths": [0]}, "at least 1"),
        ({"metric": "nonsense"}, "Unknown metric"),
        ({"share": 1.0}, "share"),
        ({"candidates": ContextualCompressionRetriever(
            base_retriever=FixedRetriever(documents=[]), base_compressor=LexicalReranker())}, "without a compressor"),
        ({"candidates": {"other": ["1-1"]}}, "answers none of the questions"),
        ({"candidates": FixedRetriever(documents=[])}, r"both gold and candidates\.$"),
        ({"candidates": RunnableLambda(broken)}, f"first stage failed at all 2 .*at '.': OSError: {DOWN}"),
    ],
)  # fmt: skip
def test_mistakes_are_said_before_anything_is_asked(arguments, why):
    dataset, run = words(questions=4)
    with pytest.raises((ValueError, TypeError), match=why):
        tune(dataset, **{"candidates": run, "rerankers": ["lexical"], **arguments})


class Fails(LexicalReranker):
    """At some questions, and of those only with so many documents."""

    at: set[str] = set()
    on: int = 20

    def _score_many(self, requests):
        answers = super()._score_many(requests)
        return [
            OSError(DOWN) if request.query in self.at and len(request.texts) == self.on else answer
            for request, answer in zip(requests, answers, strict=True)
        ]


@pytest.mark.parametrize("when", ["times are taken", "all is judged", "a setting is tried"])
def test_a_reranker_that_fails_is_an_error_with_its_name_and_the_question(when):
    dataset, run = words(questions=30)
    tuning, _ = dataset.split(0.5)
    half = {question.text: question.id for question in tuning.questions}
    fails = Fails(at=set(half), on=5 if when == "a setting is tried" else 20)
    if when == "all is judged":
        timed = {text for text, id_ in half.items() if id_ in random.Random(0).sample(sorted(half.values()), 1)}
        fails = Fails(at=set(half) - timed, statistics=TermStatistics.from_texts(["a"]))
    elif when == "a setting is tried":
        fails = Fails(at={text for text in half if text != next(iter(half))})
    with pytest.raises(RerankKitError, match=rf"^'fails' failed at question '\d+': OSError: {DOWN}") as caught:
        tune(dataset, run, {"fails": fails}, sample=1, budgets=[10.0], depths=[])
    assert isinstance(caught.value.__cause__, OSError)
    id_ = str(caught.value).split("'")[3]
    assert id_ in half.values()


def test_a_reranker_that_fails_at_the_held_out_half_is_said():
    dataset, run = words(questions=30)
    _, held_out = dataset.split(0.5)
    fails = Fails(at={held_out.questions[0].text})
    found = tune(dataset, run, {"fails": fails}, budgets=[10.0], depths=[])
    assert f"failed at 1 of {len(held_out.questions)} questions, which count as nothing found: OSError: {DOWN}" in str(
        found
    )


@pytest.mark.parametrize("alone", [True, False])
def test_what_is_remembered_is_of_the_document_as_its_member_reads_it(alone):
    statistics = TermStatistics.from_texts(["alpha", "beta"]) if alone else None
    member = LexicalReranker(document_text=["title"], statistics=statistics)
    titles = [("", "alpha"), ("same", "beta"), ("same", "alpha"), ("", "")]
    documents = [Document(page_content=text, metadata={"title": title}) for text, title in titles]
    for reranker in (member, EnsembleReranker(rerankers=[member])):
        orders = [
            [(line.previous_rank, line.status) for line in one.rank("alpha", documents)]
            for one in (reranker, RememberingReranker(reranker=reranker))
        ]
        assert orders[0] == orders[1]
    scores = {line.previous_rank: line.score for line in RememberingReranker(reranker=member).rank("alpha", documents)}
    assert scores == {line.previous_rank: line.score for line in member.rank("alpha", documents)}
    assert scores[3] > scores[2]
