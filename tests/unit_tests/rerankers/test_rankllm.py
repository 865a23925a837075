"""RankLLMReranker against the real rank_llm, without vllm: chat models on a loopback server, T5 with random weights."""

import asyncio
import contextlib
import inspect
import io
import logging
import random
import re
import subprocess
import sys
import textwrap
import threading
import time
import types

import pytest
from langchain_core.documents import Document
from pydantic import ValidationError

from langchain_rerankkit import ListwiseReranker
from langchain_rerankkit.errors import MissingExtraError, ModelNotFoundError, OrderError
from langchain_rerankkit.rerankers import _rankllm_guard as guard
from langchain_rerankkit.rerankers.rankllm import RankLLMReranker, _names_passages
from langchain_rerankkit.testing import RerankerTests
from tests.chat_server import Reply, chat_server
from tests.judge import Judge

PIP = 'pip install --no-deps "rank-llm>=0.25.7" openai tiktoken ftfy dacite python-dotenv'
pytest.importorskip("rank_llm", reason=f"rank_llm is not installed: {PIP}")
for needed in ("openai", "tiktoken", "ftfy", "dacite", "dotenv"):
    pytest.importorskip(needed, reason=f"rank_llm needs {needed}: {PIP}")

KEY = "sk-secret-of-the-test"

# What the wheel imports at module level and this machine cannot have: vllm, and names that transformers has removed,
# which only LiT5's own T5 uses. Everything else of rank_llm is the real thing.
STUBS = textwrap.dedent(
    """
    import importlib.machinery, sys, types

    def stub(name, **attributes):
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        vars(module).update(attributes)
        return sys.modules.setdefault(name, module)

    class RequestOutput: ...

    stub("vllm", RequestOutput=RequestOutput, outputs=stub("vllm.outputs", RequestOutput=RequestOutput))
    import transformers.modeling_utils as modeling
    for name in ("find_pruneable_heads_and_indices", "prune_linear_layer"):
        if not hasattr(modeling, name):
            setattr(modeling, name, None)
    try:
        import transformers.utils.model_parallel_utils
    except ImportError:
        stub("transformers.utils.model_parallel_utils", assert_device_map=None, get_device_map=None)
    """
)


@pytest.fixture(scope="module", autouse=True)
def importable():
    """rank_llm imports; what was stubbed is gone afterwards."""
    stubs = ("vllm", "vllm.outputs", "transformers.utils.model_parallel_utils")
    before = {name: sys.modules.get(name) for name in stubs}
    exec(STUBS, {})  # noqa: S102 - the same text runs in the subprocess tests
    guard.import_rank_llm("rank_llm.rerank.listwise.rank_gpt")
    yield
    for name, module in before.items():
        if module is None:
            sys.modules.pop(name, None)


@pytest.fixture(scope="module", autouse=True)
def _encoding():
    """A real tiktoken encoding, of single bytes, in place of the one that is downloaded."""
    import tiktoken

    name = "cl100k_base"
    ranks = {bytes([byte]): byte for byte in range(256)}
    encoding = tiktoken.Encoding(name, pat_str=r"\w+|\W", mergeable_ranks=ranks, special_tokens={"<|endoftext|>": 256})
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tiktoken.registry.ENCODINGS, name, encoding)
        yield


