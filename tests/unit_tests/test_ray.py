"""The real Ray, with two nodes of one processor each on this machine."""

import logging
import os
import signal
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import BaseDocumentCompressor, Document

from langchain_rerankkit import (
    Dataset,
    EmbeddedReranker,
    FunctionReranker,
    LexicalReranker,
    MissingExtraError,
    ModelNotFoundError,
    Question,
    Reranker,
    evaluate,
)
from langchain_rerankkit.evaluation.running.asking import Item, Stage, ask_here
from langchain_rerankkit.evaluation.running.ray import _Columns, _Rows, ask_on_ray, rerank_dataset
from langchain_rerankkit.records import DetailedScores
from langchain_rerankkit.testing import FixedRetriever

ray = pytest.importorskip("ray")
pa = pytest.importorskip("pyarrow")

pytestmark = [
    # What Ray warns of itself about is not ours.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore:unclosed file .*ray-data:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Exception ignored in. .*ray-data:pytest.PytestUnraisableExceptionWarning"),
]

WORDS = ["river", "delta", "lake", "sea", "rain", "cloud", "ice", "snow"]
CORPUS = tuple(
    Document(id=f"d{i}", page_content=f"The {WORDS[i % 8]} and the {WORDS[(3 * i + 1) % 8]}, {'far ' * (i % 5)}away.")
    for i in range(24)
)


@pytest.fixture(scope="module")
def nodes():
    """The cluster and its second node. GPUs are what Ray is told; there need not be any."""
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "num_gpus": 1, "node_ip_address": "127.0.0.1", "object_store_memory": 80 * 2**20}
    # A short path, since those of Unix sockets are limited.
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as folder:
        patch.setenv("RAY_TMPDIR", folder)
        Path(folder, "ray").mkdir()
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "disabled")  # else a token is written to the home folder
        # In addresses Ray replaces 127.0.0.1 by the machine's own, where this cluster does not listen.
        patch.setattr("ray._private.services.resolve_ip_for_localhost", lambda host: host)
        cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
        try:
            second = cluster.add_node(**node)
            ray.init(cluster.address, _node_ip_address="127.0.0.1", logging_level=logging.ERROR, log_to_driver=False)
            yield cluster, second
        finally:
            ray.shutdown()
            cluster.shutdown()


class Letters(Reranker):
    """Says what it costs, and fails at times."""

    def _score(self, query, texts):
        if "snow" in query:
            msg = "No snow \ud800."
            raise ValueError(msg)
        return DetailedScores(
            [len(text) for text in texts], [{"usage": {"tokens": len(query), "cost": 0.5}}] * len(texts)
        )


def items_of(count):
    # What neither Arrow nor JSON has a word for.
    odd = Document(
        id="odd\udfff", page_content="Odd \ud800.", metadata={"set": {1}, "pair": (1, None), "float": float("inf")}
    )
    return [Item(f"q{i}\ud800", f"Which {WORDS[i % 8]}?", [*CORPUS, odd]) for i in range(count)]


def comparable(pairs):
    """Answers without what differs from run to run; each question once."""
    pairs = list(pairs)
    found = {id_: (list(asked.documents), dict(asked.usage), asked.error) for id_, asked in pairs}
    assert len(found) == len(pairs)
    return found


@pytest.mark.slow
def test_an_evaluation_on_ray_equals_the_local_one(nodes, tmp_path):
    dataset = Dataset(
        tuple(Question(f"q{i}", f"Which {word}?", documents={f"d{i}": 1}) for i, word in enumerate(WORDS * 2)), CORPUS
    )
    systems = {
        "first": FixedRetriever(documents=list(CORPUS)),
        "letters": Letters(top_n=5),
        "embedded": EmbeddedReranker(),
    }
    here = evaluate(systems, dataset, ["mrr", "ndcg@10"])
    there = evaluate(systems, dataset, ["mrr", "ndcg@10"], engine="ray", concurrency=2, run_dir=tmp_path)
    for name in systems:
        assert there[name].rankings == here[name].rankings
        assert there[name].per_question == here[name].per_question
    assert there["letters"].failures == here["letters"].failures
    assert len(there["letters"].failures) == 2
    assert there["letters"].usage == here["letters"].usage
    resumed = evaluate(systems, dataset, ["mrr", "ndcg@10"], engine="ray", run_dir=tmp_path)
    assert resumed["letters"].rankings == here["letters"].rankings


