"""The README's code runs, and what it says that it prints is what it prints."""

import json
import re
import sys
import types
from pathlib import Path

import pytest
from langchain_core.language_models import FakeListChatModel

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def numbers(table):
    """System and quality columns of a report; latency differs from machine to machine."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")]
    quality = [position for position, name in enumerate(rows[0]) if " ms" not in name]
    return [[row[position] for position in quality] for row in rows if not row[0].startswith("-")]


@pytest.fixture
def scripted_chat_model(monkeypatch):
    """A chat model that answers from a script, in place of langchain-openai's."""
    prompts = []

    class ChatOpenAI(FakeListChatModel):
        responses: list[str] = ["In India."]

        def _call(self, messages, *args, **kwargs):
            prompts.append(messages[0].content)
            return super()._call(messages, *args, **kwargs)

    module = types.ModuleType("langchain_openai")
    module.ChatOpenAI = ChatOpenAI
    monkeypatch.setitem(sys.modules, "langchain_openai", module)
    return prompts


def test_the_code_runs_and_prints_what_is_shown(capsys, scripted_chat_model):
    namespace = {"__name__": "readme"}
    printed = []
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), namespace)  # noqa: S102 - our own README
        printed.append(capsys.readouterr().out)
    assert printed[0] == "In India.\n"
    assert "Diwali" in scripted_chat_model[0]
    (shown,) = blocks("text")
    for got, wanted in zip(numbers(next(filter(None, printed[1:]))), numbers(shown), strict=True):
        assert got[0] == wanted[0]
        if got[0] == "system":
            assert got == wanted
        else:  # another processor's rounding may swap two near ties
            assert [float(cell) for cell in got[1:]] == pytest.approx([float(cell) for cell in wanted[1:]], abs=0.02)
    assert printed[-1] == "short\n"


def test_it_is_short_and_has_the_two_set_up_lines():
    assert len(README.splitlines()) <= 200
    assert re.findall(r"^pip install -e.*$", README, re.MULTILINE) == [
        'pip install -e ".[demo]" && rerankkit demo',
        'pip install -e ".[dev]" && pip install --no-deps "rank-llm>=0.25.7" && pytest',
    ]


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_the_benchmark_table_is_what_the_command_wrote():
    from langchain_rerankkit.bench.report import table

    result = json.loads((ROOT / "notebooks" / "benchmark.json").read_text(encoding="utf-8"))
    assert table(result) in (ROOT / "docs/local_models.md").read_text(encoding="utf-8")
