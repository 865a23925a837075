import math
import threading
from contextvars import ContextVar

import pytest
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore

from langchain_rerankkit import (
    ContextualCompressionRetriever,
    Dataset,
    DatasetError,
    EmbeddedEmbeddings,
    FunctionReranker,
    MissingExtraError,
    Question,
    RetrievalEvaluator,
    evaluate,
)
from langchain_rerankkit.evaluation.gold.matching import Matcher
from langchain_rerankkit.records import with_details
from langchain_rerankkit.testing import FixedRetriever
from tests.hosted import hosted
from tests.rerank_fakes import FAKES
from tests.rerank_server import serve

CORPUS = tuple(
    Document(id=id_, page_content=text)
    for id_, text in {
        "delhi": "Delhi is a city in India.",
        "dunes": "The Indiana Dunes lie on a lake.",
        "ganges": "The Ganges flows through India.",
        "nile": "The Nile flows through Egypt.",
        "empty": "Nothing of note.",
    }.items()
)
DATASET = Dataset(
    (
        Question("q1", "Which river flows through India?", ("India",), {"ganges": 2, "delhi": 1}),
        Question("q2", "Which river flows through Egypt?", ("Egypt",), {"nile": 1}),
    ),
    CORPUS,
    "rivers",
)


def count_words(query, texts):
    words = set(query.lower().strip("?").split())
    return [len(words & set(text.lower().strip(".").split())) for text in texts]


class CountingRetriever(FixedRetriever):
    calls: list = []

    def _get_relevant_documents(self, query, *, run_manager):
        self.calls.append(query)
        return super()._get_relevant_documents(query, run_manager=run_manager)


def retriever():
    return CountingRetriever(documents=list(CORPUS), calls=[])


def test_a_reranker_reorders_the_baselines_candidates():
    base = retriever()
    report = evaluate({"first": base, "words": FunctionReranker(function=count_words)}, DATASET, ["mrr", "hit@1"])
    assert report.baseline.name == "first"
    assert report["first"].rankings["q1"] == [d.id for d in CORPUS]
    assert report["words"].rankings["q1"][0] == "ganges"
    assert report["words"].per_question == {"mrr": {"q1": 1.0, "q2": 1.0}, "hit@1": {"q1": 1.0, "q2": 1.0}}
    assert report["first"].scores["mrr"] == pytest.approx((1 + 1 / 4) / 2)
    assert len(base.calls) == 2, "the first stage is asked once for all systems"
    assert report["first"].reranking is None
    assert report["words"].reranking is not None
    assert report["words"].retrieval == report["first"].retrieval


def test_without_reranker_is_always_in_the_table():
    base = retriever()
    ours = ContextualCompressionRetriever(base_compressor=FunctionReranker(function=count_words), base_retriever=base)
    report = evaluate(ours, DATASET, ["mrr"])
    assert [s.name for s in report.systems] == [
        "ContextualCompressionRetriever, without reranker",
        "ContextualCompressionRetriever",
    ]
    assert len(base.calls) == 2
    classic = pytest.importorskip("langchain_classic.retrievers")
    theirs = classic.ContextualCompressionRetriever(
        base_compressor=FunctionReranker(function=count_words), base_retriever=base
    )
    both = evaluate({"plain": base, "ours": ours, "theirs": theirs}, DATASET, ["mrr"])
    assert [s.name for s in both.systems] == ["plain", "ours", "theirs"]
    assert both["ours"].scores == both["theirs"].scores


def test_k_of_the_compression_retriever_cuts():
    cut = ContextualCompressionRetriever(
        base_compressor=FunctionReranker(function=count_words), base_retriever=retriever(), k=1
    )
    report = evaluate({"cut": cut}, DATASET, ["mrr"])
    assert [len(found) for found in report["cut"].rankings.values()] == [1, 1]


def test_k_goes_before_top_n_as_in_the_retriever_itself():
    reranked = ContextualCompressionRetriever(
        base_compressor=FunctionReranker(function=count_words, top_n=1), base_retriever=retriever(), k=3
    )
    report = evaluate({"k": reranked}, DATASET, ["mrr"])
    for question in DATASET.questions:
        assert report["k"].rankings[question.id] == [document.id for document in reranked.invoke(question.text)]


