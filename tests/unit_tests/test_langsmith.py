import asyncio
import json
import math
import os
import re
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.load import dumpd
from langchain_core.runnables import RunnableLambda
from langsmith import Client
from langsmith.evaluation import evaluate as langsmith_evaluate
from langsmith.schemas import Example

from langchain_rerankkit import ContextualCompressionRetriever, Dataset, FunctionReranker, Question, evaluate
from langchain_rerankkit.evaluation import langsmith as ours
from langchain_rerankkit.evaluation import uploads
from langchain_rerankkit.evaluation.langsmith import (
    evaluate_with_langsmith,
    push_dataset,
    push_report,
    row_evaluator,
    summary_evaluator,
)
from langchain_rerankkit.evaluation.metrics import score
from langchain_rerankkit.testing import FixedRetriever
from tests.langsmith_server import serve_langsmith
from tests.rerank_server import Reply, serve

CORPUS = [
    Document(id="delhi", page_content="Delhi is a city in India."),
    Document(id="dunes", page_content="The Indiana Dunes lie on a lake."),
    Document(id="ganges", page_content="The Ganges flows through India."),
    Document(id="nile", page_content="The Nile flows through Egypt."),
]
DATASET = Dataset(
    (
        Question("q1", "Which river flows through India?", ("India",), {"ganges": 2, "delhi": 1}),
        Question("q2", "Which river flows through Egypt?", ("Egypt",), {"nile": 1}),
        Question("q3", "Which river flows through Peru?"),
    ),
    name="rivers",
)
METRICS = ["ndcg@10", "mrr"]
BROKEN = "out of order"


def count_words(query, texts):
    words = set(query.lower().strip("?").split())
    return [len(words & set(text.lower().strip(".").split())) for text in texts]


def first_stage():
    return FixedRetriever(documents=CORPUS)


def reranked(**fields):
    return ContextualCompressionRetriever(
        base_retriever=first_stage(), base_compressor=FunctionReranker(function=count_words), **fields
    )


def by_key(feedback):
    return {one["key"]: one["score"] for one in feedback["results"]}


def table(results):
    """Feedback of LangSmith's results, by question and key."""
    return {
        row["example"].metadata["id"]: {one.key: one.score for one in row["evaluation_results"]["results"]}
        for row in results
    }


@pytest.fixture
def langsmith():
    with serve_langsmith() as server:
        yield server


@pytest.fixture
def client(langsmith):
    client = Client(api_url=langsmith.url, api_key="unused")
    yield client
    client.close()


# --- evaluators -------------------------------------------------------------------------------------------------------

IDS = st.sampled_from("abcdefgh")


@given(st.lists(IDS), st.dictionaries(IDS, st.integers(-1, 3)), st.integers(1, 2))
@settings(max_examples=30)
def test_a_row_scores_as_the_metrics_say_in_whatever_shape_its_documents_come(ranking, grades, relevance):
    documents = [Document(id=id_, page_content=f"text of {id_}") for id_ in ranking]
    shapes = [
        {"documents": documents},
        {"documents": [document.model_dump() for document in documents]},
        {"documents": [dumpd(document) for document in documents]},
        {"documents": json.loads(json.dumps([document.model_dump() for document in documents]))},
        {"documents": [Document(page_content="text", metadata={"id": id_}) for id_ in ranking]},
        {"documents": ranking},
        {"output": documents},  # a bare list, as LangSmith wraps it
    ]
    evaluator = row_evaluator(relevance=relevance, empty="zero")
    expected = score({"q": grades}, {"q": ranking}, relevance=relevance)
    for outputs in shapes:
        found = by_key(evaluator(outputs, {"documents": grades}))
        assert found == pytest.approx({metric: values["q"] for metric, values in expected.items()})
        assert {type(value) for value in found.values()} == {float}
    binary = [id_ for id_, grade in grades.items() if grade >= relevance]
    plain = row_evaluator(["mrr", "recall@5"], relevance=1, empty="zero")
    assert by_key(plain({"documents": ranking}, {"relevant": binary})) == pytest.approx(
        by_key(row_evaluator(["mrr", "recall@5"], relevance=relevance, empty="zero")(shapes[0], {"documents": grades}))
    )


