import copy
import hashlib
import json
import logging
import pickle
import re
import shutil
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import bm25s
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.runnables import ConfigurableField
from langchain_core.tracers.base import BaseTracer
from langchain_tests.integration_tests import RetrieversIntegrationTests

from langchain_rerankkit import FAISS, BM25Retriever, Dataset, IndexFormatError, LexicalReranker, TermStatistics
from langchain_rerankkit.inverted_index import _highest
from langchain_rerankkit.lexical import analyser, bm25
from langchain_rerankkit.retrievers import bm25 as module
from langchain_rerankkit.vectorstores.reading import stored_texts

PROJECT = Path(__file__).parents[2]
TEXTS = ["a river runs through Paris", "rivers of France", "the capital of France", "to be or not to be"]


def made(texts=TEXTS, **fields):
    return BM25Retriever.from_texts(texts, [{"n": n} for n in range(len(texts))], map(str, range(len(texts))), **fields)


def answers(retriever, query, **options):
    return [(d.id, d.metadata["relevance_score"]) for d in retriever.invoke(query, **options)]


def ids(retriever, query, **options):
    return [id_ for id_, _ in answers(retriever, query, **options)]


class TestStandard(RetrieversIntegrationTests):
    @property
    def retriever_constructor(self):
        return BM25Retriever.from_documents

    @property
    def retriever_constructor_params(self):
        return {"documents": [Document(page_content=text) for text in TEXTS]}

    @property
    def retriever_query_example(self):
        return "rivers of France in Paris"


# Scores

words = st.text("abcdef", min_size=1, max_size=1)
texts = st.lists(st.lists(words, max_size=10), min_size=1, max_size=12)
by_letter = {"preprocess_func": str.split}


@pytest.mark.parametrize("method", ["lucene", "robertson", "atire"])
@given(texts=texts, query=st.lists(words, min_size=1, max_size=6), k1=st.floats(0, 3), b=st.floats(0, 1))
def test_scores_are_those_of_bm25s(method, texts, query, k1, b):
    assume(any(texts))
    vocabulary = {letter: number for number, letter in enumerate(sorted({word for text in texts for word in text}))}
    index = bm25s.BM25(method=method, k1=k1, b=b)
    index.index(([[vocabulary[word] for word in text] for text in texts], vocabulary), show_progress=False)
    scores = index.get_scores_from_ids([vocabulary[word] for word in query if word in vocabulary])
    retriever = made([" ".join(text) for text in texts], method=method, k1=k1, b=b, k=len(texts), **by_letter)
    found = dict(answers(retriever, " ".join(query)))
    assert found == pytest.approx({str(n): score for n, score in enumerate(scores) if score > 0}, rel=1e-5)


@given(texts=texts, query=st.lists(words, max_size=6))
def test_scores_and_order_are_those_of_plain_arithmetic(texts, query):
    scores = bm25(query, texts, TermStatistics.from_terms(texts, language=None))
    retriever = made([" ".join(text) for text in texts], k=len(texts), **by_letter)
    found = answers(retriever, " ".join(query))
    assert dict(found) == pytest.approx({str(n): score for n, score in enumerate(scores) if score > 0}, rel=1e-5)
    assert found == sorted(found, key=lambda pair: (-pair[1], int(pair[0])))  # of equal ones the oldest first
    assert all(type(score) is float for _, score in found)


@given(
    scores=npst.arrays(np.float32, st.integers(1, 700), elements=st.sampled_from([0, 0, 0.5, 1, 2, 3.25])),
    k=st.integers(1, 800),
)
def test_the_highest_scores_are_those_of_a_stable_sort(scores, k):
    rows = [row for row in np.argsort(-scores, kind="stable") if scores[row] > 0][:k]
    assert _highest(scores, k).tolist() == rows


def test_a_run_made_by_bm25s_comes_out_again(data_folder):
    folder = data_folder / "noveleval"  # in the other sets, releases of Snowball differ in a word or two
    dataset = Dataset.load(folder)
    stem, stops = analyser("english"), frozenset(bm25s.stopwords.STOPWORDS_EN)

    def cut(text):
        return stem(" ".join(word for word in re.findall("[a-z0-9]+", text.lower()) if word not in stops))

    retriever = BM25Retriever.from_documents(dataset.corpus, k=100, k1=0.9, b=0.4, preprocess_func=cut)
    lines = [line.split() for line in (folder / "runs" / "bm25.trec").read_text().splitlines()]
    for question in dataset.questions:
        expected = {line[2]: float(line[4]) for line in lines if line[0] == question.id and float(line[4]) > 0}
        found = dict(answers(retriever, question.text))
        assert found == pytest.approx({id_: expected.get(id_, 0) for id_ in found}, abs=2e-6)


