"""docs/composing.md: its code runs, and its configuration loads."""

import re
from pathlib import Path

import pytest

from langchain_rerankkit import CascadeReranker, load_reranker
from tests.models import save_cross_encoder, save_late_interaction

GUIDE = Path(__file__).parents[2] / "docs/composing.md"


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def models(tmp_path):
    """Small ones in place of those on the hub."""
    return {
        '"cross-encoder/ms-marco-MiniLM-L6-v2"': f'r"{save_cross_encoder(tmp_path / "cross")}"',
        '"colbert-ir/colbertv2.0"': f'r"{save_late_interaction(tmp_path / "late")}"',
    }


def test_the_code_runs(tmp_path, monkeypatch, capsys, models):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "guide"}
    for block in blocks("python"):
        for name, folder in models.items():
            block = block.replace(name, folder)  # noqa: PLW2901
        exec(compile(block, str(GUIDE), "exec"), namespace)  # noqa: S102 - our own guide
    printed = capsys.readouterr().out
    assert "CacheInfo(hits=20, misses=20" in printed
    assert [stage["kept"] for stage in namespace["best"]["stages"]] == [15, 10]
    assert namespace["whole"].invoke("festival of lights")[0].id in namespace["parents"]
    tuned = list((tmp_path / "tuned").glob("*.toml"))
    assert tuned
    assert all(load_reranker(path) for path in tuned)


def test_the_configuration_loads(tmp_path, monkeypatch):
    monkeypatch.setenv("CO_API_KEY", "of nobody")
    (text,) = blocks("toml")
    (tmp_path / "reranker.toml").write_text(text, encoding="utf-8")
    cascade = load_reranker(tmp_path / "reranker.toml")
    assert isinstance(cascade, CascadeReranker)
    assert [stage.top_n for stage in cascade.rerankers] == [30, 10]


def test_every_command_is_there():
    assert not re.findall("@[A-Z]+@", GUIDE.read_text(encoding="utf-8"))
    for name in re.findall(r"python -m tests\.benchmarks\.(\w+)", GUIDE.read_text(encoding="utf-8")):
        assert (GUIDE.parents[1] / f"tests/benchmarks/{name}.py").is_file()
