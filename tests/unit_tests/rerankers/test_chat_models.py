"""Chat models over HTTP: bad answers, failing servers, budgets, usage, traces, caches and recordings."""

import asyncio
import json
import logging
import math
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.documents import Document
from langchain_core.globals import set_llm_cache
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from langchain_openai import ChatOpenAI
from pydantic import ValidationError

from langchain_rerankkit import (
    DatasetError,
    EnsembleReranker,
    FunctionReranker,
    ListwiseReranker,
    OrderError,
    PointwiseLLMReranker,
    ScoreError,
)
from tests.chat_server import Reply, chat_server, rankgpt_identifiers, reverse_order
from tests.judge import Judge

DOCUMENTS = [Document(page_content=f"passage number {n} about rivers", id=f"d{n}") for n in range(5)]
QUERY = "which river?"


def chat(server, **settings):
    settings = {"max_retries": 0, "timeout": 20} | settings
    return ChatOpenAI(model="m", base_url=server.url, api_key="sk-secret", **settings)


def listwise(server, model=None, **fields):
    return ListwiseReranker(model=model or chat(server), **fields)


def ids(documents):
    return [document.id for document in documents]


def usage(documents):
    return documents[0].metadata["rerank"]["usage"]


# --- what a model may say ----------------------------------------------------------------------------------------------

UNUSABLE = {
    "null": Reply(None),
    "nothing": "",
    "a refusal": "I'm sorry, but I can't help with that.",
    "an apology with numbers": "Sorry, I can only compare 3 of these 5 passages, as of 2024.",
    "thoughts without an end": "<think>[2] > [1], no wait",
    "10 MB of nothing": "blah " * 2_000_000,
    "a tool call with wrong types": Reply("", tool='{"ranking": {"first": null}}'),
    "a tool call that is not JSON": Reply("", tool='{"ranking": ['),
}


@pytest.mark.parametrize("answer", UNUSABLE.values(), ids=UNUSABLE)
def test_an_unusable_answer_is_asked_for_again_and_then_an_error(answer):
    with chat_server([answer]) as server:
        with pytest.raises(OrderError) as caught:
            listwise(server, max_retries=1).compress_documents(DOCUMENTS, QUERY)
        assert len(server.requests) == 2
        again = server.requests[1][1]["messages"]
        assert "Answer again" in again[-1]["content"]
        kept = listwise(server, max_retries=0, on_error="keep_order").compress_documents(DOCUMENTS, QUERY)
    assert "river" not in str(caught.value)
    assert ids(kept) == ids(DOCUMENTS)
    assert {d.metadata["rerank"]["status"] for d in kept} == {"fallback"}
    assert {d.metadata["rerank"]["reason"] for d in kept} == {"OrderError"}
    assert usage(kept)["calls"] == 1
    assert caught.value.rerank_details["usage"]["retries"] == 1


def test_the_second_answer_counts():
    replies = iter(["no idea", None])

    def answer(request):
        return next(replies) or reverse_order(request)

    with chat_server(answer) as server:
        result = listwise(server).compress_documents(DOCUMENTS, QUERY)
    assert ids(result) == ids(DOCUMENTS[::-1])
    assert usage(result) | {"seconds": 0} == {
        "calls": 2, "input_tokens": 200, "output_tokens": 20, "retries": 1, "repairs": 0, "seconds": 0,
    }  # fmt: skip


def test_answers_are_mended_and_the_repairs_counted():
    def answer(request):
        first, second, *_ = rankgpt_identifiers(request)
        return f"<think>[{first}]</think> [{second}] > [{second}] > [Z9Z9] > [{first}]"

    with chat_server(answer) as server:
        result = listwise(server).compress_documents(DOCUMENTS, QUERY)
    assert ids(result) == ["d1", "d0", "d2", "d3", "d4"]
    assert usage(result)["repairs"] == 1 + 1 + 3  # repeated, unknown, missing


@pytest.mark.parametrize("digits", ["٠١٢٣٤٥٦٧٨٩", "०१२३४५६७८९", "０１２３４５６７８９"])  # noqa: RUF001
def test_digits_of_other_languages(digits):
    order = " > ".join(f"[{digits[n]}]" for n in (3, 1, 5, 2, 4))
    with chat_server([order]) as server:
        result = listwise(server, style="rankzephyr").compress_documents(DOCUMENTS, QUERY)
    assert ids(result) == ["d2", "d0", "d4", "d1", "d3"]