def test_runs_are_systems(tmp_path):
    trec = tmp_path / "run.trec"
    trec.write_text("q1 Q0 delhi 1 0.5 x\nq1 Q0 ganges 2 0.9 x\nq2 Q0 nile 1 1 x\n")
    systems = {
        "ids": {"q1": ["delhi", "ganges"], "q2": []},
        "scores": {"q1": {"delhi": 0.1, "ganges": 0.2}},
        "file": trec,
        "reranked": FunctionReranker(function=count_words),
    }
    assert evaluate({"only": systems["ids"]}, DATASET, ["hit@1"]).baseline.scores["hit@1"] == 0.5
    report = evaluate(systems, DATASET, ["ndcg@10", "hit@1"])
    assert report["ids"].rankings["q1"] == ["delhi", "ganges"]
    assert report["scores"].rankings == {"q1": ["ganges", "delhi"], "q2": []}
    assert report["file"].scores == {"ndcg@10": 1.0, "hit@1": 1.0}
    assert report["ids"].scores["hit@1"] == 0.5
    assert report["reranked"].rankings["q1"] == ["ganges", "delhi"]
    assert report["ids"].retrieval is None


def test_gold_by_answer_text_uses_whole_words_and_the_whole_corpus():
    few = FixedRetriever(documents=[CORPUS[1], CORPUS[0]])
    report = evaluate({"few": few}, DATASET, ["recall@5", "hit@1"], gold="answers")
    assert report["few"].per_question["hit@1"]["q1"] == 0.0, "Indiana is not India"
    assert report["few"].per_question["recall@5"]["q1"] == 0.5, "ganges holds the answer too and was not found"


def test_a_run_is_judged_by_answer_text_through_the_corpus():
    report = evaluate({"run": {"q1": ["dunes", "ganges"], "q2": ["nile"]}}, DATASET, ["mrr"], gold="answers")
    assert report["run"].per_question["mrr"] == {"q1": 0.5, "q2": 1.0}
    strict = evaluate({"run": {"q1": ["dunes", "ganges"]}}, DATASET, ["mrr"], gold="answers", relevance=2)
    assert strict["run"].per_question["mrr"]["q1"] == 0.5, "an answer is an answer at any threshold"
    with pytest.raises(ValueError, match="corpus lacks"):
        evaluate({"run": {"q1": ["unknown"]}}, DATASET, ["mrr"], gold="answers")


def test_gold_by_answer_text_without_corpus_pools_over_the_systems():
    dataset = Dataset.from_questions([{"question": "Which?", "answers": "India"}])
    systems = {
        "one": FixedRetriever(documents=[CORPUS[0]]),
        "two": FixedRetriever(documents=[CORPUS[0], CORPUS[2]]),
    }
    report = evaluate(systems, dataset, ["recall@5"])
    assert report["one"].scores["recall@5"] == 0.5
    assert any("relative to that pool" in note for note in report.notes)


def test_documents_without_ids_can_be_judged_by_answer_but_not_by_id():
    anonymous = FixedRetriever(documents=[Document(page_content="in India"), Document(page_content="in Egypt")])
    assert evaluate(anonymous, DATASET, ["hit@1"], gold="answers").baseline.per_question["hit@1"]["q1"] == 1.0
    with pytest.raises(ValueError, match="no id"):
        evaluate(anonymous, DATASET, ["hit@1"])
    by_text = evaluate(anonymous, DATASET, ["hit@1"], identity=lambda d: "nile" if "Egypt" in d.page_content else "x")
    assert by_text.baseline.per_question["hit@1"] == {"q1": 0.0, "q2": 0.0}


