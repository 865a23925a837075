import contextlib
import io
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings

from langchain_rerankkit import (
    Dataset,
    DatasetError,
    EvaluationReport,
    Question,
    RetrievalEvaluator,
    assert_no_regression,
    evaluate,
    row_evaluator,
)
from langchain_rerankkit.evaluation.datasets import trec
from langchain_rerankkit.evaluation.diversity import greedy
from langchain_rerankkit.evaluation.metrics import parse_metrics, score

# Nuggets of topic 85 of TREC 2005's question answering, as Clarke et al. (SIGIR 2008) give them for ten documents.
NUGGETS = {"a": "2", "b": "2 6 7 8 10 12", "c": "1 2", "d": "2 3", "e": "1 2 3", "f": "5", "g": "3", "h": "1"}


def one(aspects, ranking, *metrics, **options):
    grades = Question("q", "?", aspects=aspects).documents
    found = score({"q": grades}, {"q": ranking}, metrics, aspects={"q": aspects}, **options)
    return [values["q"] for values in found.values()]


def test_a_worked_example():
    aspects = {"red": {"a": 1, "b": 1}, "blue": {"b": 1, "c": 1}, "never": {"z": 0}}
    # a gains red; b red for the second time and blue; c blue for the second time. The ideal order is b, then c or a.
    dcg = 1 + (0.5 + 1) / math.log2(3) + 0.5 / 2
    ideal = 2 + 0.5 / math.log2(3) + 0.5 / 2
    assert one(aspects, ["a", "b", "c"], "alpha_ndcg@3") == pytest.approx([dcg / ideal])
    assert one(aspects, ["a", "x", "c"], "coverage@1", "coverage@2", "coverage@3") == [0.5, 0.5, 1.0]


def test_the_greedy_ideal_of_the_paper():
    of = {document: [int(nugget) for nugget in nuggets.split()] for document, nuggets in NUGGETS.items()}
    order = greedy(of, 0.5)
    assert order[:2] == ["b", "e"], "the paper begins its ideal with b, e"
    gains, seen = [], {}
    for document in order:
        gains.append(sum(0.5 ** seen.get(aspect, 0) for aspect in of[document]))
        for aspect in of[document]:
            seen[aspect] = seen.get(aspect, 0) + 1
    assert gains == sorted(gains, reverse=True)
    assert gains[:3] == [6, 2.5, 1]