def test_a_row_is_judged_by_answers_where_the_reference_has_no_documents():
    outputs = {"documents": CORPUS}
    assert by_key(row_evaluator("mrr")(outputs, {"answer": "Ganges"})) == {"mrr": pytest.approx(1 / 3)}
    assert by_key(row_evaluator("mrr")(outputs, {"answers": ["Amazon", "Nile"]})) == {"mrr": 0.25}
    assert by_key(row_evaluator("mrr")(outputs, {"answers": ["Amazon"]})) == {"mrr": 0.0}, "a miss, not left out"
    both = {"documents": {"nile": 1}, "answers": ["Delhi"]}
    assert by_key(row_evaluator("mrr")(outputs, both)) == {"mrr": 0.25}
    assert by_key(row_evaluator("mrr", gold="answers")(outputs, both)) == {"mrr": 1.0}
    without_ids = {"documents": [Document(page_content="Delhi"), Document(page_content="The Nile")]}
    assert by_key(row_evaluator("mrr")(without_ids, {"answer": "nile"})) == {"mrr": 0.5}


def test_a_question_without_relevant_documents_has_no_score_or_zero():
    for reference in ({"documents": {}}, {"documents": {"nile": 0}}, {"answers": []}, {"answer": "?"}):
        (result,) = row_evaluator("mrr")({"documents": CORPUS}, reference)["results"]
        assert result["score"] is None
        assert "nothing is known to be relevant" in result["comment"]
        assert by_key(row_evaluator("mrr", empty="zero")({"documents": CORPUS}, reference)) == {"mrr": 0.0}


@pytest.mark.parametrize(
    ("outputs", "reference", "options", "says"),
    [
        ({"context": CORPUS}, {"documents": ["nile"]}, {}, r"have \['context'\] and no 'documents'.*documents="),
        ({"documents": "nile"}, {"documents": ["nile"]}, {}, "list of Documents.*not str"),
        ({"documents": [3]}, {"documents": ["nile"]}, {}, "not int"),
        ({"documents": [{"text": "Nile"}]}, {"documents": ["nile"]}, {}, "'page_content'"),
        ({"documents": CORPUS}, {"expected": "nile"}, {}, r"have \['expected'\].*documents, relevant, answers, answer"),
        ({"documents": CORPUS}, {"answers": ["Nile"]}, {"gold": "documents"}, "looked for under documents, relevant"),
        ({"documents": CORPUS}, {"documents": 7}, {}, "Gold is a list"),
        ({"documents": [Document(page_content="Nile")]}, {"documents": ["nile"]}, {}, "no id to compare"),
        ({"documents": ["nile"]}, {"answer": "Nile"}, {}, "need their text"),
    ],
)
def test_a_row_that_cannot_be_judged_says_what_to_do(outputs, reference, options, says):
    (result,) = row_evaluator("mrr", **options)(outputs, reference)["results"]
    assert (result["key"], result["score"], result["extra"]) == ("mrr", None, {"error": True})
    assert re.search(says, result["comment"])
    (result,) = summary_evaluator("mrr", **options)([outputs], [reference])["results"]
    assert result["score"] is None
    assert re.search(says, result["comment"])


def test_documents_are_found_under_another_key_and_by_another_identity():
    evaluator = row_evaluator("mrr", documents="context", identity=lambda document: document.metadata["source"])
    document = Document(page_content="text", metadata={"source": "a.pdf"})
    assert by_key(evaluator({"context": [document]}, {"documents": ["a.pdf"]})) == {"mrr": 1.0}


def test_an_unknown_metric_is_refused_at_once():
    for factory in (row_evaluator, summary_evaluator):
        with pytest.raises(ValueError, match="Unknown metric 'accuracy'"):
            factory("accuracy")