class TestNotes:
    """What the report says aloud: each is a mistake that somebody published numbers with."""

    def notes(self, systems, dataset=DATASET, **options):
        return " ".join(evaluate(systems, dataset, ["mrr"], **options).notes)

    def test_a_pool_of_one(self):
        base = FixedRetriever(documents=[CORPUS[0]])
        assert "nothing to rerank" in self.notes({"a": base, "b": FunctionReranker(function=count_words)})

    def test_a_pool_no_larger_than_top_n(self):
        reranker = FunctionReranker(function=count_words, top_n=5)
        assert "can only reorder" in self.notes({"a": retriever(), "b": reranker})
        assert "can only reorder" not in self.notes({"a": retriever(), "b": reranker.model_copy(update={"top_n": 3})})

    def test_identical_rankings(self):
        assert "ranks exactly like a" in self.notes({"a": retriever(), "b": retriever()})

    def test_ties(self):
        same = FunctionReranker(function=lambda query, texts: [0.0] * len(texts))
        assert "all scores of each question are the same" in self.notes({"a": retriever(), "b": same})

    def test_an_answer_in_no_document(self):
        dataset = Dataset((*DATASET.questions, Question("q3", "Where?", ("Atlantis",))), CORPUS)
        notes = self.notes(retriever(), dataset, gold="answers")
        assert "1 of 3 questions without a relevant document are left out of the means: q3." in notes
        zero = evaluate(retriever(), dataset, ["hit@5"], gold="answers", empty="zero")
        assert zero.questions == 3
        assert zero.baseline.scores["hit@5"] == pytest.approx(2 / 3)

    def test_gold_that_is_not_in_the_corpus(self):
        dataset = Dataset((Question("q", "Where?", (), {"atlantis": 1}),), CORPUS)
        assert "gold id is not in the corpus: atlantis" in self.notes(retriever(), dataset)

    def test_nothing_to_say(self):
        assert self.notes({"a": retriever(), "b": FunctionReranker(function=count_words)}) == ""


@pytest.mark.parametrize(
    ("systems", "message"),
    [
        ({}, "at least one system"),
        ({"r": FunctionReranker(function=count_words)}, "comes first"),
        ({"x": 3}, "a system is"),
        ({"run": {"q1": ["unknown"]}, "r": FunctionReranker(function=count_words)}, "corpus lacks"),
    ],
)
def test_systems_that_cannot_be_evaluated(systems, message):
    with pytest.raises(ValueError, match=message):
        evaluate(systems, DATASET, ["mrr"])


def test_bad_datasets_and_metrics():
    with pytest.raises(ValueError, match="Unknown metric"):
        evaluate(retriever(), DATASET, ["accuracy@1"])
    with pytest.raises(ValueError, match="no gold"):
        evaluate(retriever(), Dataset((Question("q", "?"),)), ["mrr"])
    with pytest.raises(DatasetError, match="twice"):
        Dataset((Question("q", "?"), Question("q", "?")))


def test_the_table():
    report = evaluate({"a|b": retriever(), "words": FunctionReranker(function=count_words)}, DATASET, ["mrr", "hit@1"])
    lines = str(report).splitlines()
    assert lines[0] == "rivers: 2 questions"
    assert [cell.strip() for cell in lines[2].split("|")[1:4]] == ["system", "mrr", "hit@1"]
    assert "| 0.625 | 0.500 |" in lines[4]
    assert "a\\|b, best order" in lines[5]
    assert "| 1.000 | 1.000 |" in lines[5]
    assert len({len(line) for line in lines[2:7]}) == 1, "aligned"
    assert lines[4].startswith("| a\\|b ")
    assert "Reranked: 5 candidates for a question, 5 words each." in lines
    assert report.to_dict()["systems"][1]["scores"]["mrr"] == 1.0