names = st.sampled_from("stuvw")
documents = st.sampled_from("abcdefgh")
judgements = st.dictionaries(names, st.dictionaries(documents, st.integers(-1, 3), min_size=1), max_size=4)
aspects_by_question = st.dictionaries(st.sampled_from("pqr"), judgements.filter(bool), min_size=1)
run = st.dictionaries(st.sampled_from("pqr"), st.lists(st.sampled_from("abcdefghij"), unique=True, min_size=1))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@given(aspects_by_question, run, st.integers(1, 12), st.integers(1, 3), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_agreement_with_ndeval(aspects, run, k, relevance, alpha):
    ir_measures = pytest.importorskip("ir_measures")
    pytest.importorskip("pyndeval")
    gold = {q: {d: max(0, g) for by in of.values() for d, g in by.items()} for q, of in aspects.items()}
    for question, of in aspects.items():
        for by in of.values():
            for document, grade in by.items():
                gold[question][document] = max(grade, gold[question][document])
    qrels = [
        ir_measures.Qrel(question, document, grade, name)
        for question, of in aspects.items()
        for name, by in of.items()
        for document, grade in by.items()
    ]
    scored = [
        ir_measures.ScoredDoc(question, document, -float(place))
        for question, found in run.items()
        for place, document in enumerate(found)
    ]
    theirs = {
        f"alpha_ndcg(alpha={alpha})@{k}": ir_measures.alpha_nDCG(alpha=alpha, rel=relevance) @ k,
        f"coverage@{k}": ir_measures.StRecall(rel=relevance) @ k,
    }
    ours = score(gold, run, theirs, relevance=relevance, aspects=aspects)
    for name, measure in theirs.items():
        expected = dict.fromkeys(gold, 0.0)
        if scored:
            with contextlib.redirect_stderr(io.StringIO()):  # it warns of a single subtopic
                values = list(ir_measures.iter_calc([measure], qrels, scored))
            for value in values:
                if value.query_id in gold:
                    expected[value.query_id] = 0.0 if math.isnan(value.value) else value.value
        assert ours[name] == pytest.approx(expected, abs=1e-6), name


@given(aspects_by_question, run)
def test_other_measures_of_diversity_come_from_ir_measures_with_the_aspects(aspects, run):
    pytest.importorskip("pyndeval")
    gold = {question: {} for question in aspects}
    with contextlib.redirect_stderr(io.StringIO()):
        ours = score(gold, run, ["StRecall(rel=1)@5", "coverage@5"], aspects=aspects)
    assert ours["StRecall(rel=1)@5"] == pytest.approx(ours["coverage@5"], abs=1e-6)


@given(aspects_by_question, run, st.integers(1, 12))
def test_they_lie_between_0_and_1_and_the_greedy_order_reaches_1(aspects, run, k):
    gold = {question: {} for question in aspects}
    found = score(gold, run, [f"coverage@{k}", "coverage@99"], aspects=aspects)
    assert all(0 <= value <= 1 for values in found.values() for value in values.values())
    best = {}
    for question, of in aspects.items():
        numbered = {}
        for number, by in enumerate(of.values()):
            for document, grade in by.items():
                if grade >= 1:
                    numbered.setdefault(document, []).append(number)
        best[question] = greedy(numbered, 0.5)
        slow, left, seen = [], sorted(numbered, reverse=True), {}
        while left:
            gains = [sum(0.5 ** seen.get(aspect, 0) for aspect in numbered[document]) for document in left]
            slow.append(left.pop(gains.index(max(gains))))
            for aspect in numbered[slow[-1]]:
                seen[aspect] = seen.get(aspect, 0) + 1
        assert best[question] == slow, "what is not computed anew changes nothing"
    for values in score(gold, best, [f"alpha_ndcg@{k}", "alpha_ndcg", "coverage@99"], aspects=aspects).values():
        assert values == pytest.approx({question: float(bool(best[question])) for question in aspects})


grades = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 3), min_size=1)


@given(grades, st.lists(st.sampled_from("abcdefghij"), max_size=15), st.integers(1, 12), st.integers(1, 3))
def test_without_aspects_each_relevant_document_is_one(grades, ranking, k, relevance):
    binary = {document: int(grade >= relevance) for document, grade in grades.items()}
    found = score(
        {"q": grades}, {"q": ranking}, [f"alpha_ndcg@{k}", f"coverage@{k}", f"recall@{k}"], relevance=relevance
    )
    assert found[f"coverage@{k}"] == pytest.approx(found[f"recall@{k}"])
    assert found[f"alpha_ndcg@{k}"] == pytest.approx(score({"q": binary}, {"q": ranking}, f"ndcg@{k}")[f"ndcg@{k}"])


numbers = st.floats(-1, 1).map(lambda x: round(x, 3))


@given(st.lists(st.lists(numbers, min_size=3, max_size=3), max_size=6), st.integers(1, 7))
def test_intra_list_distance_is_the_mean_over_pairs(vectors, k):
    by_name = {str(n): vector for n, vector in enumerate(vectors)}
    (value,) = score({"q": {}}, {"q": list(by_name)}, f"ild@{k}", vectors=by_name)[f"ild@{k}"].values()

    def cosine(a, b):
        length = math.hypot(*a) * math.hypot(*b)
        return sum(x * y for x, y in zip(a, b, strict=True)) / length if length else 0.0

    pairs = [1 - cosine(a, b) for n, a in enumerate(vectors[:k]) for b in vectors[:n]]
    assert value == pytest.approx(sum(pairs) / len(pairs) if pairs else 0.0, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("ils@10", r"ild, which is 1 - ILS"),
        ("ild", "cut-off"),
        ("coverage", "cut-off"),
        ("alpha_ndcg(alpha=x)", "Unknown"),
    ],
)
def test_names_that_mean_nothing_are_refused(name, why):
    with pytest.raises(ValueError, match=why):
        parse_metrics(name)


