import asyncio
import copy
import threading
from contextvars import ContextVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_classic.retrievers import EnsembleRetriever
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import ConfigurableField, RunnableLambda
from langchain_core.tracers.context import collect_runs
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_tests.integration_tests.retrievers import RetrieversIntegrationTests
from pydantic import ValidationError

from langchain_rerankkit import FAISS, ContextualCompressionRetriever, FunctionReranker, FusionRetriever, ScoreError
from langchain_rerankkit.ranking import fuse_rankings
from langchain_rerankkit.testing import FixedRetriever

TEXTS = [f"text {letter}" for letter in "abcdefgh"]


def make(*lists, **fields):
    """A fusion of lists of documents, of ids, or of pairs of id and score."""
    retrievers = [FixedRetriever(documents=[as_document(item) for item in one]) for one in lists]
    return FusionRetriever(retrievers=retrievers, **fields)


def as_document(item):
    if isinstance(item, Document):
        return item
    id_, metadata = (item, {}) if isinstance(item, str) else (item[0], {"relevance_score": item[1]})
    return Document(id=id_, page_content=f"text {id_}", metadata=metadata)


def ids(documents):
    return [document.id for document in documents]


class Failing(BaseRetriever):
    def _get_relevant_documents(self, query, *, run_manager):
        if query == "fine":
            return [as_document("x")]
        msg = "secret in the message"
        raise ConnectionError(msg)


class TestStandard(RetrieversIntegrationTests):
    @property
    def retriever_constructor(self):
        return FusionRetriever

    @property
    def retriever_constructor_params(self):
        return {"retrievers": [FixedRetriever(documents=list(map(as_document, order))) for order in ("abcd", "dcef")]}

    @property
    def retriever_query_example(self):
        return "q"


ways = pytest.mark.parametrize(
    "ask",
    [
        lambda retriever, query, **options: retriever.invoke(query, **options),
        lambda retriever, query, **options: asyncio.run(retriever.ainvoke(query, **options)),
        lambda retriever, query, **options: retriever.batch(["fine", query], **options)[1],
        lambda retriever, query, **options: asyncio.run(retriever.abatch(["fine", query], **options))[1],
    ],
    ids=["invoke", "ainvoke", "batch", "abatch"],
)


# --- fusion -----------------------------------------------------------------------------------------------------------


def names_of(order):
    return [document.page_content for document in order]


@given(
    st.lists(st.lists(st.sampled_from(TEXTS), unique=True, max_size=8), min_size=1, max_size=4),
    st.one_of(st.none(), st.lists(st.integers(1, 5), min_size=4, max_size=4)),
    st.integers(1, 80),
)
def test_it_orders_as_langchains_ensemble_does(lists, weights, c):
    retrievers = [FixedRetriever(documents=[Document(page_content=text) for text in texts]) for texts in lists]
    fields = {"retrievers": retrievers, "c": c, "weights": weights and list(map(float, weights[: len(lists)]))}
    theirs = names_of(EnsembleRetriever(**fields).invoke("q"))
    ours = FusionRetriever(**fields).invoke("q")
    score = {document.page_content: document.metadata["relevance_score"] for document in ours}
    # Sums that are equal but for rounding may be ordered either way there.
    assert [score[text] for text in theirs] == pytest.approx([score[text] for text in names_of(ours)], abs=1e-12)
    assert sorted(theirs) == sorted(names_of(ours))
    if len(lists) <= 2:
        assert theirs == names_of(ours)


@ways
@pytest.mark.parametrize("method", ["rrf", "z-score", "min-max", "sum"])
def test_scores_are_those_of_the_arithmetic_and_their_origin_is_told(ask, method):
    first, second = [("a", 3.0), ("b", 2.5), ("c", 0.5)], [("c", -1.0), ("d", -1.5), ("b", -4.0)]
    retriever = make(first, second, weights=[1.0, 0.5], method=method, names=["lexical", "dense"])
    found = ask(retriever, "q")
    expected = fuse_rankings([dict(first), dict(second)], method=method, weights=[1.0, 0.5])
    assert ids(found) == list(expected)
    for document in found:
        assert document.metadata["relevance_score"] == document.metadata["fusion"]["score"] == expected[document.id]
        assert list(document.metadata)[-1] == "relevance_score"
    origins = {document.id: document.metadata["fusion"]["lists"] for document in found}
    assert origins["b"] == [
        {"retriever": "lexical", "rank": 2, "score": 2.5},
        {"retriever": "dense", "rank": 3, "score": -4.0},
    ]
    assert origins["d"] == [{"retriever": "dense", "rank": 2, "score": -1.5}]


