import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.load.serializable import Serializable
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from langchain_core.vectorstores import InMemoryVectorStore
from pydantic import ValidationError

from langchain_rerankkit import (
    CachedReranker,
    DiversityReranker,
    EmbeddedEmbeddings,
    EmbeddedReranker,
    FallbackReranker,
    FunctionReranker,
    LexicalReranker,
    ScoreError,
)
from langchain_rerankkit.records import DetailedScores
from langchain_rerankkit.rerankers import diversity
from langchain_rerankkit.testing import RerankerTests
from tests.unit_tests.rerankers.test_bi_encoder import WordEmbeddings


class Clauses(RerankerTests):
    @pytest.mark.skip(reason="a text that comes again is worth less, which is the point; blank texts are tested below")
    def test_07_duplicates_and_blank_texts_come_back(self):
        """See the reason."""


class TestDiversityReranker(Clauses):
    required_module = "numpy"
    loadable = (WordEmbeddings,)

    def make_reranker(self, **fields):
        return DiversityReranker(embeddings=WordEmbeddings(), **fields)


class TestDiversityRerankerOverAnother(Clauses):
    required_module = "Stemmer"
    loadable = (WordEmbeddings, LexicalReranker)

    def make_reranker(self, **fields):
        return DiversityReranker(embeddings=WordEmbeddings(), reranker=LexicalReranker(), **fields)


class Given(Serializable, Embeddings):
    """Vectors that texts spell: "1 0 -2"."""

    def embed_query(self, text):
        return [float(word) for word in text.split()]

    def embed_documents(self, texts):
        return [self.embed_query(text) for text in texts]


def spelt(vector):
    return " ".join(map(str, vector))


def order(reranker, query, vectors, **options):
    return [line.previous_rank - 1 for line in reranker.rank(query, list(map(spelt, vectors)), **options)]


def vectors(dimensions):
    return st.lists(st.integers(-3, 3), min_size=dimensions, max_size=dimensions)


# Small whole numbers, of which products are exact, so that ties are ties in any order of computing. LangChain refuses zeros.
cases = st.integers(1, 4).flatmap(
    lambda d: st.tuples(vectors(d).filter(any), st.lists(vectors(d).filter(any), min_size=1, max_size=9))
)
lambdas = st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0])


@given(cases, lambdas, st.integers(1, 10), st.booleans())
def test_without_a_reranker_the_order_is_langchains(case, lambda_mult, k, one_by_one):
    np = pytest.importorskip("numpy")
    from langchain_core.vectorstores.utils import maximal_marginal_relevance

    query, candidates = case
    with pytest.MonkeyPatch.context() as patch:
        if one_by_one:
            patch.setattr(diversity, "_WHOLE", 0)
        reranker = DiversityReranker(embeddings=Given(), lambda_mult=lambda_mult)
        ours = order(reranker, spelt(query), candidates)
        assert order(reranker, spelt(query), candidates, top_n=k) == ours[:k]
    theirs = maximal_marginal_relevance(np.array(query, float), candidates, lambda_mult, len(candidates))
    assert ours == theirs


def test_a_vector_of_zeros_is_like_nothing():
    assert order(DiversityReranker(embeddings=Given(), lambda_mult=0.4), "1 0", [[1, 0], [1, 1], [0, 0]]) == [0, 2, 1]


def naive(relevance, candidates, lambda_mult):
    """MMR by its formula, on plain lists."""

    def cosine(a, b):
        length = math.hypot(*a) * math.hypot(*b)
        return sum(x * y for x, y in zip(a, b, strict=True)) / length if length else 0.0

    low, high = min(relevance), max(relevance)
    scaled = [(value - low) / (high - low) if high > low else 0.0 for value in relevance]
    left = sorted(range(len(candidates)), key=lambda i: -relevance[i])
    chosen = [left.pop(0)]
    while left:
        values = [
            lambda_mult * scaled[i] - (1 - lambda_mult) * max(cosine(candidates[i], candidates[j]) for j in chosen)
            for i in left
        ]
        best = max(range(len(left)), key=lambda place: round(values[place], 9))
        chosen.append(left.pop(best))
    return chosen


