import json

import pytest
from langchain_core.documents import Document

from langchain_rerankkit import Dataset, EvaluationReport, FunctionReranker, TermStatistics
from langchain_rerankkit.cli import main
from langchain_rerankkit.cli.systems import Systems
from langchain_rerankkit.testing import FixedRetriever

DOCUMENTS = {"a": "the Nile flows", "b": "Delhi is a city", "c": "the Ganges flows through India"}
RETRIEVER = FixedRetriever(documents=[Document(id=id_, page_content=text) for id_, text in DOCUMENTS.items()])


class LongestFirst(FunctionReranker):
    """What ``tests.unit_tests.test_cli_evaluate:LongestFirst`` finds."""

    def __init__(self, **fields):
        super().__init__(function=lambda query, texts: [float(len(text)) for text in texts], **fields)


HERE = "tests.unit_tests.test_cli_evaluate"
LONGEST = f"longest={HERE}:LongestFirst"


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / "rivers"
    folder.mkdir()
    rows = [{"id": id_, "text": text} for id_, text in DOCUMENTS.items()]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)))
    questions = [
        {"id": "q1", "question": "What flows through India?", "answers": ["India"], "documents": {"c": 2}},
        {"id": "q2", "question": "Where is Delhi?", "answers": ["Delhi"], "documents": {"b": 1}},
    ]
    (folder / "questions.jsonl").write_text("\n".join(map(json.dumps, questions)))
    (folder / "first.trec").write_text(
        "".join(f"q{q} Q0 {id_} 1 {9 - n} x\n" for q in (1, 2) for n, id_ in enumerate("abc"))
    )
    return folder


def run(capsys, *arguments, status=0):
    assert main([str(argument) for argument in arguments]) == status
    return capsys.readouterr()


def test_a_run_file_and_a_reranker(capsys, dataset):
    said = run(
        capsys, "evaluate", dataset, dataset / "first.trec", LONGEST, "--metric", "mrr", "--metric", "ndcg@10"
    ).out
    assert "rivers: 2 questions" in said
    assert "| first.trec " in said
    assert "| longest " in said
    assert "| first.trec, best order " in said


def test_what_is_written_can_be_read_again(capsys, dataset, tmp_path):
    first = run(
        capsys, "evaluate", dataset, f"first={HERE}:RETRIEVER", f"{LONGEST}?top_n=2", "--metric", "mrr",
        "--json", tmp_path / "r.json", "--csv", tmp_path / "r.csv",
    ).out  # fmt: skip
    report = EvaluationReport.load(tmp_path / "r.json")
    assert [system.name for system in report.systems] == ["first", "longest"]
    assert [len(found) for found in report["longest"].rankings.values()] == [2, 2]
    assert run(capsys, "evaluate", tmp_path / "r.json").out == first
    assert (tmp_path / "r.csv").read_text().startswith('"system","id","question","mrr","failure"\n"first","q1",')
    compared = run(capsys, "compare", tmp_path / "r.json", "--baseline", "longest").out
    assert "Against longest, 2 questions" in compared
    assert (
        "--metric, --sample belong to"
        in run(capsys, "compare", tmp_path / "r.json", "--metric", "mrr", "--sample", "1", status=2).err
    )
    assert "no system 'nobody'" in run(capsys, "compare", tmp_path / "r.json", "--baseline", "nobody", status=2).err


def test_compare_says_what_can_be_claimed(capsys, dataset):
    said = run(capsys, "compare", dataset, f"first={HERE}:RETRIEVER", LONGEST, "--metric", "mrr").out
    assert "Against first, 2 questions" in said
    assert "below noise" in said


def test_the_dataset_may_be_searched_with_the_embedded_model(capsys, dataset):
    said = run(capsys, "evaluate", dataset, "faiss?k=2", "lexical", "embedded?top_n=1", "--metric", "hit@1").out
    assert "| faiss?k=2 " in said
    assert "| embedded?top_n=1 " in said


def test_the_dataset_may_be_searched_by_words_and_by_both(capsys, dataset):
    said = run(capsys, "evaluate", dataset, "bm25?k=1", "faiss?k=2", "hybrid?k=2", "--metric", "ild@2").out
    assert "| bm25?k=1 " in said
    assert "| hybrid?k=2 " in said
    assert "ild@2" in said


def test_a_search_by_words_takes_its_fields_and_shares_an_index(dataset):
    systems = Systems(Dataset.load(dataset))
    name, few = systems.named("few=bm25?k=1&b=0.5&stop_words=null")
    german, plain = systems.named("bm25?k=50&language=german")[1], systems.named("bm25?language=null")[1]
    both = systems.named("hybrid?k=2&language=german&method=atire")[1]
    assert name == "few"
    assert (few.k, few.b, few.stop_words, few.language) == (1, 0.5, None, "english")
    assert (german.k, german.language) == (50, "german")
    assert (plain.k, plain.language) == (100, None)
    assert (both.k, both.retrievers[0].k, both.retrievers[0].language) == (2, 2, "german")
    assert both.retrievers[0].method == "atire"
    assert both.retrievers[0].index is german.index
    assert len({id(one.index) for one in (few, german, plain, systems.named("bm25")[1])}) == 3
    assert [document.id for document in few.invoke("Ganges")] == ["c"]