def test_what_a_killed_worker_had_begun_is_asked_again(nodes, tmp_path):
    def count(query, texts):
        with (tmp_path / query).open("a") as file:
            file.write("x")
        if "ice" in query and not (tmp_path / "died").exists():
            (tmp_path / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return [len(text) for text in texts]

    items = items_of(40)
    there = comparable(ask_on_ray(Stage("count", FunctionReranker(function=count)), items, 2))
    asked = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert (tmp_path / "died").exists()
    assert 40 < asked <= 40 + 2 * 16, "its block again, and perhaps what waited behind it"
    # It will not die again.
    assert there == comparable(ask_here(Stage("count", FunctionReranker(function=count)), items, 1))


@pytest.mark.slow
def test_a_question_that_kills_every_worker_counts_as_failed_and_no_other(nodes):
    def count(query, texts):
        if query == "deadly":
            os.kill(os.getpid(), signal.SIGKILL)
        return [len(text) for text in texts]

    stage, items = Stage("count", FunctionReranker(function=count)), items_of(20)
    there = comparable(ask_on_ray(stage, [*items[:7], Item("deadly", "deadly", CORPUS), *items[7:]], 2))
    assert "WorkerDied" in there.pop("deadly")[2]
    assert there == comparable(ask_here(stage, items, 1))


@pytest.mark.slow
def test_a_lost_machine_loses_no_question(nodes):
    cluster, second = nodes

    def slowly(query, texts):
        time.sleep(0.2)
        return [len(text) for text in texts]

    stage, items = Stage("slowly", FunctionReranker(function=slowly)), items_of(80)
    answers = ask_on_ray(stage, items, 2)
    first = [next(answers) for _ in range(24)]  # both are at work by now
    cluster.remove_node(second, allow_graceful=False)
    try:
        there = comparable([*first, *answers])
    finally:
        cluster.add_node(num_cpus=1, num_gpus=1, node_ip_address="127.0.0.1", object_store_memory=80 * 2**20)
    assert there == comparable(ask_here(stage, items, 1))


@pytest.mark.slow
def test_actors_take_gpus_and_wait_for_room(nodes):
    stage, items = Stage("words", LexicalReranker(), cut=3), items_of(30)
    assert comparable(ask_on_ray(stage, items, 3, num_gpus=1)) == comparable(ask_here(stage, items, 1))


class Missing(BaseDocumentCompressor):
    error: str

    def compress_documents(self, documents, query, callbacks=None):
        if self.error == "extra":
            raise MissingExtraError(module="torch", extra="local")
        msg = "No model."
        raise ModelNotFoundError(msg, missing=["model.onnx"])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "error"), [("extra", MissingExtraError), ("model", ModelNotFoundError)])
def test_what_no_worker_can_do_is_raised_here_and_the_actors_go(nodes, name, error):
    with pytest.raises(error) as raised:
        list(ask_on_ray(Stage("missing", Missing(error=name)), items_of(4), 2))
    assert type(raised.value) is error
    deadline = time.monotonic() + 20
    while ray.available_resources().get("CPU", 0) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert ray.available_resources()["CPU"] == 2


def test_nothing_is_started_for_no_questions(monkeypatch):
    monkeypatch.setattr("langchain_rerankkit.evaluation.running.ray.require", None)
    assert list(ask_on_ray(Stage("none", Letters()), [], 2)) == []


def test_a_ray_dataset_is_reranked_row_by_row(nodes):
    rows = [
        {
            "number": i,
            "query": f"Which {WORDS[i % 8]}?",
            "documents": [{"id": d.id, "text": d.page_content} for d in CORPUS],
        }
        for i in range(20)
    ]
    ranked = rerank_dataset(ray.data.from_items(rows), Letters(top_n=5), batch_size=4, concurrency=2).take_all()
    assert sorted(row["number"] for row in ranked) == list(range(20)), "none is lost"
    for row in ranked:
        if row["number"] % 8 == 7:
            assert row["error"] == "ValueError: No snow \ufffd."
            assert row["documents"] == rows[0]["documents"]
            assert row["scores"] is None
        else:
            expected = Letters(top_n=5).rank(row["query"], CORPUS)
            assert [document["id"] for document in row["documents"]] == [line.document.id for line in expected]
            assert row["scores"] == [line.score for line in expected]
            assert row["error"] is None
    with pytest.raises(ValueError, match="no column 'question'"):
        rerank_dataset(ray.data.from_items(rows), Letters(), query="question")
    with pytest.raises(ValueError, match="column 'number' already"):
        rerank_dataset(ray.data.from_items(rows), Letters(), scores="number")
    with pytest.raises(TypeError, match="FunctionReranker"):
        rerank_dataset(ray.data.from_items(rows), Missing(error="extra"))


# --- what an actor does with a batch: no cluster is needed to see ------------------------------------------------------


def rerank(table, reranker):
    columns = _Columns("query", "documents", "scores", "error")
    return _Rows(reranker.model_copy(update={"details": True}), columns)(table)


def by_length(**fields):
    return FunctionReranker(function=lambda query, texts: [len(text) for text in texts], **fields)


TEXTS = st.lists(st.text(st.characters(codec="utf-8"), max_size=8), max_size=6)


