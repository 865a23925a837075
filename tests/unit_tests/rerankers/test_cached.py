import asyncio
import itertools
import logging
import math
import multiprocessing
import os
import random
import signal
import sqlite3
import struct
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from pydantic import BaseModel, Field, SecretStr, ValidationError

from langchain_rerankkit import (
    BiEncoderReranker,
    CachedReranker,
    CascadeReranker,
    CohereReranker,
    CrossEncoderReranker,
    EmbeddedEmbeddings,
    EmbeddedReranker,
    EnsembleReranker,
    FallbackReranker,
    FunctionReranker,
    IndexFormatError,
    LexicalReranker,
    Reranker,
    TermStatistics,
)
from langchain_rerankkit.model_id import kept_scores_id, unidentified
from langchain_rerankkit.records import DetailedScores
from langchain_rerankkit.score_cache import KeptScore, MemoryScores, SQLiteScores
from langchain_rerankkit.testing import RerankerTests
from tests.hosted import hosted
from tests.rerank_fakes import FAKES
from tests.rerank_server import serve

STATISTICS = TermStatistics.from_texts(RerankerTests.texts)


class TestCachedReranker(RerankerTests):
    required_module = "Stemmer"
    loadable = (LexicalReranker, TermStatistics)

    def make_reranker(self, **fields):
        return CachedReranker(LexicalReranker(statistics=STATISTICS), **fields)


class TestCachedRerankerWithAFile(RerankerTests):
    """All objects of a test share the file, which is warm for most of them."""

    loadable = (LexicalReranker, TermStatistics)

    @pytest.fixture(autouse=True)
    def _file(self, tmp_path):
        self.path = tmp_path / "scores.sqlite"

    def make_reranker(self, **fields):
        return CachedReranker(LexicalReranker(statistics=STATISTICS), path=self.path, **fields)


class Counting(Reranker):
    """Judges by a hash of all that it reads, and remembers what it was asked."""

    instruction: str = ""
    model: str = "counting"
    call_options = Reranker.call_options | {"instruction"}
    _asked: list = []

    def _score_many(self, requests):
        self._asked.append([(request.query, list(request.texts)) for request in requests])
        return [[truth(request.query, text, self.instruction) for text in request.texts] for request in requests]

    def _activate(self, raw_score):
        return raw_score / 2


def truth(query, text, instruction=""):
    return float(int(sha256(f"{query}|{text}|{instruction}".encode()).hexdigest()[:12], 16))


def counting(**fields):
    reranker = Counting(**fields)
    reranker._asked = []
    return reranker


@pytest.fixture(params=["memory", "file"])
def place(request, tmp_path):
    """Fields of a cache in memory, and of one in a file."""
    return {} if request.param == "memory" else {"path": str(tmp_path / "deep" / "scores.sqlite"), "identity": "v1"}


def inputs(query, *texts):
    return {"query": query, "documents": [Document(page_content=text, id=str(n)) for n, text in enumerate(texts)]}


# --- what is asked and what is not ------------------------------------------------------------------------------------


def test_only_new_pairs_are_asked_about_in_one_pass_and_once(place):
    member = counting()
    cached = CachedReranker(member, **place)
    cached.invoke(inputs("q", "a", "b"))
    first, second, third = cached.batch([inputs("q", "a", "c", "c"), inputs("r", "a"), inputs("q", "b", "a")])
    assert member._asked == [[("q", ["a", "b"])], [("q", ["c"]), ("r", ["a"])]]
    for documents, query in ((first, "q"), (second, "r"), (third, "q")):
        for document in documents:
            assert document.metadata["relevance_score"] == truth(query, document.page_content) / 2
            assert document.metadata["rerank"]["raw_score"] == truth(query, document.page_content)
    told = {document.id: document.metadata["rerank"].get("cached") for document in first}
    assert sorted(told.items()) == [("0", True), ("1", None), ("2", True)]
    assert [documents[0].metadata["rerank"]["usage"] for documents in (first, second, third)] == [
        {"documents": 1, "cached": 2},
        {"documents": 1, "cached": 0},
        {"documents": 0, "cached": 2},
    ]
    info = cached.cache_info()
    assert (info.hits, info.misses, info.maxsize, info.currsize) == (4, 4, 100_000, 4)
    assert info.hit_rate == 0.5