# --- what a server may do ----------------------------------------------------------------------------------------------


def test_too_many_requests_then_an_error_then_success():
    replies = iter([Reply(status=429, headers={"Retry-After": "0.05"}), Reply(status=500), None])

    def answer(request):
        return next(replies) or reverse_order(request)

    with chat_server(answer) as server:
        result = listwise(server, chat(server, max_retries=2)).compress_documents(DOCUMENTS, QUERY)
        assert len(server.requests) == 3
    assert ids(result) == ids(DOCUMENTS[::-1])


FAILING = {
    "a hang": (Reply("[1]", wait=30), {"timeout": 0.3}),
    "unauthorised": (Reply(status=401), {}),
    "a stream cut in the middle": (Reply("[1] > [2] and more of it", cut=200), {"streaming": True}),
    "an answer cut in the middle": (Reply("[1] > [2]", cut=50), {}),
    "no JSON": (Reply(body=b"<html>"), {}),
}


@pytest.mark.parametrize(("reply", "settings"), FAILING.values(), ids=FAILING)
def test_a_failing_server_is_an_error_or_the_order_given(reply, settings):
    with chat_server([reply]) as server:
        model = chat(server, **settings)
        with pytest.raises(Exception) as caught:  # noqa: PT011 - the provider's own
            listwise(server, model).compress_documents(DOCUMENTS, QUERY)
        kept = listwise(server, model, on_error="keep_order").compress_documents(DOCUMENTS, QUERY)
    assert "sk-secret" not in str(caught.value)
    assert ids(kept) == ids(DOCUMENTS)
    assert {d.metadata["rerank"]["status"] for d in kept} == {"fallback"}


@pytest.mark.parametrize("way", ["batch", "abatch"])
@pytest.mark.parametrize("kind", [ListwiseReranker, PointwiseLLMReranker])
def test_a_model_that_runs_out_of_answers_is_an_error(kind, way):
    reranker = kind(model=GenericFakeChatModel(messages=iter(())))
    inputs = [{"query": QUERY, "documents": DOCUMENTS}]
    if way == "batch":
        (result,) = reranker.batch(inputs, return_exceptions=True)
    else:
        (result,) = asyncio.run(reranker.abatch(inputs, return_exceptions=True))
    assert isinstance(result, Exception)


def test_a_recording_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "folder").mkdir()
    reranker = ListwiseReranker(model=Judge(), record=str(tmp_path / "folder"))
    (result,) = reranker.batch([{"query": QUERY, "documents": DOCUMENTS}], return_exceptions=True)
    assert isinstance(result, OSError)


def test_one_failing_query_loses_no_other():
    def answer(request):
        return Reply(status=400) if "bad" in json.dumps(request) else reverse_order(request)

    inputs = [{"query": query, "documents": DOCUMENTS} for query in ("good", "bad", "fine")]
    with chat_server(answer) as server:
        reranker = listwise(server)
        for results in (
            reranker.batch(inputs, return_exceptions=True),
            asyncio.run(reranker.abatch(inputs, return_exceptions=True)),
        ):
            assert ids(results[0]) == ids(results[2]) == ids(DOCUMENTS[::-1])
            assert isinstance(results[1], Exception)


# --- ways of asking ----------------------------------------------------------------------------------------------------


def test_the_responses_api():
    with chat_server(reverse_order) as server:
        result = listwise(server, chat(server, use_responses_api=True)).compress_documents(DOCUMENTS, QUERY)
        assert server.requests[0][0] == "/v1/responses"
    assert ids(result) == ids(DOCUMENTS[::-1])
    assert usage(result)["input_tokens"] == 100


def identifiers_in_order(request):
    return json.dumps({"ranking": rankgpt_identifiers(request)[::-1]})


