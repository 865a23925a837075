import json
import random
import sys

import pytest

from langchain_rerankkit import CascadeReranker, FunctionReranker, load_reranker
from langchain_rerankkit.cli import main
from langchain_rerankkit.testing import FixedRetriever

WORDS = ("river", "city", "bridge", "museum", "train", "coast", "bread", "cheese", "plain", "hour", "art", "nine")
RETRIEVER = FixedRetriever(documents=[])


class Mine(FunctionReranker):
    def __init__(self, **fields):
        super().__init__(function=lambda query, texts: [float(len(text)) for text in texts], **fields)


HERE = "tests.unit_tests.test_cli_tune"


@pytest.fixture
def dataset(tmp_path):
    """Of each question the document that answers it stands tenth, and repeats the question's rarest word."""
    folder = tmp_path / "words"
    folder.mkdir()
    rows, questions, run = [], [], []
    for number in range(40):
        draw = random.Random(number)
        name = f"name{number}"
        for place in range(12):
            text = " ".join(draw.choices(WORDS, k=8)) + (f" {name} {name}" if place == 9 else "")
            rows.append({"id": f"{number}-{place}", "text": text})
            run.append(f"{number} Q0 {number}-{place} {place + 1} {100 - place} run")
        questions.append(
            {"id": str(number), "question": f"{draw.choice(WORDS)} {name}", "documents": {f"{number}-9": 1}}
        )
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "questions.jsonl").write_text("\n".join(map(json.dumps, questions)))
    (folder / "run.trec").write_text("\n".join(run))
    return folder


def run(capsys, *arguments, status=0):
    assert main([str(argument) for argument in arguments]) == status
    return capsys.readouterr()


def test_what_is_tuned_is_written_and_can_be_evaluated_and_used(capsys, dataset, tmp_path):
    out = tmp_path / "tuned"
    said = run(
        capsys, "tune", dataset, dataset / "run.trec", "lexical?b=0", "usual=lexical", "--budget", "5", "--depth", "10",
        "--out", out,
    ).out  # fmt: skip
    file = out / "within-5000ms.toml"
    assert f"wrote {file}" in said
    assert "| 5000 ms |" in said
    assert "too few to tell settings apart" in said
    assert "load_reranker(path, statistics=…)" in file.read_text(encoding="utf-8")

    said = run(capsys, "evaluate", dataset, dataset / "run.trec", f"tuned={file}", "--metric", "hit@1").out
    assert "| tuned                | 1.000 " in said
    passages = tmp_path / "passages.txt"
    passages.write_text("the city\nthe river\n")
    said = run(capsys, "rerank", "river", passages, "--reranker", file, "--top-n", "1").out
    assert [json.loads(line)["text"] for line in said.splitlines()] == ["the river"]


def test_a_budget_that_chooses_nothing_is_said_to_write_nothing(capsys, dataset, tmp_path):
    budgets = ["--budget", "0.0000001", "--budget", "5"]
    said = run(capsys, "tune", dataset, dataset / "run.trec", "lexical", *budgets, "--out", tmp_path / "tuned").out
    assert "nothing written for within 0.0001 ms: no reranking\n" in said
    assert [file.name for file in (tmp_path / "tuned").iterdir()] == ["within-5000ms.toml"]
    assert "nothing written" not in run(capsys, "tune", dataset, dataset / "run.trec", "lexical", *budgets).out


def ask(*_, **__):
    pytest.fail("something was asked")


@pytest.mark.parametrize("mistake", ["no tomli_w", "a file in place of the folder"])
def test_what_cannot_be_written_is_said_before_anything_is_asked(capsys, dataset, tmp_path, monkeypatch, mistake):
    monkeypatch.setattr("langchain_rerankkit.tuning.tune.tune", ask)
    out = tmp_path / "tuned"
    if mistake == "no tomli_w":
        monkeypatch.setitem(sys.modules, "tomli_w", None)
        why = "pip install 'langchain-rerankkit[config]'"
    else:
        out.write_text("")
        why = "tuned"
    said = run(capsys, "tune", dataset, dataset / "run.trec", "lexical", "--out", out, status=2)
    assert why in said.err


