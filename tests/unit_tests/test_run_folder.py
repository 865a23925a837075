import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda
from langchain_core.vectorstores import InMemoryVectorStore, VectorStoreRetriever

from langchain_rerankkit import (
    CohereReranker,
    Dataset,
    DatasetError,
    EmbeddedEmbeddings,
    FunctionReranker,
    LexicalReranker,
    Question,
    TermStatistics,
    evaluate,
)
from langchain_rerankkit.evaluation.running.asking import Asked
from langchain_rerankkit.evaluation.running.run_folder import RunFolder
from langchain_rerankkit.testing import FixedRetriever

# What a person runs, gets killed at, and runs again: every question asked leaves a line in a file.
SCRIPT = """
import sys, time
from pathlib import Path
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda
from langchain_rerankkit import CohereReranker, Dataset, FunctionReranker, Question, evaluate

folder, log, pause, concurrency = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
documents = [Document(id=f"d{n}", page_content=f"text {n}", metadata={"n": n}) for n in range(5)]

def note(what):
    with log.open("a") as lines:
        lines.write(what + "\\n")

def find(question):
    note(f"retrieve {question}")
    return documents

def judge(query, texts):
    time.sleep(pause)
    note(f"rerank {query}")
    wanted = str(int(query[1:]) % 5)
    return [float(text.endswith(wanted)) for text in texts]

questions = tuple(Question(f"q{n}", f"q{n}", documents={f"d{n % 5}": 1}) for n in range(40))
report = evaluate(
    {"first": RunnableLambda(find), "reranked": FunctionReranker(function=judge)},
    Dataset(questions), ["mrr", "hit@1"], run_dir=folder, concurrency=concurrency,
)
print(report["first"].scores, report["reranked"].scores, report["reranked"].rankings, report["reranked"].document_scores)
"""


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_killed_run_goes_on_and_asks_no_question_twice(tmp_path, concurrency):
    def arguments(folder, log, pause):
        return [sys.executable, "-c", SCRIPT, str(tmp_path / folder), str(tmp_path / log), str(pause), str(concurrency)]

    log = tmp_path / "log"
    killed = subprocess.Popen(arguments("run", "log", 0.05), stdout=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not (log.exists() and log.read_text().count("rerank") >= 8):
        assert time.monotonic() < deadline
        assert killed.poll() is None
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    before = log.read_text().splitlines()
    assert len(before) < 80, "it was killed in the middle"

    again = subprocess.run(arguments("run", "log", 0), capture_output=True, text=True, check=True)
    asked = log.read_text().splitlines()
    # What was on its way to the killed process, if anything, is asked once more: nobody has its answer.
    assert len(asked) - len(set(asked)) <= concurrency
    assert set(asked) == {f"{what} q{n}" for what in ("retrieve", "rerank") for n in range(40)}
    assert sum(line.startswith("retrieve") for line in asked) == 40, "that was done when it was killed"

    whole = subprocess.run(arguments("other", "other-log", 0), capture_output=True, text=True, check=True)
    assert again.stdout == whole.stdout
    third = subprocess.run(arguments("run", "third-log", 0), capture_output=True, text=True, check=True)
    assert third.stdout == whole.stdout
    assert not (tmp_path / "third-log").exists(), "all was known"


QUESTIONS = (Question("q", "where?", documents={"a": 1}),)
RETRIEVER = FixedRetriever(documents=[Document(id="a", page_content="here"), Document(id="b", page_content="there")])


def reranker(**fields):
    return FunctionReranker(function=lambda query, texts: [float(len(text)) for text in texts], **fields)


def test_a_folder_of_another_evaluation_is_refused(tmp_path):
    evaluate({"first": RETRIEVER, "second": reranker()}, Dataset(QUESTIONS), ["mrr"], run_dir=tmp_path)
    for systems, questions, what in [
        ({"first": RETRIEVER, "second": reranker(top_n=1)}, QUESTIONS, "the system 'second'"),
        ({"first": RETRIEVER, "second": reranker()}, (Question("q", "when?", documents={"a": 1}),), "the questions"),
    ]:
        with pytest.raises(DatasetError, match=f"another evaluation: it differs in {what}"):
            evaluate(systems, Dataset(questions), ["mrr"], run_dir=tmp_path)


def other(query, texts):
    return [-float(len(text)) for text in texts]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"first": {"q": ["a", "b"]}}, {"first": {"q": ["b", "a"]}}),
        (
            {"first": RETRIEVER, "words": LexicalReranker()},
            {"first": RETRIEVER, "words": LexicalReranker(statistics=TermStatistics.from_texts(["here", "there"]))},
        ),
        (
            {"first": RETRIEVER, "second": FunctionReranker(function=lambda query, texts: [1.0] * len(texts))},
            {"first": RETRIEVER, "second": FunctionReranker(function=lambda query, texts: [2.0] * len(texts))},
        ),
        ({"first": RETRIEVER, "second": reranker()}, {"first": RETRIEVER, "second": FunctionReranker(function=other)}),
        (
            {
                "first": VectorStoreRetriever(
                    vectorstore=InMemoryVectorStore(EmbeddedEmbeddings()), search_kwargs={"k": 20}
                )
            },
            {
                "first": VectorStoreRetriever(
                    vectorstore=InMemoryVectorStore(EmbeddedEmbeddings()), search_kwargs={"k": 3}
                )
            },
        ),
    ],
    ids=["run", "statistics", "lambda", "function", "search_kwargs"],
)
def test_answers_of_another_setting_are_never_taken(tmp_path, before, after):
    dataset = Dataset(QUESTIONS, tuple(RETRIEVER.documents))
    evaluate(before, dataset, ["mrr"], run_dir=tmp_path)
    evaluate(before, dataset, ["mrr"], run_dir=tmp_path)
    with pytest.raises(DatasetError, match="another evaluation: it differs in the system"):
        evaluate(after, dataset, ["mrr"], run_dir=tmp_path)