def test_structured_output_by_json_schema_and_by_tool():
    def answer(request):
        ranking = identifiers_in_order(request)
        return Reply("", tool=ranking) if request.get("tools") else Reply(ranking)

    class ToolsOnly(ChatOpenAI):
        def with_structured_output(self, schema, **settings):
            return super().with_structured_output(schema, method="function_calling", **settings)

    with chat_server(answer) as server:
        for kind in (ChatOpenAI, ToolsOnly):
            model = kind(model="m", base_url=server.url, api_key="x", max_retries=0)
            reranker = ListwiseReranker(model=model, style="structured")
            assert ids(reranker.compress_documents(DOCUMENTS, QUERY)) == ids(DOCUMENTS[::-1])
        assert server.requests[0][1]["response_format"]["type"] == "json_schema"
        assert server.requests[-1][1]["tools"][0]["function"]["name"] == "ranking"


def test_structured_answers_of_wrong_types_are_asked_for_again():
    replies = iter(['{"ranking": null}', '{"ranking": "none"}', None])

    def answer(request):
        return next(replies) or identifiers_in_order(request)

    with chat_server(answer) as server:
        result = listwise(server, style="structured").compress_documents(DOCUMENTS, QUERY)
    assert ids(result) == ids(DOCUMENTS[::-1])
    assert usage(result)["retries"] == 2


def test_models_without_structured_output_say_so():
    with pytest.raises(ValidationError, match="rankgpt"):
        ListwiseReranker(model=RunnableLambda(lambda _: ""), style="structured")


def test_a_name_in_place_of_a_model_is_answered_with_what_to_write():
    with pytest.raises(ValidationError, match=r"ChatOpenAI\(model='gpt-5'\)"):
        ListwiseReranker(model="gpt-5")


def test_any_runnable_from_messages_to_a_message_or_a_text_is_a_model():
    def say(messages):
        found = [m.content.partition("]")[0].lstrip("[") for m in messages if str(m.content).startswith("[")]
        return " > ".join(f"[{name}]" for name in reversed(found))

    for model in (RunnableLambda(say), RunnableLambda(lambda m: AIMessage(say(m))), RunnableLambda(say).with_retry()):
        result = ListwiseReranker(model=model).compress_documents(DOCUMENTS, QUERY)
        assert ids(result) == ids(DOCUMENTS[::-1])
        assert usage(result)["estimated"] is True


def test_a_style_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("opening: '{query}'\npassage: '[{identifier}] {text}'\norder: Rank them.\nidentifiers: letters\n")
    with chat_server(["[E] > [A] > [B] > [C] > [D]"]) as server:
        result = listwise(server, style=str(path)).compress_documents(DOCUMENTS, QUERY)
        (message,) = server.requests[0][1]["messages"]
    assert ids(result) == ["d4", "d0", "d1", "d2", "d3"]
    assert message["role"] == "user"
    path.write_text("opening: hello\npassage: '{text}'\norder: Rank them.\n")
    with pytest.raises(ValidationError, match="identifier"):
        ListwiseReranker(model=Judge(), style=str(path))


# --- concurrency, budgets, cost ----------------------------------------------------------------------------------------

MANY = [Document(page_content=f"text {n:03d} of a hundred", id=str(n)) for n in range(100)]


def test_calls_run_at_the_same_time_up_to_the_limit():
    def answer(request):
        return Reply(reverse_order(request), wait=0.05)

    inputs = [{"query": f"query {n}", "documents": MANY[:30]} for n in range(6)]
    for limit, config, most in ((4, None, 4), (8, {"max_concurrency": 2}, 2)):
        with chat_server(answer) as server:
            listwise(server, max_concurrency=limit).batch(inputs, config)
            assert server.most_at_once == most
        with chat_server(answer) as server:
            asyncio.run(listwise(server, max_concurrency=limit).abatch(inputs, config))
            assert server.most_at_once == most
    with chat_server(answer) as server:
        result = listwise(server, strategy="tournament").compress_documents(MANY, QUERY)
        assert server.most_at_once > 1
        assert usage(result)["calls"] == len(server.requests) == 9