def test_async_calls_use_the_same_cache(place):
    member = counting()
    cached = CachedReranker(member, **place)
    first = asyncio.run(cached.ainvoke(inputs("q", "a", "b")))
    second = cached.invoke(inputs("q", "a", "b"))
    assert [d.metadata["relevance_score"] for d in first] == [d.metadata["relevance_score"] for d in second]
    assert len(member._asked) == 1
    assert CachedReranker(counting()).cache_info().hit_rate == 0.0


def test_whatever_a_score_depends_on_is_part_of_its_key(place):
    cached = CachedReranker(counting(), **place)
    for options in ({}, {"instruction": "x"}, {"instruction": "y"}, {"top_n": 2}, {"instruction": "x", "top_n": 1}):
        for query in ("q", "q|", "qa"):
            for document in cached.invoke(inputs(query, "a", "|a", ""), **options):
                text = document.page_content
                expected = truth(query, text, options.get("instruction", "")) / 2 if text else -math.inf
                assert document.metadata["relevance_score"] == expected
    assert cached.cache_info().currsize == 3 * 3 * 2
    with pytest.raises(TypeError, match=r"takes \['instruction', 'min_score', 'top_n'\]"):
        cached.invoke(inputs("q", "a"), instructions="x")


def test_the_text_is_what_the_model_reads():
    member = counting()
    cached = CachedReranker(member, document_text=["title"])
    documents = [Document(page_content="a", metadata={"title": title}) for title in ("x", "y")]
    cached.invoke({"query": "q", "documents": documents})
    assert member._asked == [[("q", ["x\na", "y\na"])]]
    for wrapped in (
        Counting(document_text=["title"]),
        FallbackReranker([Counting(document_text=str)], keep_order=False),
    ):
        with pytest.raises(ValidationError, match="document_text"):
            CachedReranker(wrapped)


def test_a_member_that_changes_is_another_one(place):
    cached = CachedReranker(counting(), **place)
    before = cached.rank("q", ["a"])[0].raw_score
    cached.reranker.instruction = "x"
    assert cached.rank("q", ["a"])[0].raw_score == truth("q", "a", "x") != before
    cached.reranker.model = "other"
    cached.rank("q", ["a"])
    assert cached.cache_info().hits == 0


def closure(score):
    return FunctionReranker(function=lambda _, texts: [score] * len(texts)).function


class Judge:
    """A ready client, which only its owner can tell from another."""

    def __init__(self, score):
        self.score = score


class Asks(Reranker):
    client: Any = Field(default=None, exclude=True)
    instruction: str = ""
    call_options = Reranker.call_options | {"instruction"}

    def _score(self, query, texts):
        return [self.client.score + len(self.instruction)] * len(texts)


def test_a_member_that_changes_without_another_id_is_another_one_in_memory():
    by_function = CachedReranker(FunctionReranker(function=closure(1.0)))
    by_client = CachedReranker(Asks(client=Judge(1.0)))
    nested = CachedReranker(FallbackReranker([Asks(client=Judge(1.0))], keep_order=False))

    def replace(member):
        nested.reranker.rerankers[0] = member

    for cached, change, score in (
        (by_function, lambda: setattr(by_function.reranker, "function", closure(2.0)), 2.0),
        (by_client, lambda: setattr(by_client.reranker, "client", Judge(2.0)), 2.0),
        (nested, lambda: setattr(nested.reranker.rerankers[0], "client", Judge(2.0)), 2.0),
        (nested, lambda: setattr(nested.reranker.rerankers[0], "instruction", "x"), 3.0),
        (nested, lambda: replace(Asks(client=Judge(5.0))), 5.0),
    ):
        cached.rank("q", ["a"])
        (before,) = cached.rank("q", ["a"])
        assert before.details["cached"] is True
        change()
        for kept in (None, True):
            (after,) = cached.rank("q", ["a"])
            assert (after.score, after.details.get("cached")) == (score, kept)


def test_a_member_that_no_longer_can_be_told_is_refused_with_a_file(tmp_path):
    cached = CachedReranker(CrossEncoderReranker(model="a/b"), path=tmp_path / "scores")
    cached.reranker.client = Client()
    with pytest.raises(ValueError, match=r"CrossEncoderReranker\.client"):
        cached.rank("q", ["a"])