def test_another_metric_or_another_gold_asks_nothing_again(tmp_path):
    asked = []

    def judge(query, texts):
        asked.append(query)
        return [float(len(text)) for text in texts]

    systems = {"first": RETRIEVER, "second": FunctionReranker(function=judge)}
    evaluate(systems, Dataset(QUESTIONS), ["mrr"], run_dir=tmp_path)
    again = evaluate(systems, Dataset((Question("q", "where?", documents={"b": 2}),)), ["ndcg@10"], run_dir=tmp_path)
    assert again["second"].scores == {"ndcg@10": 1.0}
    assert asked == ["where?"]


def test_what_is_no_folder_of_answers_is_refused(tmp_path):
    (tmp_path / "answers.sqlite").write_bytes(b"not a database, but long enough to look at" * 100)
    with pytest.raises(DatasetError, match="Give an empty folder"):
        evaluate(RETRIEVER, Dataset(QUESTIONS), ["mrr"], run_dir=tmp_path)


def test_secrets_are_not_written(tmp_path):
    secret = CohereReranker(model="m", api_key="s3cr3t-key", base_url="http://127.0.0.1:9", deadline=0.01)
    report = evaluate({"first": RETRIEVER, "paid": secret}, Dataset(QUESTIONS), ["mrr"], run_dir=tmp_path)
    assert len(report["paid"].failures) == 1
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"s3cr3t-key" not in path.read_bytes()


metadata = st.dictionaries(
    st.text(max_size=5),
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=8), st.lists(st.text())
    ),
    max_size=3,
)
texts = st.text(st.characters(), max_size=20)  # surrogates and NUL among them
documents = st.lists(
    st.builds(Document, page_content=texts, id=st.one_of(st.none(), texts), metadata=metadata), max_size=4
)