@pytest.mark.parametrize("strategy", ["sliding", "tournament", "setwise"])
def test_a_budget_stops_early_and_keeps_what_there_is(strategy):
    judge = Judge(grades={document.page_content: float(document.id) for document in MANY})
    whole = ListwiseReranker(model=judge, strategy=strategy).compress_documents(MANY, QUERY)
    assert "stopped" not in whole[0].metadata["rerank"]
    last = None
    for calls in range(1, usage(whole)["calls"]):
        result = ListwiseReranker(model=judge, strategy=strategy, max_calls=calls).compress_documents(MANY, QUERY)
        assert sorted(ids(result)) == sorted(ids(MANY))
        assert usage(result)["calls"] == calls
        assert {d.metadata["rerank"]["stopped"] for d in result} == {"max_calls"}
        last = result
    assert ids(last) != ids(MANY)
    result = ListwiseReranker(model=judge, strategy=strategy).invoke(
        {"query": QUERY, "documents": MANY}, max_tokens=300
    )
    assert result[0].metadata["rerank"]["stopped"] == "max_tokens"
    assert usage(result)["calls"] < usage(whole)["calls"]


def test_a_budget_of_single_judgements_leaves_the_others_unjudged_and_last():
    judge = Judge(grades={document.page_content: int(document.id) % 4 for document in MANY})
    reranker = PointwiseLLMReranker(model=judge, style="graded", max_calls=10, max_concurrency=1, min_score=0.5)
    result = reranker.compress_documents(MANY, QUERY)
    assert ids(result) == ["3", "7", "2", "6", *(str(n) for n in range(10, 100))]
    assert {d.metadata["rerank"]["status"] for d in result[4:]} == {"unjudged"}
    assert all(d.metadata["relevance_score"] == -math.inf for d in result[4:])


def test_prices_make_tokens_money():
    with chat_server(reverse_order) as server:
        result = listwise(server, prices={"m": (2.0, 8.0)}).compress_documents(DOCUMENTS, QUERY)
        assert usage(result)["cost"] == pytest.approx((100 * 2 + 10 * 8) / 1e6)
        with pytest.raises(ValidationError, match="no entry for 'm'"):
            listwise(server, prices={"other": (1.0, 1.0)})


def test_tokens_are_estimated_where_the_provider_counts_none():
    with chat_server(lambda request: Reply(reverse_order(request), usage=None)) as server:
        model = chat(server, custom_get_token_ids=lambda text: list(range(len(text.split()))))
        result = listwise(server, model).compress_documents(DOCUMENTS, QUERY)
    assert usage(result)["estimated"] is True
    assert usage(result)["input_tokens"] > 50


# --- tokens ------------------------------------------------------------------------------------------------------------


def words(text):
    return list(range(len(text.split())))


def test_passages_are_cut_to_their_budget_and_say_so():
    long = Document(page_content="word " * 1000, id="long")
    judge = Judge(custom_get_token_ids=words)
    result = ListwiseReranker(model=judge, passage_tokens=50).compress_documents([*DOCUMENTS, long], QUERY)
    assert {d.id for d in result if d.metadata["rerank"].get("truncated")} == {"long"}
    assert next(d for d in result if d.id == "long").page_content == long.page_content
    assert usage(result)["input_tokens"] < 700


def test_a_prompt_fits_its_budget_by_cutting_the_longest_passages():
    seen = []

    class Counting(Judge):
        def say(self, messages):
            seen.append(sum(len(words(str(message.text))) for message in messages))
            return super().say(messages)

    documents = [Document(page_content=f"{n} " + "word " * (20 * n), id=str(n)) for n in range(20)]
    judge = Counting(custom_get_token_ids=words)
    reranker = ListwiseReranker(model=judge, passage_tokens=None, prompt_tokens=1200)
    result = reranker.compress_documents(documents, QUERY)
    assert 900 < max(seen) <= 1200
    cut = {int(d.id) for d in result if d.metadata["rerank"].get("truncated")}
    assert cut
    assert cut == set(range(min(cut), 20))
    with pytest.raises(ValueError, match="window_size"):
        reranker.model_copy(update={"prompt_tokens": 300}).compress_documents(documents, QUERY)


def test_a_token_counter_that_needs_the_network_is_replaced_by_an_estimate(caplog):
    with chat_server(reverse_order) as server, caplog.at_level(logging.WARNING, "langchain_rerankkit"):
        result = listwise(server, passage_tokens=3).compress_documents(DOCUMENTS, QUERY)
    assert all(d.metadata["rerank"]["truncated"] for d in result)
    assert len([record for record in caplog.records if "estimated" in record.message]) == 1


