import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document

from langchain_rerankkit import Dataset, DatasetError, Question
from langchain_rerankkit.evaluation.datasets import trec


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
QUERIES = [{"_id": "1", "text": "Who?"}, {"_id": "2", "text": "unjudged"}]


# --- reading ----------------------------------------------------------------------------------------------------------


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
        queries_jsonl=QUERIES,
        corpus_jsonl=[{"_id": "d1", "title": "Title", "text": "text"}, {"_id": "d2", "title": "", "text": "plain"}],
        qrels_tsv="query-id\tcorpus-id\tscore\n1\td1\t2\n1\td2\t0\n",
    )
    dataset = Dataset.load(tmp_path)
    assert [(q.id, q.documents) for q in dataset.questions] == [("1", {"d1": 2, "d2": 0})]
    assert [d.page_content for d in dataset.corpus] == ["Title text", "plain"]
    assert [d.metadata for d in dataset.corpus] == [{"title": "Title"}, {}]


def test_beirs_splits_are_chosen_by_name(tmp_path):
    (tmp_path / "qrels").mkdir()
    write(tmp_path, queries_jsonl=QUERIES)
    for split, query in {"test": 1, "dev": 2}.items():
        (tmp_path / "qrels" / f"{split}.tsv").write_text(f"query-id\tcorpus-id\tscore\n{query}\td\t1\n")
    assert [q.id for q in Dataset.load(tmp_path).questions] == ["1"]
    assert [q.id for q in Dataset.load(tmp_path, split="dev").questions] == ["2"]
    with pytest.raises(DatasetError, match=r"train\.tsv.*splits: dev, test"):
        Dataset.load(tmp_path, split="train")
    write(tmp_path, questions_jsonl=QUESTIONS)
    with pytest.raises(DatasetError, match="BEIR"):
        Dataset.load(tmp_path, split="dev")
    with pytest.raises(DatasetError, match="BEIR"):
        Dataset.load(tmp_path / "questions.jsonl", split="dev")


def test_a_headerless_qrels_file_keeps_its_first_line(tmp_path):
    write(tmp_path, queries_jsonl=QUERIES, qrels_tsv="1\td1\t1\n2\td2\t1\n")
    assert [q.documents for q in Dataset.load(tmp_path).questions] == [{"d1": 1}, {"d2": 1}]


def test_judgements_of_unknown_queries_are_said_aloud(tmp_path):
    write(tmp_path, queries_jsonl=QUERIES, qrels_tsv="1\td1\t1\n7\td2\t1\n")
    with pytest.warns(UserWarning, match=r"qrels\.tsv: 1 judged queries are not among the queries: '7'"):
        assert len(Dataset.load(tmp_path).questions) == 1


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.csv", "a.csv.gz", "a.tsv"])
def test_single_files(tmp_path, name):
    text = '{"id": "1", "question": "Who?", "answers": ["me"]}\n'
    if "jsonl" not in name:
        text = "question,answer\nWho?,me\n".replace(",", "\t" if "tsv" in name else ",")
    (tmp_path / name).write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    assert Dataset.load(tmp_path / name) == Dataset((Question("1", "Who?", ("me",)),), name="a")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_marks_are_obeyed(tmp_path, encoding):
    (tmp_path / "questions.jsonl").write_bytes('{"id": "ä", "question": "日本\u2028?"}'.encode(encoding))
    assert Dataset.load(tmp_path).questions == (Question("ä", "日本\u2028?"),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"questions\.jsonl:1: .*not JSON"),
        ("[]", r"questions\.jsonl:1: .*object"),
        ("[" * 100_000, r"questions\.jsonl:1: .*not JSON"),
        ('{"id": "q", "question": "?", "documents": {"d": ' + "1" * 5000 + "}}", r"questions\.jsonl:1"),
        ('{"id": "q", "question": "?", "documents": {"d": 1, "d": 0}}', r"questions\.jsonl:1: .*twice"),
        ('{"id": "q"}', r"questions\.jsonl:1, field 'question': .*missing"),
        ('{"id": 3, "question": "?"}', r"field 'id': .*string"),
        ('\n{"id": "q", "question": "?", "answers": [3]}', r"questions\.jsonl:2, field 'answers'"),
        ('{"id": "q", "question": "?", "documents": {"d": "x"}}', r"field 'documents'"),
        ('{"id": "q", "question": "?", "documents": {"d": true}}', r"field 'documents'"),
        ('{"id": "q", "question": "?"}\n{"id": "q", "question": "?"}', r"jsonl:2, field 'id': .*'q' occurs twice"),
        ("", r"no questions"),
    ],
)
def test_errors_name_file_line_and_field(tmp_path, content, message):
    with pytest.raises(DatasetError, match=message):
        Dataset.load(write(tmp_path, questions_jsonl=content))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"_id": "d1", "text": "x"}, r"corpus\.jsonl:2, field '_id': .*'d1' occurs twice; first in line 1"),
        ({"text": "x"}, r"corpus\.jsonl:2, field 'id': .*missing"),
        ({"_id": "d2", "text": "x", "title": 3}, r"corpus\.jsonl:2, field 'title'"),
        ({"id": "d2", "text": "x", "metadata": []}, r"corpus\.jsonl:2, field 'metadata'"),
    ],
)
def test_errors_of_the_corpus_do_too(tmp_path, row, message):
    write(tmp_path, questions_jsonl=QUESTIONS, corpus_jsonl=[CORPUS[0], row])
    with pytest.raises(DatasetError, match=message):
        Dataset.load(tmp_path)