@pytest.fixture(autouse=True)
def _nothing_left_behind(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr(guard, "_abandoned", [])


def passages(request):
    texts = [message["content"] for message in request.get("messages") or request["input"] if message["role"] == "user"]
    return [(int(number), text) for content in texts for number, text in re.findall(r"^\[(\d+)\] (.*)$", content)]


def judge(request):
    """Most rivers first, then by the alphabet: the same order however the passages are shown."""
    ordered = sorted(passages(request), key=lambda passage: (-passage[1].lower().count("river"), passage[1]))
    return " > ".join(f"[{number}]" for number, _ in ordered)


def make(url, **fields):
    return RankLLMReranker(
        **{"model": "gpt-test", "base_url": url, "api_key": KEY, "context_size": 32768, "timeout": 20.0, **fields}
    )


def texts(count):
    return [f"passage {number:03}" for number in range(count)]


def told(results):
    return [line.document.page_content for line in results]


class TestRankLLMReranker(RerankerTests):
    required_module = "rank_llm"
    secrets = (KEY,)

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _server(cls):
        with chat_server(judge) as server:
            cls.url = server.url
            yield

    def make_reranker(self, **fields):
        return make(self.url, **fields)


class TestWindows:
    @pytest.mark.parametrize(("window", "stride", "most"), [(20, 10, 45), (5, 2, 12), (3, 3, 10)])
    def test_every_count_asks_for_the_windows_that_it_needs(self, window, stride, most):
        with chat_server(judge) as server:
            reranker = make(server.url, window_size=window, stride=stride)
            for count in range(1, most + 1):
                server.requests.clear()
                ranked = reranker.rank("q", texts(count)[::-1])
                shown = [len(passages(request)) for _, request in server.requests]
                expected, end = [], count
                while count > 1:
                    start = max(end - window, 0)
                    expected.append(end - start)
                    if start == 0:
                        break
                    end -= stride
                assert shown == expected, count
                assert sorted(told(ranked)) == texts(count)
                if count <= window:
                    assert told(ranked) == texts(count)

    def test_ten_candidates_are_ranked_though_rank_llm_itself_asks_nothing(self):
        from rank_llm.data import Candidate, Query, Request

        with chat_server(judge) as server:
            reranker = make(server.url).warmup()
            request = Request(Query("q", "0"), [Candidate(str(n), 0.0, {"text": f"{9 - n}"}) for n in range(10)])
            with guard.quiet():
                (plain,) = reranker._ready().inner.rerank_batch([request], populate_invocations_history=True)
            assert (plain.invocations_history, server.requests) == ([], [])
            assert told(reranker.rank("q", texts(10)[::-1])) == texts(10)
            assert len(server.requests) == 1

    def test_usage_is_counted_and_each_document_has_its_own(self):
        with chat_server(lambda request: Reply(judge(request), usage=(100, 7))) as server:
            lines = make(server.url).rank("q", texts(25))
        assert {line.details["usage"]["calls"] for line in lines} == {2}
        assert {line.details["usage"]["output_tokens"] for line in lines} == {14}
        assert all(line.details["usage"]["input_tokens"] > 500 for line in lines)
        assert len({id(line.details["usage"]) for line in lines}) == 25

    def test_equal_texts_are_shown_once(self):
        with chat_server(judge) as server:
            ranked = make(server.url).rank("q", ["b", "a", "b", "b"])
            assert told(ranked) == ["a", "b", "b", "b"]
            assert [len(passages(request)) for _, request in server.requests] == [2]
            assert [line.score for line in make(server.url).rank("q", ["a", "a"])] == [1.0, 1.0]
            assert len(server.requests) == 1

    def test_control_tokens_reach_neither_tiktoken_nor_the_model(self):
        with chat_server(judge) as server:
            make(server.url).rank("q <|im_start|>", ["a <|endoftext|> b", "c"])
            assert "<|" not in str(server.requests)

    def test_rank_llm_and_listwise_reranker_come_to_the_same_order(self):
        ours = ListwiseReranker(model=Judge(grades={text: -place for place, text in enumerate(texts(100))}))
        rng = random.Random(5)
        with chat_server(judge) as server:
            theirs = make(server.url)
            for count in (2, 9, 10, 11, 20, 21, 25, 30, 31, 47, 100):
                shown = rng.sample(texts(100), count)
                assert told(ours.rank("q", shown)) == told(theirs.rank("q", shown))


class TestAnswers:
    @pytest.mark.parametrize(
        "said", ["None of them is relevant.", "", None, "[0] > [77]", "<think>[2] > [1]</think> no"]
    )
    def test_an_answer_that_names_no_passage_is_an_error(self, said):
        with chat_server([Reply(said)]) as server:
            with pytest.raises(OrderError) as caught:
                make(server.url).rank("secret query", ["b", "a"])
            assert "secret query" not in str(caught.value)
            assert caught.value.answer == (said or "")
            kept = make(server.url, on_error="keep_order").rank("q", ["b", "a"])
        assert [(line.document.page_content, line.status, line.reason) for line in kept] == [
            ("b", "fallback", "OrderError"),
            ("a", "fallback", "OrderError"),
        ]

    def test_one_bad_window_fails_the_list(self):
        with chat_server(["[2] > [1]", "I cannot."]) as server, pytest.raises(OrderError):
            make(server.url).rank("q", texts(25))

    @pytest.mark.parametrize(
        ("answer", "alpha", "named"),
        [
            ("[2] > [1]", False, True),
            ("2, 1", False, True),
            ("\u2461", False, True),
            ("\uff12 > \uff11", False, True),
            ("2024: nothing", False, False),
            ("<think>1</think>", False, False),
            ("[B] > [A]", True, True),
            ("B > A", True, True),
            ("[Z]", True, False),
            ("none", True, False),
        ],
    )
    def test_what_names_passages(self, answer, alpha, named):
        assert _names_passages(answer, 3, alpha=alpha) is named

    def test_errors_of_the_server_end_the_call(self):
        import openai

        with chat_server([Reply(status=401)]) as server:
            with pytest.raises(openai.AuthenticationError):
                make(server.url).rank("q", ["b", "a"])
            assert len(server.requests) == 1

    def test_a_server_that_echoes_the_key(self):
        body = b'{"error": {"message": "wrong key ' + KEY.encode() + b'"}}'
        with chat_server([Reply(status=401, body=body)]) as server, pytest.raises(RuntimeError, match="Auth") as caught:
            make(server.url).rank("q", ["b", "a"])
        assert KEY not in str(caught.value)

    def test_a_model_that_takes_no_temperature(self):
        def answer(request):
            if "temperature" in request:
                return Reply(status=400, body=b'{"error": {"message": "Unsupported value: temperature"}}')
            return judge(request)

        with chat_server(answer) as server:
            reranker = make(server.url)
            assert told(reranker.rank("q", ["b", "a"])) == ["a", "b"]
            reranker.rank("q", ["b", "a"])
            assert len(server.requests) == 3


class Standin:
    """A small coordinator, for what no coordinator of this wheel does; named as such."""

    _model = "stand-in"

    def __init__(self, act=None):
        self.act = act
        self.seen = []

    def rerank_batch(self, requests, rank_start=0, rank_end=100, shuffle_candidates=False, logging=False, **kwargs):
        from rank_llm.data import InferenceInvocation, Result

        self.seen.append((rank_start, rank_end, kwargs))
        if self.act is not None:
            self.act()
        (request,) = requests
        invocation = InferenceInvocation("prompt", "[2] > [1]", 10, 5)
        return [Result(request.query, request.candidates[::-1], [invocation])]


def standin(base=Standin, module="rank_llm.rerank.listwise.standin", name="StandIn", **members):
    return type(name, (base,), {"__module__": module, **members})


class TestDeadline:
    def test_a_server_that_hangs(self):
        with chat_server([Reply("[1]", wait=20)]) as server:
            started = time.monotonic()
            with pytest.raises(TimeoutError, match="within"):
                make(server.url, timeout=0.5).rank("q", ["b", "a"])
            assert time.monotonic() - started < 3
            assert told(make(server.url, timeout=0.5, on_error="keep_order").rank("q", ["b", "a"])) == ["b", "a"]
        wait_until(lambda: not any(call.is_alive() for call in guard._abandoned))

    def test_a_loop_that_retries_for_ever_is_ended(self):
        def act():
            while True:
                with contextlib.suppress(Exception):  # as rank_llm does
                    time.sleep(0.02)

        with pytest.raises(TimeoutError):
            RankLLMReranker(client=Standin(act), timeout=0.2).rank("q", ["b", "a"])
        (call,) = guard._abandoned
        call.join(5)
        assert not call.is_alive()

    def test_rank_llms_own_retries_are_ended(self):
        from rank_llm.rerank.listwise.rank_gpt import SafeOpenai

        with chat_server([Reply(status=401)]) as server:
            import openai

            coordinator = make(server.url).warmup()._ready().inner
            held = guard.Coordinator(coordinator)  # asks by itself
            with guard.kept_openai_globals():
                openai.base_url, openai.api_key = server.url + "/", KEY
                with pytest.raises(TimeoutError):
                    held.rank(request_of("b", "a"), 2, 1.0)
                (call,) = guard._abandoned
                call.join(5)
            assert not call.is_alive()
            assert isinstance(coordinator, SafeOpenai)
            assert len(server.requests) > 1

    def test_past_the_limit_calls_are_refused_at_once(self):
        over = threading.Event()

        def act():
            while not over.is_set():
                with contextlib.suppress(BaseException):  # nothing ends it
                    over.wait(0.05)

        try:
            for _ in range(guard.MAX_ABANDONED):
                with pytest.raises(TimeoutError):
                    RankLLMReranker(client=Standin(act), timeout=0.1).rank("q", ["b", "a"])
            started = time.monotonic()
            with pytest.raises(RuntimeError, match="no more are started"):
                RankLLMReranker(client=Standin()).rank("q", ["b", "a"])
            assert time.monotonic() - started < 1
        finally:
            over.set()
        wait_until(lambda: not any(call.is_alive() for call in guard._abandoned))
        assert told(RankLLMReranker(client=Standin()).rank("q", ["b", "a"])) == ["a", "b"]

    def test_a_coordinator_that_hangs_does_not_hold_up_the_next_call(self):
        over = threading.Event()

        def act():
            while not over.is_set():
                with contextlib.suppress(BaseException):  # nothing ends it
                    over.wait(0.05)

        reranker = RankLLMReranker(client=Standin(act), timeout=0.2)
        try:
            with pytest.raises(TimeoutError):
                reranker.rank("q", ["b", "a"])
            started = time.monotonic()
            with pytest.raises(RuntimeError, match="busy"):
                reranker.rank("q", ["b", "a"])
            assert time.monotonic() - started < 0.1
        finally:
            over.set()
        wait_until(lambda: not any(call.is_alive() for call in guard._abandoned))
        assert told(reranker.rank("q", ["b", "a"])) == ["a", "b"]

    def test_a_coordinator_ranks_one_list_at_a_time(self):
        inside, most = [], []

        def act():
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.01)
            inside.pop()

        reranker = RankLLMReranker(client=Standin(act))
        threads = [threading.Thread(target=reranker.rank, args=("q", ["b", "a"])) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert most == [1] * 8

    def test_a_call_that_waits_for_its_turn_has_its_deadline_too(self):
        reranker = RankLLMReranker(client=Standin(lambda: time.sleep(0.5)))
        first = threading.Thread(target=reranker.rank, args=("q", ["b", "a"]))
        first.start()
        time.sleep(0.1)
        with pytest.raises(TimeoutError, match="busy"):
            reranker._ready().rank(request_of("b", "a"), 2, 0.1)
        first.join()

    def test_chat_models_are_asked_by_several_threads_at_once(self):
        with chat_server(lambda request: Reply(judge(request), wait=0.2)) as server:
            reranker = make(server.url).warmup()
            threads = [threading.Thread(target=reranker.rank, args=("q", ["b", "a"])) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert server.most_at_once > 1

    async def test_a_running_event_loop(self):
        def act():
            asyncio.run(asyncio.sleep(0))

        reranker = RankLLMReranker(client=Standin(act))
        documents = [Document(page_content="b"), Document(page_content="a")]
        asked = {"query": "q", "documents": documents}
        assert [d.page_content for d in reranker.invoke(asked)] == ["a", "b"]
        assert [d.page_content for d in await reranker.ainvoke(asked)] == ["a", "b"]

    @pytest.mark.parametrize("length", [2, 400])
    def test_a_context_that_is_too_small(self, length):
        with chat_server(judge) as server:
            reranker = make(server.url, context_size=500)
            with pytest.raises(ValueError, match="context_size"):
                reranker.rank("q", ["b " * length, "a"])
            assert server.requests == []

    def test_long_passages_are_shortened(self):
        with chat_server(judge) as server:
            make(server.url, context_size=2000).rank("q", ["b " * 4000, "a " * 4000])
            shown = [len(text.split()) for _, text in passages(server.requests[0][1])]
        assert all(50 < words < 500 for words in shown)


class TestOpenAIGlobals:
    def test_two_servers_see_only_their_own_key(self):
        import openai

        before = {name: vars(openai).get(name, "absent") for name in guard._OPENAI_GLOBALS}
        with chat_server(judge) as first, chat_server(judge) as second:
            pairs = [(make(first.url, api_key="key-1"), first), (make(second.url, api_key="key-2"), second)]
            for reranker, _ in [*pairs, *pairs]:
                reranker.rank("q", ["b", "a"])
            for key, (_, server) in zip(("key-1", "key-2"), pairs, strict=True):
                assert [headers["authorization"] for headers in server.headers] == [f"Bearer {key}"] * 2
        assert {name: vars(openai).get(name, "absent") for name in guard._OPENAI_GLOBALS} == before

    def test_not_even_after_a_deadline(self):
        with chat_server(lambda _: Reply("[1]", wait=0.6)) as slow, chat_server(judge) as second:
            with pytest.raises(TimeoutError):
                make(slow.url, api_key="key-1", timeout=0.2).rank("q", texts(60))
            make(second.url, api_key="key-2").rank("q", ["b", "a"])
            time.sleep(1)
            assert {headers["authorization"] for headers in slow.headers} == {"Bearer key-1"}
            assert len(slow.headers) < 5
            assert [headers["authorization"] for headers in second.headers] == ["Bearer key-2"]

    def test_ready_coordinators_keep_their_servers(self):
        from importlib.resources import files

        from rank_llm.rerank import Reranker as Wrapper
        from rank_llm.rerank.listwise import SafeOpenai

        template = str(files("rank_llm.rerank.prompt_templates") / "rank_gpt_template.yaml")

        def coordinator(server, keys):
            return SafeOpenai("m", 32768, None, template, keys=keys, base_url=server.url + "/")

        with guard.kept_openai_globals(), chat_server(judge) as first, chat_server(judge) as second:
            one = RankLLMReranker(client=coordinator(first, "key-1"))
            two = RankLLMReranker(client=Wrapper(coordinator(second, "key-2")), details=False)
            for reranker in (one, two, one):
                assert told(reranker.rank("q", texts(10)[::-1])) == texts(10)
                assert told(reranker.rank("q", ["b", "a"], top_n=1)) == ["a"]
            assert {headers["authorization"] for headers in first.headers} == {"Bearer key-1"}
            assert {headers["authorization"] for headers in second.headers} == {"Bearer key-2"}
            assert (one._label(), one.scores_are) == ("m", "rank")
            assert "key-1" not in repr(one)

    def test_the_next_of_several_keys(self):
        def answer(request):
            return Reply(status=401) if len(server.requests) == 1 else judge(request)

        from importlib.resources import files

        from rank_llm.rerank.listwise import SafeOpenai

        template = str(files("rank_llm.rerank.prompt_templates") / "rank_gpt_template.yaml")
        with guard.kept_openai_globals(), chat_server(answer) as server:
            client = SafeOpenai("m", 32768, None, template, keys=["a", "b"], base_url=server.url + "/")
            RankLLMReranker(client=client).rank("q", ["b", "a"])
            assert [headers["authorization"] for headers in server.headers] == ["Bearer a", "Bearer b"]

    def test_the_key_of_the_environment(self, monkeypatch):
        monkeypatch.setenv("OPENAI_API_KEY", "from-env")
        with chat_server(judge) as server:
            make(server.url, api_key=None).rank("q", ["b", "a"])
            assert server.headers[0]["authorization"] == "Bearer from-env"


class TestQuiet:
    def test_nothing_is_printed_and_others_still_are(self, capfd):
        with chat_server(judge) as server:
            reranker = make(server.url).warmup()
            reranker.rank("q", texts(12))
        assert capfd.readouterr() == ("", "")
        from rank_llm.rerank.listwise.rank_gpt import tqdm
        from rank_llm.rerank.rankllm import RankLLM

        RankLLM.run_llm.__globals__["print"]("seen")
        assert list(tqdm([1], file=io.StringIO())) == [1]
        assert capfd.readouterr().out == "seen\n"

    def test_a_fresh_process_keeps_its_root_logger_and_its_output(self):
        code = STUBS + textwrap.dedent(
            f"""
            import logging, tiktoken
            from langchain_rerankkit.rerankers.rankllm import RankLLMReranker
            ranks = {{bytes([byte]): byte for byte in range(256)}}
            tiktoken.registry.ENCODINGS["cl100k_base"] = tiktoken.Encoding(
                "cl100k_base", pat_str=r"\\w+|\\W", mergeable_ranks=ranks, special_tokens={{}})
            root = logging.getLogger()
            before = (list(root.handlers), root.level)
            reranker = RankLLMReranker(model="gpt-x", base_url=sys.argv[1], context_size=32768, api_key="{KEY}")
            assert "rank_llm" not in sys.modules and "openai" not in sys.modules
            lines = reranker.rank("q", ["b", "a"])
            assert (list(root.handlers), root.level) == before
            assert [line.document.page_content for line in lines] == ["a", "b"]
            """
        )
        with chat_server(judge) as server:
            done = run(code, server.url)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    def test_root_handlers_are_not_touched_in_this_process_either(self):
        root = logging.getLogger()
        before = (list(root.handlers), root.level)
        guard.import_rank_llm("rank_llm.rerank")
        assert (list(root.handlers), root.level) == before


class TestMissing:
    def test_vllm(self):
        code = textwrap.dedent(
            """
            import sys
            sys.modules["vllm"] = None
            from langchain_rerankkit.errors import MissingExtraError
            from langchain_rerankkit.rerankers.rankllm import RankLLMReranker
            try:
                RankLLMReranker(model="gpt-x", api_key="k").rank("q", ["b", "a"])
            except MissingExtraError as error:
                print(error)
            """
        )
        said = run(code).stdout
        assert "vllm" in said
        assert "PyPI imports vllm" in said
        assert "ListwiseReranker" in said
        assert "pip install 'langchain-rerankkit[rankllm]'" in said

    def test_a_transformers_that_is_too_new(self, monkeypatch):
        def refuse(module, *, extra):
            if module == "rank_llm":
                return
            cause = ImportError("cannot import name 'x'", name="transformers.modeling_utils")
            raise MissingExtraError(module, extra, str(cause)) from cause

        monkeypatch.setattr(guard, "require", refuse)
        with pytest.raises(MissingExtraError, match="transformers older than"):
            make("http://127.0.0.1:1/v1").warmup()

    def test_the_encoding_of_tiktoken(self, monkeypatch):
        import tiktoken

        monkeypatch.delitem(tiktoken.registry.ENCODINGS, "cl100k_base")

        def offline():
            raise ConnectionError

        monkeypatch.setattr(tiktoken.registry, "ENCODING_CONSTRUCTORS", {"cl100k_base": offline})
        with chat_server(judge) as server, pytest.raises(ModelNotFoundError, match="TIKTOKEN_CACHE_DIR"):
            make(server.url).rank("q", ["b", "a"])


class TestNames:
    @pytest.mark.parametrize(
        ("model", "name", "scores_are"),
        [
            ("gpt-4o-mini", "SafeOpenai", "rank"),
            ("gemini-2.0-flash", "SafeGenai", "rank"),
            ("castorini/monot5-base-msmarco", "MonoT5", "relevance"),
            ("castorini/monoelectra-base", "MonoELECTRA", "relevance"),
            ("duot5", "DuoT5", "rank"),
            ("castorini/LiT5-Distill-base", "RankFiDDistill", "rank"),
            ("castorini/LiT5-Score-base", "RankFiDScore", "rank"),
            ("rank_zephyr", "RankListwiseOSLLM", "rank"),
            ("castorini/first_mistral", "RankListwiseOSLLM", "rank"),
        ],
    )
    def test_are_routed_as_rank_llm_does(self, model, name, scores_are):
        reranker = RankLLMReranker(model=model)
        assert (reranker._kind.name, reranker.scores_are, reranker._label()) == (name, scores_are, model)
        if name not in {"SafeGenai", "MonoELECTRA"}:  # of other installations
            made = getattr(guard.import_rank_llm(f"rank_llm.rerank.{reranker._kind.module}"), name)
            arguments = reranker._arguments(made, "key")
            assert set(arguments) <= set(inspect.signature(made).parameters)

    def test_a_base_url_is_always_a_chat_model(self):
        assert RankLLMReranker(model="monot5", base_url="http://127.0.0.1/v1").scores_are == "rank"

    def test_a_key_of_openai_never_goes_to_google(self, monkeypatch):
        monkeypatch.setenv("OPENAI_API_KEY", "openai")
        monkeypatch.setenv("GEN_AI_API_KEY", "google")
        assert RankLLMReranker(model="gemini-2")._key() == "google"
        assert RankLLMReranker(model="rank_zephyr")._key() is None

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({}, "either"),
            ({"model": "m", "client": Standin()}, "either"),
            ({"client": object()}, "coordinator"),
            ({"model": "m", "window_size": 4, "stride": 5}, "skip"),
            ({"model": "jinaai/jina-reranker-v3"}, "client"),
            ({"model": "m", "timeout": 0}, "timeout"),
            ({"model": "rank_zephyr", "min_score": 0.5}, "min_score"),
        ],
    )
    def test_what_is_refused(self, fields, said):
        with pytest.raises(ValidationError, match=said):
            RankLLMReranker(**fields)

    def test_a_wrong_option_is_an_error(self):
        with pytest.raises(TypeError, match="widow"):
            make("http://127.0.0.1:1/v1", options={"widow": 3}).warmup()


