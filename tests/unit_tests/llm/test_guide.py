"""The guide to rerankers that are language models: its code runs, its links lead somewhere."""

import re
from pathlib import Path

from langchain_core.documents import Document

from tests.chat_server import chat_server, reverse_order

GUIDE = Path(__file__).parents[3] / "docs" / "language_models.md"


def test_its_code_runs(monkeypatch):
    code, in_chunks = re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    names = {"question": "which?", "documents": [Document(page_content=f"text {n}", id=str(n)) for n in range(30)]}
    with chat_server(reverse_order) as server:
        monkeypatch.setenv("OPENAI_API_BASE", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "x")
        exec(compile(code, GUIDE.name, "exec"), names)  # noqa: S102 - our own guide
        assert len(names["documents"]) == 5
        assert names["documents"][0].metadata["rerank"]["usage"]["calls"] == 2
        names["documents"].append(Document(page_content="A long text. " * 200))
        exec(compile(in_chunks, GUIDE.name, "exec"), names)  # noqa: S102
    assert any(document.metadata["rerank"].get("best_span") for document in names["documents"])


def test_its_links_lead_somewhere():
    links = re.findall(r"\]\(([^)]+)\)", GUIDE.read_text())
    assert links
    assert all((GUIDE.parent / link).resolve().exists() for link in links)