@given(st.lists(st.tuples(vectors(3), st.integers(-50, 50)), min_size=1, max_size=8), lambdas)
def test_with_a_reranker_its_scores_are_scaled_and_weighed(candidates, lambda_mult):
    member = FunctionReranker(function=lambda query, texts: [float(scores[text]) for text in texts])
    scores = {spelt(vector): score for vector, score in candidates}
    different = [list(map(int, text.split())) for text in scores]
    reranker = DiversityReranker(embeddings=Given(), reranker=member, lambda_mult=lambda_mult)
    ours = order(reranker, "q", different)
    expected = naive(list(scores.values()), different, lambda_mult)
    if ours != expected:  # only where rounding decides between values that are equal but for it
        place = next(n for n, (a, b) in enumerate(zip(ours, expected, strict=True)) if a != b)
        assert close(ours[: place + 1], expected[: place + 1], list(scores.values()), different, lambda_mult)
    if lambda_mult == 1:
        assert ours == [line.previous_rank - 1 for line in member.rank("q", list(scores))]


def close(ours, expected, relevance, candidates, lambda_mult):
    def value(chosen):
        *before, last = chosen
        a = candidates[last]
        low, high = min(relevance), max(relevance)
        lengths = [math.hypot(*a) * math.hypot(*candidates[j]) for j in before]
        products = [sum(x * y for x, y in zip(a, candidates[j], strict=True)) for j in before]
        largest = max(p / n if n else 0.0 for p, n in zip(products, lengths, strict=True))
        return lambda_mult * (relevance[last] - low) / ((high - low) or 1) - (1 - lambda_mult) * largest

    return value(ours) == pytest.approx(value(expected), abs=1e-9)


def test_blank_texts_and_those_the_reranker_could_not_judge_go_last():
    class Half(FunctionReranker):
        def _score(self, query, texts):
            return DetailedScores([1.0] * len(texts), [{"usage": {"calls": 1}}] * len(texts), unjudged={0})

    reranker = DiversityReranker(embeddings=Given(), reranker=Half(function=len), duplicates=0.99)
    ranked = reranker.rank("q", [" ", "1 0", "1 1", "0 1", "0 1"])
    assert [(line.previous_rank, line.status) for line in ranked] == [
        (3, "ok"),
        (4, "ok"),
        (1, "blank"),
        (2, "unjudged"),
    ]
    assert all(line.details["usage"] == {"calls": 1} for line in ranked if line.status != "blank"), (
        "what the reranker says is passed on"
    )


def test_near_duplicates_are_left_out_in_favour_of_the_more_relevant_which_names_them():
    relevance = {"1 0": 0.2, "1 0.01": 0.9, "0 1": 0.5, "0.02 1": 0.4, "1 1": 0.1}
    member = FunctionReranker(function=lambda query, texts: [relevance[text] for text in texts])
    documents = [Document(page_content=text, id=f"id of {text}") for text in relevance]
    reranker = DiversityReranker(embeddings=Given(), reranker=member, duplicates=0.99)
    found = reranker.invoke({"query": "q", "documents": documents})
    assert {d.page_content for d in found} == {"1 0.01", "0 1", "1 1"}
    said = {d.page_content: d.metadata["rerank"] for d in found}
    assert said["1 0.01"]["duplicates"] == ["id of 1 0"]
    assert said["0 1"]["duplicates"] == ["id of 0.02 1"]
    assert "duplicates" not in said["1 1"]
    assert {text: details["relevance"] for text, details in said.items()} == {text: relevance[text] for text in said}
    assert all(d.page_content in relevance and "rerank" not in d.metadata for d in documents)


@given(cases, st.sampled_from([0.5, 0.9, 1.0]))
def test_no_two_that_stay_are_near_duplicates_and_each_that_goes_is_one_of_what_stays(case, threshold):
    query, candidates = case
    documents = [Document(page_content=spelt(v), id=str(n)) for n, v in enumerate(candidates)]
    reranker = DiversityReranker(embeddings=Given(), duplicates=threshold)
    found = reranker.invoke({"query": spelt(query), "documents": documents})

    def cosine(a, b):
        a, b = candidates[int(a)], candidates[int(b)]
        length = math.hypot(*a) * math.hypot(*b)
        return sum(x * y for x, y in zip(a, b, strict=True)) / length if length else 0.0

    stay = [d.id for d in found]
    assert not [(a, b) for a in stay for b in stay if a < b and cosine(a, b) >= threshold]
    named = {d.id: d.metadata["rerank"].get("duplicates", []) for d in found}
    gone = [id_ for ids in named.values() for id_ in ids]
    assert sorted([*stay, *gone]) == sorted(d.id for d in documents), "nothing is lost without a word"
    for id_, others in named.items():
        assert all(cosine(id_, other) >= threshold - 1e-6 for other in others)


