import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_rerankkit import Dataset, DatasetError
from langchain_rerankkit.evaluation.dataset import load_run


def write(folder, **files):
    for name, content in files.items():
        rows = content if isinstance(content, str) else "\n".join(json.dumps(row) for row in content)
        (folder / name.replace("_", ".")).write_text(rows, encoding="utf-8")
    return folder


QUESTIONS = [
    {"id": "q1", "question": "Who?", "answers": ["me"], "documents": {"d1": 2}},
    {"id": "q2", "question": "What?", "documents": ["d1", "d2"]},
]
CORPUS = [{"id": "d1", "text": "one\u2028line", "metadata": {"a": 1}}, {"id": "d2", "text": ""}]


def test_our_layout(tmp_path):
    dataset = Dataset.load(write(tmp_path, questions_jsonl=QUESTIONS, corpus_jsonl=CORPUS))
    first, second = dataset.questions
    assert (first.id, first.text, first.answers, first.documents) == ("q1", "Who?", ("me",), {"d1": 2})
    assert second.documents == {"d1": 1, "d2": 1}
    assert [(d.id, d.page_content, d.metadata) for d in dataset.corpus] == [
        ("d1", "one\u2028line", {"a": 1}),
        ("d2", "", {}),
    ]
    assert dataset.name == tmp_path.name


def test_beirs_layout(tmp_path):
    write(
        tmp_path,
        queries_jsonl=[{"_id": "1", "text": "Who?"}, {"_id": "2", "text": "unjudged"}],
        corpus_jsonl=[{"_id": "d1", "title": "Title", "text": "text"}, {"_id": "d2", "title": "", "text": "plain"}],
        qrels_tsv="query-id\tcorpus-id\tscore\n1\td1\t2\n1\td2\t0\n",
    )
    dataset = Dataset.load(tmp_path)
    assert [(q.id, q.documents) for q in dataset.questions] == [("1", {"d1": 2, "d2": 0})]
    assert [d.page_content for d in dataset.corpus] == ["Title text", "plain"]
    assert [d.metadata for d in dataset.corpus] == [{"title": "Title"}, {}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"questions\.jsonl:1: .*not JSON"),
        ("[]", r"questions\.jsonl:1: .*object"),
        ('{"id": "q"}', r"questions\.jsonl:1, field 'question': .*missing"),
        ('{"id": 3, "question": "?"}', r"field 'id': .*string"),
        ('\n{"id": "q", "question": "?", "answers": [3]}', r"questions\.jsonl:2, field 'answers'"),
        ('{"id": "q", "question": "?", "documents": {"d": "x"}}', r"field 'documents'"),
        ('{"id": "q", "question": "?"}\n{"id": "q", "question": "?"}', r"'q' occurs twice"),
        ("", r"no questions"),
    ],
)
def test_errors_name_file_line_and_field(tmp_path, content, message):
    with pytest.raises(DatasetError, match=message):
        Dataset.load(write(tmp_path, questions_jsonl=content))


def test_missing_files_and_odd_bytes(tmp_path):
    with pytest.raises(DatasetError, match="neither a questions"):
        Dataset.load(tmp_path)
    (tmp_path / "questions.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(DatasetError, match="UTF-8"):
        Dataset.load(tmp_path)
    write(tmp_path, queries_jsonl=[{"_id": "1", "text": "?"}])
    (tmp_path / "questions.jsonl").unlink()
    with pytest.raises(DatasetError, match=r"qrels\.tsv"):
        Dataset.load(tmp_path)
    write(tmp_path, qrels_tsv="header\n1 d1 2\n")
    with pytest.raises(DatasetError, match=r"qrels\.tsv:2"):
        Dataset.load(tmp_path)


def test_runs(tmp_path):
    file = tmp_path / "run"
    file.write_text("q Q0 b 1 0.5 tag\nq Q0 a 2 0.5 tag\n\nq Q0 c 3 7 tag with more\n")
    assert load_run(file) == {"q": ["c", "b", "a"]}
    file.write_text("q Q0 b\n")
    with pytest.raises(DatasetError, match=r"run:1: .*TREC"):
        load_run(file)
    with pytest.raises(DatasetError, match="cannot be read"):
        load_run(tmp_path / "missing")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)
)


@given(row=st.dictionaries(st.sampled_from(["id", "question", "answers", "documents", "x"]), json_values))
def test_any_json_is_read_or_refused(row):
    try:
        dataset = Dataset.from_questions([row])
    except DatasetError:
        return
    assert isinstance(dataset.questions[0].text, str)


def test_bm25_runs_reproduce_the_published_figures(data_folder):
    from langchain_rerankkit import evaluate

    expected = {"noveleval": 0.678, "anthropic-docs": 0.626, "hotpotqa-100": 0.787, "medquad-liveqa": 0.553}
    for name, value in expected.items():
        report = evaluate(
            {"bm25": data_folder / name / "runs" / "bm25.trec"}, Dataset.load(data_folder / name), ["ndcg@10"]
        )
        assert report["bm25"].scores["ndcg@10"] == pytest.approx(value, abs=0.0006), name
