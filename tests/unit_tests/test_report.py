import csv
import io
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document

from langchain_rerankkit import Dataset, DatasetError, EvaluationReport, FunctionReranker, Question, evaluate
from langchain_rerankkit.evaluation.report import Latency, SystemResult
from langchain_rerankkit.testing import FixedRetriever

CORPUS = (Document(id="a", page_content="the first"), Document(id="b", page_content="the second one"))
DATASET = Dataset((Question("q1", "which?", documents={"b": 2}), Question("q2", "none?", documents={"a": 0})), CORPUS)


def example(**systems):
    longest = FunctionReranker(function=lambda query, texts: [float(len(text)) for text in texts])
    return evaluate(
        {"first": FixedRetriever(documents=list(CORPUS)), "longest": longest, **systems}, DATASET, ["mrr", "hit@1"]
    )


def test_it_comes_back_from_disk_as_it_was(tmp_path):
    report = example()
    assert EvaluationReport.load(report.save(tmp_path / "report.json")) == report
    assert str(EvaluationReport.load(tmp_path / "report.json")) == str(report)


names = st.text(st.characters(), max_size=8)
scores = st.floats(0, 1)


@st.composite
def reports(draw):
    ids = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    metrics = draw(st.lists(names, min_size=1, max_size=2, unique=True))
    ranking = st.lists(names, max_size=3)
    systems = [
        SystemResult(
            name=name,
            scores={metric: draw(scores) for metric in metrics},
            per_question={metric: {id_: draw(scores) for id_ in ids} for metric in metrics},
            rankings=(rankings := {id_: draw(ranking) for id_ in ids}),
            document_scores={id_: [draw(st.none() | scores) for _ in found] for id_, found in rankings.items()},
            ceiling=dict.fromkeys(metrics, 1.0),
            source=draw(st.none() | names),
            retrieval=draw(st.none() | st.builds(Latency, scores, scores, scores)),
            usage=draw(st.none() | st.dictionaries(names, scores, max_size=2)),
            failures=draw(st.dictionaries(names, names, max_size=2)),
            repeats=[dict.fromkeys(metrics, 0.5)],
        )
        for name in draw(st.lists(names, min_size=1, max_size=3, unique=True))
    ]
    texts = {id_: draw(names) for id_ in ids}
    gold = {id_: draw(st.dictionaries(names, st.integers(-2, 3), max_size=3)) for id_ in ids}
    return EvaluationReport(
        draw(names), len(ids), systems, draw(st.lists(names)), 2, texts, gold, draw(st.dictionaries(names, names))
    )


@given(reports())
def test_any_report_round_trips_through_strict_json(report):
    text = json.dumps(report.to_dict(), allow_nan=False)
    assert EvaluationReport.from_dict(json.loads(text)) == report


def spending(**usages):
    """The table of systems that spent so much."""
    systems = [
        SystemResult(name, {"mrr": 1.0}, {"mrr": {"q": 1.0}}, {"q": ["a"]}, usage=usage)
        for name, usage in usages.items()
    ]
    return EvaluationReport("spending", 1, systems).table()


def test_documents_are_shown_beside_requests_or_a_cost_and_not_where_a_local_model_judged_them():
    local = {"documents": 8, "cached": 0}
    assert spending(local=local).header == ["system", "mrr"]
    assert not spending(local=local).legend
    table = spending(local=local, hosted={"requests": 2, "documents": 20}, told={"documents": 5, "cost": 0.5})
    assert table.header == ["system", "mrr", "requests", "documents", "cost"]
    assert [row[-2] for row in table.rows] == ["-", "20", "5"]


def test_what_caches_answered_is_said_to_be_that():
    table = spending(local={"documents": 8, "cached": 3})
    assert table.header == ["system", "mrr", "cached"]
    assert "and what caches answered" in table.legend[-1]
    assert "caches" not in spending(hosted={"requests": 2, "documents": 20}).legend[-1]


def test_a_report_without_questions_that_count(tmp_path):
    report = evaluate(FixedRetriever(documents=list(CORPUS)), Dataset(DATASET.questions[1:], CORPUS), ["mrr"])
    assert report.questions == 0
    again = EvaluationReport.load(report.save(tmp_path / "report.json"))
    assert math.isnan(again.baseline.scores["mrr"])
    assert "nan" in str(again)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[]", "no report"),
        ("{}", "no report"),
        ("nonsense", "not JSON"),
        ('{"format": "langchain-rerankkit report", "version": 99}', "newer package"),
        ('{"format": "langchain-rerankkit report", "version": 1}', "damaged"),
        ('{"format": "langchain-rerankkit report", "version": 1, "systems": [{"name": "a"}]}', "damaged"),
        ('{"format": "langchain-rerankkit report", "version": 1, "systems": 3}', "damaged"),
    ],
)
def test_what_is_no_report_is_refused(tmp_path, text, why):
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(DatasetError, match=why) as failure:
        EvaluationReport.load(tmp_path / "report.json")
    assert failure.value.file == str(tmp_path / "report.json")
    with pytest.raises(DatasetError, match="cannot be read"):
        EvaluationReport.load(tmp_path / "missing.json")


def test_csv_has_a_line_for_each_system_and_question(tmp_path):
    report = example()
    rows = list(csv.DictReader(io.StringIO(report.to_csv(tmp_path / "report.csv"))))
    assert [(row["system"], row["id"], row["question"]) for row in rows] == [
        ("first", "q1", "which?"),
        ("longest", "q1", "which?"),
    ]
    assert [float(row["mrr"]) for row in rows] == [0.5, 1.0]
    assert (tmp_path / "report.csv").read_text() == report.to_csv()


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1"])
def test_no_cell_is_a_formula(text):
    gold = Dataset((Question("q", text, documents={"a": 1}),), CORPUS)
    (row,) = csv.DictReader(io.StringIO(evaluate({text: {"q": ["a"]}}, gold, ["mrr"]).to_csv()))
    assert row["system"] == row["question"] == f"'{text}"


HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(1)> | [red]x[/red] \x1b[31m'


def test_names_are_shown_and_not_run():
    report = evaluate({HOSTILE: {"q1": ["a"]}}, Dataset(DATASET.questions, CORPUS, HOSTILE), ["mrr"])
    html = report._repr_html_()
    assert "<script" not in html
    assert "<img" not in html
    assert "&lt;script&gt;" in html
    line = next(line for line in str(report).splitlines() if "script" in line and line.startswith("|"))
    assert line.replace("\\|", "").count("|") == 3, "the bar in the name is no bar of the table"
    console = pytest.importorskip("rich.console").Console(file=io.StringIO(), width=300, force_terminal=False)
    console.print(report)
    assert "[red]x[/red]" in console.file.getvalue()
    assert "\x1b" not in console.file.getvalue()


def test_the_terminal_shows_what_markdown_shows():
    rich = pytest.importorskip("rich.console")
    console = rich.Console(file=io.StringIO(), width=200)
    report = example()
    console.print(report)
    shown = console.file.getvalue()
    for cell in ("first", "first, best order", "longest", "0.500", "1.000", *report.notes):
        assert cell in " ".join(shown.split())
