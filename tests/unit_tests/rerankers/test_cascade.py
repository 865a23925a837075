import asyncio
import itertools
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from pydantic import ValidationError

from langchain_rerankkit import (
    CachedReranker,
    CascadeReranker,
    EnsembleReranker,
    FallbackReranker,
    FunctionReranker,
    LexicalReranker,
    Reranker,
    ScoreError,
    TermStatistics,
)
from langchain_rerankkit.records import DetailedScores
from langchain_rerankkit.rerankers import staged
from langchain_rerankkit.rerankers.staged import Cost
from langchain_rerankkit.testing import RerankerTests
from tests.hosted import hosted
from tests.rerank_fakes import FAKES
from tests.rerank_server import serve

STATISTICS = TermStatistics.from_texts(RerankerTests.texts)


class TestCascadeReranker(RerankerTests):
    """All documents are judged by the last stage, whose scores mean something."""

    required_module = "Stemmer"
    loadable = (LexicalReranker, TermStatistics)

    def make_reranker(self, **fields):
        return CascadeReranker([LexicalReranker(b=0.1), LexicalReranker(statistics=STATISTICS)], **fields)


class TestCascadeRerankerThatKeepsTheRest(RerankerTests):
    """Under a budget, with a head and a tail: scores say the order."""

    required_module = "Stemmer"
    loadable = (LexicalReranker, TermStatistics)

    def make_reranker(self, **fields):
        stages = [LexicalReranker(top_n=4), LexicalReranker(statistics=STATISTICS, top_n=2)]
        return CascadeReranker(stages, keep_rest=True, budget=30.0, **fields)


class Numbers(Reranker):
    """Judges a text by a number that stands in it, and takes its time."""

    column: int = 0
    seconds: float = 0.0  # for each text
    once: float = 0.0  # for each call
    model: str = "numbers"
    _seen: list = []

    def _score_many(self, requests):
        time.sleep(self.once + self.seconds * sum(len(request.texts) for request in requests))
        self._seen.append([request.texts for request in requests])
        return [[float(text.split()[self.column]) for text in request.texts] for request in requests]


def numbers(column=0, **fields):
    reranker = Numbers(column=column, model=f"column {column}", **fields)
    reranker._seen = []
    return reranker


def texts(*rows):
    return [" ".join(map(str, row)) for row in rows]


def places(ranking):
    """Where the documents stood before."""
    return [line.previous_rank - 1 for line in ranking]


def stages(ranking):
    return ranking[0].details["stages"]


ROWS = st.lists(st.tuples(*[st.integers(-3, 3)] * 3), min_size=1, max_size=12)
CUTS = st.tuples(*[st.none() | st.integers(1, 12)] * 3)


@settings(max_examples=60)
@given(ROWS, CUTS, st.none() | st.integers(1, 12), st.booleans(), st.none() | st.integers(1, 12))
def test_each_stage_judges_what_the_one_before_kept(rows, cuts, candidates, keep_rest, top_n):
    documents = texts(*rows)
    cascade = CascadeReranker(
        [numbers(column, top_n=cut) for column, cut in enumerate(cuts)],
        candidates=candidates,
        keep_rest=keep_rest,
        top_n=top_n,
    )
    ranking = cascade.rank("q", documents)
    # The same with sorted() and slices.
    head, tail, judged = (
        list(range(len(rows)))[:candidates],
        list(range(len(rows)))[candidates:] if candidates else [],
        {},
    )
    for column, cut in enumerate(cuts):
        judged |= {place: (column + 1, float(rows[place][column])) for place in head}
        head = sorted(head, key=lambda place: -rows[place][column])
        head, tail = head[:cut], (head[cut:] if cut else []) + tail
    if keep_rest:
        equal = {}  # texts share the better place
        for place in head + tail:
            equal.setdefault((documents[place], judged.get(place, (0,))[0]), []).append(place)
        expected = [place for group in equal.values() for place in sorted(group)]
    else:
        expected = sorted(head, key=lambda place: (-rows[place][2], place))  # ties of the scores shown keep their order
    assert places(ranking) == expected[:top_n]
    for line in ranking:
        place = line.previous_rank - 1
        assert (line.details.get("stage"), line.details.get("stage_score")) == judged.get(place, (None, None))
        assert line.status == ("ok" if place in judged else "unjudged")
        if not keep_rest:
            assert line.score == rows[place][2]
    kept = [(stage["judged"], stage["kept"]) for stage in stages(ranking)]
    sizes = [len(rows) if candidates is None else min(candidates, len(rows))]
    for cut in cuts:
        sizes.append(min(sizes[-1], cut or sizes[-1]))
    assert kept == list(itertools.pairwise(sizes))