@ways
def test_k_cuts_after_the_fusion(ask):
    retriever = make("abc", "cba", "cxy", k=2)
    assert len(ask(retriever, "q")) == 2
    assert ids(ask(retriever, "q", k=1)) == ["c"]
    assert len(ask(make("abc", "cxy"), "q")) == 5
    with pytest.raises(ValueError, match="at least 1"):
        ask(retriever, "q", k=0)


def test_what_the_retrievers_return_is_not_changed():
    documents = [Document(page_content="a", metadata={"relevance_score": 0.5, "deep": {"er": 1}}, id="a")]
    before = copy.deepcopy(documents)
    (found,) = make(documents, documents).invoke("q")
    found.metadata["new"] = 1
    assert documents == before
    assert found.metadata["deep"] == {"er": 1}


# --- identity ---------------------------------------------------------------------------------------------------------


def doc(text, id_=None, **metadata):
    return Document(page_content=text, id=id_, metadata=metadata)


def test_documents_of_one_id_are_one_even_where_texts_differ():
    (found,) = make([doc("text", "1")], [doc("text, longer", "1")]).invoke("q")
    assert found.page_content == "text", "the copy of the first retriever that has it"
    assert [one["rank"] for one in found.metadata["fusion"]["lists"]] == [1, 1]


def test_a_document_without_id_is_the_one_of_equal_text_and_gets_its_id():
    found = make([doc("a"), doc("b", from_="first")], [doc("b", "7"), doc("c", "8")]).invoke("q")
    assert [(document.page_content, document.id) for document in found] == [("b", "7"), ("a", None), ("c", "8")]
    assert found[0].metadata["from_"] == "first"


def test_equal_texts_of_two_sources_stay_two():
    assert ids(make([doc("same", "1"), doc("same", "2")], [doc("same", "2"), doc("same", "1")]).invoke("q")) == [
        "1",
        "2",
    ]


def test_a_list_has_one_vote_for_a_document_its_best_rank():
    flooded = [doc(f"chunk {n}", f"long-{n}", source="long") for n in range(5)] + [doc("short", "s", source="short")]
    other = [doc("short", "s", source="short"), doc("chunk 3", "long-3", source="long")]
    found = make(flooded, other, id_key="source").invoke("q")
    scores = [document.metadata["relevance_score"] for document in found]
    assert scores == pytest.approx([1 / 61 + 1 / 62] * 2), "ranks count sources, not chunks"
    theirs = EnsembleRetriever(retrievers=make(flooded, other).retrievers, id_key="source").invoke("q")
    assert theirs[0].metadata["source"] == "long", "there, the long source wins by its number of chunks"


def test_a_function_says_what_is_the_same():
    lists = [doc("A b", "1"), doc("c", "2")], [doc("a  B", "3")]
    found = make(*lists, id_key=lambda document: document.page_content.lower().split()[0]).invoke("q")
    assert ids(found) == ["1", "2"]


def test_a_missing_field_is_said():
    with pytest.raises(ValueError, match=r"no metadata field 'source'.*it has \['page'\]"):
        make([doc("a", page=1)], id_key="source").invoke("q")


@given(
    st.lists(st.lists(st.sampled_from(TEXTS), unique=True, min_size=1, max_size=8), min_size=1, max_size=4),
    st.lists(st.sampled_from(["shared", "own", "none"]), min_size=4, max_size=4),
)
def test_it_does_not_matter_who_gives_ids(lists, schemes):
    def fused(schemes):
        retrievers = []
        for number, (texts, scheme) in enumerate(zip(lists, schemes, strict=False)):
            ids_of = {"shared": "{}".format, "own": f"{number}/{{}}".format, "none": lambda text: None}[scheme]
            retrievers.append(FixedRetriever(documents=[doc(text, ids_of(text)) for text in texts]))
        found = FusionRetriever(retrievers=retrievers).invoke("q")
        return [(document.page_content, document.metadata["fusion"]) for document in found]

    told = [
        (text, {"score": pytest.approx(about["score"]), "lists": about["lists"]}) for text, about in fused(["none"] * 4)
    ]
    assert fused(schemes) == told