class TestT5:
    """The wheel's own monoT5 and duoT5, on a T5 with random weights. Its LiT5 does not run with transformers 5."""

    @pytest.fixture(scope="class", params=["monot5", "duot5"])
    @classmethod
    def reranker(cls, request, tmp_path_factory):
        transformers = pytest.importorskip("transformers", minversion="5")
        import torch

        folder = tmp_path_factory.mktemp("t5") / f"tiny-{request.param}"
        words = ["\u2581true", "\u2581false", "\u2581river", "\u2581city", "\u2581bread", "\u2581"]
        pieces = ["<pad>", "</s>", "<unk>", *words, *"abcdefghijklmnopqrstuvwxyzQDR:01"]
        vocabulary = [(piece, 0.0 if number < 3 else -1.0 / len(piece)) for number, piece in enumerate(pieces)]
        transformers.T5Tokenizer(vocab=vocabulary, extra_ids=0).save_pretrained(folder)
        torch.manual_seed(1)
        config = transformers.T5Config(
            vocab_size=len(pieces),
            d_model=16,
            d_kv=8,
            d_ff=32,
            num_layers=1,
            num_decoder_layers=1,
            num_heads=2,
            decoder_start_token_id=0,
        )
        transformers.T5ForConditionalGeneration(config).save_pretrained(folder)
        # One by one: rank_llm passes no attention mask, and transformers 5 infers none, so padding changes scores.
        return RankLLMReranker(model=str(folder), device="cpu", batch_size=1)

    def test_order_and_scores_are_the_models(self, reranker):
        contents = ["bread", "a river in the city", "city", "the river"]
        ranked = reranker.rank("river", contents)
        inner = reranker._ready().inner
        request, count = request_of(*contents, query="river"), len(contents)

        def asked(*positions):
            return inner.run_llm(inner.create_prompt(request, *positions)[0])[2]

        if "monot5" in reranker.model:
            expected = [asked(position) for position in range(count)]
            scores = {line.document.page_content: line.score for line in ranked}
            assert [scores[content] for content in contents] == pytest.approx(expected, rel=1e-4)
            assert ranked[0].details["usage"]["calls"] == count
            assert len(reranker.rank("river", contents, min_score=ranked[1].score)) == 2
        else:
            expected = [0.0] * count
            for i in range(count):
                for j in range(i + 1, count):
                    score = asked(i, j)
                    expected[i] += score
                    expected[j] += 1 - score
            assert [line.score for line in ranked] == [1.0, 1 / 2, 1 / 3, 1 / 4]
        assert len(set(expected)) == count
        assert told(ranked) == [contents[i] for i in sorted(range(count), key=lambda i: -expected[i])]


