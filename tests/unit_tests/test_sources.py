import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4, uuid5

import pytest
from langchain_core.documents import Document

from langchain_rerankkit import Dataset, DatasetError, Question

# --- ir_datasets ------------------------------------------------------------------------------------------------------


class Query(NamedTuple):
    query_id: str
    text: str
    answers: tuple = ()

    def default_text(self):
        return self.text.title()


class Page(NamedTuple):
    doc_id: str
    title: str
    body: str

    def default_text(self):
        return f"{self.title}: {self.body}"


@pytest.fixture
def register(monkeypatch, tmp_path):
    """Registers a data set of local files with the real library, under a name of its own."""
    ir_datasets = pytest.importorskip("ir_datasets")
    monkeypatch.setenv("IR_DATASETS_HOME", str(tmp_path / "home"))

    def register(*, qrels="1 0 a 2\n2 0 a 0\n2 0 c 1\n", documents=None, parts=("docs", "queries", "qrels")):
        name = f"rivers-{uuid4().hex}/test"
        formats, local = ir_datasets.formats, ir_datasets.util.LocalDownload
        files = {
            "docs": "\n".join(json.dumps({"doc_id": id_, "title": id_.upper(), "body": "text"}) for id_ in "abcd"),
            "queries": "\n".join(
                json.dumps({"query_id": id_, "text": text, "answers": ["Nile", 3]})
                for id_, text in {"1": "which river?", "2": "which lake?", "3": "unjudged"}.items()
            ),
            "qrels": qrels,
        }
        for part, content in files.items():
            (tmp_path / part).write_text(content)
        made = {
            "docs": documents or formats.JsonlDocs(local(tmp_path / "docs"), Page),
            "queries": formats.JsonlQueries(local(tmp_path / "queries"), Query),
            "qrels": formats.TrecQrels(local(tmp_path / "qrels"), {}),
        }
        ir_datasets.registry.register(name, ir_datasets.Dataset(*(made[part] for part in parts)))
        return name

    return register


def test_judged_queries_of_ir_datasets_come_without_the_collection(register, tmp_path):
    name = register()
    (tmp_path / "docs").unlink()
    assert Dataset.from_ir_datasets(name) == Dataset(
        (
            Question("1", "Which River?", ("Nile",), {"a": 2}),
            Question("2", "Which Lake?", ("Nile",), {"a": 0, "c": 1}),
        ),
        name=name,
    )


def test_documents_come_all_or_by_id(register):
    name = register()
    corpus = Dataset.from_ir_datasets(name, corpus=True).corpus
    assert [document.id for document in corpus] == list("abcd")
    assert corpus[0] == Document(id="a", page_content="A: text", metadata={"title": "A"})
    assert Dataset.from_ir_datasets(name, corpus=iter("cac")).corpus == (corpus[2], corpus[0])
    with pytest.raises(DatasetError, match=r"field 'corpus': 1 of 2 documents are not in .*'x' among them"):
        Dataset.from_ir_datasets(name, corpus=["a", "x"])
    with pytest.raises(DatasetError, match=r"ids of documents as a list"):
        Dataset.from_ir_datasets(name, corpus="abc")


def test_names_that_ir_datasets_does_not_know():
    pytest.importorskip("ir_datasets")
    with pytest.raises(DatasetError, match=r"knows no 'beir/scifakt'; near it are .*beir/scifact"):
        Dataset.from_ir_datasets("beir/scifakt")
    with pytest.raises(DatasetError, match=r"'beir/scifact' has no judged queries of its own; .*beir/scifact/test"):
        Dataset.from_ir_datasets("beir/scifact")


def test_parts_that_are_missing_or_contradict_each_other(register):
    with pytest.raises(DatasetError, match="no judged queries"):
        Dataset.from_ir_datasets(register(parts=("docs", "queries")))
    with pytest.raises(DatasetError, match=r"field 'corpus': .*no documents"):
        Dataset.from_ir_datasets(register(parts=("queries", "qrels")), corpus=True)
    with pytest.raises(DatasetError, match=r"'a' has two grades for '1' in .*: 1 and 2"):
        Dataset.from_ir_datasets(register(qrels="1 0 a 1\n1 0 a 2\n"))
    with pytest.warns(UserWarning, match=r"1 judged queries are not among the queries: '9'"):
        Dataset.from_ir_datasets(register(qrels="1 0 a 1\n9 0 a 2\n"))


def test_without_a_network_the_error_says_where_the_files_would_be(register, tmp_path, monkeypatch):
    ir_datasets = pytest.importorskip("ir_datasets")
    monkeypatch.setenv("IR_DATASETS_DL_TRIES", "1")
    # Nothing listens there.
    download = ir_datasets.util.Download([ir_datasets.util.RequestsDownload("http://127.0.0.1:9/docs")])
    name = register(documents=ir_datasets.formats.JsonlDocs(download, Page, docstore_path=str(tmp_path / "store")))
    with pytest.raises(DatasetError, match=r"could not be read or downloaded \(ConnectionError\).*home"):
        Dataset.from_ir_datasets(name, corpus=True)
    (tmp_path / "qrels").unlink()
    with pytest.raises(DatasetError, match=r"could not be read or downloaded \(FileNotFoundError\)"):
        Dataset.from_ir_datasets(name)


# --- LangSmith --------------------------------------------------------------------------------------------------------