@given(st.lists(st.lists(st.floats(0.01, 9), min_size=5, max_size=5), min_size=1, max_size=4))
def test_at_a_threshold_of_1_the_same_text_goes_whatever_rounding_does(candidates):
    texts = [spelt(vector) for vector in candidates for _ in range(2)]
    found = DiversityReranker(embeddings=Given(), duplicates=1.0).rank(spelt(candidates[0]), texts)
    assert len({line.document.page_content for line in found}) == len(found) <= len(candidates)


def test_what_could_not_be_judged_goes_too_where_it_repeats_what_was():
    class Half(FunctionReranker):
        def _score(self, query, texts):
            return DetailedScores([1.0] * len(texts), [{}] * len(texts), unjudged={0, 1, 3})

    documents = [Document(page_content=text, id=str(n)) for n, text in enumerate(["1 0", "0 1", "1 0", "0 1"])]
    reranker = DiversityReranker(embeddings=Given(), reranker=Half(function=len), duplicates=0.99)
    found = reranker.invoke({"query": "q", "documents": documents})
    assert [(d.id, d.metadata["rerank"]["status"], d.metadata["rerank"]["duplicates"]) for d in found] == [
        ("2", "ok", ["0"]),
        ("1", "unjudged", ["3"]),
    ]


def test_what_the_reranker_drops_stays_dropped_and_stands_for_nothing():
    class Dropping(FunctionReranker):
        def _score(self, query, texts):
            return DetailedScores([1.0] * len(texts), [{}] * len(texts), dropped={0})

    reranker = DiversityReranker(embeddings=Given(), reranker=Dropping(function=len), duplicates=0.9)
    assert [line.document.page_content for line in reranker.rank("q", ["1 0", "1 0.1", "0 1"])] == ["1 0.1", "0 1"]
    whole = FallbackReranker([reranker])
    assert [line.document.page_content for line in whole.rank("q", ["1 0", "1 0.1", "0 1"])] == ["1 0.1", "0 1"]


class Counting(WordEmbeddings):
    calls: list = []

    def embed_documents(self, texts):
        self.calls.append(list(texts))
        return super().embed_documents(texts)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_batch_is_one_call_of_the_embeddings_and_one_of_the_reranker_and_the_store_is_read(asynchronous):
    embeddings, asked = Counting(), []

    class Member(FunctionReranker):
        def _score_many(self, requests):
            asked.append([request.texts for request in requests])
            return [[float(len(text)) for text in request.texts] for request in requests]

        async def _ascore_many(self, requests):
            return self._score_many(requests)

    store = InMemoryVectorStore(embeddings)
    stored = [Document(page_content=text, id=text) for text in ("a river", "b c")]
    store.add_documents(stored)
    embeddings.calls.clear()
    reranker = DiversityReranker(embeddings=embeddings, reranker=Member(function=len), store=store)
    inputs = [
        {"query": "a", "documents": [*stored, Document(page_content="new")]},
        {"query": "b", "documents": [Document(page_content="new"), Document(page_content="newer")]},
    ]
    collector = RunCollectorCallbackHandler()
    config = {"callbacks": [collector]}
    found = asyncio.run(reranker.abatch(inputs, config)) if asynchronous else reranker.batch(inputs, config)
    assert [len(documents) for documents in found] == [3, 2]
    assert embeddings.calls == [["new", "newer"]]
    assert asked == [[["a river", "b c", "new"], ["new", "newer"]]]
    assert [run.extra["metadata"]["ls_model_name"] for run in collector.traced_runs] == ["MMR over len"] * 2