def test_documents_meet_across_lists_that_meet_only_by_a_third():
    found = make([doc("t", "1")], [doc("t", "x"), doc("u", "y")], [doc("v", "z"), doc("changed", "x")]).invoke("q")
    assert [document.page_content for document in found] == ["t", "v", "u"]
    assert [one["rank"] for one in found[0].metadata["fusion"]["lists"]] == [1, 1, 2]


# --- scores -----------------------------------------------------------------------------------------------------------

EMBEDDING = DeterministicFakeEmbedding(size=16)


def make_store(kind):
    if kind == "in memory":
        store = InMemoryVectorStore(EMBEDDING)
        store.add_texts(TEXTS, ids=list("abcdefgh"))
        return store
    return FAISS.from_texts(TEXTS, EMBEDDING, ids=list("abcdefgh"), distance=kind)


@ways
@pytest.mark.parametrize("kind", ["euclidean", "cosine", "inner_product", "in memory"])
def test_vector_stores_are_asked_for_scores(ask, kind):
    store = make_store(kind)
    retriever = store.as_retriever(search_kwargs={"k": 5})
    lexical = [("a", 5.0), ("h", 4.0), ("b", 1.0)]
    fused = FusionRetriever(
        retrievers=[FixedRetriever(documents=list(map(as_document, lexical))), retriever], method="z-score"
    )
    pairs = store.similarity_search_with_score("text c", k=5)
    sign = 1 if kind in {"inner_product", "in memory"} else -1
    expected = fuse_rankings(
        [dict(lexical), {document.id: sign * score for document, score in pairs}], method="z-score"
    )
    found = ask(fused, "text c")
    assert {document.id: document.metadata["relevance_score"] for document in found} == pytest.approx(expected)
    assert fused.retrievers[1] is retriever
    assert all("relevance_score" not in document.metadata for document in retriever.invoke("text c"))


def test_options_of_the_stores_retriever_are_kept():
    store = FAISS.from_texts(TEXTS, EMBEDDING, ids=list("abcdefgh"), distance="cosine")
    relevant = store.as_retriever(
        search_type="similarity_score_threshold",
        search_kwargs={"k": 6, "score_threshold": 0.2},
        tags=["mine"],
        name="kept",
    )
    with collect_runs() as collected:
        found = FusionRetriever(retrievers=[relevant], method="min-max", score_key="s").invoke("text c")
    assert ids(found) == ids(relevant.invoke("text c"))
    assert {one["retriever"] for document in found for one in document.metadata["fusion"]["lists"]} == {"kept"}
    (child,) = collected.traced_runs[0].child_runs
    assert (child.name, set(child.tags)) == ("kept", {"mine", "retriever_1"})


@pytest.mark.parametrize("score", [None, float("nan"), "0.7"])
def test_a_list_without_scores_is_refused_by_methods_that_need_them(score):
    lists = [[("a", 1.0)], [doc("b", "b", relevance_score=score)]]
    with pytest.raises(ScoreError, match=r"'FixedRetriever 2'.*Use method='rrf'.*score_key"):
        make(*lists, method="sum", on_error="skip").invoke("q")
    assert ids(make(*lists).invoke("q")) == ["a", "b"]
    store = FAISS.from_texts(TEXTS, EMBEDDING)
    with pytest.raises(ScoreError, match="'mmr'"):
        FusionRetriever(retrievers=[store.as_retriever(search_type="mmr")], method="z-score").invoke("q")


def test_what_a_reranker_did_not_judge_counts_as_its_worst():
    reranker = FunctionReranker(function=lambda query, texts: [float(len(text)) for text in texts])
    lists = [doc("long text", "l"), doc(" ", "blank"), doc("text", "t")], [doc("text", "t"), doc(" ", "blank")]
    base, other = make(*lists).retrievers
    reranked = ContextualCompressionRetriever(base_retriever=base, base_compressor=reranker)
    assert [document.metadata["relevance_score"] for document in reranked.invoke("q")][2] == float("-inf")
    found = FusionRetriever(retrievers=[reranked], method="sum").invoke("q")
    assert {document.id: document.metadata["relevance_score"] for document in found} == {"l": 9, "t": 4, "blank": 4}
    origins = {document.id: document.metadata["fusion"]["lists"] for document in found}
    assert origins["blank"] == [{"retriever": "ContextualCompressionRetriever", "rank": 3}]
    assert ids(FusionRetriever(retrievers=[reranked, other]).invoke("q")) == ["t", "blank", "l"]