def test_a_member_is_asked_for_what_it_judges_and_for_nothing_else():
    cheap, strong = numbers(0, top_n=2), numbers(1, top_n=1)
    ranking = CascadeReranker([cheap, strong]).rank("q", texts((1, 9), (3, 1), (2, 5)))
    assert cheap._seen == [[texts((1, 9), (3, 1), (2, 5))]]
    assert strong._seen == [[texts((3, 1), (2, 5))]]
    (line,) = ranking
    assert (line.score, line.previous_rank) == (5.0, 3)
    assert [{**stage, "seconds": 0} for stage in stages(ranking)] == [
        {"model": "column 0", "judged": 3, "kept": 2, "seconds": 0},
        {"model": "column 1", "judged": 2, "kept": 1, "seconds": 0},
    ]


def test_scores_thresholds_and_raw_scores_are_those_of_the_last_stage():
    class Halved(Numbers):
        def _activate(self, raw_score):
            return raw_score / 2

    last = Halved(column=1)
    cascade = CascadeReranker([numbers(0, top_n=2), last], min_score=1.0)
    (line,) = cascade.rank("q", texts((3, 1), (2, 2), (1, 9)))
    assert (line.score, line.raw_score, line.details["stage_score"]) == (1.0, 2.0, 1.0)
    for fields in ({"keep_rest": True}, {"budget": 1.0}, {"margin": 0.1}):
        with pytest.raises(ValidationError, match="min_score"):
            CascadeReranker([numbers(0, top_n=2), last], min_score=1.0, **fields)
    with pytest.raises(ValidationError, match="min_score"):
        cascade.rank("q", ["1 1"], budget=1.0)
    with pytest.raises(ValidationError, match="min_score"):
        CascadeReranker([numbers(), EnsembleReranker(rerankers=[numbers()])], min_score=1.0)


def test_members_may_cut_but_neither_threshold_nor_hide_errors():
    for fields in ({"min_score": 0.1}, {"on_error": "keep_order"}):
        with pytest.raises(ValidationError, match="Set min_score and on_error on the CascadeReranker"):
            CascadeReranker([numbers(**fields)])
    with pytest.raises(ValidationError):
        CascadeReranker([])


# --- a clear top ------------------------------------------------------------------------------------------------------


def test_a_clear_top_needs_no_other_stage():
    first, second = numbers(0), numbers(1, top_n=2)
    cascade = CascadeReranker([first, second, numbers(2)], margin=2.0)
    clear, unclear = texts((1, 5, 0), (4, 1, 0), (2, 2, 0)), texts((1, 5, 1), (3, 1, 0), (2, 2, 2))
    inputs = [{"query": "q", "documents": [Document(page_content=t) for t in some]} for some in (clear, unclear)]
    one, other = cascade.batch(inputs)
    assert [document.page_content for document in one] == [clear[1], clear[2]]  # the skipped stage's cut applies
    about = one[0].metadata["rerank"]
    assert (about["stage"], about["stage_score"]) == (1, 4.0)
    assert [stage.get("skipped") for stage in about["stages"]] == [None, "clear", "clear"]
    # Both judged by the first, the second alone by the others: its third document was clear after the second stage.
    assert first._seen == [[clear, unclear]]
    assert second._seen == [[[unclear[1], unclear[2], unclear[0]]]]
    assert [document.page_content for document in other] == [unclear[0], unclear[2]]
    assert [stage.get("skipped") for stage in other[0].metadata["rerank"]["stages"]] == [None, None, "clear"]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6))
