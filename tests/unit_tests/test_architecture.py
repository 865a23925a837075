"""The rules of the folder tree, checked on the source."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import langchain_rerankkit
from langchain_rerankkit import Reranker

ROOT = Path(langchain_rerankkit.__file__).parent
PROJECT = ROOT.parent
MODULES = {
    ".".join(["langchain_rerankkit", *path.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}

# Who may import whom: the first prefix that fits a module says what it may import of ours. "errors", "_optional", "_progress" and
# the package's own sub-modules are free for all.
ALLOWED = {
    "errors": [],
    "_optional": [],
    "_steps": [],
    "_progress": [],
    "ranking": [],
    "passages": [],
    "lexical": [],
    "inference.batching": [],
    "inference.similarity": ["records", "vectorstores.reading"],
    "inference": ["inference", "passages"],
    "documents": [],
    "saved": [],
    "inverted_index": [],
    "index_files": ["documents", "inverted_index", "saved"],
    "vectorstores": ["vectorstores", "documents", "saved"],
    "embedded": ["embedded", "inference"],
    "evaluation.diversity": [],
    "evaluation.ir_measures": [],
    "evaluation.metrics": ["evaluation.diversity", "evaluation.ir_measures"],
    "evaluation.significance": [],
    "evaluation.wording": [],
    "evaluation.table": [],
    "evaluation.datasets": ["evaluation.datasets", "evaluation.gold.matching", "evaluation.wording"],
    "evaluation.gold.matching": ["lexical", "evaluation.datasets.questions"],
    "evaluation.gold.llm_judgements": ["llm"],
    "evaluation.gold": ["evaluation.gold", "evaluation.datasets", "evaluation.metrics", "llm"],
    "evaluation.report": ["evaluation.table", "evaluation.wording", "evaluation.datasets.files", "evaluation"],
    "evaluation.running": [
        *("evaluation.running", "evaluation.datasets", "evaluation.gold", "evaluation.metrics", "evaluation.report"),
        "evaluation.diversity",
        *("evaluation.wording", "base", "records"),
    ],
    "evaluation.calibration": [
        *(
            "evaluation.calibration",
            "evaluation.datasets",
            "evaluation.gold",
            "model_id",
            "evaluation.table",
        ),
        *("evaluation.wording", "base", "records"),
    ],
    "evaluation.compare": ["evaluation.report", "evaluation.significance", "evaluation.table", "evaluation.wording"],
    "evaluation.page": [
        "evaluation.page",
        "evaluation.compare",
        "evaluation.report",
        "evaluation.significance",
        "evaluation.table",
    ],
    "evaluation.regression": ["evaluation.compare", "evaluation.report", "evaluation.wording"],
    "evaluation.langsmith": ["evaluation", "records"],
    "evaluation": ["evaluation", "model_id"],
    "records": [],
    # The wire: knows nothing of rerankers and documents.
    "hosted": ["hosted", "_steps"],
    # Asking a language model, but for the calls themselves, which are the rerankers'.
    "llm": ["llm", "ranking"],
    "tracing": ["records"],
    "base": ["ranking", "records", "tracing"],
    "model_id": ["base", ""],
    "score_cache": [],
    # A reranker never imports another one, but what all local ones, or all that ask a chat model, have in common;
    # combiners see only the base.
    "rerankers": [
        "base",
        "records",
        "ranking",
        "tracing",
        "lexical",
        "inference",
        "llm",
        "hosted",
        "_steps",
        "embedded",
        "vectorstores.reading",
        "passages",
        "rerankers.chat",
        "rerankers.chunking",
        "rerankers.local",
        "rerankers.hosted",
        "model_id",
        "score_cache",
        "rerankers.combining",
        "rerankers.staged",
        "rerankers._rankllm_guard",
    ],
    "retrievers.bm25": ["documents", "index_files", "inverted_index", "lexical", "saved"],
    "retrievers": ["base", "records", "ranking", "retrievers.combining", "retrievers.scoring"],
    "testing": ["base", "records", "retrievers"],
    "demo": ["embedded", "evaluation", "inference", "rerankers", "vectorstores", "base"],
    "bench": ["bench", "inference", "ranking", "rerankers", "embedded"],
    "config": ["config", "base", "hosted.profiles", "lexical", "llm.prompts", "model_id", ""],
    # Above evaluation, which never sees a backend: it makes cascades and ensembles of what it is given.
    "tuning": [
        *("tuning", "base", "config", "evaluation", "records"),
        *("rerankers.cascade", "rerankers.ensemble"),
    ],
    "cli": [
        "cli",
        "base",
        "config",
        "bench",
        "demo",
        "embedded",
        "evaluation",
        "inference",
        "lexical",
        "rerankers",
        "retrievers",
        "tuning",
        "vectorstores",
        "",
    ],
    "__main__": ["cli"],
}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module


def fits(name, prefixes):
    return any(name == prefix or (prefix and name.startswith(f"{prefix}.")) for prefix in prefixes)


@pytest.mark.parametrize("module", [name for name in MODULES if name != "langchain_rerankkit"])
def test_import_directions(module):
    name = module.removeprefix("langchain_rerankkit.")
    allowed = next(rule for prefix, rule in ALLOWED.items() if fits(name, [prefix]))
    ours = [
        m.removeprefix("langchain_rerankkit").removeprefix(".")
        for m in imports(MODULES[module])
        if m.startswith("langchain_rerankkit")
    ]
    wrong = [
        other for other in ours if other != name and not fits(other, [*allowed, "errors", "_optional", "_progress"])
    ]
    assert not wrong, f"{name} may not import {wrong}"


@pytest.mark.parametrize("module", MODULES)
def test_nothing_is_unpickled_and_nothing_configures_logging(module):
    source = MODULES[module].read_text(encoding="utf-8")
    tree = ast.parse(source)
    if module != "langchain_rerankkit.testing":
        assert not {"pickle", "dill", "cloudpickle", "joblib"} & set(imports(MODULES[module]))
        assert not [node for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    calls = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert not {"eval", "exec"} & calls
    assert "basicConfig(" not in source


def test_modules_stay_small():
    long = {name: lines for name, path in MODULES.items() if (lines := len(path.read_text().splitlines())) > 400}
    assert set(long) <= {"langchain_rerankkit.base", "langchain_rerankkit.vectorstores.faiss"}, long


def fresh(code):
    """What a fresh interpreter prints."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT
    ).stdout