def test_nothing_in_common_is_not_an_answer():
    retriever = made(k=10)
    for query in ("", " ", "?!", "zebra", "\ud800"):
        assert retriever.invoke(query) == []
    assert ids(retriever, "capital zebra") == ["2"]
    assert BM25Retriever().invoke("anything") == []
    assert made(["", "?"]).invoke("anything") == []
    assert ids(made(["", "river"]), "river") == ["1"]


# Words


def test_words_are_stemmed_in_their_language():
    assert ids(made(), "river") == ["1", "0"]
    assert ids(made(language=None), "river") == ["0"]
    assert ids(made(["die Häuser", "das Haus"], language="german"), "häuser") == ["0", "1"]
    assert ids(made(["東京都の天気", "京都の天気"], language=None), "京都") == ["1", "0"]
    with pytest.raises(ValueError, match="no stemmer for 'klingon'"):
        BM25Retriever(language="klingon")


def test_stop_words_leave_queries_unless_nothing_else_is_left():
    assert ids(made(), "what is the capital") == ["2"]
    assert ids(made(stop_words=None), "what is the capital") == ["2"]
    assert ids(made(), "the river") == ["1", "0"]
    assert ids(made(stop_words=None), "the river") == ["2", "1", "0"]
    assert ids(made(), "to be") == ["3"]
    assert ids(made(), "the") == ["2"]


def test_stop_words_of_languages_and_of_ones_own():
    assert ids(made(["der Hund", "der Fluss"], language="german"), "der Hund") == ["0"]
    assert ids(made(["der Hund", "the Fluss"], stop_words="german"), "der the") == ["1"]
    assert ids(made(["le chien", "joki on"], language="finnish"), "on le") == ["0", "1"]  # there is no list of Finnish
    assert ids(made(stop_words=["France", "of"]), "rivers of France") == ["1", "0"]
    assert ids(made(["don river", "t river", "x river y z"], stop_words=["don't"]), "don't river")[0] == "0"
    assert ids(made(stop_words=()), "the") == ids(made(stop_words=None), "the")
    with pytest.raises(ValueError, match="no list of stop words for 'finnish'"):
        made(stop_words="finnish")


def test_a_function_may_cut_texts():
    retriever = made(["New York", "york"], preprocess_func=lambda text: iter(text.split()))
    assert ids(retriever, "York New") == ["0"]
    with pytest.raises(ValueError, match="leave out language, stop_words"):
        BM25Retriever(preprocess_func=str.split, language="german", stop_words=None)
    for wrong in (str.lower, lambda text: [1, 2], lambda text: [b"a"]):
        with pytest.raises(TypeError, match="str"):
            made(preprocess_func=wrong)


def test_a_function_that_fails_adds_nothing():
    def cut(text):
        if text == "bad":
            raise RuntimeError(text)
        return text.split()

    retriever = made(["a b"], preprocess_func=cut)
    with pytest.raises(RuntimeError):
        retriever.add_texts(["c", "bad"], ids=["0", "1"])
    assert retriever.texts() == ["a b"]
    assert ids(retriever, "a") == ["0"]


# Retrieving


def test_documents_are_copied_in_and_out():
    document = Document(id="a", page_content="river", metadata={"relevance_score": "stale", "tags": ["x"], "n": 1})
    before = copy.deepcopy(document)
    retriever = BM25Retriever.from_documents(iter([document]))
    (found,) = retriever.invoke("river")
    assert document == before
    assert list(found.metadata) == ["tags", "n", "relevance_score"]
    assert type(found.metadata["relevance_score"]) is float
    assert (found.id, found.page_content, found.metadata["n"]) == ("a", "river", 1)
    found.metadata["tags"].append("changed")
    document.metadata["tags"].append("changed")
    assert retriever.get_by_ids(["a"]) == [before]
    retriever.get_by_ids(["a"])[0].metadata.clear()
    assert retriever.get_by_ids(["a", "b"]) == [before]