def test_errors_and_what_was_not_judged_are_not_kept(place):
    failing = threading.Event()

    class Picky(Reranker):
        def _score_many(self, requests):
            if failing.is_set():
                return [RuntimeError("no") if request.query == "bad" else self._of(request) for request in requests]
            return [self._of(request) for request in requests]

        def _of(self, request):
            unjudged = {n for n, text in enumerate(request.texts) if text == "late"}
            scores = [math.nan if text == "nan" else 1.0 for text in request.texts]
            return DetailedScores(scores, [{}] * len(scores), unjudged)

    cached = CachedReranker(Picky(on_nan="last"), on_nan="last", **place)
    for _ in range(2):
        lines = cached.rank("q", ["good", "nan", "late"])
        assert [line.status for line in lines] == ["ok", "not finite", "unjudged"]
    assert cached.cache_info().currsize == 1
    failing.set()
    good, bad, known = cached.batch(
        [inputs("q", "new"), inputs("bad", "x"), inputs("bad", "x")], return_exceptions=True
    )
    assert good[0].metadata["rerank"]["status"] == "ok"
    assert isinstance(bad, RuntimeError)
    assert isinstance(known, RuntimeError)
    assert cached.cache_info().currsize == 2
    failing.clear()
    assert cached.rank("bad", ["x"])[0].status == "ok"


def test_numbers_that_are_said_of_a_document_are_kept_and_texts_are_not(place):
    class Says(Reranker):
        def _score(self, query, texts):
            about = {"chunks": 3, "best_span": [0, 5], "truncated": True, "because": texts[0], "usage": {"cost": 2.0}}
            return DetailedScores([1.0] * len(texts), [about] * len(texts))

    cached = CachedReranker(Says(), **place)
    (fresh,) = cached.rank("q", ["secret"])
    assert fresh.details["because"] == "secret"
    assert fresh.details["usage"] == {"documents": 1, "cached": 0, "cost": 2.0}
    fresh.details["best_span"].append(9)
    for _ in range(2):
        (hit,) = cached.rank("q", ["secret"])
        assert hit.details == {
            "chunks": 3,
            "best_span": [0, 5],
            "truncated": True,
            "cached": True,
            "usage": {"documents": 0, "cached": 1},
        }
        hit.details["best_span"].append(9)
    if "path" in place:
        cached.close()
        assert b"secret" not in Path(place["path"]).read_bytes()


def test_a_model_is_neither_loaded_nor_missed_for_what_a_file_knows(cross_encoder_folder, tmp_path, monkeypatch):
    fields = {"model": str(cross_encoder_folder), "long_documents": "chunk", "max_length": 32}
    texts = ["a river flows under nine bridges " * 20, "the museum opens", "bread"]
    plain = CrossEncoderReranker(**fields).rank("river", texts)
    CachedReranker(CrossEncoderReranker(**fields), path=tmp_path / "scores").rank("river", texts)
    monkeypatch.setattr(CrossEncoderReranker, "_load", lambda _: pytest.fail("loaded"))
    known = CachedReranker(CrossEncoderReranker(**fields), path=tmp_path / "scores").rank("river", texts)
    for line, same in zip(known, plain, strict=True):
        assert (line.score, line.raw_score, line.rank) == (same.score, same.raw_score, same.rank)
        assert line.details == {
            **{name: said for name, said in same.details.items() if name != "backend"},
            "cached": True,
            "usage": {"documents": 0, "cached": 3},
        }


def test_the_trace_shows_hits_and_misses():
    cached = CachedReranker(counting())
    cached.invoke(inputs("q", "a"))
    collector = RunCollectorCallbackHandler()
    cached.invoke(inputs("q", "a", "b", "c"), {"callbacks": [collector]})
    assert collector.traced_runs[0].outputs["usage"] == {"documents": 2, "cached": 1}
    assert collector.traced_runs[0].outputs["model"] == "counting"


def test_what_an_endpoint_is_not_asked_costs_nothing():
    fake = FAKES["cohere"]()
    with serve(fake) as server, CachedReranker(hosted("cohere", server.url)) as cached:
        first, second = cached.invoke(inputs("q", "a", "b")), cached.invoke(inputs("q", "b", "a"), deadline=5.0)
        assert len(server.requests) == 1
    usage = first[0].metadata["rerank"]["usage"]
    assert (usage["documents"], usage["cached"], usage["requests"]) == (2, 0, 1)
    assert second[0].metadata["rerank"]["usage"] == {"documents": 0, "cached": 2}
    scores = {document.page_content: document.metadata["relevance_score"] for document in first}
    assert scores == {document.page_content: document.metadata["relevance_score"] for document in second}