def test_scores_may_stand_elsewhere():
    lists = [[doc("a", "a", bm25=2.0), doc("b", "b", bm25=1)], [doc("b", "b", bm25=9.0)]]
    found = make(*lists, method="sum", score_key="bm25").invoke("q")
    assert [(document.id, document.metadata["relevance_score"]) for document in found] == [("b", 10.0), ("a", 2.0)]


def test_a_reranker_after_it_keeps_the_fused_score():
    fused = make("abc", "cab")
    reranker = FunctionReranker(function=lambda query, texts: list(map(float, range(len(texts)))))
    best = ContextualCompressionRetriever(base_retriever=fused, base_compressor=reranker).invoke("q")[0]
    assert best.metadata["fusion"]["score"] == best.metadata["rerank"]["previous_score"]


# --- failures ---------------------------------------------------------------------------------------------------------


@ways
def test_a_failing_retriever_fails_the_question_or_is_left_out_and_named(ask, caplog):
    retrievers = [Failing(), *make("abc", "cb").retrievers]
    with pytest.raises(ConnectionError):
        ask(FusionRetriever(retrievers=retrievers), "q")
    skipping = FusionRetriever(retrievers=retrievers, on_error="skip", weights=[1.0, 2.0, 3.0])
    found = ask(skipping, "q")
    expected = fuse_rankings([dict.fromkeys("abc", 0.0), dict.fromkeys("cb", 0.0)], weights=[2.0, 3.0])
    assert ids(found) == list(expected)
    for document in found:
        assert document.metadata["fusion"]["skipped"] == [{"retriever": "Failing", "reason": "ConnectionError"}]
    assert "Failing failed (ConnectionError)" in caplog.text
    assert "secret" not in caplog.text
    assert "skipped" not in ask(skipping, "fine")[0].metadata["fusion"]


@ways
def test_where_all_fail_the_first_error_is_raised(ask):
    with pytest.raises(ConnectionError):
        ask(FusionRetriever(retrievers=[Failing(), Failing()], on_error="skip"), "q")


@pytest.mark.parametrize("asynchronous", [False, True])
def test_one_failing_question_does_not_lose_the_others(asynchronous):
    retriever = FusionRetriever(retrievers=[Failing()])
    questions = ["fine", "q", "fine"]
    if asynchronous:
        answers = asyncio.run(retriever.abatch(questions, return_exceptions=True))
    else:
        answers = retriever.batch(questions, return_exceptions=True)
    assert [isinstance(answer, ConnectionError) for answer in answers] == [False, True, False]
    assert (asyncio.run(retriever.abatch([])) if asynchronous else retriever.batch([])) == []


def test_a_batch_that_fails_as_a_whole_is_one_failing_retriever():
    class Broken(FixedRetriever):
        def batch(self, *arguments, **options):
            raise TimeoutError

        async def abatch(self, *arguments, **options):
            raise TimeoutError

    skipping = FusionRetriever(retrievers=[Broken(documents=[]), *make("ab").retrievers], on_error="skip")
    assert ids(skipping.invoke("q")) == ids(asyncio.run(skipping.ainvoke("q"))) == ["a", "b"]


def test_mistakes_are_refused_at_once():
    for fields, message in (
        ({"weights": [1.0]}, "2 lists need as many weights, got 1"),
        ({"weights": [0.0, 0.0]}, "one of them above 0"),
        ({"weights": [-1.0, 2.0]}, "not negative"),
        ({"names": ["a", "a"]}, "each another one"),
        ({"method": "median"}, "z-score"),
        ({"k": 0}, "greater than"),
        ({"top_k": 3}, "Extra inputs"),
    ):
        with pytest.raises(ValidationError, match=message):
            make("ab", "cd", **fields)
    with pytest.raises(ValidationError):
        FusionRetriever(retrievers=[])