def test_depths_cut_what_is_read(capsys, dataset, tmp_path):
    # With the answer tenth, five documents are too few: whatever is chosen reads all.
    run(capsys, "tune", dataset, dataset / "run.trec", "lexical", "--budget", "5", "--depth", "5", "--out", tmp_path)
    loaded = load_reranker(tmp_path / "within-5000ms.toml")
    assert not isinstance(loaded, CascadeReranker)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["lexical", "lexical"], "Two rerankers are called 'lexical'"),
        (["lexical?top_n=3"], "top_n"),
        (["lexica"], "Unknown system 'lexica'. Did you mean 'lexical'"),
        ([f"{HERE}:RETRIEVER"], "is no reranker"),
        ([f"{HERE}:Mine", "--out", "tuned"], "none of embedded"),
        (["cohere:m?api_key=hush"], "environment variable"),
        (["lexical", "--budget", "0"], "above 0"),
        (["lexical", "--budget", "nan"], "above 0"),
        (["tei?base_url=https://h.example/x?api_key=hush", "--out", "tuned"], "may hold a secret"),
        (["lexical", "--metric", "nonsense"], "Unknown metric"),
    ],
)
def test_mistakes_are_one_sentence_and_status_2(capsys, dataset, arguments, why):
    said = run(capsys, "tune", dataset, dataset / "run.trec", *arguments, status=2)
    assert why in said.err
    assert "hush" not in said.err


def test_one_of_your_own_can_be_tuned_but_not_written(capsys, dataset):
    said = run(capsys, "tune", dataset, dataset / "run.trec", f"mine={HERE}:Mine", "--budget", "5", "--depth", "10").out
    assert "| 5000 ms |" in said


def test_a_file_is_trusted_less_than_a_line(capsys, tmp_path):
    file = tmp_path / "stranger.toml"
    file.write_text('type = "vllm"\nmodel = "m"\nbase_url = "http://127.0.0.1:9"\nmax_retries = 0\n')
    passages = tmp_path / "passages.txt"
    passages.write_text("a\n")
    said = run(capsys, "rerank", "q", passages, "--reranker", file, status=2).err
    assert "base_url says who is sent queries" in said
    for arguments in (
        ["--reranker", file, "--allow", "base_url"],
        ["--reranker", "vllm:m?base_url=http://127.0.0.1:9&max_retries=0"],
    ):
        said = run(capsys, "rerank", "q", passages, *arguments, status=2).err
        assert "base_url says" not in said
        assert "127.0.0.1" in said  # it was asked, and does not answer


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("top_n = 3", "table with a type"),
        ('type = "ensemble"\nrerankers = ["/etc/passwd.toml"]', "rerankers[0]: Unknown reranker"),
        ('type = "ensemble"\nrerankers = ["lexical?topn=3"]', "rerankers[0]: lexical has no field 'topn'"),
        ('type = "lexical"\ntop_n = "x"', "top_n"),
    ],
)
def test_mistakes_in_a_file_are_said_with_its_name(capsys, dataset, tmp_path, content, why):
    file = tmp_path / "wrong.toml"
    file.write_text(content)
    said = run(capsys, "evaluate", dataset, dataset / "run.trec", file, status=2).err
    assert said.startswith(f"rerankkit: {file}")
    assert why in said


@pytest.mark.parametrize("content", ['rerankers = [{type = ["x"]}]', 'type = "ensemble"\nrerankers = [{type = ["x"]}]'])
def test_a_type_that_is_no_text_is_said_with_file_and_place(capsys, dataset, tmp_path, content):
    file = tmp_path / "wrong.toml"
    file.write_text(content)
    passages = tmp_path / "passages.txt"
    passages.write_text("a\n")
    place = ", rerankers[0]: Unknown" if content.startswith("type") else ": A reranker is a table"
    for arguments in (
        ["evaluate", dataset, dataset / "run.trec", file],
        ["rerank", "q", passages, "--reranker", file],
        ["rerank", "q", passages, "--reranker", file, "--top-n", "1"],
    ):
        assert run(capsys, *arguments, status=2).err.startswith(f"rerankkit: {file}{place}")