def test_words_are_counted_once_for_each_language_and_the_corpus_embedded_where_it_is_used(dataset, monkeypatch):
    monkeypatch.setattr(Systems, "_faiss", lambda _: pytest.fail("the corpus was embedded"))
    systems = Systems(Dataset.load(dataset))
    rerankers = 'ensemble?rerankers=["lexical?language=german","lexical",{"type":"lexical","language":"null"}]'
    german, english, plain = systems.named(rerankers)[1].rerankers
    texts = list(DOCUMENTS.values())
    for reranker, language in ((german, "german"), (english, "english"), (plain, None)):
        assert reranker.statistics == TermStatistics.from_texts(texts, language=language)
    assert systems.named("lexical")[1].statistics is english.statistics


def test_documents_that_a_cache_had_a_local_model_judge_are_not_what_endpoints_were_asked(capsys, dataset):
    said = run(capsys, "evaluate", dataset, "bm25", "cached?reranker=lexical", "--metric", "mrr").out
    assert "| cached?reranker=lexical " in said
    assert "| documents " not in said
    assert "asked and cost" not in said


def test_one_page_is_written(capsys, dataset, tmp_path):
    run(
        capsys,
        "evaluate",
        dataset,
        f"first={HERE}:RETRIEVER",
        LONGEST,
        "--metric",
        "mrr",
        "--html",
        tmp_path / "r.html",
    )
    assert (tmp_path / "r.html").read_text(encoding="utf-8").lower().startswith("<!doctype html>")


def test_fail_under_is_for_continuous_integration(capsys, dataset):
    command = ["evaluate", dataset, f"first={HERE}:RETRIEVER", LONGEST, "--metric", "mrr"]
    mean = 0.75  # the answer to q1 is first, that to q2 second
    run(capsys, *command, "--fail-under", f"mrr={mean}")
    said = run(capsys, *command, "--fail-under", "mrr=0.76", status=1).err
    assert said == "rerankkit: longest: mrr is 0.7500, under 0.76\n"
    assert "first: hit@1" in run(capsys, *command, "--fail-under", "first:hit@1=0.1", status=1).err
    run(capsys, *command, "--fail-under", "first:mrr=0.1", "--fail-under", "mrr=0.1")
    run(capsys, *command, "--fail-under", "P(rel=2)@5=0.01")
    for wrong in ("mrr", "mrr=high", "accuracy=1", "nobody:mrr=1"):
        assert "rerankkit:" in run(capsys, *command, "--fail-under", wrong, status=2).err


def test_a_system_that_scored_nothing_is_under_any_limit(capsys, dataset, tmp_path):
    (tmp_path / "q.jsonl").write_text('{"id": "q", "question": "Where?", "documents": {"a": 0}}')
    command = ["evaluate", tmp_path / "q.jsonl", f"first={HERE}:RETRIEVER", "--metric", "mrr", "--gold", "documents"]
    said = run(capsys, *command, "--fail-under", "mrr=0", status=1).err
    assert "mrr is nan, under 0.0" in said


def test_answers_are_kept_and_gone_on_from(capsys, dataset, tmp_path):
    command = [
        "evaluate",
        dataset,
        f"first={HERE}:RETRIEVER",
        LONGEST,
        "--metric",
        "mrr",
        "--run-dir",
        tmp_path / "run",
    ]
    assert run(capsys, *command).out == run(capsys, *command).out
    assert "another evaluation" in run(capsys, *command, "--sample", "1", status=2).err


@pytest.mark.parametrize(
    ("systems", "why"),
    [
        ([], "at least one system"),
        (
            ["nonsense"],
            "Unknown system 'nonsense'. There are the searches bm25, faiss, hybrid and the rerankers embedded,",
        ),
        (["bm52"], "Unknown system 'bm52'. Did you mean 'bm25'?"),
        (["lexical"], "comes first"),
        (["missing.module:Thing"], "cannot be imported"),
        ([f"{HERE}:DOCUMENTS"], "is a dict"),
        ([f"{HERE}:RETRIEVER", f"{HERE}:RETRIEVER"], "Two systems are called"),
        (["faiss?k"], "is not NAME=VALUE"),
        (["faiss?n=3"], "faiss has no field 'n'. It takes k."),
        (["faiss?language=german"], "faiss has no field 'language'"),
        (
            ["bm25?languag=german"],
            "bm25 has no field 'languag'. Did you mean 'language'? It takes k, language, stop_words,",
        ),
        (["bm25?index=3"], "bm25 has no field 'index'"),
        (["bm25?preprocess_func=os:system"], "bm25 has no field 'preprocess_func'"),
        (["bm25?k=3&k=4"], "said twice"),
        (["bm25?b=2"], "bm25: b: Input should be less than"),
        (["hybrid?language=klingon"], "hybrid: There is no stemmer for 'klingon'"),
        *(
            ([f"{kind}?k={k}"], f"{kind}: k is a number of documents, at least 1")
            for kind in ("bm25", "faiss", "hybrid")
            for k in ("0", "-1", "2.5", "true", "many")
        ),
        (["bm25", "diversity?top_n=2"], 'embeddings is "embedded", or given as'),
        ([f"{HERE}:RETRIEVER", f"{HERE}:LongestFirst?topn=3"], "topn"),
    ],
)
def test_mistakes_are_said_in_a_sentence(capsys, dataset, systems, why):
    assert why in run(capsys, "evaluate", dataset, *systems, status=2).err


def test_help_says_what_a_system_is(capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", "--help"])
    said = capsys.readouterr().out
    assert "cross-encoder:./model?top_n=10" in said
    assert "--fail-under" in said
