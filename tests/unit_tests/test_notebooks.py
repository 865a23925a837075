import re
from pathlib import Path

import pytest

from tests.langsmith_server import serve_langsmith

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
SLOW = {"choosing_a_reranker"}
QUIET = {
    "RERANKKIT_PROGRESS": "0",
    "TQDM_DISABLE": "1",  # LangSmith's bar
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
}

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
each_notebook_run = pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=pytest.mark.slow) if path.stem in SLOW else path for path in NOTEBOOKS],
    ids=lambda path: path.stem,
)
jupyters_own = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(autouse=True)
def no_account(monkeypatch, tmp_path):
    """Kernels inherit this; what notebooks write goes nowhere."""
    for name in ("LANGSMITH_API_KEY", "LANGSMITH_ENDPOINT", "LANGCHAIN_API_KEY", "LANGCHAIN_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)


def run(path):
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    return notebook


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook):
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def printed(notebook):
    return "".join(output.text for output in outputs(notebook) if output.output_type == "stream")


def pictures(notebook):
    return sum("image/png" in output.get("data", {}) for output in outputs(notebook))


@each_notebook_run
@jupyters_own
def test_a_notebook_runs_from_start_to_end_and_shows_what_is_stored(path, monkeypatch):
    with serve_langsmith() as langsmith:
        monkeypatch.setenv("LANGSMITH_ENDPOINT", langsmith.url)
        stored, ran = nbformat.read(path, as_version=4), run(path)
    assert not langsmith.calls, "without a key nothing is sent"
    assert outputs(ran)
    assert not [output.text for output in outputs(ran) if output.get("name") == "stderr"], "a warning"
    assert pictures(ran) == pictures(stored)
    for cell, then in zip(code_cells(ran), code_cells(stored), strict=True):
        assert bool(cell.outputs) == bool(then.outputs), cell.source


@jupyters_own
def test_the_cells_that_upload_do_upload(monkeypatch):
    path = FOLDER / "evaluation_with_langsmith.ipynb"
    with serve_langsmith() as langsmith:
        monkeypatch.setenv("LANGSMITH_API_KEY", "unused")
        monkeypatch.setenv("LANGSMITH_ENDPOINT", langsmith.url)
        ran = run(path)
    assert "Not uploaded" not in printed(ran)
    (dataset,) = langsmith.datasets.values()
    questions = {example["metadata"]["id"] for example in langsmith.examples.values()}
    assert len(questions) > 20
    assert {example["dataset_id"] for example in langsmith.examples.values()} == {dataset["id"]}
    for name in ("embedded", "FAISS alone", "EmbeddedReranker"):
        runs = langsmith.runs_of(langsmith.experiment(name))
        assert set(runs) == questions
        assert all("ndcg@10" in langsmith.scores_of(one) for one in runs.values())
    (trace,) = [
        r for r in langsmith.runs.values() if r.get("session_name") == dataset["name"] and not r.get("parent_run_id")
    ]
    inside = {one["name"] for one in langsmith.runs.values() if one.get("parent_run_id") == trace["id"]}
    assert inside == {"VectorStoreRetriever", "EmbeddedReranker"}


@each_notebook
def test_a_stored_notebook_is_small_whole_and_of_no_machine(path):
    notebook = nbformat.read(path, as_version=4)
    assert path.stat().st_size < 500_000
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1)), "run from start to end"
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"/(?:tmp|home|root|work|usr|Users)/|[A-Z]:\\\\", text), "a path of one machine"
    assert not re.search(r"<script|https?://(?:cdn|unpkg)", text), "something to be loaded when it is looked at"
    for output in outputs(notebook):
        assert output.output_type != "error", output.get("evalue")
        assert output.get("name") != "stderr", output.text


@each_notebook
def test_notebooks_use_what_is_public(path):
    code = "\n".join(cell.source for cell in code_cells(nbformat.read(path, as_version=4)))
    modules = set(re.findall(r"(?:from|import) (langchain_rerankkit[\w.]*)", code))
    assert modules <= {"langchain_rerankkit", "langchain_rerankkit.demo"}