@given(st.lists(st.none() | TEXTS, max_size=5), st.sampled_from(["list", "large", "fixed"]), st.booleans())
def test_documents_come_back_as_they_were_in_the_new_order(rows, kind, chunked):
    if kind == "fixed":
        rows = [row and [*row, *"abc"][:3] for row in rows if row != []]
    types = {"list": pa.list_(pa.string()), "large": pa.large_list(pa.string()), "fixed": pa.list_(pa.string(), 3)}
    table = pa.table(
        {
            "other": pa.array(range(len(rows)), pa.uint8()),
            "query": ["q"] * len(rows),
            "documents": pa.array(rows, types[kind]),
        }
    ).cast(pa.schema([("other", pa.uint8()), ("query", pa.string()), ("documents", types[kind])]))
    if chunked and len(rows) > 1:
        table = pa.concat_tables([table.slice(0, 1), table.slice(1)])
    ranked = rerank(table, by_length(top_n=4))
    ranked.validate(full=True)
    assert ranked.column_names == ["other", "query", "documents", "scores", "error"]
    assert ranked.column("other").equals(table.column("other"))
    for given_row, row in zip(rows, ranked.to_pylist(), strict=True):
        if given_row is None:
            assert row["documents"] is None
            assert row["scores"] is None
            assert "no documents" in row["error"]
            continue
        expected = by_length(top_n=4).rank("q", given_row)
        assert row["documents"] == [line.document.page_content for line in expected]
        assert row["scores"] == [line.score for line in expected]
        assert row["error"] is None


def test_types_of_documents_survive():
    kind = pa.struct(
        {
            "id": pa.int64(),
            "text": pa.string(),
            "at": pa.timestamp("ns", "UTC"),
            "metadata": pa.map_(pa.string(), pa.int8()),
        }
    )
    when = datetime(2024, 1, 2, tzinfo=timezone.utc)
    documents = [
        {"id": 2**60, "text": "a", "at": when, "metadata": [("x", 1)]},
        {"id": None, "text": "aaa", "at": None, "metadata": None},
    ]
    table = pa.table({"query": ["q"], "documents": pa.array([documents], pa.list_(kind))})
    read = []

    def text(document):
        read.append(document)
        return document.page_content

    ranked = rerank(table, by_length(document_text=text))
    assert ranked.schema.field("documents").type == pa.list_(kind)
    assert ranked.column("documents").to_pylist() == [[table.column("documents").to_pylist()[0][i] for i in (1, 0)]]
    assert [(document.id, document.metadata) for document in read] == [(str(2**60), {"at": when, "x": 1}), (None, {})]


def test_documents_of_any_shape_travel_as_python_objects():
    from ray.data.extensions import ArrowPythonObjectArray

    shapes = [
        "a",
        Document(page_content="aaaa", metadata={"x": {1}}),
        {"page_content": "aa", "x": 1},
        {"text": "aaa", "x": "1"},
    ]
    table = pa.table({"query": ["q", "q"], "documents": ArrowPythonObjectArray.from_objects([shapes, None])})
    ranked = rerank(table, by_length()).column("documents").to_pylist()
    assert ranked == [[shapes[1], shapes[3], shapes[2], shapes[0]], None]


@pytest.mark.parametrize(
    ("query", "documents", "said"),
    [
        (None, ["a"], "query"),
        ("q", [None], "not NoneType"),
        ("q", [5], "not int"),
        ("q", [{"title": "a"}], "'page_content' or 'text'"),
        ("q", [{"text": "a", "metadata": 5}], "int"),
        ("q", [{"text": 5}], "page_content"),
    ],
)
def test_a_row_that_makes_no_sense_fails_alone(query, documents, said):
    from ray.data.extensions import ArrowPythonObjectArray

    given = [["a", "bb"], documents]
    table = pa.table({"query": ["q", query], "documents": ArrowPythonObjectArray.from_objects(given)})
    good, bad = rerank(table, by_length()).to_pylist()
    assert good == {"query": "q", "documents": ["bb", "a"], "scores": [2.0, 1.0], "error": None}
    assert bad["documents"] == documents
    assert bad["scores"] is None
    assert said in bad["error"]


def test_a_fallback_is_said():
    table = pa.table({"query": ["Which snow?", "Which sea?"], "documents": [["a", "bb"], ["a", "bb"]]})
    fallen, good = rerank(table, Letters(on_error="keep_order", details=False)).to_pylist()
    assert fallen["documents"] == ["a", "bb"]
    assert fallen["error"] == "ValueError"
    assert fallen["scores"] == [float("-inf")] * 2
    assert good["error"] is None


def test_missing_packages_and_columns_stop_the_work():
    def missing(query, texts):
        raise MissingExtraError(module="torch", extra="local")

    with pytest.raises(MissingExtraError):
        rerank(pa.table({"query": ["q"], "documents": [["a"]]}), FunctionReranker(function=missing))
    with pytest.raises(ValueError, match="no column 'documents'"):
        rerank(pa.table({"query": ["q"]}), by_length())