def test_copies_have_their_own_memory_and_share_their_file(place):
    cached = CachedReranker(counting(), **place)
    cached.rank("q", ["a"])
    other = cached.model_copy(deep=True)
    other.rank("q", ["a"])
    assert other.cache_info().hits == (1 if place else 0)


def test_it_is_a_reranker_among_others():
    cached = CachedReranker(counting())
    for whole in (
        CascadeReranker([cached, LexicalReranker()], budget=5.0),
        EnsembleReranker(rerankers=[cached, LexicalReranker()]),
        FallbackReranker([cached, LexicalReranker()], deadline=5.0),
    ):
        (document, *_) = whole.invoke(inputs("q", "a", "b"))
        assert "cached" in document.metadata["rerank"]["usage"]
    assert cached.cache_info()[:2] == (4, 2)


# --- who may be cached ------------------------------------------------------------------------------------------------


def test_scores_that_depend_on_other_candidates_are_refused():
    listwise = CohereReranker(model="m", api_key="k", provider={"like": "cohere", "listwise": True})
    cascade = CascadeReranker([counting()])
    for member in (
        LexicalReranker(),
        EmbeddedReranker(),
        EnsembleReranker(rerankers=[counting()]),
        cascade,
        listwise,
        FallbackReranker([LexicalReranker()], keep_order=False),
        FallbackReranker([counting(), counting()], keep_order=False),
    ):
        with pytest.raises(ValidationError, match=r"depend on the other candidates|must judge all"):
            CachedReranker(member)
    for member in (counting(top_n=3), counting(min_score=0.1), counting(on_error="keep_order")):
        with pytest.raises(ValidationError, match="on its member"):
            CachedReranker(member)


class Client:
    def score(self, pairs):
        return [1.0] * len(pairs)


def test_a_file_needs_members_that_another_process_can_tell(tmp_path):
    for member, name in (
        (counting(), "Counting"),
        (FunctionReranker(function=lambda *_: [1.0]), "FunctionReranker.function"),
        (CrossEncoderReranker(client=Client()), "CrossEncoderReranker.client"),
        (FallbackReranker([FunctionReranker(function=len)], keep_order=False), "FunctionReranker.function"),
    ):
        assert unidentified(member) == [name]
        with pytest.raises(ValidationError, match="identity="):
            CachedReranker(member, path=tmp_path / "scores")
        assert CachedReranker(member)
        assert CachedReranker(member, path=tmp_path / "scores", identity="v1")
    for member in (
        LexicalReranker(statistics=STATISTICS),
        EmbeddedReranker(statistics=STATISTICS),
        CrossEncoderReranker(model="a/b", precision="int8"),
        hosted("cohere", "http://127.0.0.1:1"),
    ):
        assert unidentified(member) == []


class Network(BaseModel, Embeddings):
    """Embeddings of somebody's own, which are what an object in them is."""

    net: Any = None

    def embed_query(self, text):
        return self.net(text)

    def embed_documents(self, texts):
        return [self.net(text) for text in texts]


def of_langchain(**fields):
    """A model of one of LangChain's packages."""

    class Hosted(Network):
        model: str = "m"
        options: Any = None
        api_key: Any = None
        http_client: Any = Field(default=None, exclude=True)
        hidden: Any = Field(default=None, exclude=True)

    Hosted.__module__ = "langchain_hosted.embeddings"
    return Hosted(**fields)


def test_a_file_needs_embeddings_that_another_process_can_tell(tmp_path):
    for embeddings in (
        Network(),
        Network(net=len),
        of_langchain(net=len),
        of_langchain(options={"how": [len]}),
        of_langchain(options=Network()),
        of_langchain(options=of_langchain(net=len)),
        of_langchain(hidden=object()),
        of_langchain(hidden="part of no id"),
    ):
        member = BiEncoderReranker(embeddings=embeddings)
        assert unidentified(member) == ["BiEncoderReranker.embeddings"]
        with pytest.raises(ValidationError, match="identity="):
            CachedReranker(member, path=tmp_path / "scores")
    for embeddings in (
        of_langchain(model="n", options={"how": [1, "x"]}, http_client=object(), api_key=SecretStr("k")),
        of_langchain(options=of_langchain(model="n")),
        DeterministicFakeEmbedding(size=8),
        EmbeddedEmbeddings(),
    ):
        assert unidentified(BiEncoderReranker(embeddings=embeddings)) == []