# --- running ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_retrievers_run_at_the_same_time(asynchronous):
    together = threading.Barrier(3, timeout=20)

    class Waiting(FixedRetriever):
        def _get_relevant_documents(self, query, *, run_manager):
            together.wait()  # never passed where one waits for the other
            return list(self.documents)

    retriever = FusionRetriever(retrievers=[Waiting(documents=[as_document(letter)]) for letter in "abc"])
    found = asyncio.run(retriever.ainvoke("q")) if asynchronous else retriever.invoke("q")
    assert ids(found) == ["a", "b", "c"]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_runs_nest_and_carry_the_callers_configuration_and_context(asynchronous):
    seen = []
    user = ContextVar("user", default="nobody")

    def look(query, config):
        seen.append((user.get(), config["configurable"].get("tenant"), config["metadata"]["who"]))
        return [as_document(query[0])]

    retriever = FusionRetriever(
        retrievers=[RunnableLambda(look).with_config(run_name="looks"), *make("ab").retrievers], tags=["own"]
    )
    config = {"configurable": {"tenant": "t1"}, "metadata": {"who": "me"}, "tags": ["outer"], "run_name": "hybrid"}
    token = user.set("ann")
    with collect_runs() as collected:
        if asynchronous:
            asyncio.run(retriever.ainvoke("q", config))
            asyncio.run(retriever.abatch(["q", "r"], config))
        else:
            retriever.invoke("q", config)
            retriever.batch(["q", "r"], config)
    user.reset(token)
    assert seen == [("ann", "t1", "me")] * 3
    assert len(collected.traced_runs) == 3
    for run in collected.traced_runs:
        assert (run.name, run.run_type) == ("hybrid", "retriever")
        assert sorted(child.name for child in run.child_runs) == ["FixedRetriever", "looks"]
        tags = {child.name: set(child.tags) for child in run.child_runs}
        assert {"outer", "retriever_2"} <= tags["FixedRetriever"]
        assert {"outer", "retriever_1"} <= tags["looks"]
        assert "retriever_1" not in run.tags
        assert len(run.outputs["documents"]) in {2, 3}


def test_configurable_parts_can_be_configured_through_it():
    store = FAISS.from_texts(TEXTS, EMBEDDING, ids=list("abcdefgh"))
    dense = store.as_retriever(search_kwargs={"k": 1}).configurable_fields(
        search_kwargs=ConfigurableField(id="dense_options")
    )
    retriever = FusionRetriever(retrievers=[dense])
    assert [spec.id for spec in retriever.config_specs] == ["dense_options"]
    config = {"configurable": {"dense_options": {"k": 3}}}
    assert len(retriever.invoke("text c", config)) == 3
    assert len(asyncio.run(retriever.ainvoke("text c", config))) == 3
    assert len(retriever.batch(["text c"] * 2, config)[1]) == 3
    assert len(retriever.invoke("text c")) == 1


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_batch_asks_each_retriever_once(asynchronous):
    calls = []

    class Counting(FixedRetriever):
        def batch(self, inputs, *arguments, **options):
            calls.append(len(inputs))
            return super().batch(inputs, *arguments, **options)

        async def abatch(self, inputs, *arguments, **options):
            calls.append(len(inputs))
            return await super().abatch(inputs, *arguments, **options)

    retriever = FusionRetriever(retrievers=[Counting(documents=[as_document(letter)]) for letter in "ab"])
    questions = ["p", "q", "r"]
    found = asyncio.run(retriever.abatch(questions)) if asynchronous else retriever.batch(questions)
    assert [ids(one) for one in found] == [["a", "b"]] * 3
    assert calls == [3, 3]


def test_other_arguments_reach_the_retrievers():
    class Picky(FixedRetriever):
        def _get_relevant_documents(self, query, *, run_manager, only=None):
            return [document for document in self.documents if only in {None, document.id}]

        async def _aget_relevant_documents(self, query, *, run_manager, only=None):
            return self._get_relevant_documents(query, run_manager=run_manager, only=only)

    retriever = FusionRetriever(retrievers=[Picky(documents=list(map(as_document, "abc"))) for _ in range(2)])
    assert ids(retriever.invoke("q", only="b")) == ["b"]
    assert ids(asyncio.run(retriever.ainvoke("q", only="a"))) == ["a"]
    assert [ids(found) for found in retriever.batch(["q", "q"], only="c", k=1)] == [["c"], ["c"]]
    assert [ids(found) for found in asyncio.run(retriever.abatch(["q", "q"], only="b"))] == [["b"], ["b"]]