class TestOtherLayouts:
    """What the repository's newer rank_llm does differently, with stand-ins for its coordinators."""

    def test_a_single_result_without_history_of_calls(self):
        class Single(Standin):
            def rerank_batch(self, *args, **kwargs):
                return super().rerank_batch(*args, **kwargs)[0]

        client = Single()
        assert told(RankLLMReranker(client=client).rank("q", texts(30))) == texts(30)[::-1]
        assert client.seen == [(0, 30, {"top_k_retrieve": 30, "populate_invocations_history": True})]

    def test_wrappers(self):
        class Wrapper:
            def __init__(self, inside):
                self._reranker = inside

        assert told(RankLLMReranker(client=Wrapper(Wrapper(Standin()))).rank("q", ["b", "a"])) == ["a", "b"]

    @pytest.mark.parametrize(
        "answer", ["ERROR::reduce_length 1", "'message' object has no attribute 'reasoning'", None]
    )
    def test_errors_given_as_answers(self, answer):
        def ask(self, requests, **_):
            (request,) = requests
            return types.SimpleNamespace(
                candidates=request.candidates, invocations_history=[types.SimpleNamespace(response=answer)]
            )

        with pytest.raises(OrderError):
            RankLLMReranker(client=standin(rerank_batch=ask)()).rank("q", ["b", "a"])

    @pytest.mark.parametrize("broken", [lambda c: c[:1], lambda c: [c[0], c[0]], lambda c: [*c, c[0]]])
    def test_lost_or_repeated_candidates(self, broken):
        def ask(self, requests, **_):
            history = [types.SimpleNamespace(response="[1]")]
            return [types.SimpleNamespace(candidates=broken(requests[0].candidates), invocations_history=history)]

        with pytest.raises(OrderError, match="candidates"):
            RankLLMReranker(client=standin(rerank_batch=ask)()).rank("q", ["b", "a"])

    def test_no_call_at_all(self):
        from rank_llm.rerank import IdentityReranker

        with pytest.raises(OrderError, match="0 answers to 1 windows"):
            RankLLMReranker(client=IdentityReranker()).rank("q", ["b", "a"])

    def test_a_window_whose_call_was_lost(self):
        client = standin(_window_size=20, _stride=10)()
        assert len(RankLLMReranker(client=client).rank("q", texts(20))) == 20
        with pytest.raises(OrderError, match="1 answers to 2 windows"):
            RankLLMReranker(client=client).rank("q", texts(21))

    def test_fields_in_the_wrong_places(self):
        def ask(self, requests, **_):
            invocation = types.SimpleNamespace(response="[2] > [1]", input_token_count=(), output_token_count=None)
            return [types.SimpleNamespace(candidates=requests[0].candidates, invocations_history=[invocation])]

        (line, _) = RankLLMReranker(client=standin(rerank_batch=ask)()).rank("q", ["b", "a"])
        assert line.details["usage"] == {"calls": 1, "input_tokens": 0, "output_tokens": 0}

    def test_pointwise_scores_and_thresholds(self):
        def ask(self, requests, **_):
            (request,) = requests
            for number, candidate in enumerate(request.candidates):
                candidate.score = -1.5 + number
            return [types.SimpleNamespace(candidates=request.candidates[::-1], invocations_history=([],))]

        client = standin(module="rank_llm.rerank.pointwise.monoelectra", name="MonoELECTRA", rerank_batch=ask)()
        reranker = RankLLMReranker(client=client, min_score=-1.0)
        assert reranker.scores_are == "relevance"
        assert [(line.document.page_content, line.score) for line in reranker.rank("q", ["a", "b"])] == [("b", -0.5)]
        assert reranker.rank("q", ["only"], min_score=-9.0)[0].score == -1.5

    def test_the_responses_api(self):
        def init(self, reasoning_effort=None):
            self._reasoning_effort, self._keys, self._cur_key_id = reasoning_effort, ["k"], 0

        def ask(self, requests, **_):
            (request,) = requests
            prompt = [
                {"role": "user", "content": f"[{n}] {c.doc['text']}"} for n, c in enumerate(request.candidates, 1)
            ]
            answer, count = self.run_llm(prompt, current_window_size=len(prompt))
            order = [int(number) - 1 for number in re.findall(r"\d+", answer)]
            history = [types.SimpleNamespace(response=answer, input_token_count=1, output_token_count=count)]
            return [
                types.SimpleNamespace(
                    candidates=[request.candidates[position] for position in order], invocations_history=history
                )
            ]

        made = standin(
            name="SafeOpenai",
            __init__=init,
            rerank_batch=ask,
            create_prompt=lambda self: None,
            run_llm=lambda self: None,
        )
        with chat_server(lambda request: Reply(judge(request), usage=(10, 4))) as server:
            reranker = RankLLMReranker(client=made("low"), base_url=server.url)
            first, second = reranker.rank("q", ["b", "a"])
            ((path, request),) = server.requests
        assert (path, request["reasoning"]) == ("/v1/responses", {"effort": "low"})
        assert "temperature" not in request
        assert (first.document.page_content, second.document.page_content) == ("a", "b")
        assert first.details["usage"]["output_tokens"] == 4


def request_of(*contents, query="q"):
    from rank_llm.data import Candidate, Query, Request

    return Request(Query(query, "0"), [Candidate(str(n), 0.0, {"text": text}) for n, text in enumerate(contents)])


def run(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, timeout=120
    )


def wait_until(happened, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)