def test_words_that_sound_like_secrets_are_counted_like_others_and_secrets_are_never_in_an_id():
    def told(*texts):
        statistics = TermStatistics.from_texts(texts, language=None)
        return kept_scores_id(LexicalReranker(statistics=statistics, language=None))

    one = told("secret aa", "password aa", "password aa", "bb cc")
    assert one == told("secret aa", "password aa", "password aa", "bb cc")
    assert one != told("secret aa", "secret aa", "password aa", "bb cc")

    def with_options(**options):
        return kept_scores_id(BiEncoderReranker(embeddings=of_langchain(options=options)))

    for secret in ("hunter2", ["hunter2"], {"of": "hunter2"}, SecretStr("hunter2")):
        assert with_options(password=secret) == with_options(password="other")
    assert with_options(size=1) != with_options(size=2)


def test_what_is_cached_is_not_cached_again():
    with pytest.raises(ValidationError, match="once is enough"):
        CachedReranker(FallbackReranker([CachedReranker(counting())], keep_order=False))


def test_two_identities_keep_apart_what_they_share_a_file_for(tmp_path):
    path = tmp_path / "scores"
    one = CachedReranker(FunctionReranker(function=lambda _, texts: [1.0] * len(texts)), path=path, identity="v1")
    two = CachedReranker(FunctionReranker(function=lambda _, texts: [2.0] * len(texts)), path=path, identity="v2")
    for _ in range(2):
        assert [cached.rank("q", ["a"])[0].score for cached in (one, two)] == [1.0, 2.0]


def test_the_files_of_a_model_are_part_of_what_it_is(tmp_path):
    folder = tmp_path / "model"
    (folder / "onnx").mkdir(parents=True)
    weights = folder / "onnx" / "model.onnx"
    weights.write_bytes(b"1")
    member = CrossEncoderReranker(model=str(folder))
    ids = [kept_scores_id(member), kept_scores_id(member)]
    weights.write_bytes(b"22")
    ids.append(kept_scores_id(member))
    os.utime(weights, (1, 1))
    ids.append(kept_scores_id(member))
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3
    assert kept_scores_id(CrossEncoderReranker(model=str(folder), instruction="x")) == ids[-1]  # part of each key


def test_a_model_that_is_another_one_once_it_is_loaded_is_not_taken_for_the_old_one(tmp_path):
    """As where the hub has a new version of what lies in the cache."""

    class Reads(Counting):
        model: str = ""
        revision: str = "main"

        def _load(self):
            return Path(self.model).read_text()

        def _score(self, query, texts):
            return [float(self._ready())] * len(texts)

        _score_many = Reranker._score_many

    class Fetches(Reads):
        def _load(self):
            Path(self.model).write_text("22")
            return super()._load()

    file, path = tmp_path / "model", tmp_path / "scores"
    file.write_text("1")
    for kind, texts, scores in (
        (Reads, ["a"], [1.0]),
        (Fetches, ["a"], [1.0]),  # known, and nothing is loaded
        (Fetches, ["a", "b"], [22.0, 22.0]),
        (Reads, ["a", "b"], [22.0, 22.0]),
    ):
        kind.__name__ = kind.__qualname__ = "Reads"
        for asynchronous in (False, True):
            cached = CachedReranker(kind(model=str(file)), path=path, identity="v1")
            given = inputs("q", *texts)
            documents = asyncio.run(cached.ainvoke(given)) if asynchronous else cached.invoke(given)
            assert [document.metadata["rerank"]["raw_score"] for document in documents] == scores


def test_the_commit_of_a_model_of_the_hub_is_part_of_what_it_is(tmp_path):
    def fetched(commit, branch="main"):
        repository = tmp_path / "models--some--model"
        (repository / "refs").mkdir(parents=True, exist_ok=True)
        (repository / "refs" / branch).write_text(commit)
        (repository / "snapshots" / commit).mkdir(parents=True)
        (repository / "snapshots" / commit / "config.json").write_text("{}")

    ids = []
    for commit in ("1" * 40, "2" * 40):
        fetched(commit)
        ids.append(kept_scores_id(CrossEncoderReranker(model="some/model", cache_dir=str(tmp_path))))
        assert commit in ids[-1]
    assert ids[0] != ids[1]