def test_missing_files_and_odd_bytes(tmp_path):
    with pytest.raises(DatasetError, match="neither a questions"):
        Dataset.load(tmp_path)
    with pytest.raises(DatasetError, match="no such file"):
        Dataset.load(tmp_path / "missing")
    with pytest.raises(DatasetError, match=r"kinds \.jsonl, \.csv"):
        Dataset.load(write(tmp_path, data_parquet="x") / "data.parquet")
    (tmp_path / "questions.jsonl").write_bytes(b'{"id": "q", "question": "?"}\n{"id": "\xe4"}')
    with pytest.raises(DatasetError, match=r"questions\.jsonl:2: .*UTF-8"):
        Dataset.load(tmp_path)
    (tmp_path / "questions.jsonl").write_bytes(gzip.compress(b'{"id": "q", "question": "?"}')[:-9])
    with pytest.raises(DatasetError, match="cannot be read"):
        Dataset.load(tmp_path)
    write(tmp_path, queries_jsonl=[{"_id": "1", "text": "?"}])
    (tmp_path / "questions.jsonl").unlink()
    with pytest.raises(DatasetError, match=r"qrels\.tsv"):
        Dataset.load(tmp_path)
    write(tmp_path, qrels_tsv="query-id\tcorpus-id\tscore\n1 d1 2\n")
    with pytest.raises(DatasetError, match=r"qrels\.tsv:2"):
        Dataset.load(tmp_path)


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


# --- writing ----------------------------------------------------------------------------------------------------------

texts = st.text(st.characters(), max_size=8)  # with NUL, surrogates, line separators
questions = st.builds(
    Question,
    id=texts,
    text=texts,
    answers=st.lists(texts, max_size=2).map(tuple),
    documents=st.dictionaries(texts, st.integers(), max_size=3),
)
documents = st.builds(
    lambda id_, text, metadata: Document(id=id_, page_content=text, metadata=metadata),
    texts,
    texts,
    st.dictionaries(texts, json_values, max_size=2),
)


@given(
    asked=st.lists(questions, min_size=1, max_size=3, unique_by=lambda q: q.id),
    corpus=st.lists(documents, max_size=3, unique_by=lambda d: d.id),
)
def test_what_is_saved_comes_back_or_is_refused(tmp_path_factory, asked, corpus):
    folder = tmp_path_factory.mktemp("saved") / "of our own"
    dataset = Dataset(tuple(asked), tuple(corpus), "of our own")
    if any("\ud800" <= c <= "\udfff" for c in repr_of(dataset)):
        with pytest.raises(DatasetError, match=r"jsonl:\d+: .*surrogate"):
            dataset.save(folder)
        return
    dataset.save(folder)
    assert Dataset.load(folder) == dataset


