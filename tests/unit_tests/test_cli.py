import io
import json
import subprocess
import sys

import pytest

from langchain_rerankkit import FallbackReranker, FunctionReranker, LexicalReranker, __version__
from langchain_rerankkit.cli import main


class LongestFirst(FunctionReranker):
    """What ``--reranker tests.unit_tests.test_cli:LongestFirst`` finds."""

    def __init__(self, **fields):
        super().__init__(function=lambda query, texts: [float(len(text)) for text in texts], **fields)


OURS = ["--reranker", "tests.unit_tests.test_cli:LongestFirst"]


def rerank(capsys, *arguments):
    assert main(["rerank", *arguments]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_text_lines(capsys, tmp_path):
    file = tmp_path / "passages.txt"
    file.write_text("a\n\n  \nccc — ć\nbb\n", encoding="utf-8")
    rows = rerank(capsys, "q", str(file), *OURS)
    assert [row["text"] for row in rows] == ["ccc — ć", "bb", "a"]
    assert rows[1] == {
        "rank": 2,
        "previous_rank": 3,
        "score": 2.0,
        "status": "ok",
        "id": None,
        "text": "bb",
        "metadata": {},
        "rerank": {},
    }
    assert [row["text"] for row in rerank(capsys, "q", str(file), *OURS, "--top-n", "1")] == ["ccc — ć"]
    assert len(rerank(capsys, "q", str(file), *OURS, "--min-score", "2")) == 2


def test_json_lines_from_standard_input(capsys, monkeypatch):
    lines = ['{"id": 7, "text": "a", "metadata": {"k": [1]}}', '{"text": ""}', '{"text": "bb"}']
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines)))
    rows = rerank(capsys, "q", *OURS)
    assert [(row["id"], row["text"], row["score"]) for row in rows] == [
        (None, "bb", 2.0),
        ("7", "a", 1.0),
        (None, "", None),
    ]
    assert rows[1]["metadata"] == {"k": [1]}
    assert rows[2]["status"] == "blank"


def test_what_a_reranker_says_of_a_document_is_written(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("the river\nthe city\n"))
    rows = rerank(capsys, "river", "--reranker", 'fallback?rerankers=["lexical"]')
    expected = FallbackReranker([LexicalReranker()]).rank("river", ["the river", "the city"])
    assert [row["rerank"] for row in rows] == [line.details for line in expected]
    assert rows[0]["rerank"]


def test_one_of_your_own_is_found_from_the_current_folder(capsys, monkeypatch, tmp_path):
    (tmp_path / "mine_in_this_folder.py").write_text("from langchain_rerankkit import LexicalReranker as Mine\n")
    monkeypatch.setattr(sys, "stdin", io.StringIO("a\n"))
    monkeypatch.setattr(sys, "path", before := [entry for entry in sys.path if entry])
    monkeypatch.chdir(tmp_path)
    path = list(before)
    assert [row["text"] for row in rerank(capsys, "a", "--reranker", "mine_in_this_folder:Mine")] == ["a"]
    assert sys.path == path


def test_a_text_that_looks_like_json(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("{a}\nb\n"))
    assert [row["text"] for row in rerank(capsys, "q", "--format", "text", *OURS)] == ["{a}", "b"]


def test_nothing_in_nothing_out(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert rerank(capsys, "q") == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--reranker", "unknown"], "Unknown reranker 'unknown'"),
        (["--reranker", "no.such:Class"], "cannot be imported"),
        (["--reranker", "json:JSONDecoder"], "not a Reranker class"),
        ([*OURS, "--top-n", "0"], "top_n"),
        (["--reranker", "lexical", "--model", "x"], "model"),
        (["--reranker", "cross-encoder", "--model", "/no/such/folder"], "There is no folder"),
        (["/no/such/file"], "No such file"),
    ],
)
def test_mistakes_are_one_sentence_and_status_2(capsys, monkeypatch, arguments, message):
    monkeypatch.setattr(sys, "stdin", io.StringIO("a\n"))
    assert main(["rerank", "q", *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("line", ["{", "[]", '{"x": 1}', '{"text": 3}', '{"text": "a", "metadata": 3}'])
def test_bad_lines_are_named(capsys, tmp_path, line):
    file = tmp_path / "bad.jsonl"
    file.write_text(f'{{"text": "good"}}\n{line}\n')
    assert main(["rerank", "q", str(file), *OURS]) == 2
    assert f"{file}:2" in capsys.readouterr().err


def test_version_and_help():
    out = subprocess.run(
        [sys.executable, "-m", "langchain_rerankkit", "--version"], capture_output=True, text=True, check=True
    ).stdout
    assert out.strip() == f"rerankkit {__version__}"
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0


def test_the_demo_names_its_extra(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert main(["demo"]) == 2
    assert "pip install 'langchain-rerankkit[demo]'" in capsys.readouterr().err