def test_the_same_function_is_the_same_in_every_process():
    code = """
from langchain_rerankkit import FunctionReranker
from langchain_rerankkit.model_id import kept_scores_id
def function(query, texts):
    return [float(text in {"a", "b", "c", "d"}) for text in texts]
print(kept_scores_id(FunctionReranker(function=function)))
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env={"PYTHONHASHSEED": seed})
        for seed in ("1", "2")
    ]
    ids = {process.communicate()[0] for process in processes}
    assert "FunctionReranker" in next(iter(ids))
    assert len(ids) == 1


# --- the cache itself -------------------------------------------------------------------------------------------------


class Model(RuleBasedStateMachine):
    """Any sequence of calls, beside an ordered dict that is used as one would on paper."""

    make = staticmethod(MemoryScores)
    forgets_at_once = False  # or when it is asked

    def is_good(self, key):
        return self.ttl is None or self.now - self.entries[key][0] < self.ttl

    @initialize(most=st.integers(1, 4), ttl=st.none() | st.integers(100, 1000))
    def begin(self, most, ttl):
        self.now, self.most, self.ttl = 1000.0, most, ttl
        self.scores = self.make(most, ttl, lambda: self.now)
        self.entries = OrderedDict()

    @rule(seconds=st.integers(0, 300))
    def wait(self, seconds):
        self.now += seconds

    @rule(keys=st.lists(st.sampled_from("abcdef"), min_size=1, max_size=3, unique=True))
    def get(self, keys):
        self.now += 61  # more than the time of last use may be behind
        found = self.scores.get([key.encode() for key in keys])
        expected = {}
        for key in keys:
            if key in self.entries and not self.is_good(key):
                del self.entries[key]
            if key in self.entries:
                self.entries.move_to_end(key)
                expected[key.encode()] = self.entries[key][1]
        assert found == expected

    @rule(key=st.sampled_from("abcdef"), score=st.floats(allow_nan=False, allow_infinity=False))
    def put(self, key, score):
        self.now += 1
        kept = KeptScore(score, {"chunks": 2} if score > 0 else {})
        self.scores.put({key.encode(): kept})
        self.entries[key] = (self.now, kept)
        self.entries.move_to_end(key)
        if self.forgets_at_once:
            for other in [other for other in self.entries if not self.is_good(other)]:
                del self.entries[other]
        while len(self.entries) > self.most:
            self.entries.popitem(last=False)

    @invariant()
    def it_stays_small(self):
        if hasattr(self, "scores"):
            assert len(self.scores) <= self.most

    def teardown(self):
        if hasattr(self, "scores"):
            self.scores.close()


STEPS = settings(max_examples=40, stateful_step_count=25)


def test_memory_keeps_what_was_used_last_and_is_still_good():
    run_state_machine_as_test(Model, settings=STEPS)


def test_a_file_keeps_what_was_used_last_and_is_still_good(tmp_path):
    class OfFile(Model):
        files = itertools.count()
        forgets_at_once = True

        def make(self, most, ttl, clock):
            return SQLiteScores(str(tmp_path / f"{next(self.files)}"), most, ttl, clock)

    run_state_machine_as_test(OfFile, settings=settings(STEPS, max_examples=20))


def score_of(key):
    """The score that belongs to a key, so that a wrong one shows."""
    return struct.unpack("<q", key[:8])[0] / 7


def key_of(number):
    return sha256(str(number).encode()).digest()


def test_a_file_serves_a_later_process_and_another_cut(tmp_path):
    path = str(tmp_path / "scores")
    first = SQLiteScores(path, 10_000, None)
    first.put({key_of(n): KeptScore(score_of(key_of(n)), {}) for n in range(2000)})
    second = SQLiteScores(path, 50, None)
    found = second.get([key_of(n) for n in range(3000)])
    assert {key: kept.score for key, kept in found.items()} == {key_of(n): score_of(key_of(n)) for n in range(2000)}
    second.put({key_of(9999): KeptScore(1.0, {})})
    assert len(second) == len(first) == 50
    assert second.get([key_of(9999)])


# --- what can go wrong with a file ------------------------------------------------------------------------------------


def cached_in(path, **fields):
    return CachedReranker(counting(), path=path, identity="v1", **fields)


def assert_right(cached, texts=("a", "b", "c")):
    lines = cached.rank("q", list(texts))
    assert sorted((line.document.page_content, line.raw_score) for line in lines) == sorted(
        (text, truth("q", text)) for text in texts
    )


def test_a_file_that_is_something_else_is_refused(tmp_path):
    text, other, newer = tmp_path / "notes.txt", tmp_path / "other.sqlite", tmp_path / "newer.sqlite"
    text.write_text("my notes\n" * 200)
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE mine (x)")
    database.close()
    cached_in(newer).rank("q", ["a"])
    with sqlite3.connect(newer) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    for path in (text, other, newer):
        before = path.read_bytes()
        with pytest.raises(IndexFormatError, match="Give another path"):
            cached_in(path).rank("q", ["a"])
        assert path.read_bytes() == before


def test_an_empty_file_becomes_a_cache(tmp_path):
    path = tmp_path / "scores"
    path.touch()
    for _ in range(2):
        cached = cached_in(path)
        assert_right(cached)
    assert cached.cache_info().hits == 3


def test_a_damaged_file_never_gives_a_wrong_score(tmp_path, caplog):
    path, moments = tmp_path / "scores", iter(range(10**9, 2 * 10**9, 100))
    scores = SQLiteScores(str(path), 1000, None, lambda: float(next(moments)))
    true = {key_of(n): KeptScore(score_of(key_of(n)), {"chunks": n} if n % 3 else {}) for n in range(300)}
    scores.put(true)
    scores.close()
    whole, damage, outcomes = path.read_bytes(), random.Random(0), set()
    for number in range(100):
        content = bytearray(whole)
        for _ in range(damage.choice([1, 20, 500])):
            place = damage.randrange(100, len(content))  # behind the header, which says what the file is
            content[place] ^= damage.randrange(1, 256)
        if number % 4 == 0:
            del content[damage.randrange(200, len(content)) :]
        path.write_bytes(content)
        for _ in range(2):
            found = scores.get(list(true))
            outcomes.add((found == true, bool(found)))
            assert {key: true[key] for key in found} == found
            scores.put({key: true[key] for key in list(true)[:50]})
        scores.close()
        for file in tmp_path.iterdir():
            file.unlink()
    assert outcomes == {(True, True), (False, True), (False, False)}  # all, some, nothing of it is there
    assert "delete it" in caplog.text


def test_entries_that_were_tampered_with_are_not_there(tmp_path):
    path = tmp_path / "scores"
    with cached_in(path) as cached:
        assert_right(cached)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE scores SET score = 1e9")
    database.close()
    with cached_in(path) as cached:
        assert_right(cached)
        assert cached.cache_info().hits == 0


@pytest.mark.filterwarnings("ignore")
def test_a_file_that_cannot_be_written_fails_nobody(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("langchain_rerankkit.score_cache._WAIT", 0.05)
    monkeypatch.setattr("langchain_rerankkit.score_cache._WAIT_TO_OPEN", 0.05)
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "file").touch()
    for path in (folder, tmp_path / "file" / "below", "/dev/full/scores"):
        cached = cached_in(path)
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                assert_right(cached)
        assert len(caplog.records) == 1
        assert "cannot be used" in caplog.text
        caplog.clear()
        assert cached.cache_info().currsize == 0


def test_a_file_that_is_locked_fails_nobody_and_is_used_again_afterwards(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("langchain_rerankkit.score_cache._WAIT", 0.05)
    path = tmp_path / "scores"
    cached = cached_in(path)
    assert_right(cached, ["a"])
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert_right(cached, ["a", "b"])
    assert "locked" in caplog.text
    other.execute("ROLLBACK")
    other.close()
    for _ in range(2):
        assert_right(cached, ["a", "b"])
    assert cached.cache_info().currsize == 2


@pytest.mark.parametrize(("limit", "told"), [("max_page_count = 1", "full"), ("query_only = 1", "readonly")])
def test_a_disk_that_is_full_or_read_only_fails_nobody(tmp_path, caplog, limit, told):
    cached = cached_in(tmp_path / "scores")
    assert_right(cached, ["a"])
    cached._ready().scores._database.execute(f"PRAGMA {limit}")
    with caplog.at_level(logging.WARNING):
        assert_right(cached, [f"text {n}" for n in range(500)])
    assert told in caplog.text
    assert_right(cached, ["a"])


WRITER = """
import itertools, struct, sys
from hashlib import sha256
from langchain_rerankkit.score_cache import KeptScore, SQLiteScores
scores = SQLiteScores(sys.argv[1], 500, None)
print("ready", flush=True)
for start in itertools.count(int(sys.argv[2]), 20):
    keys = [sha256(str(n).encode()).digest() for n in range(start, start + 20)]
    scores.put({key: KeptScore(struct.unpack("<q", key[:8])[0] / 7, {"chunks": 1}) for key in keys})
    scores.get(keys)
