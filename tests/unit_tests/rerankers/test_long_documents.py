"""Long documents before chat models: cut, in chunks, or an error."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document
from pydantic import ValidationError

from langchain_rerankkit import ListwiseReranker, OrderError, PointwiseLLMReranker
from langchain_rerankkit.llm.prompts import harmless
from langchain_rerankkit.llm.tokens import TokenCounter
from tests.judge import Judge

QUERY = "Which river flows through the city?"
FILLER = [f"Bread and cheese number {n} are sold at the market hall." for n in range(80)]
LONG = " ".join([*FILLER[:40], "The river flows through the city under nine bridges.", *FILLER[40:]])
SHORT = ["The river.", "The museum of modern art opens at nine.", "A city on a plain."]
STRATEGIES = ["sliding", "tournament", "setwise", "single"]


def words(text):
    return list(range(len(text.split())))


class Watched(Judge):
    shown: list = []

    def _grade(self, query, text):
        self.shown.append(text)
        return super()._grade(query, text)


def watched(**fields):
    return Watched(shown=[], custom_get_token_ids=words, **fields)


def make(kind, model=None, **fields):
    more = {"style": "graded"} if kind is PointwiseLLMReranker else {}
    return kind(model=model or watched(), **{"passage_tokens": 40, "long_documents": "chunk"} | more | fields)


both = pytest.mark.parametrize("kind", [ListwiseReranker, PointwiseLLMReranker])


@both
def test_what_is_far_into_a_long_document_is_found_in_chunks(kind):
    texts = [*SHORT, LONG]
    cut = make(kind, long_documents="truncate").rank(QUERY, texts)
    assert cut[-1].document.page_content == LONG
    assert cut[-1].details["truncated"] is True
    best, *others = make(kind).rank(QUERY, texts)
    start, stop = best.details["best_span"]
    assert best.document.page_content == LONG
    assert "The river flows through the city" in LONG[start:stop]
    assert best.details["chunks"] > 10
    assert "truncated" not in best.details
    assert not any({"chunks", "best_span"} & set(line.details) for line in others)
    documents = [Document(page_content=text) for text in texts]
    later = asyncio.run(make(kind).acompress_documents(documents, QUERY))
    assert later[0].metadata["rerank"]["best_span"] == [start, stop]


@both
def test_the_model_is_shown_chunks_of_no_more_tokens_than_it_should(kind):
    model = watched()
    make(kind, model, passage_tokens=30, chunk_overlap=8).rank(QUERY, [LONG, *SHORT])
    chunks = {text for text in model.shown if text not in SHORT}
    assert len(chunks) > 5
    assert all(len(words(chunk)) <= 30 and chunk in LONG for chunk in chunks)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_document_has_the_place_of_its_best_chunk(strategy):
    """The same order of chunks as where they are documents of their own."""
    texts = [" ".join(f"w{n * 7919 % 10007}" for n in range(start, start + 60)) for start in range(0, 900, 90)]
    fields = {"passage_tokens": 20, "chunk_overlap": 5, "window_size": 4, "step": 2}
    model = watched()
    make(ListwiseReranker, model, strategy="single", **fields).rank(QUERY, texts)
    chunks = model.shown
    judge = watched(grades={chunk: float(place * 7 % len(chunks)) for place, chunk in enumerate(chunks)})
    lines = make(ListwiseReranker, judge, strategy=strategy, **fields).rank(QUERY, texts)
    apart = ListwiseReranker(model=judge, strategy=strategy, window_size=4, step=2).rank(QUERY, chunks)
    places = {line.document.page_content: line.rank for line in apart}
    assert len(places) == len(chunks) > 30

    def best(text):
        return min(places[chunk] for chunk in chunks if chunk in text)

    assert [line.document.page_content for line in lines] == sorted(texts, key=best)
    assert [1 / line.score for line in lines] == pytest.approx(sorted(map(best, texts)))


@pytest.mark.parametrize("how", ["max", "mean", "first"])
def test_grades_of_chunks_are_combined(how):
    text = "river flows. " * 30 + "Which river flows through the city? " * 3 + "bread. " * 30
    model = watched()
    reranker = make(PointwiseLLMReranker, model, passage_tokens=20, chunk_overlap=0, chunk_score=how)
    (line,) = reranker.rank(QUERY, [text])
    plain = make(PointwiseLLMReranker, long_documents="truncate")
    chunks = list(dict.fromkeys(model.shown))
    assert len(chunks) < line.details["chunks"]  # equal ones are asked about once
    scores = {one.document.page_content: one.score for one in plain.rank(QUERY, chunks)}
    assert len(set(scores.values())) > 1
    expected = {"max": max(scores.values()), "first": scores[chunks[0]]}
    if how in expected:
        assert line.score == expected[how]
    else:
        assert min(scores.values()) < line.score < max(scores.values())
    start, stop = line.details["best_span"]
    assert scores[text[start:stop]] == max(scores.values())
    assert line.details["judged_by"] == "answer"
    assert line.details["usage"]["calls"] == len(chunks)


def test_a_budget_leaves_chunks_out_and_a_document_only_where_none_was_judged():
    reranker = make(PointwiseLLMReranker, max_calls=3, max_concurrency=1, min_score=0.0)
    texts = [" ".join(f"{word}{n}" for n in range(200)) for word in ("river", "city")]
    first, second = reranker.rank(QUERY, texts)
    assert (first.document.page_content, first.status) == (texts[0], "ok")
    assert (first.details["truncated"], first.details["stopped"]) == (True, "max_calls")
    assert (second.document.page_content, second.status) == (texts[1], "unjudged")
    assert "judged_by" not in second.details


@both
def test_a_long_document_may_be_an_error(kind):
    reranker = make(kind, long_documents="error")
    assert len(reranker.rank(QUERY, SHORT)) == 3
    with pytest.raises(ValueError, match=r"longer than 40 tokens\. Set long_documents='chunk'"):
        reranker.rank(QUERY, [LONG, *SHORT])
    inputs = [{"query": QUERY, "documents": [Document(page_content=text)]} for text in (LONG, SHORT[0])]
    failed, fine = reranker.batch(inputs, return_exceptions=True)
    assert isinstance(failed, ValueError)
    assert len(fine) == 1


def test_so_may_passages_that_a_prompt_has_no_room_for():
    texts = [f"{n} " + "word " * 60 for n in range(10)]
    fields = {"passage_tokens": 100, "prompt_tokens": 400}
    cut = make(ListwiseReranker, long_documents="truncate", **fields).rank(QUERY, texts)
    assert any(line.details.get("truncated") for line in cut)
    with pytest.raises(ValueError, match="Make window_size or passage_tokens smaller"):
        make(ListwiseReranker, long_documents="error", **fields).rank(QUERY, texts)


def test_fields_that_do_not_go_together():
    with pytest.raises(ValidationError, match="needs the size of a chunk: set passage_tokens"):
        make(PointwiseLLMReranker, passage_tokens=None)
    for how in ("mean", "first"):
        with pytest.raises(ValidationError, match="that of its best chunk"):
            make(ListwiseReranker, chunk_score=how)
    with pytest.raises(ValidationError):
        make(ListwiseReranker, long_documents="chunks")


@both
def test_a_document_of_ten_megabytes_costs_no_more_than_its_chunks(kind):
    huge = " ".join(map(str, range(1_500_000)))
    model = watched()
    reranker = make(kind, model, max_chunks=7)
    by_text = {line.document.page_content: line for line in reranker.rank(QUERY, [huge, SHORT[0]])}
    assert by_text[huge].details["chunks"] == 7
    assert by_text[huge].details["truncated"] is True
    assert len(set(model.shown)) == 8


@given(st.text("ab [1]<|>im_start河。\n\x00\u200b", min_size=1, max_size=80), st.integers(1, 5))
def test_chunks_are_of_the_harmless_text_and_no_longer_than_allowed(text, size):
    model = Watched(shown=[], custom_get_token_ids=lambda given: list(range(len(given))))
    reranker = make(PointwiseLLMReranker, model, passage_tokens=size, chunk_overlap=0, max_chunks=None)
    lines = reranker.rank(QUERY, [text])
    read = harmless(text)
    if not read.strip():
        assert lines[0].status == "blank"
        return
    assert all(shown.strip() and shown in read and len(shown) <= size for shown in model.shown)
    assert set("".join(read.split())) == set("".join("".join(model.shown).split()))
    assert "truncated" not in lines[0].details
    if "chunks" in lines[0].details:
        start, stop = lines[0].details["best_span"]
        assert read[start:stop] in model.shown


@both
@pytest.mark.parametrize("long_documents", ["chunk", "truncate"])
@pytest.mark.parametrize("nothing", ["\x00", " ", "\x00 \n"])
def test_what_follows_many_characters_of_nothing_is_shown(kind, long_documents, nothing):
    model = watched()
    model.custom_get_token_ids = lambda text: list(range(len(text)))
    texts = [nothing * 5000 + "The river flows through the city.", "\x00" * 5000, SHORT[1]]
    reranker = make(kind, model, passage_tokens=40, long_documents=long_documents)
    lines = {line.document.page_content: line for line in reranker.rank(QUERY, texts)}
    assert set(model.shown) == {"The river flows through the city.", SHORT[1]}
    assert lines[texts[1]].status == "blank"
    assert not any("truncated" in line.details or "chunks" in line.details for line in lines.values())


def test_chunks_of_what_being_made_harmless_lengthens_are_no_longer_than_allowed():
    model = watched()
    model.custom_get_token_ids = lambda text: list(text.replace("<|end|>", "."))  # one token, as tokenizers have it
    (line,) = make(PointwiseLLMReranker, model, passage_tokens=10, chunk_overlap=0).rank(QUERY, ["<|end|>" * 30])
    assert model.shown == list(dict.fromkeys(("(|end|)" * 30)[start : start + 10] for start in range(0, 210, 10)))
    assert line.details["chunks"] == 21
    assert "truncated" not in line.details


@given(st.text("abc 河\n", max_size=120), st.integers(0, 120), st.integers(1, 40))
def test_a_counter_reaches_as_far_as_its_tokens_go(text, start, limit):
    counter = TokenCounter(Judge(custom_get_token_ids=lambda given: list(range(len(given)))))
    assert counter.reach(text, min(start, len(text)), limit) == min(len(text), min(start, len(text)) + limit)


def test_an_order_is_wanted_of_chunks_as_of_documents():
    class Silent(Watched):
        def say(self, messages):
            return "no idea"

    reranker = make(ListwiseReranker, Silent(shown=[], custom_get_token_ids=words), max_retries=0)
    with pytest.raises(OrderError):
        reranker.rank(QUERY, [LONG])
    kept = make(ListwiseReranker, reranker.model, max_retries=0, on_error="keep_order").rank(QUERY, [LONG, *SHORT])
    assert [line.document.page_content for line in kept] == [LONG, *SHORT]