def test_it_nests_and_joins_a_store_with_a_retriever_that_knows_no_ids():
    documents = [doc(text, id_, n=n) for n, (id_, text) in enumerate(zip("abcdefgh", TEXTS, strict=True))]
    store = FAISS.from_documents(documents, EMBEDDING, ids=list("abcdefgh"))
    lexical = FixedRetriever(documents=[doc(text) for text in TEXTS[:6]])
    inner = FusionRetriever(retrievers=[lexical, store.as_retriever(search_kwargs={"k": 8})])
    outer = FusionRetriever(retrievers=[inner, store.as_retriever()], method="sum")
    with collect_runs() as collected:
        found = outer.invoke("text c")
    assert sorted(ids(found)) == list("abcdefgh"), "each once, all with ids"
    tags = {child.name: child.tags for child in collected.traced_runs[0].child_runs}
    assert [tag for tag in tags["FusionRetriever"] if tag.startswith("retriever_")] == ["retriever_1"]
    nested = next(child for child in collected.traced_runs[0].child_runs if child.name == "FusionRetriever")
    assert sorted(tag for child in nested.child_runs for tag in child.tags if tag.startswith("retriever_")) == [
        "retriever_1",
        "retriever_2",
    ], "a tag is of one run, not of those below"


# --- does it help? ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_fused_systems_beat_the_better_of_their_parts(data_folder, tmp_path):
    from tests.benchmarks import fusion

    reports = [
        fusion.measure(data_folder / name, tmp_path)
        for name in ("anthropic-docs", "hotpotqa-100", "noveleval", "xquad-en")
    ]
    retrieval, reranking = zip(*reports, strict=True)
    for which, parts, whole in (
        (retrieval, ["BM25", "FAISS"], "fusion"),
        (reranking, ["lexical", "cosine"], "ensemble"),
    ):
        best = fusion.better_part(which, parts)
        for method in ("rrf", "z-score", "min-max"):
            change, p = fusion.difference(which, f"{whole}, {method}", best)
            print(f"{whole}, {method}: {change:+.4f} over {best}, p {p:.4f}")
            assert change > 0.01
            assert p < 0.01


def test_equal_texts_of_one_list_stay_apart_whatever_came_before():
    twins = [Document(page_content="T", id="a"), Document(page_content="T", id="b")]
    for stranger in (Document(page_content="T"), Document(page_content="T", id="x")):
        lists = [[stranger], twins]
        for order in (lists, lists[::-1]):
            found = FusionRetriever([FixedRetriever(documents=one) for one in order]).invoke("q")
            assert len(found) == 2
            assert len({document.id for document in found}) == 2


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_answer_that_is_no_list_fails_its_own_question_alone(asynchronous):
    odd = RunnableLambda(lambda question: None if question == "bad" else [Document(page_content="x")])
    retriever = FusionRetriever([odd])
    questions = ["q", "bad"]
    if asynchronous:
        good, bad = asyncio.run(retriever.abatch(questions, return_exceptions=True))
    else:
        good, bad = retriever.batch(questions, return_exceptions=True)
    assert len(good) == 1
    assert isinstance(bad, TypeError)


def test_a_batch_has_the_tags_and_metadata_of_the_retriever():
    retriever = FusionRetriever([FixedRetriever(documents=[])], tags=["T"], metadata={"M": 1})
    collector = RunCollectorCallbackHandler()
    retriever.invoke("q", {"callbacks": [collector]})
    retriever.batch(["q"], {"callbacks": [collector]})
    one, other = collector.traced_runs
    assert one.tags == other.tags == ["T"]
    assert other.metadata["M"] == 1
    assert other.metadata["ls_retriever_name"] == one.metadata["ls_retriever_name"]


def test_one_hit_of_a_store_that_gives_distances_counts_as_a_distance():
    store = FAISS.from_texts(["near", "far"], EMBEDDING)
    one, two = (
        FusionRetriever([store.as_retriever(search_kwargs={"k": k})], method="sum").invoke("near")[0] for k in (1, 2)
    )
    assert one.metadata["relevance_score"] == two.metadata["relevance_score"] <= 0