# --- where aspects come from --------------------------------------------------------------------------------------

QRELS = "1 1 a 2\n1 1 b 0\n1 2 b 1\n1 2 c 1\n2 1 c 1\n"
ASPECTS = {"1": {"1": {"a": 2, "b": 0}, "2": {"b": 1, "c": 1}}, "2": {"1": {"c": 1}}}


def test_trecs_qrels_of_subtopics(tmp_path):
    (tmp_path / "qrels").write_text(QRELS)
    (tmp_path / "topics").write_text("1\tone\n2\ttwo\n3\tunjudged\n")
    assert trec.load_aspects(tmp_path / "qrels") == ASPECTS
    dataset = Dataset.from_trec(tmp_path / "topics", tmp_path / "qrels", subtopics=True)
    assert [question.aspects for question in dataset.questions] == list(ASPECTS.values())
    assert dataset.questions[0].documents == {"a": 2, "b": 1, "c": 1}
    with pytest.raises(DatasetError, match="subtopics=True"):
        Dataset.from_trec(tmp_path / "topics", tmp_path / "qrels")
    (tmp_path / "qrels").write_text(f"{QRELS}1 2 c 2\n")
    with pytest.raises(DatasetError, match="subtopic '2': 1 and 2"):
        trec.load_aspects(tmp_path / "qrels")


def test_rounds_of_judging_are_no_subtopics(tmp_path):
    (tmp_path / "qrels").write_text("1 0.5 a 2\n1 1 b 1\n")
    (tmp_path / "topics").write_text("1\tone\n")
    assert Dataset.from_trec(tmp_path / "topics", tmp_path / "qrels").questions[0].aspects == {}


def test_ir_datasets_with_subtopics(tmp_path, monkeypatch):
    ir_datasets = pytest.importorskip("ir_datasets")
    monkeypatch.setenv("IR_DATASETS_HOME", str(tmp_path / "home"))
    (tmp_path / "qrels").write_text(QRELS)
    (tmp_path / "queries").write_text("1\tone\n2\ttwo\n")
    local = ir_datasets.util.LocalDownload
    parts = [
        ir_datasets.formats.TsvQueries(local(tmp_path / "queries")),
        ir_datasets.formats.TrecSubQrels(local(tmp_path / "qrels"), {}),
    ]
    ir_datasets.registry.register("diverse-rivers/test", ir_datasets.Dataset(*parts))
    dataset = Dataset.from_ir_datasets("diverse-rivers/test")
    assert {question.id: question.aspects for question in dataset.questions} == ASPECTS
    assert dataset.questions[0].documents == {"a": 2, "b": 1, "c": 1}


@given(judgements, st.dictionaries(documents, st.integers(0, 3)))
def test_a_dataset_with_aspects_is_saved_and_read(tmp_path_factory, aspects, documents):
    dataset = Dataset((Question("q", "?", documents=documents, aspects=aspects), Question("r", "!")))
    folder = dataset.save(tmp_path_factory.mktemp("data"))
    assert Dataset.load(folder).questions == dataset.questions


def test_aspects_may_be_written_as_lists_of_ids():
    row = {"question": "?", "aspects": {"price": ["a"], "size": {"b": 2}}}
    (question,) = Dataset.from_questions([row]).questions
    assert question.aspects == {"price": {"a": 1}, "size": {"b": 2}}
    assert question.documents == {"a": 1, "b": 2}
    for wrong in ({"price": 3}, ["a"], {"price": {"a": "1"}}):
        with pytest.raises(DatasetError, match="name of each aspect"):
            Dataset.from_questions([{**row, "aspects": wrong}])


# --- in an evaluation -----------------------------------------------------------------------------------------------


