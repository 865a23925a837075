import os

# No test may depend on a model hub, but for those that ask for one; set before any hub client is imported.
if not os.environ.get("RERANKKIT_NETWORK"):
    os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["LANGSMITH_TRACING"] = "false"

import weakref
from collections import deque
from pathlib import Path

import pytest
from hypothesis import settings

from langchain_rerankkit.inference import shared
from langchain_rerankkit.inference.export import export
from tests import models

# The first example often loads a library; and a failure must come back on the next run.
settings.register_profile("rerankkit", deadline=None, derandomize=True, database=None)
settings.load_profile("rerankkit")


@pytest.fixture(scope="session")
def cross_encoder_folder(tmp_path_factory) -> Path:
    return models.save_cross_encoder(tmp_path_factory.mktemp("cross-encoder"))


@pytest.fixture(scope="session")
def every_format_folder(tmp_path_factory) -> Path:
    """One cross-encoder as safetensors and as graphs with full, half and int8 weights."""
    folder = models.save_cross_encoder(tmp_path_factory.mktemp("every-format"), spread=0.16)
    export(str(folder), folder, precisions=["fp32", "fp16", "int8"])
    return folder


@pytest.fixture(scope="session")
def flashrank_folder(tmp_path_factory) -> Path:
    return models.save_flashrank(tmp_path_factory.mktemp("flashrank") / models.FLASHRANK_NAME)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The retrieval test sets beside the repository."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the retrieval test sets are not beside this checkout (../shared/data)")
    return folder


@pytest.fixture
def no_shared_models(monkeypatch):
    """As in a fresh process: every model is loaded anew."""
    monkeypatch.setattr(shared, "_models", weakref.WeakValueDictionary())
    monkeypatch.setattr(shared, "_recent", deque(maxlen=2))


def pytest_addoption(parser):
    parser.addoption("--write-tables", action="store_true", help="write the tables of docs/hosted.md")