"""


def kill_in_the_middle(path, times, seed=0):
    """Two processes write, and are killed; what is there then is right, and can be added to."""
    moments = random.Random(seed)
    for number in range(times):
        writers = [
            subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(start)], stdout=subprocess.PIPE)
            for start in (number * 20, 10**6 + number * 20)
        ]
        for writer in writers:
            assert writer.stdout.readline() == b"ready\n"
        time.sleep(moments.uniform(0.0, 0.05))
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            writer.wait()
            writer.stdout.close()
        scores = SQLiteScores(str(path), 500, None)
        wanted = [key_of(base + n) for base in (0, 10**6) for n in range(number * 20 + 4000)]
        for key, kept in scores.get(wanted).items():
            assert kept == (score_of(key), {"chunks": 1})
        assert len(scores) <= 520
        scores.put({b"x" * 32: KeptScore(float(number), {})})
        assert scores.get([b"x" * 32])[b"x" * 32].score == number
        scores.close()
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT COUNT(*) FROM scores").fetchone()[0] > 20  # they did write
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    database.close()


def test_processes_killed_while_they_write_harm_nothing(tmp_path):
    kill_in_the_middle(tmp_path / "scores", times=5)


@pytest.mark.slow
def test_processes_killed_while_they_write_harm_nothing_a_hundred_times(tmp_path):
    kill_in_the_middle(tmp_path / "scores", times=100, seed=1)


MANY = """
import random, struct, sys
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from langchain_rerankkit.score_cache import KeptScore, SQLiteScores
scores = SQLiteScores(sys.argv[1], 400, None)
def work(n):
    keys = [sha256(str(n % 500).encode()).digest() for n in range(7 * n, 7 * n + 30)]
    true = {key: KeptScore(struct.unpack("<q", key[:8])[0] / 7, {"chunks": 1}) for key in keys}
    found = scores.get(keys)
    scores.put({key: true[key] for key in keys if key not in found})
    return all(kept == true[key] for key, kept in found.items()), len(found)