def test_a_top_is_clear_when_the_second_is_at_least_the_margin_behind(values):
    cascade = CascadeReranker([numbers(0), numbers(0)], margin=3.0)
    first, second, *_ = [*sorted(values, reverse=True), -100]
    assert ("skipped" in stages(cascade.rank("q", [str(value) for value in values]))[1]) == (first - second >= 3)


def test_a_top_is_not_clear_where_others_were_not_judged():
    class First(Reranker):
        def _score(self, query, texts):
            return DetailedScores([0.5] * len(texts), [{}] * len(texts), unjudged=set(range(1, len(texts))))

    nan = FunctionReranker(function=lambda _, texts: [1.0, *[math.nan] * (len(texts) - 1)], on_nan="last")
    for first in (First(), nan):
        cascade = CascadeReranker([first, numbers(0)], margin=0.1)
        assert "skipped" not in stages(cascade.rank("q", ["1", "2", "3"]))[1]
        assert stages(cascade.rank("q", ["1"]))[1]["skipped"] == "clear"


def test_a_margin_is_refused_where_scores_only_say_the_order():
    listwise = EnsembleReranker(rerankers=[numbers()])
    with pytest.raises(ValidationError, match="margin needs scores"):
        CascadeReranker([listwise, numbers()], margin=0.1)
    assert CascadeReranker([numbers(), listwise], margin=0.1).rank("q", ["1", "2"])


# --- a budget ---------------------------------------------------------------------------------------------------------