def test_how_many_come_back():
    retriever = made([f"river {n}" for n in range(10)])
    assert len(retriever.invoke("river")) == 4
    assert ids(retriever, "river", k=2) == ["0", "1"]
    retriever.k = 6
    assert len(retriever.invoke("river")) == 6
    assert len(retriever.invoke("river", k=100)) == 10
    assert len(retriever.bind(k=3).invoke("river")) == 3
    for one in (retriever, made(retriever.texts(), **by_letter)):
        chosen = one.configurable_fields(k=ConfigurableField("k"))
        assert len(chosen.with_config(configurable={"k": 5}).invoke("river")) == 5
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="at least 1"):
            retriever.invoke("river", k=wrong)
        with pytest.raises(ValueError, match="greater than or equal to 1"):
            made(k=wrong)
    with pytest.raises(TypeError, match="top_k"):
        retriever.invoke("river", top_k=3)


def test_wrong_fields_are_refused():
    for wrong in ({"K": 3}, {"k1": -1}, {"b": 2}, {"b": float("nan")}, {"k1": float("inf")}, {"method": "okapi"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            made(**wrong)
    with pytest.raises(ValueError, match="frozen"):
        made().language = "german"


def test_the_form_of_bm25_may_change_without_indexing_again():
    retriever = made()
    other = BM25Retriever(index=retriever.index, k1=0.9, b=0.4, method="atire")
    expected = answers(made(k1=0.9, b=0.4, method="atire"), "rivers of France")
    first = answers(retriever, "rivers of France")
    assert answers(other, "rivers of France") == expected != first
    assert answers(retriever, "rivers of France") == first
    retriever.k1, retriever.b, retriever.method = 0.9, 0.4, "atire"
    assert answers(retriever, "rivers of France") == expected
    with pytest.raises(ValueError, match="another language or preprocess_func"):
        BM25Retriever(index=retriever.index, language="german")
    with pytest.raises(ValueError, match="another language or preprocess_func"):
        BM25Retriever(index="a path")


def test_calls_written_for_langchain_community():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it announces its end when imported
        from langchain_community.retrievers import BM25Retriever as Theirs
    documents = [Document(page_content=text, id=str(n)) for n, text in enumerate(TEXTS)]
    calls = [
        lambda cls: cls.from_texts(
            TEXTS, [{"n": n} for n in range(4)], ids=list("0123"), bm25_params={"k1": 1, "b": 0}
        ),
        lambda cls: cls.from_texts(TEXTS, preprocess_func=str.split, k=2),
        lambda cls: cls.from_documents(documents, bm25_params={"k1": 2}, preprocess_func=str.split, k=2),
    ]
    pytest.importorskip("rank_bm25", reason="langchain-community's retriever needs rank-bm25")
    for call in calls:
        ours, theirs = call(BM25Retriever), call(Theirs)
        assert ours.k == theirs.k
        first, expected = ours.invoke("capital of France")[0], theirs.invoke("capital of France")[0]
        assert (first.page_content, first.metadata.get("n")) == (expected.page_content, expected.metadata.get("n"))
    for unknown in ("epsilon", "delta"):
        with pytest.raises(ValueError, match=f"{unknown} would change nothing"):
            BM25Retriever.from_texts(TEXTS, bm25_params={unknown: 0.25})


async def test_async_and_batches_say_the_same():
    retriever = made()
    queries = ["river", "France", "zebra", ""]
    expected = [retriever.invoke(query) for query in queries]
    assert [await retriever.ainvoke(query) for query in queries] == expected
    assert (await retriever.ainvoke("river", k=1)) == expected[0][:1]
    assert retriever.batch(queries) == expected
    assert await retriever.abatch(queries) == expected
    threads = []
    slow = made(preprocess_func=lambda text: threads.append(threading.current_thread()) or text.split())
    threads.clear()
    await slow.ainvoke("river")
    assert threads[0] is not threading.current_thread()
    with pytest.raises(ValueError, match="at least 1"):
        await retriever.ainvoke("river", k=0)


def test_runs_are_traced_as_a_retriever():
    class Kept(BaseTracer):
        runs = []

        def _persist_run(self, run):
            self.runs.append(run)

    made().invoke("river", {"callbacks": [Kept()]})
    (run,) = Kept.runs
    assert run.run_type == "retriever"
    assert run.extra["metadata"]["ls_retriever_name"] == "bm25"
    assert [d.id for d in run.outputs["documents"]] == ["1", "0"]
    assert "Paris" not in json.dumps(run.serialized, default=repr)  # not every document, every time
    assert "Paris" not in repr(made())


def test_nothing_is_printed_or_logged(capfd):
    handler = logging.Handler(level=0)
    records = []
    handler.emit = records.append
    logging.getLogger().addHandler(handler)
    try:
        made().invoke("river")
        made().invoke("")
    finally:
        logging.getLogger().removeHandler(handler)
    assert not [record for record in records if record.name.startswith("bm25s")]
    assert capfd.readouterr() == ("", "")


def test_copies():
    retriever = made(k=2)
    expected = answers(retriever, "rivers of France")
    for twin in (
        pickle.loads(pickle.dumps(retriever)),
        copy.deepcopy(retriever),
        copy.deepcopy(made(**by_letter, k=2)),
    ):
        assert len(answers(twin, "of France")) == 2
        twin.delete(["1"])
        assert ids(twin, "rivers") != ["1", "0"]
    assert answers(copy.copy(retriever), "rivers of France") == expected == answers(retriever, "rivers of France")


# Adding and deleting


def test_adding_and_deleting():
    retriever = BM25Retriever()
    assert retriever.add_texts(["a river", "a lake"], ids=["r", None])[0] == "r"
    (lake,) = retriever.invoke("lake")
    assert len(lake.id) == 36
    assert retriever.add_documents([Document(page_content="a sea", id="r")]) == ["r"]  # replaced
    assert retriever.texts() == ["a lake", "a sea"]
    assert retriever.invoke("river") == []
    assert retriever.delete([lake.id, "unknown", lake.id])
    assert retriever.texts() == ["a sea"]
    assert retriever.invoke("lake") == []
    assert retriever.add_texts([]) == []
    with pytest.raises(ValueError, match="No ids"):
        retriever.delete()
    for wrong in ({"ids": ["x", "x"]}, {"ids": ["x"]}, {"metadatas": [{}]}):
        with pytest.raises(ValueError, match=r"id comes twice|texts came with"):
            retriever.add_texts(["p", "q"], **wrong)
    assert retriever.texts() == ["a sea"]


changes = st.lists(
    st.one_of(
        st.tuples(
            st.just("add"),
            st.lists(st.tuples(st.integers(0, 7), st.lists(words, max_size=5)), unique_by=lambda p: p[0]),
        ),
        st.tuples(st.just("delete"), st.lists(st.integers(0, 8))),
        st.tuples(st.just("search"), st.lists(words)),
        st.tuples(st.just("copy"), st.none()),
    ),
    max_size=12,
)


@given(changes=changes, query=st.lists(words, min_size=1, max_size=6))
@settings(max_examples=150)
def test_after_any_changes_it_is_as_if_made_anew(changes, query):
    retriever, kept = BM25Retriever(k=10, preprocess_func=str.split), {}
    for what, given_ in changes:
        if what == "add":
            for number, _ in given_:
                kept.pop(str(number), None)
            kept |= {str(number): " ".join(text) for number, text in given_}
            retriever.add_texts([" ".join(text) for _, text in given_], ids=[str(number) for number, _ in given_])
        elif what == "delete":
            for number in given_:
                kept.pop(str(number), None)
            retriever.delete(map(str, given_))
        elif what == "search":
            retriever.invoke(" ".join(given_))
        else:
            retriever = pickle.loads(pickle.dumps(retriever))
    anew = BM25Retriever.from_texts(kept.values(), ids=kept, k=10, preprocess_func=str.split)
    assert retriever.texts() == list(kept.values())
    assert answers(retriever, " ".join(query)) == answers(anew, " ".join(query))
    assert {d.id for d in retriever.get_by_ids(list(map(str, range(9))))} == set(kept)


def test_searches_see_all_of_a_change_or_nothing_of_it():
    retriever, stop = BM25Retriever(k=100), threading.Event()
    retriever.add_texts(["stays water"] * 20)

    def search():
        searches = 0
        while not stop.is_set():
            found = retriever.invoke("water")
            rounds = {d.page_content.split()[0] for d in found} - {"stays"}
            assert len(found) in (20, 27)  # with the seven of one round or without
            assert len(rounds) == (len(found) == 27)
            assert len({d.metadata["relevance_score"] for d in found}) == 1  # equal lengths: counted in one state
            searches += 1
        return searches

    names = [str(n) for n in range(7)]
    with ThreadPoolExecutor(8) as pool:
        searching = [pool.submit(search) for _ in range(8)]
        for number in range(60):
            retriever.add_texts([f"round{number} water"] * 7, ids=names)
            retriever.statistics()
            if number % 3 == 0:
                retriever.delete(names)
        stop.set()
        assert all(future.result() > 0 for future in searching)


# What rerankers read


@given(texts=st.lists(st.text("the river runs, ", max_size=30), max_size=8))
def test_statistics_are_those_of_the_texts(texts):
    retriever = BM25Retriever.from_texts([*texts, "gone away"], ids=[*map(str, range(len(texts))), "gone"])
    retriever.delete(["gone"])
    assert retriever.statistics() == TermStatistics.from_texts(texts)
    assert stored_texts(retriever) == texts


def test_a_reranker_knows_the_collection():
    retriever = made()
    documents = retriever.invoke("rivers of France")
    question = {"query": "rivers of France", "documents": documents}
    given_ = LexicalReranker(statistics=retriever.statistics()).invoke(question)
    assert given_ == LexicalReranker.from_store(retriever).invoke(question)
    with pytest.raises(ValueError, match="preprocess_func"):
        made(**by_letter).statistics()


# Saving


@settings(max_examples=20)
@given(
    texts=st.lists(st.text(max_size=20), max_size=6),
    metadata=st.dictionaries(st.text(max_size=4), st.one_of(st.integers(), st.text(max_size=4), st.none())),
    fields=st.sampled_from(
        [{}, {"language": None}, {"stop_words": None, "k1": 0.9, "b": 0.4}, {"method": "atire", "k": 2}, by_letter]
    ),
)
def test_what_is_saved_comes_back(tmp_path_factory, texts, metadata, fields):
    retriever = BM25Retriever.from_texts(texts, [metadata] * len(texts), **fields)
    folder = tmp_path_factory.mktemp("saved")
    retriever.save_local(folder)
    loaded = BM25Retriever.load_local(folder, **(fields if fields is by_letter else {}))
    assert loaded.texts() == texts
    for query in [*texts, "the river"]:
        assert loaded.invoke(query) == retriever.invoke(query)
    assert (loaded.k, loaded.k1, loaded.b, loaded.method) == (retriever.k, retriever.k1, retriever.b, retriever.method)
    loaded.add_texts(["more words"], ids=["new"])
    loaded.save_local(folder)
    assert len(BM25Retriever.load_local(folder, **(fields if fields is by_letter else {})).texts()) == len(texts) + 1


def test_files_hold_nothing_of_deleted_documents(tmp_path):
    retriever = made([*TEXTS, "secret"])
    retriever.invoke("secret")
    retriever.delete(["4"])
    retriever.save_local(tmp_path)
    assert len(list(tmp_path.iterdir())) == 4
    assert not [path for path in tmp_path.iterdir() if b"secret" in path.read_bytes()]
    made(["secret"]).save_local(tmp_path)
    made().save_local(tmp_path)
    assert not [path for path in tmp_path.iterdir() if b"secret" in path.read_bytes()]


def test_fields_may_be_given_anew(tmp_path):
    made(k=2, language="german", stop_words=["der"]).save_local(tmp_path)
    loaded = BM25Retriever.load_local(tmp_path, k=3, k1=0.5, stop_words=None, tags=["x"])
    assert (loaded.k, loaded.k1, loaded.stop_words, loaded.language, loaded.tags) == (3, 0.5, None, "german", ["x"])
    with pytest.raises(ValueError, match="another language"):
        BM25Retriever.load_local(tmp_path, language="english")


def test_a_function_is_given_again(tmp_path):
    made(preprocess_func=str.split).save_local(tmp_path, "cut")
    assert ids(BM25Retriever.load_local(tmp_path, "cut", preprocess_func=str.split), "Paris") == ["0"]
    with pytest.raises(ValueError, match=r"split cut the saved texts: give it as preprocess_func"):
        BM25Retriever.load_local(tmp_path, "cut")
    made().save_local(tmp_path)
    with pytest.raises(ValueError, match="No preprocess_func cut"):
        BM25Retriever.load_local(tmp_path, preprocess_func=str.split)


def test_stores_of_two_kinds_share_a_folder(tmp_path):
    vectors = FAISS.from_texts(TEXTS, model := DeterministicFakeEmbedding(size=4))
    vectors.save_local(tmp_path)
    made().save_local(tmp_path)
    with pytest.raises(ValueError, match="another kind"):
        made().save_local(tmp_path, "index")
    with pytest.raises(ValueError, match="another kind"):
        vectors.save_local(tmp_path, "bm25")
    for store in (vectors, made()):
        store.save_local(tmp_path)
    assert FAISS.load_local(tmp_path, model).texts() == BM25Retriever.load_local(tmp_path).texts() == TEXTS
    with pytest.raises(IndexFormatError, match="foreign"):
        BM25Retriever.load_local(tmp_path, "index")


def test_what_json_would_change_is_not_saved(tmp_path):
    made().save_local(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    retriever = BM25Retriever.from_texts(["secret"], [{"bad": {1, 2}}], ["the id"])
    with pytest.raises(TypeError, match="'the id', metadata 'bad'") as caught:
        retriever.save_local(tmp_path)
    assert "secret" not in str(caught.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    with pytest.raises(ValueError, match="plain name"):
        made().save_local(tmp_path, "../x")


@pytest.fixture
def folder(tmp_path):
    made().save_local(tmp_path)
    return tmp_path


def parts(folder):
    return {path.suffix.strip("."): path for path in folder.iterdir() if ".manifest" not in path.suffixes}


def refused(folder, *said):
    with pytest.raises(IndexFormatError) as caught:
        BM25Retriever.load_local(folder)
    assert all(word in str(caught.value) for word in said), str(caught.value)


def test_damage_is_found(folder):
    for path in list(folder.iterdir()):
        data = path.read_bytes()
        for place in range(0, len(data), 1 + len(data) // 40):
            path.write_bytes(data[:place] + bytes([data[place] ^ 0x81]) + data[place + 1 :])
            refused(folder, path.name.split("-")[0].split(".")[0])
            path.write_bytes(data[:place])
            refused(folder)
        path.unlink()
        refused(folder, path.name, "missing")
        path.write_bytes(data)
    assert BM25Retriever.load_local(folder).texts() == TEXTS
    shutil.rmtree(folder)
    refused(folder, "missing", "BM25Retriever.save_local")


def forge(folder, *, settings=None, **changes):
    """What someone does who may write to the folder: files of any content with a manifest that fits."""
    path = folder / "bm25.manifest.json"
    manifest = json.loads(path.read_bytes())
    for part, suffix in (("documents", "jsonl"), ("vocabulary", "json"), ("terms", "int32")):
        if part in changes:
            data = changes.pop(part)
            manifest[f"{part}_sha256"] = digest = hashlib.sha256(data).hexdigest()
            (folder / f"bm25-{digest[:16]}.{suffix}").write_bytes(data)
    manifest["settings"] |= settings or {}
    path.write_text(json.dumps(manifest | changes))


LENGTHS = [5, 3, 4, 6]


def numbers(*values):
    return np.array(values, "<i4").tobytes()


@pytest.mark.parametrize(
    "terms",
    [
        b"",
        b"\0",
        numbers(*LENGTHS),
        numbers(*LENGTHS, *[0] * 17),
        numbers(*LENGTHS, *[0] * 19),
        numbers(*LENGTHS, *[0] * 18) + b"\0",
        numbers(*LENGTHS, *[0] * 17, -1),
        numbers(*LENGTHS, *[0] * 17, 1000),
        numbers(*LENGTHS, *[0] * 17, 2**31 - 1),
        numbers(-5, 13, 4, 6, *[0] * 18),
        numbers(2**31 - 1, 2**31 - 1, 2**31 - 1, 21, *[0] * 18),
        numbers(0, 0, 0),
    ],
    ids=range(12),
)
def test_forged_terms_point_nowhere(folder, terms):
    forge(folder, terms=terms)
    refused(folder, ".int32", "not the terms of 4 documents")


def test_what_a_forger_may_do_is_no_more_than_what_a_writer_may(folder):
    forge(folder, terms=numbers(*LENGTHS, *[0] * 18))
    assert len(BM25Retriever.load_local(folder).invoke("a river", k=9)) == 0
    assert BM25Retriever.load_local(folder).texts() == TEXTS


@pytest.mark.parametrize(
    "vocabulary",
    [b"", b"{}", b"1", b"[1]", b'["a", "a"]', b"[null]", b"\xff", b"[" * 100_000, b'["a"', b"[]"],
    ids=lambda data: data[:10].decode("latin-1"),
)
def test_forged_vocabularies(folder, vocabulary):
    forge(folder, vocabulary=vocabulary)
    refused(folder, ".int32" if vocabulary == b"[]" else "not a list of different terms")


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"version": True},
        {"format": "langchain-rerankkit-faiss"},
        {"count": 3},
        {"count": 5},
        {"count": 10**12},
        {"count": -1},
        {"settings": {"k": 0}},
        {"settings": {"k": None}},
        {"settings": {"k1": float("nan")}},
        {"settings": {"b": -1}},
        {"settings": {"method": "pickle"}},
        {"settings": {"language": "klingon"}},
        {"settings": {"language": ["english"]}},
        {"settings": {"stop_words": [1]}},
        {"settings": {"index": "a path"}},
        {"settings": {"tags": ["x"]}},
        {"preprocess_func": 1},
        {"terms_sha256": "../../../../etc/passwd"},
        {"surprise": 1},
        {"documents": b""},
        {"documents": b'{"id": "a", "text": 1, "metadata": {}}\n' * 4},
    ],
    ids=str,
)
def test_forged_manifests(folder, changes):
    forge(folder, **changes)
    refused(folder, "bm25" if "settings" not in changes else "wrong settings")


KILLED = """
import os, pathlib, random, signal, sys, time
from langchain_rerankkit import BM25Retriever

folder, kills = pathlib.Path(sys.argv[1]), int(sys.argv[2])
chance = random.Random(kills)
states = [[f"{name} water {n} " + "text " * 30 for n in range(count)] for name, count in (("one", 900), ("two", 1200))]
stores = [BM25Retriever.from_texts(texts, stop_words=None) for texts in states]
stores[0].save_local(folder)
seen = set()
for kill in range(kills):
    if not (child := os.fork()):
        while True:
            for store in (stores[1], stores[0]):
                store.save_local(folder)
    time.sleep(chance.uniform(0.002, 0.06))
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    loaded = BM25Retriever.load_local(folder, k=2000)
    state = states.index(loaded.texts())
    found = loaded.invoke("water")
    assert sorted(d.page_content for d in found) == sorted(states[state])
    seen.add((state, len(list(folder.iterdir()))))
for store in stores * 2:
    store.save_local(folder)
print(len(seen), len(list(folder.iterdir())))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no fork on this platform")
@pytest.mark.parametrize("kills", [5, pytest.param(100, marks=pytest.mark.slow)])
def test_killed_in_the_middle_of_saving_it_loads_as_before_or_after(tmp_path, kills):
    command = [sys.executable, "-c", KILLED, tmp_path, str(kills)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROJECT)
    assert done.returncode == 0, done.stderr
    seen, files = map(int, done.stdout.split())
    assert seen > 1  # it was killed at different places
    assert files == 4  # what the kills left is cleared away


# The module


@pytest.mark.parametrize(("name", "extra"), [("bm25s", "bm25"), ("numpy", "bm25"), ("Stemmer", "lexical")])
def test_a_missing_library_is_named(monkeypatch, name, extra):
    module._analyser.cache_clear()
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=rf"langchain-rerankkit\[{extra}\]"):
        made().invoke("river")


def test_one_id_or_text_in_place_of_several_is_refused():
    retriever = BM25Retriever.from_texts(["a", "b", "c"], ids=["1", "2", "12"])
    for wrong in (
        lambda: retriever.delete("12"),
        lambda: retriever.get_by_ids("12"),
        lambda: BM25Retriever.from_texts("hello"),
    ):
        with pytest.raises(TypeError, match="Give a list"):
            wrong()
    assert len(retriever.get_by_ids(["1", "2", "12"])) == 3