# --- passes ------------------------------------------------------------------------------------------------------------


def test_a_judge_that_goes_by_the_text_agrees_with_itself_and_one_that_goes_by_the_place_does_not():
    judge = Judge(grades={document.page_content: float(document.id) for document in MANY})
    steady = ListwiseReranker(model=judge, passes=3).compress_documents(MANY[:20], QUERY)
    assert steady[0].metadata["rerank"]["order_agreement"] == 1.0
    assert usage(steady)["calls"] == 3
    with chat_server(reverse_order) as server:
        swayed = listwise(server, passes=2).compress_documents(DOCUMENTS, QUERY)
        assert swayed[0].metadata["rerank"]["order_agreement"] == -1.0
        shown = [
            [m["content"] for m in body["messages"] if m["content"].startswith("[")] for _, body in server.requests
        ]
    texts = [[content.split("\n")[2] for content in prompt] for prompt in shown]
    assert texts[0] == texts[1][::-1]


def test_passes_make_up_for_a_judge_that_errs():
    grades = {document.page_content: int(document.id) for document in MANY[:20]}

    def inversions(passes):
        total = 0
        for number in range(20):
            judge = Judge(grades=grades, error_rate=0.3)
            reranker = ListwiseReranker(model=judge, passes=passes, seed=1)
            order = [int(d.id) for d in reranker.compress_documents(MANY[:20], f"query {number}")]
            total += sum(a < b for place, a in enumerate(order) for b in order[place + 1 :])
        return total

    assert inversions(7) < inversions(1) * 0.8


# --- traces, cache, recordings -----------------------------------------------------------------------------------------


def runs_below(run):
    return [run, *(inner for child in run.child_runs for inner in runs_below(child))]


@pytest.mark.parametrize("way", ["invoke", "batch", "ainvoke", "abatch"])
def test_each_call_of_the_model_is_traced_inside_its_own_query(way):
    collector = RunCollectorCallbackHandler()
    config = {"callbacks": [collector]}
    inputs = [{"query": f"query {n}", "documents": MANY[:25]} for n in range(3)]
    reranker = ListwiseReranker(model=Judge())
    if way == "invoke":
        results = [reranker.invoke(given, config) for given in inputs]
    elif way == "batch":
        results = reranker.batch(inputs, config)
    elif way == "abatch":
        results = asyncio.run(reranker.abatch(inputs, config))
    else:
        results = [asyncio.run(reranker.ainvoke(given, config)) for given in inputs]
    assert len(collector.traced_runs) == 3
    for result in results:
        assert usage(result)["calls"] == 2
    for number, run in enumerate(sorted(collector.traced_runs, key=lambda run: run.inputs["query"])):
        models = [inner for inner in runs_below(run) if inner.run_type in {"llm", "chat_model"}]
        assert len(models) == 2
        assert all(f"query {number}" in str(inner.inputs) for inner in models)
        assert run.outputs["documents"][0].metadata["rerank"]["usage"]["calls"] == 2


def test_calls_inside_an_ensemble_are_traced_there_too():
    collector = RunCollectorCallbackHandler()
    both = EnsembleReranker(
        rerankers=[ListwiseReranker(model=Judge()), FunctionReranker(function=lambda _, texts: [0.0] * len(texts))]
    )
    both.batch([{"query": QUERY, "documents": DOCUMENTS}] * 2, {"callbacks": [collector]})
    assert [len(runs_below(run)) for run in collector.traced_runs] == [2, 2]


@pytest.fixture
def llm_cache():
    set_llm_cache(InMemoryCache())
    yield
    set_llm_cache(None)


@pytest.mark.usefixtures("llm_cache")
def test_an_llm_cache_recognises_what_was_asked_before():
    with chat_server(reverse_order) as server:
        first = listwise(server, passes=3).compress_documents(MANY, QUERY)
        calls = len(server.requests)
        second = listwise(server, passes=3).compress_documents(MANY, QUERY)
        assert len(server.requests) == calls
        listwise(server).compress_documents(DOCUMENTS, "another")
        assert len(server.requests) == calls + 1
    assert ids(first) == ids(second)