class Clock:
    """Time that passes only where somebody sleeps."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(time, "sleep", self.sleep)

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


MANY = texts(*((n, -n) for n in range(100)))


def test_a_stage_judges_as_many_as_there_is_time_for(clock):
    strong = numbers(1, seconds=0.01)
    cascade = CascadeReranker([numbers(0, top_n=50), strong], budget=0.305, keep_rest=True)
    for _ in range(3):
        strong._seen.clear()
        start = clock.now
        ranking = cascade.rank("q", MANY)
        assert clock.now - start <= 0.305
        stage = stages(ranking)[1]
        assert (stage["shortened"], stage["judged"], stage["kept"]) == ("budget", 30, 50)
        # The thirty best of the first stage as the second orders them, then the others as the first does.
        assert places(ranking) == [*range(70, 100), *range(69, -1, -1)]
        assert [line.details["stage"] for line in ranking] == [2] * 30 + [1] * 70
    assert [len(texts) for (texts,) in strong._seen] == [30]  # at once, since by now it is known
    cascade = CascadeReranker([numbers(0, top_n=50), strong], keep_rest=True)
    assert cascade.rank("q", MANY, budget=1.0)[0].details["stages"][1]["judged"] == 50
    assert "shortened" not in stages(cascade.rank("q", MANY))[1]


def test_a_stage_that_would_not_fit_is_skipped_and_its_cut_still_applies(clock):
    strong = numbers(1, seconds=0.2, top_n=10)
    cascade = CascadeReranker([numbers(0, top_n=50), strong])
    for _ in range(2):
        cascade.rank("q", MANY)
    strong._seen.clear()
    ranking = cascade.rank("q", MANY, budget=0.5)
    assert places(ranking) == list(range(99, 89, -1))
    assert not strong._seen
    stage = stages(ranking)[1]
    assert (stage["skipped"], stage["judged"], stage["kept"]) == ("budget", 0, 10)
    assert {line.details["stage"] for line in ranking} == {1}


def test_a_stage_that_was_too_slow_gets_another_chance(clock, monkeypatch):
    strong = numbers(1, seconds=0.2)
    cascade = CascadeReranker([numbers(0, top_n=50), strong], keep_rest=True)
    for _ in range(3):
        cascade.rank("q", MANY)
    strong.seconds = 0.0
    assert stages(cascade.rank("q", MANY, budget=0.5))[1]["judged"] == 0
    clock.sleep(staged._OLD + 1)
    assert stages(cascade.rank("q", MANY, budget=0.5))[1]["judged"] == 0  # which forgets
    assert stages(cascade.rank("q", MANY, budget=0.5))[1]["judged"] == 50


def test_the_first_stage_always_begins(clock):
    first = numbers(0, seconds=1.0)
    cascade = CascadeReranker([first, numbers(1)])
    for _ in range(2):
        cascade.rank("q", MANY)
    ranking = cascade.rank("q", MANY, budget=2.0)
    assert [stage["judged"] for stage in stages(ranking)] == [4, 0]
    assert places(ranking) == [3, 2, 1, 0, *range(4, 100)]
    assert [line.status for line in ranking] == ["ok"] * 4 + ["unjudged"] * 96


def test_a_batch_shares_the_budget(clock):
    strong = numbers(1, seconds=0.01)
    cascade = CascadeReranker([numbers(0), strong])
    sizes = [100, 3, 40]
    inputs = [{"query": "q", "documents": [Document(page_content=t) for t in MANY[:size]]} for size in sizes]
    for _ in range(2):
        cascade.batch(inputs)
    strong._seen.clear()
    results = cascade.batch(inputs, budget=0.435)
    assert [result[0].metadata["rerank"]["stages"][1]["judged"] for result in results] == [20, 3, 20]
    assert len(strong._seen) == 1


@pytest.mark.parametrize("queries", [1, 2, 30])
def test_what_is_known_of_few_documents_bounds_a_pass_and_skips_nothing(clock, queries):
    strong = numbers(1)
    cascade = CascadeReranker([numbers(0, top_n=20), strong], budget=5.0)
    cascade.rank("q", MANY[:5])
    known = 5
    strong._seen.clear()
    results = cascade.batch([{"query": "q", "documents": [Document(page_content=t) for t in MANY]}] * queries)
    for result in results:
        stage = result[0].metadata["rerank"]["stages"][1]
        assert (stage["judged"], stage.get("shortened")) == (20, None)
    for one_pass in strong._seen:
        size = sum(map(len, one_pass))
        assert size <= max(4 * known, 4 * queries)
        known = max(known, size)


def test_documents_that_a_cache_knew_do_not_tell_what_a_stage_costs(clock):
    cascade = CascadeReranker([numbers(0, top_n=20), CachedReranker(numbers(1, seconds=0.02))], budget=0.31)
    for _ in range(12):
        ranking = cascade.rank("q", MANY)
    assert stages(ranking)[1]["judged"] == 20
    start = clock.now
    for query in ("another", "one more"):
        assert stages(cascade.rank(query, MANY))[1]["judged"] == 15
    assert clock.now - start <= 0.62


def test_a_stage_of_which_a_cache_knows_all_is_soon_through():
    asked = []

    class Asked(CachedReranker):
        def _score_many(self, requests):
            asked.append(sum(len(request.texts) for request in requests))
            return super()._score_many(requests)

    cached = Asked(numbers(1))
    cached.rank("q", MANY)
    asked.clear()
    assert stages(CascadeReranker([numbers(0), cached], budget=20.0).rank("q", MANY))[1]["judged"] == 100
    assert asked == [4, 4, 8, 16, 32, 36]


def test_one_that_hangs_is_left_behind():
    release = threading.Event()

    def hang(query, texts):
        release.wait(20)
        return [0.0] * len(texts)

    async def ahang(query, texts):
        await asyncio.sleep(20)

    hanging = FunctionReranker(function=hang, afunction=ahang)
    try:
        for members, expected, status in (
            ([numbers(0, top_n=50), hanging], list(range(99, -1, -1)), "ok"),
            ([hanging, numbers(0)], list(range(100)), "unjudged"),
        ):
            cascade = CascadeReranker(members, budget=0.2, keep_rest=True)
            inputs = {"query": "q", "documents": [Document(page_content=t, id=str(n)) for n, t in enumerate(MANY)]}
            for call in (lambda: cascade.invoke(inputs), lambda: asyncio.run(cascade.ainvoke(inputs))):  # noqa: B023
                start = time.monotonic()
                result = call()
                assert time.monotonic() - start < 2.0
                assert [int(document.id) for document in result] == expected
                about = result[0].metadata["rerank"]
                assert about["status"] == status
                assert about["stages"][members.index(hanging)]["skipped"] == "budget"
            cascade.close()
    finally:
        release.set()


def test_candidates_judged_before_a_pass_hangs_stay_judged():
    release, calls = threading.Event(), []

    def score(query, texts):
        calls.append(len(texts))
        if len(calls) > 2:
            release.wait(20)
        return [float(text.split()[1]) for text in texts]

    try:
        cascade = CascadeReranker([numbers(0), FunctionReranker(function=score)], budget=0.3)
        ranking = cascade.rank("q", MANY)
    finally:
        release.set()
    assert calls == [4, 4, 16]
    assert (stages(ranking)[1]["judged"], stages(ranking)[1]["shortened"]) == (8, "budget")
    assert places(ranking)[:9] == [92, 93, 94, 95, 96, 97, 98, 99, 91]


def test_a_stage_whose_scores_depend_on_the_others_is_asked_once(clock):
    class Relative(Numbers):
        @property
        def judges_alone(self):
            return False

    strong = Relative(column=1, seconds=0.01)
    strong._seen = []
    cascade = CascadeReranker([numbers(0, top_n=50), strong], budget=1.0)
    cascade.rank("q", MANY)
    cascade.rank("q", MANY)
    assert [len(texts) for (texts,) in strong._seen] == [50, 50]
    strong._seen.clear()
    assert stages(cascade.rank("q", MANY, budget=0.2))[1]["judged"] == 20
    assert [len(texts) for (texts,) in strong._seen] == [20]


def test_members_are_told_how_long_they_have():
    told = []

    class Told(FallbackReranker):
        def _score_many(self, requests):
            told.append(("deadline", self.deadline))
            return super()._score_many(requests)

    class Nested(CascadeReranker):
        def _score_many(self, requests):
            told.append(("budget", self.budget))
            return super()._score_many(requests)

    members = [
        Told([numbers()], keep_order=False),
        Nested([numbers()], keep_rest=True),
        Nested([numbers()]),
        Told([numbers()], keep_order=False, deadline=2.0),
    ]
    CascadeReranker(members, budget=10.0).rank("q", ["1", "2"])
    names, seconds = zip(*told, strict=True)
    assert names == ("deadline", "budget", "budget", "deadline")
    assert seconds[0] == pytest.approx(10.0, abs=1.0)
    assert seconds[1] == pytest.approx(9.0, abs=1.0)
    assert seconds[2] is None  # its scores would not mean the same
    assert seconds[3] == 2.0


def test_an_endpoint_that_does_not_answer_is_left_behind_too():
    fake = FAKES["cohere"]()

    def slow(_):
        time.sleep(1.0)
        return fake.error(503, "away")

    with serve(slow) as server:
        with CascadeReranker([numbers(0), hosted("cohere", server.url, backoff=5)], budget=0.3) as cascade:
            ranking = cascade.rank("q", ["1", "2"])
    assert places(ranking) == [1, 0]
    assert stages(ranking)[1]["skipped"] == "budget"


def test_many_threads_at_the_same_time():
    cascade = CascadeReranker([numbers(0, top_n=50), numbers(1, once=0.01)], budget=20.0)
    with ThreadPoolExecutor(16) as threads:
        rankings = list(threads.map(lambda _: cascade.rank("q", MANY), range(64)))
    assert {tuple(places(ranking)) for ranking in rankings} == {tuple(range(50, 100))}
    cascade.close()


# --- what a stage costs -----------------------------------------------------------------------------------------------


def cost_of(*passes):
    cost = Cost()
    cost.add(1, 1e6)  # the first is not counted
    for documents, seconds in passes:
        cost.add(documents, seconds)
    return cost


@given(st.floats(0, 1), st.floats(0.001, 1), st.lists(st.integers(1, 100), min_size=2, max_size=30), st.floats(0, 10))
def test_what_a_line_costs_is_found(once, each, sizes, seconds):
    if len(set(sizes[-20:])) < 2:
        sizes = [*sizes, sizes[-1] + 1]
    found = cost_of(*((size, once + each * size) for size in sizes)).documents(seconds)
    assert found == pytest.approx(max(0.0, (seconds - once) / each), rel=1e-6, abs=1e-6)


def test_nothing_is_known_before_the_second_pass():
    assert Cost().documents(1.0) is None
    assert cost_of().documents(1.0) is None
    assert cost_of((10, 1.0)).documents(0.5) == pytest.approx(5.0)


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=20), st.floats(0.01, 20))
def test_what_is_said_to_fit_would_have_fit_nine_times_out_of_ten(taken, seconds):
    """Passes of one size: no line to be found, and no assumption about how they differ."""
    fits = sum(one <= seconds for one in taken) >= 0.9 * len(taken)
    enough = seconds >= sum(taken) / len(taken)
    said = cost_of(*((10, one) for one in taken)).documents(seconds)
    assert (said > 10 - 1e-6) == (fits and enough) or said == pytest.approx(10)


def test_a_stage_that_costs_the_same_for_any_number_takes_all_or_none():
    cost = cost_of((4, 0.2), (30, 0.2), (10, 0.2))
    assert cost.documents(0.3) == math.inf
    assert cost.documents(0.1) == 0.0
    assert cost.most() == 4 * 30


def test_only_old_passes_are_forgotten(clock):
    cost = cost_of((10, 1.0))
    clock.sleep(staged._OLD / 2)
    cost.add(10, 2.0)
    cost.forget()
    assert cost.documents(3.0) < 20
    clock.sleep(staged._OLD / 2 + 1)
    cost.forget()
    assert cost.documents(2.0) == pytest.approx(10.0)


# --- the rest ---------------------------------------------------------------------------------------------------------


def test_what_a_stage_leaves_out_on_purpose_stays_out():
    class Drops(Reranker):
        def _score(self, query, texts):
            return DetailedScores([float(n) for n in range(len(texts))], [{}] * len(texts), dropped={0, 2})

    cascade = CascadeReranker([Drops(), numbers(0)], keep_rest=True)
    assert places(cascade.rank("q", ["5", "1", "9", "3"])) == [3, 1]


def test_what_a_stage_could_not_judge_goes_behind_what_it_could():
    some = FunctionReranker(
        function=lambda _, texts: [float("nan") if t == "2" else float(t) for t in texts], on_nan="last"
    )
    ranking = CascadeReranker([numbers(0), some], keep_rest=True).rank("q", ["1", "2", "3"])
    assert places(ranking) == [2, 0, 1]
    assert [line.details["stage"] for line in ranking] == [2, 2, 1]
    # Where scores are those of the last stage, it has none.
    assert [line.status for line in CascadeReranker([numbers(0), some]).rank("q", ["1", "2", "3"])] == [
        *("ok", "ok", "unjudged")
    ]
    ranking = CascadeReranker([some, some], keep_rest=True).rank("q", ["1", "2", "3"])
    assert [line.status for line in ranking] == ["ok", "ok", "unjudged"]
    assert "stage" not in ranking[2].details


@pytest.mark.parametrize("blanks", [0, 1, 4])
def test_blank_documents_take_what_places_the_cuts_leave_free(blanks):
    documents = [*["1", "2", "3"], *[" "] * blanks]
    for members, fields in (
        ([numbers(0, top_n=2), numbers(0)], {}),
        ([numbers(0), numbers(0, top_n=2)], {}),
        ([numbers(0)], {"candidates": 2}),
    ):
        cascade = CascadeReranker(members, **fields)
        assert [line.document.page_content for line in cascade.rank("q", documents)] in (["3", "2"], ["2", "1"])
        assert [line.rank for line in cascade.rank("q", documents[2:])] == list(range(1, 2 + min(blanks, 1)))
        assert len(CascadeReranker(members, **fields, keep_rest=True).rank("q", documents)) == len(documents)
    assert len(CascadeReranker([numbers(0)]).rank("q", documents)) == len(documents)


def test_errors_that_queries_share_say_what_each_of_them_spent():
    class Paid(Numbers):
        def _score_many(self, requests):
            return [
                DetailedScores(scores, [{"usage": {"requests": 1}} for _ in scores])
                for scores in super()._score_many(requests)
            ]

    class Down(Reranker):
        def _score_many(self, requests):
            msg = "down"
            raise RuntimeError(msg)

    inputs = [{"query": q, "documents": [Document(page_content="1")]} for q in "abcd"]
    results = CascadeReranker([Paid(), Down()], on_error="keep_order").batch(inputs)
    assert [result[0].metadata["rerank"]["usage"] for result in results] == [{"requests": 1}] * 4


@pytest.mark.parametrize(
    ("fields", "kept"), [({}, True), ({"budget": 9.0}, True), ({"keep_rest": True}, False), ({"margin": 9.0}, False)]
)
def test_members_hear_of_their_cut_where_nothing_behind_it_is_needed(fields, kept):
    told = []

    class Told(Numbers):
        def _score_many(self, requests):
            told.append(self.top_n)
            return super()._score_many(requests)

    class Ordering(Told):
        """As one does that puts only so many in order, and all the others behind."""

        @property
        def scores_are(self):
            return "rank"

    rankings = CascadeReranker([Told(top_n=3), Ordering(top_n=2)], **fields).rank("q", ["3", "2", "1", "0"])
    assert told == [3 if kept else None, 2]
    assert len(rankings) == (4 if "keep_rest" in fields else 2)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_failing_stage_fails_its_query_alone_and_says_what_was_spent(asynchronous):
    class Paid(Numbers):
        def _score_many(self, requests):
            return [
                DetailedScores(scores, [{"usage": {"requests": 1, "cost": 0.5}} for _ in scores])
                for scores in super()._score_many(requests)
            ]

    def picky(query, texts):
        if query == "bad":
            msg = "no"
            raise RuntimeError(msg)
        return [float(text) for text in texts]

    cascade = CascadeReranker([Paid(), FunctionReranker(function=picky), Paid()])
    inputs = [{"query": q, "documents": [Document(page_content=t) for t in "132"]} for q in ("good", "bad", "fine")]
    for budget in (None, 10.0):
        if asynchronous:
            good, bad, fine = asyncio.run(cascade.abatch(inputs, return_exceptions=True, budget=budget))
        else:
            good, bad, fine = cascade.batch(inputs, return_exceptions=True, budget=budget)
        assert isinstance(bad, RuntimeError)
        assert (
            [document.page_content for document in good]
            == [document.page_content for document in fine]
            == ["3", "2", "1"]
        )
        assert good[0].metadata["rerank"]["usage"] == {"requests": 2, "cost": 1.0}
        assert bad.rerank_details["usage"] == {"requests": 1, "cost": 0.5}
    kept = CascadeReranker(cascade.rerankers, on_error="keep_order").invoke(inputs[1])
    assert [document.metadata["rerank"]["status"] for document in kept] == ["fallback"] * 3
    with pytest.raises(ScoreError):
        CascadeReranker([numbers(), FunctionReranker(function=lambda *_: [1.0])]).rank("q", ["1", "2"])


def test_a_stage_says_who_answered_in_it():
    def broken(query, texts):
        msg = "no"
        raise RuntimeError(msg)

    fallback = FallbackReranker([FunctionReranker(function=broken), numbers(0)], keep_order=False)
    ranking = CascadeReranker([fallback, numbers(0)]).rank("q", ["1", "2"])
    assert stages(ranking)[0]["model"] == "column 0"
    assert stages(ranking)[0]["failed"] == [{"model": "broken", "reason": "RuntimeError"}]
    assert "failed" not in ranking[0].details


def test_no_document_shares_what_it_is_told_with_another():
    first, second = CascadeReranker([numbers(0)]).rank("q", ["1", "2"])
    first.details["stages"][0]["judged"] = -1
    assert second.details["stages"][0]["judged"] == 2


def test_the_trace_shows_the_stages_and_what_members_do():
    collector = RunCollectorCallbackHandler()
    documents = [Document(page_content=text) for text in ("1", "2")]
    cascade = CascadeReranker([numbers(0), numbers(0)], margin=0.5)
    cascade.invoke({"query": "q", "documents": documents}, {"callbacks": [collector]})
    (run,) = collector.traced_runs
    assert run.outputs["model"] == "column 0 then column 0"
    assert [stage.get("skipped") for stage in run.outputs["stages"]] == [None, "clear"]
    assert "stage" not in run.outputs