DATASET_ID = "0b7b31e2-5c6a-4d0a-9f49-0a2f6d2f2a11"


@contextmanager
def langsmith(*examples):
    """The real client, and a server that speaks LangSmith's /datasets and /examples; yields the client and its requests."""
    from langsmith import Client

    seen = []
    about = {"id": DATASET_ID, "name": "rivers", "created_at": "2026-01-01T00:00:00Z"}
    rows = [
        {"id": str(UUID(int=n)), "dataset_id": DATASET_ID, "created_at": "2026-01-01T00:00:00Z", **example}
        for n, example in enumerate(examples)
    ]

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            url = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            seen.append((url.path, query))
            status, found = 200, {}
            if url.path == "/datasets":
                found = [about] if query["name"] == "rivers" else []
            elif url.path == f"/datasets/{DATASET_ID}":
                found = about
            elif url.path == "/examples" and query["dataset"] == DATASET_ID:
                start = int(query["offset"])
                found = rows[start : start + int(query["limit"])]
            else:
                status = 404
            body = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    client = Client(
        api_url=f"http://127.0.0.1:{server.server_port}",
        api_key="unused",
        auto_batch_tracing=False,
        info={"version": "0"},
    )
    try:
        yield client, seen
    finally:
        client.session.close()
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_langsmith_dataset_is_read_page_by_page():
    examples = [
        {
            "inputs": {"Question": f"{n}?", "user": "x"},
            "outputs": {"answer": ["a", "b"], "sources": ["d1"]} if n % 2 else {"ground_truth": "a", "doc_id": "d2"},
        }
        for n in range(250)
    ]
    with langsmith(*examples) as (client, seen):
        dataset = Dataset.from_langsmith("rivers", client=client)
        assert dataset == Dataset.from_langsmith(DATASET_ID, client=client)
        assert dataset == Dataset.from_langsmith(UUID(DATASET_ID), client=client)
    assert dataset.name == "rivers"
    assert dataset.questions[:2] == (
        Question(str(UUID(int=0)), "0?", ("a",), {"d2": 1}),
        Question(str(UUID(int=1)), "1?", ("a", "b"), {"d1": 1}),
    )
    assert [question.text for question in dataset.questions] == [f"{n}?" for n in range(250)]
    assert [query["offset"] for path, query in seen if path == "/examples"][:3] == ["0", "100", "200"]


def test_keys_may_be_named_and_an_only_input_needs_no_name():
    example = {"inputs": {"text": "Who?"}, "outputs": {"a": "no", "gold": {"d": 2}, "label": "me", "output": "no"}}
    with langsmith(example) as (client, _):
        dataset = Dataset.from_langsmith("rivers", client=client, answer="label", documents="gold")
    assert dataset.questions == (Question(str(UUID(int=0)), "Who?", ("me",), {"d": 2}),)


def test_an_example_that_was_pushed_from_here_has_its_questions_id():
    pushed = {"id": str(uuid5(UUID(DATASET_ID), '"q 1"')), "metadata": {"id": "q 1"}}
    foreign = {"id": str(UUID(int=7)), "metadata": {"id": "q 1"}}
    rest = {"inputs": {"question": "Who?"}, "outputs": {"output": "me"}}
    with langsmith({**pushed, **rest}, {**foreign, **rest}) as (client, _):
        questions = Dataset.from_langsmith("rivers", client=client).questions
    assert questions == (Question("q 1", "Who?", ("me",)), Question(foreign["id"], "Who?", ("me",)))


@pytest.mark.parametrize(
    ("example", "options", "message"),
    [
        ({"inputs": {"a": "x", "b": "y"}}, {}, r"no question among the inputs \['a', 'b'\]"),
        ({"inputs": {"messages": [{"content": "?"}]}}, {}, r"field 'messages': .*string, not list"),
        ({"inputs": {"question": "?", "query": "?"}}, {}, r"Several keys may be the question: \['question', 'query'\]"),
        (
            {"inputs": {"question": "?"}},
            {"question": "ask"},
            r"field 'ask': The key is not there; there are \['question'\]",
        ),
        ({"inputs": {"question": "?"}, "outputs": {"Answer": 3}}, {}, r"field 'Answer': .*list of strings"),
        ({"inputs": {"question": "?"}, "outputs": {"docs": [{"id": 1}]}}, {}, r"field 'docs': .*ids"),
        ({"inputs": {"question": "?"}, "outputs": {"x": 1}}, {"answer": "y"}, r"field 'y': .*\['x'\]"),
    ],
)
def test_errors_name_the_example_and_the_key(example, options, message):
    good = {"inputs": {"question": "Who?", "ask": "Who?"}, "outputs": {"answer": "me", "y": "me"}}
    with (
        langsmith(good, example) as (client, _),
        pytest.raises(DatasetError, match=f"example {UUID(int=1)}.*{message}"),
    ):
        Dataset.from_langsmith("rivers", client=client, **options)


def test_datasets_that_langsmith_does_not_have():
    with langsmith() as (client, _):
        with pytest.raises(DatasetError, match="no examples"):
            Dataset.from_langsmith("rivers", client=client)
        for unknown in ("lakes", UUID(int=7)):
            with pytest.raises(DatasetError, match=f"LangSmith has no dataset '{unknown}'"):
                Dataset.from_langsmith(unknown, client=client)