class TestRetrievalEvaluator:
    def test_in_a_chain(self):
        chain = RunnablePassthrough.assign(
            documents=RunnableLambda(lambda row: row["question"]) | retriever()
        ) | RetrievalEvaluator(metrics=["mrr", "precision@5", "recall@5"])
        scores = chain.invoke({"question": "Which river?", "answer": ["Egypt"]})
        assert scores == pytest.approx({"mrr": 0.25, "precision@5": 0.2, "recall@5": 1.0})

    def test_by_id(self):
        evaluator = RetrievalEvaluator(metrics=["ndcg@5", "recall@5"])
        documents = [CORPUS[0], CORPUS[2]]
        row = {"question": "?", "documents": documents, "relevant": ["ganges", "nile"]}
        assert evaluator.invoke(row)["recall@5"] == 0.5
        assert evaluator.invoke({**row, "relevant": {"ganges": 2, "delhi": 1}})["ndcg@5"] == pytest.approx(
            0.8597, abs=1e-4
        )

    def test_no_answer_in_any_document_scores_zero(self):
        row = {"question": "?", "documents": list(CORPUS), "answer": "Atlantis"}
        assert set(RetrievalEvaluator().invoke(row).values()) == {0.0}
        assert set(RetrievalEvaluator().invoke({**row, "documents": []}).values()) == {0.0}

    @pytest.mark.parametrize(
        "row", [{}, {"documents": []}, {"documents": ["text"], "answer": "a"}, {"documents": [], "answer": 3}]
    )
    def test_bad_input(self, row):
        with pytest.raises(TypeError):
            RetrievalEvaluator().invoke(row)

    def test_bad_metric(self):
        with pytest.raises(ValueError, match="metric"):
            RetrievalEvaluator(metrics=["accuracy"])


def test_what_endpoints_cost_stands_in_the_table():
    with serve(FAKES["openrouter"]()) as server, hosted("openrouter", server.url) as reranker:
        report = evaluate({"pool": FixedRetriever(documents=list(CORPUS)), "endpoint": reranker}, DATASET, ["hit@1"])
    usage = report["endpoint"].usage
    assert (usage["requests"], usage["documents"], usage["search_units"]) == (2, 10, 2)
    head = next(line for line in str(report).splitlines() if line.startswith("| system"))
    columns = [name.strip() for name in head.split("|")]
    assert columns[-6:-1] == ["requests", "documents", "search units", "tokens", "cost"]


class Flaky(FunctionReranker):
    """Fails at one question."""

    function: object = None

    def _score(self, query, texts):
        if "Egypt" in query:
            msg = "the endpoint is down"
            raise RuntimeError(msg)
        return count_words(query, texts)


def test_a_failed_question_is_recorded_and_counted():
    report = evaluate({"first": retriever(), "flaky": Flaky()}, DATASET, ["mrr"])
    assert report["flaky"].failures == {"q2": "RuntimeError: the endpoint is down"}
    assert report["flaky"].per_question["mrr"] == {"q1": 1.0, "q2": 0.0}
    assert report["flaky"].rankings["q2"] == []
    assert any("flaky failed at 1 of 2 questions, which count as nothing found" in note for note in report.notes)
    head = next(line for line in str(report).splitlines() if line.startswith("| system"))
    assert head.split("|")[-2].strip() == "failed"


def test_where_retrieval_fails_the_reranker_is_not_asked():
    asked = []

    def find(question):
        if "Egypt" in question:
            raise TimeoutError
        return list(CORPUS)

    def judge(query, texts):
        asked.append(query)
        return count_words(query, texts)

    report = evaluate({"first": RunnableLambda(find), "words": FunctionReranker(function=judge)}, DATASET, ["mrr"])
    assert report["first"].failures == report["words"].failures == {"q2": "TimeoutError:"}
    assert asked == ["Which river flows through India?"]


def test_a_reranker_that_fell_back_is_named():
    report = evaluate({"first": retriever(), "flaky": Flaky(on_error="keep_order")}, DATASET, ["mrr"])
    assert report["flaky"].failures == {}
    assert "flaky fell back to the order it was given at 1 of 2 questions (RuntimeError)." in report.notes


def test_a_missing_package_or_model_ends_the_evaluation_at_once():
    def judge(query, texts):
        raise MissingExtraError(module="torch", extra="local")

    with pytest.raises(MissingExtraError):
        evaluate({"first": retriever(), "local": FunctionReranker(function=judge)}, DATASET, ["mrr"])