def test_a_recording_answers_in_place_of_the_model(tmp_path):
    path = tmp_path / "sub" / "verdicts.jsonl"
    pool = [{"query": f"query {n}", "documents": MANY[n : n + 30]} for n in range(4)]
    with chat_server(reverse_order) as server:
        recorded = listwise(server, record=str(path)).batch(pool)
        calls = len(server.requests)
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert {tuple(line["candidates"]) for line in lines} == {tuple(ids(given["documents"])) for given in pool}
        assert all(sorted(line["order"]) == list(range(30)) for line in lines)
        replayed = listwise(server, replay=str(path)).batch(pool)
        assert len(server.requests) == calls
        with pytest.raises(DatasetError, match="no verdict"):
            listwise(server, replay=str(path)).compress_documents(MANY[:7], "query 0")
        both = listwise(server, replay=str(path), record=str(path))
        asyncio.run(both.acompress_documents(MANY[:7], "query 0"))
        asyncio.run(both.acompress_documents(MANY[:7], "query 0"))
        assert len(server.requests) == calls + 1
    assert [ids(result) for result in replayed] == [ids(result) for result in recorded]
    assert replayed[0][0].metadata["rerank"]["replayed"] is True
    assert usage(replayed[0])["calls"] == 0


def test_recordings_of_scores_keep_the_scores(tmp_path):
    path = str(tmp_path / "scores.jsonl")
    first = PointwiseLLMReranker(model=Judge(), style="graded", record=path).compress_documents(DOCUMENTS, QUERY)
    again = PointwiseLLMReranker(model=RunnableLambda(print), style="graded", replay=path)
    scores = [d.metadata["relevance_score"] for d in again.compress_documents(DOCUMENTS, QUERY)]
    assert scores == [d.metadata["relevance_score"] for d in first]


@pytest.mark.parametrize(
    "line", ["no JSON", "[]", '{"query": "q", "candidates": ["a", "b"], "order": [0, 0]}', '{"query": "q"}']
)
def test_a_damaged_recording_names_its_line(tmp_path, line):
    path = tmp_path / "verdicts.jsonl"
    path.write_text('{"query": "q", "candidates": ["a", "b"], "order": [1, 0]}\n\n' + line + "\n")
    with pytest.raises(DatasetError, match=r"verdicts\.jsonl:3"):
        ListwiseReranker(model=Judge(), replay=str(path)).compress_documents(DOCUMENTS, QUERY)


def test_threads_of_one_reranker_record_whole_lines(tmp_path):
    path = tmp_path / "verdicts.jsonl"
    reranker = ListwiseReranker(model=Judge(), record=str(path))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: reranker.compress_documents(MANY, f"query {n}"), range(40)))
    assert len({json.loads(line)["query"] for line in path.read_text().splitlines()}) == 40


# --- single judgements -------------------------------------------------------------------------------------------------


def yes_no(request, probability=0.9):
    """Sure of what is about the number 3."""
    prompt = request["messages"][-1]["content"]
    p = probability if "number 3" in prompt else 0.2
    top = {"Yes": math.log(p * 0.8), " yes": math.log(p * 0.1), "No": math.log((1 - p) * 0.9), "Maybe": math.log(0.05)}
    return Reply("Yes" if p > 0.5 else "No", logprobs=top if request.get("logprobs") else None)


def test_the_score_is_the_share_of_yes_among_both():
    with chat_server(yes_no) as server:
        reranker = PointwiseLLMReranker(model=chat(server))
        result = reranker.compress_documents(DOCUMENTS, QUERY)
        assert server.requests[0][1]["top_logprobs"] == 5
        kept = reranker.invoke({"query": QUERY, "documents": DOCUMENTS}, min_score=0.5)
    assert ids(result) == ["d3", "d0", "d1", "d2", "d4"]
    assert result[0].metadata["relevance_score"] == pytest.approx(0.81 / (0.81 + 0.09))
    assert result[1].metadata["relevance_score"] == pytest.approx(0.18 / (0.18 + 0.72))
    assert result[0].metadata["rerank"]["judged_by"] == "logprobs"
    assert ids(kept) == ["d3"]