@given(documents, texts, texts, st.one_of(st.none(), texts))
def test_answers_come_back_as_they_were(found, stage, question, error):
    import tempfile

    asked = Asked(found, 0.25, cold=True, usage={"calls": 2}, error=error)
    with tempfile.TemporaryDirectory() as folder:
        with RunFolder(folder, {"a": "b"}) as first:
            first.write(stage, question, Asked(error="first"), "given")
            first.write(stage, question, asked, "given")
        with RunFolder(folder, {"a": "b"}) as second:
            again = second.read(stage, {question: "given"})
            assert second.read(f"{stage}!", {question: "given"}) == {}
            assert second.read(stage, {question: "something else"}) == {}
    # A failure is no answer: it is asked again. By repr, since NaN is not itself.
    assert repr(again) == repr({question: asked} if error is None else {})


def test_numbers_of_numpy_stay_numbers(tmp_path):
    document = Document(
        page_content="x",
        metadata={"relevance_score": np.float32(0.5), "when": Path("a/b"), "array": np.zeros(2), "keys": {(1, 2): 3}},
    )
    with RunFolder(tmp_path, {}) as folder:
        folder.write("s", "q", Asked([document]))
        again = folder.read("s", {"q": ""})["q"]
    assert again.documents[0].metadata == {
        "relevance_score": 0.5,
        "when": "a/b",
        "array": [0.0, 0.0],
        "keys": {"(1, 2)": 3},
    }


def test_every_answer_is_on_disk_at_once(tmp_path):
    with RunFolder(tmp_path, {}) as folder:
        folder.write("s", "q", Asked(RETRIEVER.documents))
        other = sqlite3.connect(tmp_path / "answers.sqlite")
        assert other.execute("SELECT count(*) FROM answers").fetchone() == (1,)
        other.close()


def test_another_system_may_join(tmp_path):
    asked = []

    def find(question):
        asked.append(question)
        return RETRIEVER.documents

    first = RunnableLambda(find)
    evaluate({"first": first, "second": reranker()}, Dataset(QUESTIONS), "mrr", run_dir=tmp_path)
    systems = {"first": first, "second": reranker(), "third": FunctionReranker(function=other)}
    report = evaluate(systems, Dataset(QUESTIONS), "mrr", run_dir=tmp_path)
    assert asked == ["where?"]
    assert report["third"].rankings != report["second"].rankings


def test_answers_to_other_candidates_are_never_taken(tmp_path):
    longest = reranker()
    one = RunnableLambda(
        lambda question: [Document(id="a", page_content="short"), Document(id="b", page_content="longer")]
    )
    two = RunnableLambda(
        lambda question: [Document(id="a", page_content="longest"), Document(id="b", page_content="mid")]
    )
    evaluate({"one": one, "two": two, "longest": longest}, Dataset(QUESTIONS), "mrr", run_dir=tmp_path)
    swapped = evaluate({"two": two, "one": one, "longest": longest}, Dataset(QUESTIONS), "mrr", run_dir=tmp_path)
    assert swapped["longest"].rankings["q"] == ["a", "b"]


def test_a_failure_is_asked_again(tmp_path):
    down = True

    def judge(query, texts):
        if down:
            raise TimeoutError
        return [float(len(text)) for text in texts]

    systems = {"first": RETRIEVER, "second": FunctionReranker(function=judge)}
    assert evaluate(systems, Dataset(QUESTIONS), "mrr", run_dir=tmp_path)["second"].failures
    down = False
    assert not evaluate(systems, Dataset(QUESTIONS), "mrr", run_dir=tmp_path)["second"].failures


class Careless(FixedRetriever):
    """Keeps keys as plain text."""

    api_key: str = ""
    hf_token: str = ""


def test_secrets_as_plain_text_are_not_written(tmp_path):
    careless = Careless(documents=RETRIEVER.documents, api_key="sk-PLAIN-SECRET", hf_token="hf_PLAIN")
    evaluate({"first": careless, "second": reranker()}, Dataset(QUESTIONS), "mrr", run_dir=tmp_path)
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"PLAIN" not in path.read_bytes()


def test_chains_are_known_again_in_another_process(tmp_path):
    from langchain_rerankkit.model_id import settings

    def chain():
        return (RunnableLambda(str.strip) | RETRIEVER).with_retry()

    assert settings(chain()) == settings(chain())
    assert "0x" not in settings(chain())