class Letters(Embeddings):
    """How often each letter occurs."""

    def __init__(self):
        self.calls = []

    def embed_query(self, text):
        return [float(text.count(letter)) for letter in "abc"]

    def embed_documents(self, texts):
        self.calls.append(list(texts))
        return [self.embed_query(text) for text in texts]


CORPUS = tuple(Document(id=text, page_content=text) for text in ("aaa", "aa", "b", "c", "abc"))
DIVERSE = Dataset(
    (
        Question("1", "?", ("aaa", "b"), aspects={"x": {"aaa": 1, "aa": 1}, "y": {"b": 1}}),
        Question("2", "?", ("c",), aspects={"x": {"c": 1}}),
    ),
    CORPUS,
    "letters",
)
RUNS = {
    "alike": {"1": ["aaa", "aa", "b"], "2": ["c", "aaa", "abc"]},
    "different": {"1": ["aaa", "b", "aa"], "2": ["c", "b", "aaa"]},
}
METRICS = ["ndcg@2", "alpha_ndcg@2", "coverage@2", "ild@2"]


def test_diversity_in_a_report_and_in_its_comparison(tmp_path):
    embeddings = Letters()
    report = evaluate(RUNS, DIVERSE, METRICS, embeddings=embeddings)
    assert report.metrics == METRICS
    assert sorted(embeddings.calls[0]) == ["aa", "aaa", "b", "c"], "each text once, to the depth that is looked at"
    alike, different = report["alike"], report["different"]
    assert alike.per_question["coverage@2"] == {"1": 0.5, "2": 1.0}
    assert different.per_question["coverage@2"] == {"1": 1.0, "2": 1.0}
    assert alike.per_question["ild@2"] == pytest.approx({"1": 0.0, "2": 1.0})
    assert different.scores["ild@2"] == pytest.approx(1.0)
    assert alike.scores["ndcg@2"] == different.scores["ndcg@2"] == 1.0, "which cannot tell them apart"
    assert alike.ceiling["coverage@2"] == alike.ceiling["alpha_ndcg@2"] == 1.0
    assert "ild@2" not in alike.ceiling
    assert (report.compare()["different", "ild@2"].wins, report.compare()["different", "ild@2"].losses) == (1, 0)
    assert EvaluationReport.load(report.save(tmp_path / "report.json")).to_dict() == report.to_dict()
    with pytest.raises(AssertionError, match="ild@2 fell"):
        assert_no_regression(
            evaluate({"system": RUNS["alike"]}, DIVERSE, METRICS, embeddings=Letters()),
            evaluate({"system": RUNS["different"]}, DIVERSE, METRICS, embeddings=Letters()),
            "ild@2",
        )


def test_a_reranked_line_shows_the_greedy_ceiling_of_its_candidates_and_no_ceiling_of_distance():
    from langchain_rerankkit import FunctionReranker

    keep = FunctionReranker(function=lambda query, texts: [0.0] * len(texts))
    systems = {"alike": RUNS["alike"], "kept": keep}
    report = evaluate(systems, DIVERSE, METRICS, embeddings=Letters())
    row = next(row for row in report.table().rows if row[0] == "alike, best order")
    assert row[1:5] == ["1.000", "1.000", "1.000", "-"]
    assert "different" not in str(report.compare())


def test_aspects_are_judged_with_the_relevance_asked_for():
    dataset = Dataset((Question("1", "?", aspects={"x": {"a": 2}, "y": {"b": 1, "c": 2}}),))
    report = evaluate({"run": {"1": ["a", "b", "c"]}}, dataset, ["coverage@2", "coverage@3"], relevance=2)
    assert list(report.baseline.scores.values()) == [0.5, 1.0]