def run_langsmith(target, evaluators=(), summary_evaluators=()):
    """LangSmith's own runner on one example, offline: feedback by key, and its summary."""
    client = Client(api_key="unused", info={"version": "0"}, auto_batch_tracing=False, tracing_sampling_rate=0.0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is in beta")
        results = langsmith_evaluate(
            target,
            data=[Example(id=uuid4(), inputs={"question": "?"}, outputs={"documents": {"nile": 1}})],
            evaluators=list(evaluators),
            summary_evaluators=list(summary_evaluators),
            client=client,
            upload_results=False,
        )
    (row,) = results
    feedback = {one.key: one for one in row["evaluation_results"]["results"]}
    return feedback, {one.key: one.score for one in results._summary_results["results"]}


def test_langsmiths_runner_takes_both_evaluators():
    feedback, summary = run_langsmith(
        lambda inputs: {"documents": CORPUS}, [row_evaluator(METRICS)], [summary_evaluator(METRICS)]
    )
    assert {key: one.score for key, one in feedback.items()} == {
        "ndcg@10": pytest.approx(1 / math.log2(5)),
        "mrr": 0.25,
    }
    assert summary == {"mean_ndcg@10": pytest.approx(1 / math.log2(5)), "mean_mrr": 0.25}


def test_langsmiths_runner_takes_a_bare_list_and_shows_why_a_row_has_no_score():
    feedback, _ = run_langsmith(lambda inputs: CORPUS, [row_evaluator("mrr")])
    assert feedback["mrr"].score == 0.25
    feedback, _ = run_langsmith(lambda inputs: {"context": CORPUS}, [row_evaluator("mrr")])
    assert feedback["mrr"].score is None
    assert "documents=" in feedback["mrr"].comment


def test_a_run_that_failed_counts_as_nothing_found():
    def fail(inputs):
        raise OSError

    feedback, summary = run_langsmith(fail, [row_evaluator("mrr")], [summary_evaluator("mrr")])
    assert feedback["mrr"].score == 0.0
    assert "failed" in feedback["mrr"].comment
    assert summary == {"mean_mrr": 0.0}


def returning(value):
    def evaluator(outputs, reference_outputs):
        return value

    return evaluator


@pytest.mark.parametrize("value", ["float32", {"hit@1": 1.0, "mrr": 0.5}, [{"score": 1.0}], [], None])
def test_langsmith_loses_what_our_evaluators_never_return(value):
    if value == "float32":
        value = pytest.importorskip("numpy").float32(0.5)
    feedback, _ = run_langsmith(lambda inputs: {}, [returning(value)])
    assert all(one.score is None for one in feedback.values())


def test_langsmith_hands_a_summary_evaluator_with_a_default_something_else():
    seen = {}

    def trap(outputs, reference_outputs, k=10):
        seen["with a default"] = type(outputs[0])
        return {"score": 1.0}

    def plain(outputs, reference_outputs):
        seen["without"] = type(outputs[0])
        return {"score": 1.0}

    run_langsmith(lambda inputs: {"documents": []}, [], [trap, plain])
    assert seen["without"] is dict
    assert seen["with a default"] is not dict


def test_a_summary_says_over_how_many_runs_it_is():
    outputs = [{"documents": CORPUS}, {"documents": CORPUS}, {"output": None}]
    reference = [{"documents": {"delhi": 1}}, {"documents": {}}, {"documents": {"nile": 1}}]
    assert summary_evaluator("mrr")(outputs, reference) == {
        "results": [{"key": "mean_mrr", "score": 0.5, "comment": "over 2 of 3 runs"}]
    }
    (nothing,) = summary_evaluator("mrr")(outputs[:1], [{"documents": {}}])["results"]
    assert nothing["score"] is None


# --- runs -------------------------------------------------------------------------------------------------------------


def test_a_local_run_scores_as_evaluate_does_and_times_the_reranker_apart():
    scores = table(evaluate_with_langsmith(reranked(), DATASET, METRICS))
    report = evaluate(reranked(), DATASET, METRICS)
    for metric in METRICS:
        expected = report["ContextualCompressionRetriever"].per_question[metric]
        assert {id_: scores[id_][metric] for id_ in expected} == pytest.approx(dict(expected))
    assert scores["q3"]["mrr"] is None, "no gold"
    assert all(values["reranking_seconds"] > 0 for values in scores.values())
    assert "reranking_seconds" not in table(evaluate_with_langsmith(first_stage(), DATASET, METRICS))["q1"]


def test_the_system_is_asked_as_it_is():
    seen = []

    class Watched(FunctionReranker):
        def compress_documents(self, documents, query, callbacks=None):
            seen.append(len(documents))
            return super().compress_documents(documents, query, callbacks)

    system = reranked(k=3)
    system.base_compressor.top_n = 2
    outputs = [row["run"].outputs["documents"] for row in evaluate_with_langsmith(system, DATASET, "mrr")]
    assert outputs == [system.invoke(question.text) for question in DATASET.questions]
    assert {len(documents) for documents in outputs} == {3}
    assert isinstance(system.base_retriever, FixedRetriever), "unchanged"


def test_a_rerankers_usage_becomes_feedback():
    def spend(question):
        usage = {"input_tokens": 7, "cost": 0.5, "model": "x"}
        return [Document(id="nile", page_content="", metadata={"rerank": {"usage": usage}})]

    scores = table(evaluate_with_langsmith(spend, DATASET, "mrr"))["q2"]
    assert (scores["usage_input_tokens"], scores["usage_cost"], scores["mrr"]) == (7, 0.5, 1.0)
    assert "usage_model" not in scores


async def find(question):
    await asyncio.sleep(0)
    loops.add(id(asyncio.get_running_loop()))
    return CORPUS


loops: set = set()


def systems():
    return {
        "retriever": first_stage(),
        "runnable": RunnableLambda(lambda question: CORPUS),
        "function": lambda question: CORPUS,
        "async function": find,
        "async method": RunnableLambda(find).ainvoke,
    }


@pytest.mark.parametrize("name", systems())
@pytest.mark.parametrize("concurrency", [1, 3])
def test_every_kind_of_system_runs(name, concurrency):
    loops.clear()
    results = evaluate_with_langsmith(systems()[name], DATASET, "mrr", concurrency=concurrency)
    assert {id_: scores["mrr"] for id_, scores in table(results).items()} == {"q1": 1.0, "q2": 0.25, "q3": None}
    assert len(loops) == name.startswith("async")


async def test_an_async_system_runs_while_a_loop_is_running():
    assert table(evaluate_with_langsmith(find, DATASET, "mrr"))["q1"]["mrr"] == 1.0


def test_repetitions_ask_again():
    asked = []
    results = evaluate_with_langsmith(lambda question: asked.append(question) or CORPUS, DATASET, "mrr", repeats=3)
    assert len(results) == len(asked) == 9


def test_a_question_that_fails_is_a_row_and_when_all_fail_that_is_said():
    def sometimes(question):
        if "India" in question:
            raise OSError(BROKEN)
        return CORPUS

    results = evaluate_with_langsmith(sometimes, DATASET, "mrr")
    assert table(results)["q1"]["mrr"] == 0.0
    assert [BROKEN in (row["run"].error or "") for row in results] == [True, False, False]

    def never(question):
        raise OSError(BROKEN)

    with pytest.raises(RuntimeError, match=r"No question could be answered.*out of order"):
        evaluate_with_langsmith(never, DATASET, "mrr")
    with pytest.raises(RuntimeError, match="no id to compare"):
        evaluate_with_langsmith(lambda question: [Document(page_content="x")], DATASET, "mrr")
    with pytest.raises(RuntimeError, match="returns a list of documents, not str"):
        evaluate_with_langsmith(lambda question: "Nile", DATASET, "mrr")


def test_mistakes_are_refused_before_anything_is_asked():
    def never(question):
        raise AssertionError

    with pytest.raises(TypeError, match="behind a retriever"):
        evaluate_with_langsmith(FunctionReranker(function=count_words), DATASET)
    with pytest.raises(TypeError, match="not int"):
        evaluate_with_langsmith(3, DATASET)
    with pytest.raises(ValueError, match="Unknown metric"):
        evaluate_with_langsmith(never, DATASET, "accuracy")
    with pytest.raises(ValueError, match="no questions"):
        evaluate_with_langsmith(never, Dataset(()))
    with pytest.raises(ValueError, match="no gold"):
        evaluate_with_langsmith(never, Dataset((Question("q1", "?"),)))
    client = Client(api_key="unused", info={"version": "0"}, auto_batch_tracing=False)
    with pytest.raises(ValueError, match="upload=True"):
        evaluate_with_langsmith(never, DATASET, client=client)


LEAK = """
import asyncio, gc, json, sys, time, warnings
connections = []
sys.addaudithook(lambda event, args: connections.append(repr(args[1:])) if event in EVENTS else None)
EVENTS = {"socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo"}
warnings.simplefilter("ignore")
from langsmith import traceable
from langchain_core.runnables import RunnableLambda
from langchain_rerankkit.evaluation.langsmith import evaluate_with_langsmith
from tests.unit_tests.test_langsmith import DATASET, CORPUS, find, first_stage, reranked

@traceable
def traced(question):
    return RunnableLambda(lambda question: CORPUS).invoke(question)

def ours():
    for system in [first_stage(), reranked(), traced, find, RunnableLambda(find).ainvoke]:
        for workers in (1, 2):
            evaluate_with_langsmith(system, DATASET, "mrr", concurrency=workers)

    async def inside():
        evaluate_with_langsmith(find, DATASET, "mrr")
    asyncio.run(inside())

def theirs():
    # What a system does that is traced as the environment says.
    traced("?")

{"ours": ours, "theirs": theirs}[sys.argv[1]]()
time.sleep(0.7)
gc.collect()
from langsmith.run_trees import get_cached_client
if sys.argv[1] == "theirs":
    get_cached_client().flush()
print("\\n" + json.dumps(connections))
"""


def run_with_tracing_on(which):
    """Connections that a process opens, and requests that a LangSmith gets, with everything in the environment set."""
    with serve(lambda request: Reply({})) as server:
        environment = {
            **os.environ,
            "LANGSMITH_TRACING": "true",
            "LANGCHAIN_TRACING_V2": "true",
            "LANGSMITH_API_KEY": "a key",
            "LANGSMITH_ENDPOINT": server.url,
            "LANGSMITH_TRACING_SAMPLING_RATE": "1.0",
            "LANGSMITH_OTEL_ENABLED": "true",
        }
        process = subprocess.run(
            [sys.executable, "-c", LEAK, which],
            capture_output=True,
            text=True,
            env=environment,
            cwd=Path(__file__).parents[2],
            check=False,
        )
    assert process.returncode == 0, process.stderr[-2000:]
    return json.loads(process.stdout.rsplit("\n", 2)[-2]), [request.path for request in server.requests]


def test_without_upload_no_request_leaves_the_machine():
    assert run_with_tracing_on("ours") == ([], [])


def test_the_watch_over_requests_sees_a_trace_that_leaves():
    connections, paths = run_with_tracing_on("theirs")
    assert connections
    assert "/runs/multipart" in paths


# --- uploads ----------------------------------------------------------------------------------------------------------


def pushed_questions(langsmith):
    return {row["metadata"]["id"]: row for row in langsmith.examples.values()}


@pytest.mark.parametrize("multipart", [True, False])
def test_pushing_a_dataset_again_changes_what_has_changed_and_doubles_nothing(multipart):
    with serve_langsmith(multipart=multipart) as langsmith:
        client = Client(api_url=langsmith.url, api_key="unused")
        first = push_dataset(DATASET, client)
        rows = pushed_questions(langsmith)
        assert rows["q1"]["inputs"] == {"question": "Which river flows through India?"}
        assert rows["q1"]["outputs"] == {"documents": {"ganges": 2, "delhi": 1}, "answers": ["India"]}
        assert rows["q3"]["outputs"] == {"documents": {}, "answers": []}
        # What people add there stays.
        rows["q2"]["metadata"]["dataset_split"] = ["test"]
        rows["q2"]["outputs"]["remark"] = "easy"
        writes = len([call for call in langsmith.calls if call[0] != "GET"])
        assert push_dataset(DATASET, client).id == first.id
        assert len([call for call in langsmith.calls if call[0] != "GET"]) == writes, "nothing has changed"
        changed = replace(DATASET.questions[1], documents={"nile": 3})
        added = Question("q4 \ud800/ü", "Which river flows through Ghana?", ("Volta",))
        push_dataset(replace(DATASET, questions=(changed, added)), client)
        rows = pushed_questions(langsmith)
        assert len(rows) == len(langsmith.examples) == 4
        assert rows["q2"]["outputs"] == {"documents": {"nile": 3}, "answers": ["Egypt"], "remark": "easy"}
        assert rows["q2"]["metadata"] == {"id": "q2", "dataset_split": ["test"]}
        assert len(langsmith.datasets) == 1
        client.close()


def test_a_pushed_dataset_comes_back_as_it_was(langsmith, client):
    push_dataset(DATASET, client)
    assert Dataset.from_langsmith("rivers", client=client) == DATASET


def test_aspects_are_pushed_come_back_and_count(langsmith, client):
    aspects = {"flow": {"nile": 1, "ganges": 1}, "source": {"lake": 2}}
    dataset = Dataset((Question("1", "Rivers?", aspects=aspects),), name="aspects")
    push_dataset(dataset, client)
    assert Dataset.from_langsmith("aspects", client=client) == dataset
    rate = row_evaluator(["coverage@2"])
    outputs, reference = {"documents": ["nile", "ganges", "lake"]}, {"documents": {"nile": 1}, "aspects": aspects}
    (found,) = rate(outputs, reference)["results"]
    assert found["score"] == 0.5


def test_a_large_dataset_is_pushed_in_pieces(langsmith, client, monkeypatch):
    monkeypatch.setattr(uploads, "_CHUNK", 100)
    questions = tuple(Question(f"q{n}", f"Question {n}?", documents={"nile": 1}) for n in range(201))
    push_dataset(Dataset(questions, name="large"), client)
    assert set(pushed_questions(langsmith)) == {question.id for question in questions}
    posts = [path for method, path in langsmith.calls if method == "POST" and path.endswith("/examples")]
    assert len(posts) == 3


def test_a_dataset_without_a_name_of_its_own_is_not_mixed_with_others(client, langsmith):
    nameless = Dataset(DATASET.questions)
    with pytest.raises(ValueError, match="give it one"):
        push_dataset(nameless, client)
    assert push_dataset(nameless, client, name="rivers of the world").name == "rivers of the world"


def test_a_client_that_samples_is_refused(langsmith):
    client = Client(api_url=langsmith.url, api_key="unused", tracing_sampling_rate=0.1)
    with pytest.raises(ValueError, match=r"share of 0\.1"):
        push_dataset(DATASET, client)
    client.close()
    assert not langsmith.datasets


def test_an_uploaded_run_is_an_experiment_of_the_pushed_dataset(langsmith, client):
    results = evaluate_with_langsmith(reranked(), DATASET, METRICS, upload=True, client=client, experiment="words")
    experiment = langsmith.experiment("words")
    assert results.experiment_name == experiment["name"]
    assert experiment["reference_dataset_id"] in langsmith.datasets
    assert "evaluator_keys" not in experiment, "names of functions are no keys"
    runs = langsmith.runs_of(experiment)
    assert set(runs) == {"q1", "q2", "q3"}
    assert runs["q2"]["outputs"]["documents"][0]["page_content"] == "The Nile flows through Egypt."
    assert runs["q2"]["outputs"]["reranking_seconds"] > 0
    local = table(evaluate_with_langsmith(reranked(), DATASET, METRICS))
    for id_, run in runs.items():
        scores = langsmith.scores_of(run)
        assert set(scores) == {*METRICS, "retrieval_seconds", "reranking_seconds"}
        for metric in METRICS:
            assert scores[metric] == pytest.approx(local[id_][metric], abs=1e-4), "LangSmith keeps four digits"
    # The trace shows both stages under the run.
    names = {run["name"] for run in langsmith.runs.values() if run.get("session_name") == experiment["name"]}
    assert {"Target", "ContextualCompressionRetriever", "FixedRetriever", "FunctionReranker"} <= names
    evaluate_with_langsmith(first_stage(), DATASET, METRICS, upload=True, client=client)
    assert len(langsmith.examples) == 3
    assert len(langsmith.datasets) == 1
    assert len(langsmith.runs_of(langsmith.experiment("FixedRetriever"))) == 3


def test_documents_that_come_back_from_langsmith_are_judged_alike(langsmith, client):
    evaluate_with_langsmith(reranked(), DATASET, METRICS, upload=True, client=client, experiment="words")
    evaluator = row_evaluator(METRICS)
    for run in langsmith.runs_of(langsmith.experiment("words")).values():
        example = langsmith.examples[run["reference_example_id"]]
        again = by_key(evaluator(run["outputs"], example["outputs"]))
        stored = langsmith.scores_of(run)
        assert all(stored[metric] == pytest.approx(value, abs=1e-4) for metric, value in again.items())


# --- reports ----------------------------------------------------------------------------------------------------------


def a_report():
    systems = {"first": first_stage(), "words": FunctionReranker(function=count_words)}
    report = evaluate(systems, DATASET, METRICS)
    words = report["words"]
    broken = replace(
        words,
        name="broken",
        failures={"q2": "OSError: the endpoint is down"},
        rankings={**words.rankings, "q2": []},
        per_question={metric: {**scores, "q2": 0.0} for metric, scores in words.per_question.items()},
    )
    return replace(report, systems=[*report.systems, broken])


def test_a_finished_report_becomes_an_experiment_of_each_system(langsmith, client):
    report = a_report()
    experiments = push_report(report, client)
    assert list(experiments) == ["first", "words", "broken"]
    for system in report.systems:
        experiment = langsmith.sessions[str(experiments[system.name].id)]
        runs = langsmith.runs_of(experiment)
        assert set(runs) == {"q1", "q2", "q3"}
        assert experiment["end_time"]
        assert all(note in experiment["description"] for note in report.notes)
        for id_, run in runs.items():
            assert run["outputs"]["documents"] == list(system.rankings[id_])
            assert run.get("error") == system.failures.get(id_)
            expected = {m: scores[id_] for m, scores in system.per_question.items() if id_ in scores}
            assert langsmith.scores_of(run) == pytest.approx(expected, abs=1e-4)
        summary = langsmith.summary_of(experiment)
        assert {f"mean_{m}": summary[f"mean_{m}"] for m in METRICS} == pytest.approx(
            {f"mean_{m}": system.scores[m] for m in METRICS}, abs=1e-4
        )
        assert ("reranking_seconds_p50" in summary) == (system.reranking is not None)
    assert "India." not in json.dumps(list(langsmith.runs.values())), "no document text"


def test_a_report_leaves_examples_that_are_there_as_they_are(langsmith, client):
    push_dataset(DATASET, client)
    before = json.dumps(langsmith.examples, sort_keys=True)
    push_report(a_report(), client)
    assert json.dumps(langsmith.examples, sort_keys=True) == before
    report = a_report()
    other = replace(report, question_texts={**report.question_texts, "q1": "Something else?"})
    with pytest.raises(ValueError, match=r"'q1' reads differently in 'rivers'"):
        push_report(other, client)
    assert len(push_report(other, client, name="other rivers")) == 3


def test_of_a_large_evaluation_nothing_is_lost_on_a_slow_line(monkeypatch):
    # All in a fiftieth of the size; what is beyond its queue, LangSmith's client drops.
    monkeypatch.setattr(uploads, "_QUEUE", 150)
    monkeypatch.setattr(ours, "_FLUSH", 20)
    ids = [f"q{n}" for n in range(100)]
    dataset = Dataset(tuple(Question(id_, f"{id_}?", documents={"nile": 1}) for id_ in ids), name="large")
    report = evaluate({"first": {id_: ["nile", "delhi"] for id_ in ids}}, dataset)
    with serve_langsmith(wait=0.1) as langsmith:
        client = Client(api_url=langsmith.url, api_key="unused")
        client.tracing_queue.maxsize = 200
        push_report(report, client)
        evaluate_with_langsmith(first_stage(), dataset, "mrr", upload=True, client=client, experiment="now")
        client.close()
    for experiment, scores in (("first", len(report.metrics)), ("now", 2)):
        runs = langsmith.runs_of(langsmith.experiment(experiment))
        assert set(runs) == set(ids)
        assert all("outputs" in run for run in runs.values())
        assert sum(len(langsmith.scores_of(run)) for run in runs.values()) == len(ids) * scores


PLUGIN = """
import pytest
from langchain_core.documents import Document
from langsmith import testing
from langchain_rerankkit.evaluation.langsmith import row_evaluator

@pytest.mark.langsmith
@pytest.mark.parametrize("question, gold", [("Which river flows through Egypt?", ["nile"])])
def test_retrieval(question, gold):
    documents = [Document(id="nile", page_content="The Nile flows through Egypt.")]
    testing.log_inputs({"question": question})
    testing.log_outputs({"documents": documents})
    testing.log_reference_outputs({"documents": gold})
    for one in row_evaluator(["hit@5"])({"documents": documents}, {"documents": gold})["results"]:
        testing.log_feedback(key=one["key"], score=one["score"])
        assert one["score"] == 1
"""


def test_the_row_evaluator_serves_langsmiths_pytest_plugin_offline(tmp_path):
    (tmp_path / "test_it.py").write_text(PLUGIN)
    with serve(lambda request: Reply({})) as server:
        environment = {**os.environ, "LANGSMITH_TEST_TRACKING": "false", "LANGSMITH_ENDPOINT": server.url}
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
        ran = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert "1 passed" in ran.stdout, ran.stdout
    assert not server.requests


def test_importing_loads_neither_langsmiths_evaluation_nor_numpy():
    code = (
        "import sys, langchain_rerankkit.evaluation.langsmith, langchain_rerankkit.evaluation.regression\n"
        "print([m for m in ('langsmith.evaluation', 'numpy', 'pandas', 'ir_measures') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_row_evaluator_may_match_in_any_way_and_read_the_question():
    asked = []

    def judge(question, document):
        asked.append(question.text)
        return "flows" in document.page_content

    evaluator = row_evaluator("mrr", gold="answers", match=judge)
    results = langsmith_evaluate(
        lambda inputs: {"documents": CORPUS},
        data=ours.local_examples(DATASET),
        evaluators=[evaluator],
        summary_evaluators=[summary_evaluator("mrr", gold="answers", match="words")],
        client=ours._silent_client(),
        upload_results=False,
    )
    scores = [row["evaluation_results"]["results"][0].score for row in results]
    assert all(0 < score <= 1 for score in scores)
    assert set(asked) == {question.text for question in DATASET.questions}