def test_questions_are_asked_together_up_to_the_limit():
    questions = tuple(Question(f"q{n}", f"question {n}", documents={"nile": 1}) for n in range(12))
    at_once, most, lock = 0, 0, threading.Lock()
    together = threading.Barrier(3)

    def judge(query, texts):
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        if 1 <= int(query.split()[1]) <= 9:  # the first one is asked alone
            together.wait(timeout=20)  # passed only by three at once
        with lock:
            at_once -= 1
        return [float(len(text)) for text in texts]

    systems = {"first": retriever(), "slow": FunctionReranker(function=judge)}
    report = evaluate(systems, Dataset(questions, CORPUS), ["mrr"], concurrency=3)
    assert most == 3
    assert report["slow"].failures == {}
    alone = evaluate(
        {"first": retriever(), "slow": FunctionReranker(function=lambda q, t: [len(x) for x in t])},
        Dataset(questions, CORPUS),
        ["mrr"],
    )
    assert report["slow"].rankings == alone["slow"].rankings
    assert list(report["slow"].rankings) == [question.id for question in questions], "in the dataset's order"


def test_the_ceiling_is_the_best_order_of_the_candidates():
    few = FixedRetriever(documents=[CORPUS[4], CORPUS[0]])  # delhi alone is relevant to q1; nothing to q2
    report = evaluate({"few": few, "words": FunctionReranker(function=count_words)}, DATASET, ["mrr", "ndcg@10"])
    # The ideal of q1 is ganges (2), delhi (1): two gained at rank 1 and one at rank 2.
    best = (1 / (2 + 1 / math.log2(3))) / 2
    assert report["words"].ceiling == pytest.approx({"mrr": 0.5, "ndcg@10": best})
    assert report["few"].ceiling == report["words"].ceiling
    assert report["words"].source == "few"


def test_a_reranker_whose_gold_stands_further_down_is_not_said_to_have_found_none():
    upside_down = FunctionReranker(function=lambda query, texts: [-score for score in count_words(query, texts)])
    report = evaluate({"first": retriever(), "upside down": upside_down}, DATASET, ["hit@1"])
    assert report["upside down"].scores["hit@1"] == 0.0
    assert not [note for note in report.notes if "found no relevant document" in note]


def test_documents_may_be_known_by_a_metadata_field():
    found = [Document(page_content="in Egypt", metadata={"source": "nile.md"})]
    gold = Dataset((Question("q", "?", documents={"nile.md": 1}),))
    assert evaluate(FixedRetriever(documents=found), gold, ["hit@1"], identity="source").baseline.scores["hit@1"] == 1.0
    with pytest.raises(ValueError, match=r"no metadata field 'url'.*\['source'\]"):
        evaluate(FixedRetriever(documents=found), gold, ["hit@1"], identity="url")


def test_any_function_may_judge():
    report = evaluate(
        retriever(), DATASET, ["mrr"], gold="answers", match=lambda question, document: "flows" in document.page_content
    )
    assert report.baseline.per_question["mrr"] == pytest.approx({"q1": 1 / 3, "q2": 1 / 3})
    assert any("relative to that pool" in note for note in report.notes)


def test_one_switch_turns_bars_off(monkeypatch, capsys):
    monkeypatch.setattr("langchain_rerankkit._progress._DELAY", 0)
    evaluate({"first": retriever(), "words": FunctionReranker(function=count_words)}, DATASET, ["mrr"])
    assert capsys.readouterr().err == "", "nor do they fill a file"
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    evaluate({"first": retriever(), "words": FunctionReranker(function=count_words)}, DATASET, ["mrr"])
    assert "rerank: words" in capsys.readouterr().err
    monkeypatch.setenv("RERANKKIT_PROGRESS", "0")
    evaluate({"first": retriever(), "words": FunctionReranker(function=count_words)}, DATASET, ["mrr"])
    assert capsys.readouterr().err == ""


def test_quick_evaluations_show_no_bar(capsys):
    evaluate({"first": retriever(), "words": FunctionReranker(function=count_words)}, DATASET, ["mrr"])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"gold": "answer"}, "gold is one of auto, documents, answers"),
        ({"empty": "exlude"}, "empty is one of exclude, zero"),
        ({"engine": "cluster"}, "'local' or 'ray'"),
        ({"repeats": 0}, "at least 1"),
        ({"metrics": "ndgc@10"}, "Unknown metric 'ndgc@10'"),
    ],
)
def test_a_slip_is_an_error_and_no_quiet_result(options, why):
    with pytest.raises(ValueError, match=why):
        evaluate(retriever(), DATASET, **{"metrics": "mrr", **options})