with ThreadPoolExecutor(4) as threads:
    right, found = zip(*threads.map(work, range(100)))
print(all(right), sum(found))
"""


def test_many_processes_and_threads_make_and_use_one_file(tmp_path):
    path = tmp_path / "scores"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", MANY, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for process in processes:
        output, errors = process.communicate(timeout=60)
        assert errors == ""
        right, found = output.split()
        assert right == "True"
        assert int(found) > 1000
    scores = SQLiteScores(str(path), 400, None)
    assert 0 < len(scores) <= 400 + 4 * 30
    found = scores.get([key_of(n) for n in range(500)])
    assert {key: kept.score for key, kept in found.items()} == {key: score_of(key) for key in found}


def in_fork(scores, key, answer):
    answer.send(scores.get([key]).get(key))
    scores.put({b"f" * 32: KeptScore(2.0, {})})
    answer.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_opens_the_file_for_itself(tmp_path):
    scores = SQLiteScores(str(tmp_path / "scores"), 100, None)
    scores.put({b"k" * 32: KeptScore(1.0, {})})
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=in_fork, args=(scores, b"k" * 32, there))
    process.start()
    assert here.recv().score == 1.0
    process.join(10)
    assert process.exitcode == 0
    assert scores.get([b"f" * 32])[b"f" * 32].score == 2.0


def test_threads_share_a_cache(place):
    member = counting()
    cached = CachedReranker(member, **place)
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda n: assert_right(cached, [f"text {m}" for m in range(n % 8, n % 8 + 5)]), range(200)))
    assert cached.cache_info().currsize == 12
    assert cached.cache_info().hits + cached.cache_info().misses == 1000