HEAVY = [
    "torch",
    "numpy",
    "scipy",
    "onnxruntime",
    "openvino",
    "transformers",
    "sentence_transformers",
    "tokenizers",
    "huggingface_hub",
    "faiss",
    "openai",
    "rank_llm",
    "flashrank",
    "ir_measures",
    "bm25s",
    "Stemmer",
    "langchain_community",
    "langchain_classic",
    "pandas",
    "openpyxl",
    "ir_datasets",
    "plotly",
    "rich",
    "tqdm",
    "ray",
    "pyarrow",
    "opentelemetry",
]


def test_importing_loads_nothing_heavy_and_takes_no_time():
    code = f"""
import sys, time
import langchain_core.documents, langchain_core.runnables, langchain_core.retrievers
before = set(sys.modules)
start = time.perf_counter()
import langchain_rerankkit
for name in langchain_rerankkit.__all__:
    getattr(langchain_rerankkit, name)
seconds = time.perf_counter() - start
new = {{module.partition('.')[0] for module in set(sys.modules) - before}}
print(sorted(new & set({HEAVY!r})), seconds)
"""
    results = [fresh(code).split("] ") for _ in range(3)]
    assert {heavy for heavy, _ in results} == {"["}, results
    # Bounds of the design, not benchmarks: the best of three, since the machine may be busy. All names at once are more
    # than anyone asks for; the package alone is what everyone pays.
    assert min(float(seconds) for _, seconds in results) < 0.5
    alone = """
import time
import langchain_core.documents, langchain_core.runnables, langchain_core.retrievers
start = time.perf_counter()
import langchain_rerankkit
print(time.perf_counter() - start)
"""
    assert min(float(fresh(alone)) for _ in range(3)) < 0.02


def read_project():
    tomllib = pytest.importorskip("tomllib", reason="the standard library reads TOML from Python 3.11")
    return tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]


def test_only_langchain_core_is_needed():
    project = read_project()
    assert project["dependencies"] == ["langchain-core>=1.0,<2"]
    for extra, requirements in project["optional-dependencies"].items():
        loose = [r for r in requirements if not any(sign in r for sign in (">=", "==", "["))]
        assert not loose, f"{extra} has no lower bound for {loose}"


def test_every_public_name_is_there_and_every_extra_exists():
    for name in langchain_rerankkit.__all__:
        assert getattr(langchain_rerankkit, name) is not None
    assert set(langchain_rerankkit.__all__) <= set(dir(langchain_rerankkit))
    with pytest.raises(AttributeError, match="no attribute 'Rerankr'"):
        langchain_rerankkit.Rerankr  # noqa: B018
    extras = read_project()["optional-dependencies"]
    for path in MODULES.values():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "require":
                extra = next(k.value for k in node.keywords if k.arg == "extra")
                assert getattr(extra, "value", "lexical") in extras, f"{path}: unknown extra"


def test_every_reranker_is_exported_and_passes_the_conformance_suite():
    tests = "\n".join(path.read_text() for path in (PROJECT / "tests/unit_tests/rerankers").glob("*.py"))
    bases = {"Reranker", "LocalReranker", "ChunkingReranker", "ChatReranker", "CombiningReranker", "StagedReranker"}
    for name, path in MODULES.items():
        if not name.startswith("langchain_rerankkit.rerankers.") or name.endswith(
            (".local", ".chunking", ".chat", ".combining", ".staged")
        ):
            continue
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and {getattr(base, "id", "") for base in node.bases} & bases:
                assert issubclass(getattr(langchain_rerankkit, node.name), Reranker)
                # All hosted ones are tested in one file, a class for each profile.
                assert f"class Test{node.name}(" in tests or node.name == "HostedReranker", (
                    f"{node.name} lacks its test"
                )