@pytest.mark.parametrize("gold", ["documents", "answers", "auto"])
def test_a_dataset_without_the_gold_asked_for_is_refused(gold):
    none = {"documents": (), "answers": ()}
    other = {**none, "answers" if gold == "documents" else "documents": ("x",) if gold == "documents" else {"x": 1}}
    question = Question("q", "?", **(none if gold == "auto" else other))
    with pytest.raises(ValueError, match="no gold of that kind"):
        evaluate(retriever(), Dataset((question,)), "mrr", gold=gold)
    with pytest.raises(ValueError, match="no questions"):
        evaluate(retriever(), Dataset(()), "mrr", gold=gold)


def test_a_function_is_a_system():
    report = evaluate(
        {"function": lambda question: list(CORPUS), "words": FunctionReranker(function=count_words)}, DATASET, "mrr"
    )
    assert report["words"].source == "function"


def test_a_judges_reasons_are_kept(tmp_path):
    class Strict(Matcher):
        name = "strict"

        def _grade(self, question, document):
            return 2 if "flows" in document.page_content else 0

        def reason(self, question, document):
            return f"as {document.id} says"

    report = evaluate(retriever(), DATASET, "mrr", gold="answers", match=Strict())
    assert report.gold["q1"] == {"delhi": 0, "dunes": 0, "ganges": 2, "nile": 2, "empty": 0}
    assert report.reasons["q1"]["nile"] == "as nile says"
    assert type(report).load(report.save(tmp_path / "r.json")).reasons == report.reasons


class Vandal(BaseDocumentCompressor):
    """A compressor that changes what it is given."""

    def compress_documents(self, documents, query, callbacks=None):
        assert documents, "nobody asks it about nothing"
        for document in documents:
            document.page_content = "rewritten"
            document.metadata["mark"] = True
        documents.reverse()
        documents.pop()
        return documents


def test_what_a_compressor_does_to_its_input_stays_with_it():
    clean = evaluate({"first": retriever(), "words": FunctionReranker(function=count_words)}, DATASET, "mrr")
    run = {question.id: [document.id for document in CORPUS] for question in DATASET.questions}
    for first in (FixedRetriever(documents=list(CORPUS)), run):
        systems = {"first": first, "vandal": Vandal(), "words": FunctionReranker(function=count_words)}
        report = evaluate(systems, DATASET, "mrr")
        assert report["first"].scores == clean["first"].scores
        assert report["words"].rankings == clean["words"].rankings
        assert len(report["vandal"].rankings["q1"]) == len(CORPUS) - 1
    assert CORPUS[0].page_content == "Delhi is a city in India."
    nothing = evaluate({"first": {"q1": ["delhi"], "q2": []}, "vandal": Vandal()}, DATASET, "mrr")
    assert not nothing["vandal"].failures


def test_k_of_a_foreign_compressor_cuts():
    class Same(BaseDocumentCompressor):
        def compress_documents(self, documents, query, callbacks=None):
            return list(documents)

    cut = ContextualCompressionRetriever(base_compressor=Same(), base_retriever=retriever(), k=2)
    assert evaluate({"cut": cut}, DATASET, "mrr")["cut"].rankings["q1"] == ["delhi", "dunes"]


def test_a_question_that_nobody_answered_is_not_left_out_where_only_the_pool_was_judged():
    dataset = Dataset(DATASET.questions)
    finds = {"Which river flows through India?": [CORPUS[2]]}
    report = evaluate(lambda question: finds.get(question, []), dataset, ["hit@5", "recall@5"], gold="answers")
    assert report.baseline.per_question["hit@5"] == {"q1": 1.0, "q2": 0.0}
    assert any(
        "1 of 2 questions have their answer in no document that was judged and count as 0: q2." in n
        for n in report.notes
    )