def test_each_answer_that_a_document_holds_is_an_aspect():
    corpus = [Document(id=text, page_content=text) for text in ("Oslo and Rome", "rome", "Paris", "oslo!", "none")]
    dataset = Dataset((Question("1", "?", ("Rome", "Oslo", "Paris", "rome ", "Bonn")),), tuple(corpus))
    run = {"run": {"1": ["rome", "oslo!", "none", "Paris"]}}
    report = evaluate(run, dataset, ["coverage@1", "coverage@2", "coverage@4", "alpha_ndcg@4"], gold="answers")
    assert list(report.baseline.scores.values())[:3] == pytest.approx([1 / 3, 2 / 3, 1.0]), "Bonn is nowhere"
    assert any("each accepted answer that a document holds is an aspect" in note for note in report.notes)
    numbers = Dataset((Question("1", "?", ("12", "12.0", "7")),), tuple(corpus))
    found = evaluate(
        {"run": lambda question: [Document(id="n", page_content="12 of 7"), Document(id="m", page_content="12")]},
        numbers,
        ["coverage@1", "coverage@2"],
        gold="answers",
        match="number",
    )
    assert list(found.baseline.scores.values()) == [1.0, 1.0]
    patterns = Dataset((Question("1", "?", ("x" * 300 + "a", "x" * 300 + "b")),))
    texts = [Document(id=end, page_content="x" * 300 + end) for end in "ab"]
    found = evaluate({"run": lambda question: texts}, patterns, "coverage@1", gold="answers", match="regex")
    assert found.baseline.scores["coverage@1"] == 0.5


def test_where_gold_names_no_aspects_that_is_said():
    report = evaluate({"run": {"1": ["a"]}}, Dataset((Question("1", "?", documents={"a": 1, "b": 1}),)), "coverage@5")
    assert report.baseline.scores["coverage@5"] == 0.5
    assert "coverage@5: the gold names no aspects, so each relevant document is one of its own." in report.notes
    assert not any("aspect" in note for note in evaluate(RUNS, DIVERSE, "coverage@5").notes)


def test_distance_needs_a_model_and_texts_and_says_so_before_anything_is_asked():
    with pytest.raises(ValueError, match="ild@2 compares texts by their vectors: give embeddings="):
        evaluate(RUNS, DIVERSE, METRICS)
    without_texts = Dataset(DIVERSE.questions)
    with pytest.raises(ValueError, match="names documents that the dataset's corpus lacks"):
        evaluate(RUNS, without_texts, METRICS, embeddings=Letters())
    assert evaluate(RUNS, without_texts, METRICS[:3]).metrics == METRICS[:3], "ids alone are enough for the others"
    with pytest.raises(ValueError, match="computed by evaluate"):
        score({"q": {}}, {"q": ["a", "b"]}, "ild@2")


def test_blank_documents_take_no_part_in_the_distance_and_odd_texts_reach_the_model_readable():
    texts = ["aaa", " ", "b\ud800"]
    found = evaluate(
        {"run": lambda question: [Document(id=text, page_content=text) for text in texts]},
        DIVERSE,
        "ild@2",
        embeddings=(embeddings := Letters()),
    )
    assert found.baseline.scores["ild@2"] == pytest.approx(1.0)
    assert embeddings.calls == [["aaa", "b\ufffd"]]


def test_rows_are_scored_by_aspects_of_answers_and_refuse_distance():
    documents = [Document(id=text, page_content=text) for text in ("Rome", "rome it is", "Oslo")]
    link = RetrievalEvaluator(metrics=["coverage@2", "coverage@3"])
    assert link.invoke({"question": "?", "documents": documents, "answer": ["Rome", "Oslo"]}) == {
        "coverage@2": 0.5,
        "coverage@3": 1.0,
    }
    with pytest.raises(ValueError, match="ild@5: vectors"):
        row_evaluator(["ild@5"])


def test_a_questions_file_with_aspects_is_read_by_hand(tmp_path):
    row = {"id": "1", "question": "Which laptop?", "aspects": {"price": ["a"], "weight": ["b", "c"]}}
    (tmp_path / "questions.jsonl").write_text(json.dumps(row))
    report = evaluate({"run": {"1": ["b", "c", "a"]}}, Dataset.load(tmp_path), ["coverage@2", "coverage@3"])
    assert list(report.baseline.scores.values()) == [0.5, 1.0]