def repr_of(value):
    """All strings in there."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return "".join(map(repr_of, [*value, *value.values()]))
    if isinstance(value, (list, tuple)):
        return "".join(map(repr_of, value))
    return repr_of(list(vars(value).values())) if hasattr(value, "__dict__") else ""


def test_saving_refuses_to_overwrite_unless_told(tmp_path):
    dataset = Dataset.load(write(tmp_path, questions_jsonl=QUESTIONS, corpus_jsonl=CORPUS))
    before = (tmp_path / "questions.jsonl").read_bytes()
    with pytest.raises(DatasetError, match=r"questions\.jsonl and corpus\.jsonl"):
        dataset.save(tmp_path)
    assert (tmp_path / "questions.jsonl").read_bytes() == before
    Dataset(dataset.questions[:1]).save(tmp_path, overwrite=True)
    assert Dataset.load(tmp_path) == Dataset(dataset.questions[:1], (), tmp_path.name), "no corpus of before stays"
    assert {file.name for file in tmp_path.iterdir()} == {"questions.jsonl"}, "no drafts stay"


@pytest.mark.parametrize(
    ("corpus", "message"),
    [
        ([Document(page_content="x")], r"corpus\.jsonl:1, field 'id': .*no id"),
        ([Document(id="a", page_content="x")] * 2, r"corpus\.jsonl:2, field 'id': .*'a' occurs twice"),
        ([Document(id="a", page_content="x", metadata={"a": {1: 2}})], r"corpus\.jsonl:1, field 'metadata'"),
        ([Document(id="a", page_content="x", metadata={"a": float("nan")})], r"corpus\.jsonl:1, field 'metadata'"),
        ([Document(id="a", page_content="x", metadata={"a": object()})], r"corpus\.jsonl:1, field 'metadata'"),
    ],
)
def test_what_would_be_lost_is_refused_and_nothing_is_written(tmp_path, corpus, message):
    with pytest.raises(DatasetError, match=message):
        Dataset((Question("q", "?"),), tuple(corpus)).save(tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(DatasetError, match="no questions"):
        Dataset(()).save(tmp_path)


# --- parts ------------------------------------------------------------------------------------------------------------

MANY = Dataset(tuple(Question(f"q{n}", f"Question {n}?") for n in range(1000)), (Document(id="d", page_content="x"),))


def ids(dataset):
    return [question.id for question in dataset.questions]


def test_a_sample_is_the_same_everywhere():
    assert ids(Dataset(MANY.questions[:20]).sample(4)) == ["q3", "q6", "q10", "q16"]
    assert ids(Dataset(MANY.questions[:20]).sample(4, seed=1)) == ["q3", "q10", "q15", "q17"]


@given(n=st.integers(1, 999), seed=st.integers())
def test_a_sample_keeps_order_and_corpus_and_grows(n, seed):
    sample, larger = MANY.sample(n, seed), MANY.sample(n + 1, seed)
    assert len(sample.questions) == n
    assert set(ids(sample)) < set(ids(larger))
    assert ids(sample) == [id_ for id_ in ids(MANY) if id_ in set(ids(sample))]
    assert sample.corpus == MANY.corpus


@given(share=st.floats(0.1, 0.9), seed=st.integers())
def test_a_split_parts_the_questions_about_as_asked(share, seed):
    first, second = MANY.split(share, seed)
    assert sorted(ids(first) + ids(second)) == sorted(ids(MANY))
    assert len(first.questions) / 1000 == pytest.approx(share, abs=0.08)
    fewer, _ = Dataset(MANY.questions[::7]).split(share, seed)
    assert set(ids(fewer)) == set(ids(first)) & set(ids(Dataset(MANY.questions[::7])))


def test_a_sample_falls_into_both_parts_of_a_split():
    first, second = MANY.sample(100).split(0.5)
    assert min(len(first.questions), len(second.questions)) > 30


def test_impossible_parts_are_refused():
    for n in (0, 1001):
        with pytest.raises(ValueError, match="1 to 1000"):
            MANY.sample(n)
    for share in (0, 1, float("nan")):
        with pytest.raises(ValueError, match="between 0 and 1"):
            MANY.split(share)
    with pytest.raises(ValueError, match="one part has none"):
        Dataset(MANY.questions[:1]).split(0.5)


# --- what is in it ----------------------------------------------------------------------------------------------------


def test_a_summary_counts():
    summary = Dataset(
        (
            Question("1", "Who?", ("The Ganges",), {"d1": 2, "d2": 1, "d3": 0}),
            Question("2", "What?", (), {"d2": 1}),
        ),
        tuple(Document(id=f"d{n}", page_content="word " * n + "ganges") for n in range(1, 4)),
        "rivers",
    ).describe()
    assert (summary.questions, summary.with_answers, summary.with_documents) == (2, 1, 2)
    assert (summary.gold_mean, summary.gold_max, summary.grades) == (1.5, 2, {0: 1, 1: 2, 2: 1})
    assert (summary.documents, summary.words_median, summary.words_p95) == (3, 3, 4)
    assert str(summary).splitlines() == [
        "rivers: 2 questions, 1 with answers, 2 with relevant documents (1.5 on average, at most 2)",
        "judgements by grade: 1 of 0, 2 of 1, 1 of 2",
        "3 documents of 3 words (median; 95th percentile 4)",
        "- 1 question's gold documents hold none of its answers, so a gold id may be wrong: 1.",
    ]


@pytest.mark.parametrize(
    ("question", "document", "note"),
    [
        ({}, {}, "1 question has no gold: q."),
        ({"documents": {"d": 0}}, {}, "1 question has no gold: q."),
        ({"documents": {"lost": 1, "d": 1}}, {}, "1 gold id is not in the corpus: lost."),
        (
            {"documents": {"d": 1}, "answers": ("India",)},
            {"page_content": "The Indiana Dunes."},
            "1 question's gold documents hold none of its answers, so a gold id may be wrong: q.",
        ),
        (
            {"answers": ("...",)},
            {},
            "1 question has an answer without words, which no document can hold: q.",
        ),
        (
            {"answers": ("42",)},
            {},
            "1 question has an answer of one or two characters, which many a text holds by chance: q.",
        ),
        ({"text": "WHO - is it", "answers": ("yes",)}, {}, "1 question is asked more than once: other = q."),
        ({"answers": ("yes",)}, {"id": "e"}, "1 document id occurs more than once: e."),
        ({"answers": ("yes",)}, {"page_content": " \t"}, "1 document is blank: d."),
        ({"answers": ("yes",)}, {"id": None}, "1 of 2 documents have no id to be judged by."),
    ],
)
def test_a_summary_says_what_looks_wrong(question, document, note):
    asked = {"id": "q", "text": "Where?", **question}
    corpus = (Document(id="e", page_content="text"), Document(**{"id": "d", "page_content": "text", **document}))
    summary = Dataset((Question("other", "Who is it?", ("a word",)), Question(**asked)), corpus).describe()
    assert summary.notes == [note]
    assert f"- {note}" in str(summary)


def test_the_notebooks_blank_lines_and_wrong_ids_are_said_aloud():
    corpus = tuple(Document(id=str(n), page_content=text) for n, text in enumerate(["one", "", "\t", "four"]))
    asked = tuple(Question(str(n), f"{n}?", (), {str(n + 90): 1}) for n in range(7))
    notes = Dataset(asked, corpus).describe().notes
    assert notes == ["7 gold ids are not in the corpus: 90, 91, 92, 93, 94 and 2 more.", "2 documents are blank: 1, 2."]


# --- the sets beside the repository -----------------------------------------------------------------------------------

# Documents, questions with a relevant document, judgements: ../shared/evaluation.md §1.
COUNTS = {
    "scifact": (5183, 300, 339),
    "noveleval": (420, 21, 420),
    "anthropic-docs": (232, 100, 192),
    "hotpotqa-100": (994, 100, 200),
    "medquad-liveqa": (1935, 96, 2311),
    "nq-oracle": (2588, 2655, 2655),
    "xquad-en": (240, 1190, 1190),
}


@pytest.mark.parametrize("name", COUNTS)
def test_the_sets_beside_the_repository_are_read_whole(data_folder, tmp_path, name):
    dataset = Dataset.load(data_folder / name)
    summary = dataset.describe()
    assert (summary.documents, summary.with_documents, sum(summary.grades.values())) == COUNTS[name]
    assert not summary.missing_documents
    dataset.save(tmp_path / name)
    assert Dataset.load(tmp_path / name) == dataset
    run = trec.load_run(data_folder / name / "runs" / "bm25.trec")
    trec.save_run(run, tmp_path / "run.gz")
    assert trec.load_run(tmp_path / "run.gz") == run


def test_bm25_runs_reproduce_the_published_figures(data_folder):
    from langchain_rerankkit import evaluate

    expected = {"noveleval": 0.678, "anthropic-docs": 0.626, "hotpotqa-100": 0.787, "medquad-liveqa": 0.553}
    for name, value in expected.items():
        report = evaluate(
            {"bm25": data_folder / name / "runs" / "bm25.trec"}, Dataset.load(data_folder / name), ["ndcg@10"]
        )
        assert report["bm25"].scores["ndcg@10"] == pytest.approx(value, abs=0.0006), name
