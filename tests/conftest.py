import os

# No test may depend on a model hub, but for those that ask for one; set before any hub client is imported.
if not os.environ.get("RERANKKIT_NETWORK"):
    os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["LANGSMITH_TRACING"] = "false"

from pathlib import Path

import pytest
from hypothesis import settings

from tests import models

# The first example often loads a library; and a failure must come back on the next run.
settings.register_profile("rerankkit", deadline=None, derandomize=True, database=None)
settings.load_profile("rerankkit")


@pytest.fixture(scope="session")
def cross_encoder_folder(tmp_path_factory) -> Path:
    return models.save_cross_encoder(tmp_path_factory.mktemp("cross-encoder"))


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