def test_without_probabilities_the_answer_counts():
    with chat_server(yes_no) as server:
        result = PointwiseLLMReranker(model=chat(server), logprobs=False).compress_documents(DOCUMENTS, QUERY)
        assert "logprobs" not in server.requests[0][1]
    assert [d.metadata["relevance_score"] for d in result] == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert result[0].metadata["rerank"]["judged_by"] == "answer"


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
def test_a_server_that_refuses_probabilities_is_asked_for_them_once(way):
    def answer(request):
        return Reply(status=400) if request.get("logprobs") else yes_no(request)

    async def twice(reranker):
        return [await reranker.acompress_documents(DOCUMENTS, QUERY) for _ in range(2)]

    with chat_server(answer) as server:
        reranker = PointwiseLLMReranker(model=chat(server), max_concurrency=1)
        if way == "invoke":
            results = [reranker.compress_documents(DOCUMENTS, QUERY) for _ in range(2)]
        else:
            results = asyncio.run(twice(reranker))
        assert [ids(result)[0] for result in results] == ["d3", "d3"]
        assert len([1 for _, body in server.requests if body.get("logprobs")]) == 1
        with pytest.raises(Exception, match="400"):
            PointwiseLLMReranker(model=chat(server), logprobs=True).compress_documents(DOCUMENTS, QUERY)


def test_grades_are_weighted_by_their_probability():
    top = {"2": math.log(0.5), "3": math.log(0.25), "0": math.log(0.25)}
    with chat_server([Reply("2", logprobs=top)]) as server:
        result = PointwiseLLMReranker(model=chat(server), style="graded").compress_documents(DOCUMENTS[:1], QUERY)
    assert result[0].metadata["relevance_score"] == pytest.approx((0.5 * 2 + 0.25 * 3) / 3)


def test_the_token_after_the_thoughts_counts():
    from langchain_rerankkit.rerankers.pointwise import _mean_grade

    steps = [
        ("<think>", {}),
        ("No", {"No": -0.1}),
        ("</think>", {}),
        ("\n", {}),
        ("Yes", {"Yes": math.log(0.75), "No": math.log(0.25)}),
    ]
    content = [
        {"token": token, "logprob": 0.0, "top_logprobs": [{"token": t, "logprob": p} for t, p in top.items()]}
        for token, top in steps
    ]
    answer = AIMessage("", response_metadata={"logprobs": {"content": content}})
    assert _mean_grade(answer, {"yes": 1, "no": 0}) == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("answer", "grade"),
    [
        ("Yes", 1),
        ("yes.", 1),
        ("**No**", 0),
        ("Answer: Yes", 1),
        ("<think>no</think>Yes", 1),
        ("No, yes would be wrong", 0),
    ],
)
def test_answers_in_words(answer, grade):
    with chat_server([answer]) as server:
        result = PointwiseLLMReranker(model=chat(server)).compress_documents(DOCUMENTS[:1], QUERY)
    assert result[0].metadata["relevance_score"] == grade


@pytest.mark.parametrize("answer", ["", None, "perhaps", "I say yes and no", "<think>yes", "7", "x" * 10_000_000])
def test_an_answer_without_a_grade_is_asked_for_again_and_then_an_error_or_last(answer):
    def say(request):
        return Reply(answer if "number 1" in json.dumps(request) else "Yes")

    with chat_server(say) as server:
        with pytest.raises(ScoreError, match="no grade"):
            PointwiseLLMReranker(model=chat(server), max_retries=1).compress_documents(DOCUMENTS, QUERY)
        result = PointwiseLLMReranker(model=chat(server), max_retries=1, on_nan="last").compress_documents(
            DOCUMENTS, QUERY
        )
    assert ids(result) == ["d0", "d2", "d3", "d4", "d1"]
    assert result[-1].metadata["rerank"]["status"] == "not finite"
    assert usage(result)["retries"] == 1


def test_equal_texts_are_asked_about_once():
    documents = [Document(page_content="the same", id=str(n)) for n in range(6)]
    with chat_server(["Yes"]) as server:
        PointwiseLLMReranker(model=chat(server)).compress_documents(documents, QUERY)
        listwise(server).compress_documents(documents, QUERY)
        assert len(server.requests) == 1


def test_no_thread_is_left_behind():
    before = threading.active_count()
    ListwiseReranker(model=Judge(), strategy="tournament").batch([{"query": "q", "documents": MANY}] * 4)
    assert threading.active_count() == before