def test_of_several_texts_of_one_id_the_best_counts():
    parts = [
        Document(page_content="The Ganges flows.", metadata={"source": "rivers"}),
        Document(page_content="It is in India.", metadata={"source": "rivers"}),
        Document(page_content="Nothing.", metadata={"source": "rivers"}),
    ]
    dataset = Dataset(DATASET.questions[:1])
    for order in (parts, parts[::-1]):
        report = evaluate(FixedRetriever(documents=order), dataset, "hit@1", gold="answers", identity="source")
        assert report.baseline.scores["hit@1"] == 1.0
        evaluator = RetrievalEvaluator(metrics=["hit@1"], identity="source")
        assert evaluator.invoke({"documents": order, "answer": "India"}) == {"hit@1": 1.0}


def test_a_compressor_that_shortens_texts_does_not_decide_what_is_gold():
    class Shorten(BaseDocumentCompressor):
        def compress_documents(self, documents, query, callbacks=None):
            return [document.model_copy(update={"page_content": document.page_content[:5]}) for document in documents]

    alone = evaluate(retriever(), Dataset(DATASET.questions), "mrr", gold="answers")
    beside = evaluate({"first": retriever(), "short": Shorten()}, Dataset(DATASET.questions), "mrr", gold="answers")
    assert beside["first"].scores == alone.baseline.scores


def test_documents_that_a_store_gave_ids_to_count_once():
    nameless = [Document(page_content=document.page_content) for document in CORPUS]
    store = InMemoryVectorStore(EmbeddedEmbeddings())
    store.add_documents(nameless)
    rows = [{"question": q.text, "answers": list(q.answers)} for q in DATASET.questions]
    report = evaluate(
        store.as_retriever(search_kwargs={"k": 5}), Dataset.from_questions(rows, nameless), ["recall@5"], gold="answers"
    )
    assert report.baseline.scores["recall@5"] == report.baseline.ceiling["recall@5"] == 1.0

    class Rebuild(BaseDocumentCompressor):
        def compress_documents(self, documents, query, callbacks=None):
            return [Document(page_content=document.page_content) for document in documents]

    report = evaluate(
        {"first": retriever(), "rebuilt": Rebuild()}, Dataset(DATASET.questions), "recall@5", gold="answers"
    )
    assert report["rebuilt"].rankings == report["first"].rankings


def test_the_ceiling_counts_a_document_once():
    report = evaluate(
        {"twice": {"q1": ["empty", "delhi", "delhi", "ganges"], "q2": ["nile"]}}, DATASET, ["ndcg@10", "recall@2"]
    )
    assert report["twice"].ceiling == pytest.approx({"ndcg@10": 1.0, "recall@2": 1.0})


def test_the_callers_context_reaches_every_thread():
    seen = []
    told = ContextVar("told", default="nothing")
    token = told.set("do not trace")

    def judge(query, texts):
        seen.append(told.get())
        return [0.0] * len(texts)

    questions = tuple(Question(f"q{n}", f"{n}?", documents={"nile": 1}) for n in range(6))
    try:
        evaluate(
            {"first": retriever(), "words": FunctionReranker(function=judge)}, Dataset(questions), "mrr", concurrency=3
        )
    finally:
        told.reset(token)
    assert seen == ["do not trace"] * 6


def test_failures_of_every_run_are_said():
    calls = []

    def judge(query, texts):
        calls.append(query)
        if len(calls) > 2:
            raise TimeoutError
        return count_words(query, texts)

    report = evaluate({"first": retriever(), "weak": FunctionReranker(function=judge)}, DATASET, "mrr", repeats=2)
    assert set(report["weak"].failures) == {"q1", "q2"}
    assert any(note.startswith("weak, run 2, failed at 2 of 2 questions") for note in report.notes)


def test_runs_that_do_not_fit_the_questions():
    with pytest.raises(ValueError, match=r"answers none of the questions: it knows 'x', and the dataset asks 'q1'"):
        evaluate({"run": {"x": ["nile"]}}, DATASET, "mrr")
    notes = " ".join(evaluate({"run": {"q1": ["nile"], "x": [], "y": []}}, DATASET, "mrr").notes)
    assert "run has no answer to 1 of 2 questions, which count as nothing found: q2." in notes
    assert "run answers 2 questions that the dataset does not ask." in notes