def test_asynchronous_calls_use_the_asynchronous_embeddings():
    class Asynchronous(WordEmbeddings):
        def embed_documents(self, texts):
            raise AssertionError

        embed_query = embed_documents

        async def aembed_documents(self, texts):
            return WordEmbeddings().embed_documents(texts)

        async def aembed_query(self, text):
            return WordEmbeddings().embed_query(text)

    documents = [Document(page_content=text) for text in ("a river", "a river b", "c")]
    found = asyncio.run(
        DiversityReranker(embeddings=Asynchronous()).ainvoke({"query": "a river", "documents": documents})
    )
    expected = DiversityReranker(embeddings=WordEmbeddings()).invoke({"query": "a river", "documents": documents})
    assert [d.metadata["relevance_score"] for d in found] == [d.metadata["relevance_score"] for d in expected]
    assert [d.page_content for d in found] == [d.page_content for d in expected]


def test_a_query_whose_reranking_fails_fails_alone():
    def judge(query, texts):
        if query == "bad":
            raise TimeoutError
        return [1.0] * len(texts)

    reranker = DiversityReranker(embeddings=Given(), reranker=FunctionReranker(function=judge))
    inputs = [{"query": query, "documents": [Document(page_content="1 0")]} for query in ("good", "bad")]
    good, bad = reranker.batch(inputs, return_exceptions=True)
    assert len(good) == 1
    assert isinstance(bad, TimeoutError)


def test_vectors_that_do_not_fit_are_refused():
    with pytest.raises(ScoreError, match="differ in dimension"):
        DiversityReranker(embeddings=Given()).rank("1 0", ["1 0", "1 0 0"])
    with pytest.raises(ScoreError, match="differ in dimension"):
        DiversityReranker(embeddings=Given()).rank("1", ["1 0", "1 1"])
    with pytest.raises(ScoreError, match="not finite"):
        DiversityReranker(embeddings=Given()).rank("1 0", ["nan 0", "1 1"])


def test_lambda_may_be_set_for_a_call_and_misuse_is_refused():
    reranker = DiversityReranker(embeddings=Given(), lambda_mult=1.0)
    candidates = [[3, 1], [3, 1], [1, 3]]
    assert order(reranker, "2 1", candidates) == [0, 1, 2]
    assert order(reranker, "2 1", candidates, lambda_mult=0.5) == [0, 2, 1]
    for wrong in ({"lambda_mult": 1.5}, {"duplicates": 0}, {"min_score": 0.5}, {"reranker": LexicalReranker(top_n=3)}):
        with pytest.raises(ValidationError):
            DiversityReranker(embeddings=Given(), **wrong)
    with pytest.raises(ValidationError, match="depend on the other candidates"):
        CachedReranker(reranker)


def test_with_the_embedded_model_a_copy_gives_way_to_another_subject():
    texts = [
        "The Danube flows through Vienna.",
        "Through Vienna flows the Danube.",
        "Budapest lies on the Danube, which divides it.",
        "Bread is baked from flour.",
    ]
    embeddings, query = EmbeddedEmbeddings(), "Which cities lie on the Danube?"
    member = EmbeddedReranker()
    plain = [line.previous_rank for line in member.rank(query, texts)]
    assert set(plain[:3]) == {1, 2, 3}
    diverse = DiversityReranker(embeddings=embeddings, reranker=member, lambda_mult=0.5)
    assert 3 in [line.previous_rank for line in diverse.rank(query, texts)[:2]]
    clean = DiversityReranker(embeddings=embeddings, reranker=member, duplicates=0.9).rank(query, texts)
    assert len(clean) == 3


def test_a_reranker_is_not_paid_for_where_the_embeddings_failed():
    class Broken(WordEmbeddings):
        async def aembed_documents(self, texts):
            msg = "no"
            raise RuntimeError(msg)

    heard = []

    async def slow(query, texts):
        try:
            await asyncio.sleep(20)
        except asyncio.CancelledError:
            heard.append("cancelled")
            raise

    async def main():
        reranker = DiversityReranker(FunctionReranker(function=len, afunction=slow), embeddings=Broken())
        with pytest.raises(RuntimeError, match="no"):
            await reranker.ainvoke({"query": "q", "documents": [Document(page_content="a")]})
        await asyncio.sleep(0)
        return list(heard)

    assert asyncio.run(main()) == ["cancelled"]