def test_a_given_match_means_answers():
    report = evaluate(retriever(), DATASET, "mrr", match=lambda question, document: document.id == "empty")
    assert report.baseline.per_question["mrr"] == {"q1": 0.2, "q2": 0.2}
    with pytest.raises(ValueError, match="match= is for gold='answers'"):
        evaluate(retriever(), DATASET, "mrr", gold="documents", match="words")


def test_a_judge_reads_each_ranking_to_its_depth():
    asked = []

    class Judge(Matcher):
        name = "judge"
        depth = 2

        def _grade(self, question, document):
            asked.append((question.id, document.id))
            return True

    last_first = FunctionReranker(function=lambda query, texts: list(range(len(texts))))
    report = evaluate({"first": retriever(), "turned": last_first}, DATASET, "mrr", match=Judge())
    assert {id_ for question, id_ in asked if question == "q1"} == {"delhi", "dunes", "empty", "nile"}
    assert len(asked) == len(set(asked))
    assert any("Of each ranking the first 2 documents were judged" in note for note in report.notes)


def test_equal_scores_after_a_cut_are_no_reason_to_complain():
    kept = FunctionReranker(function=lambda query, texts: [float("flows" in text) for text in texts], top_n=2)
    notes = evaluate({"first": retriever(), "kept": kept}, DATASET, "mrr").notes
    assert not any("decides nothing" in note for note in notes)


def test_documents_out_of_nowhere_are_said():
    class Inventive(BaseDocumentCompressor):
        def compress_documents(self, documents, query, callbacks=None):
            return [Document(id="nile", page_content="The Nile."), *documents[:1]]

    first = FixedRetriever(documents=[CORPUS[0], CORPUS[4]])
    notes = evaluate({"first": first, "inventive": Inventive()}, DATASET, "mrr").notes
    assert "inventive returned documents that were not among the candidates for 2 questions." in notes


def test_what_is_wrong_is_said_before_everything_is_asked():
    asked = []

    def find(question):
        asked.append(question)
        return [Document(page_content="no id")]

    questions = tuple(Question(f"q{n}", f"{n}?", documents={"nile": 1}) for n in range(10))
    with pytest.raises(ValueError, match="no id to compare"):
        evaluate(find, Dataset(questions), "mrr")
    assert len(asked) == 1
    with pytest.raises(TypeError, match="by name"):
        evaluate([retriever()], DATASET, "mrr")
    with pytest.raises(TypeError, match="then a Dataset"):
        evaluate(DATASET, {"first": retriever()}, "mrr")
    with pytest.raises(ValueError, match=r"FunctionReranker\(function="):
        evaluate({"first": retriever(), "words": count_words}, DATASET, "mrr")


def test_what_a_failed_call_cost_counts():
    class Costly(FunctionReranker):
        def _score_many(self, requests):
            return [with_details(TimeoutError(), usage={"requests": 3}) for _ in requests]

    costly = Costly(function=count_words)
    assert evaluate({"first": retriever(), "costly": costly}, DATASET, "mrr")["costly"].usage == {"requests": 6}


def test_a_run_of_documents_without_text_may_stand_beside_rerankers():
    systems = {
        "first": retriever(),
        "words": FunctionReranker(function=count_words),
        "published": {"q1": ["ganges", "unknown"]},
    }
    assert evaluate(systems, DATASET, "hit@1")["published"].per_question["hit@1"] == {"q1": 1.0, "q2": 0.0}


def test_a_function_that_judges_sees_the_whole_document():
    found = [Document(id=str(n), page_content=f"text {n}", metadata={"rivers": n}) for n in range(3)]
    systems = {
        "first": FixedRetriever(documents=found),
        "turned": FunctionReranker(function=lambda q, texts: range(len(texts))),
    }
    report = evaluate(
        systems, Dataset(DATASET.questions), "mrr", match=lambda question, document: document.metadata["rivers"]
    )
    assert report.gold["q1"] == {"0": 0, "1": 1, "2": 2}
