"""Late-interaction models, of the ColBERT family: from a folder or the hub, whole or not at all."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from langchain_rerankkit._optional import require
from langchain_rerankkit.errors import ModelNotFoundError
from langchain_rerankkit.inference.models import ModelFiles, snapshot
from langchain_rerankkit.inference.shared import shared
from langchain_rerankkit.inference.token_encoder import TokenEncoder
from langchain_rerankkit.inference.torch import dtype_of, fastest

if TYPE_CHECKING:
    from langchain_rerankkit.inference.models import Precision

__all__ = ["load_token_encoder"]


def load_token_encoder(
    model: str,
    *,
    precision: Precision = "auto",
    device: str | None = None,
    threads: int | None = None,
    revision: str | None = None,
    cache_dir: str | None = None,
    local_files_only: bool = False,
    trust_remote_code: bool = False,
) -> TokenEncoder:
    """The model of a folder or the hub, shared by all who ask for the same in this process.

    Args:
        model: A folder, or a name on the hub: a checkpoint of sentence-transformers, PyLate or Stanford's ColBERT.
        precision: ``"auto"`` is bf16 (fp16) where the device multiplies it natively, else fp32.
        device: torch's name; by default the fastest one found.
        threads: Threads of one operation, which torch sets for the whole process; by default left as it is.
        revision: Commit, tag or branch on the hub.
        cache_dir: Folder for downloads.
        local_files_only: Never download; also switched on by ``HF_HUB_OFFLINE``.
        trust_remote_code: Run Python code that comes with the model.

    Raises:
        ModelNotFoundError: If the model cannot be loaded, or was not made for late interaction.
        ValueError: If torch cannot compute as asked.
    """
    if precision == "int8":
        msg = "Late-interaction models are not run in int8; their vectors can be kept in it (store_precision)."
        raise ValueError(msg)
    sentence_transformers, torch = require("sentence_transformers", extra="local"), require("torch", extra="local")
    folder = Path(model).expanduser()
    if not folder.is_dir():
        folder = _fetched(model, revision, cache_dir, local_files_only=local_files_only, code=trust_remote_code)
    files = ModelFiles(model, folder.resolve(), None)
    key = ("late interaction", files.folder, files.changed, precision, device, threads, trust_remote_code)

    def load() -> TokenEncoder:
        if threads is not None:
            torch.set_num_threads(threads)
        files.check_weights()
        _check_trained(files)
        target = device or sentence_transformers.util.get_device_name()
        chosen = fastest(torch, target) if precision == "auto" else precision
        try:
            loaded = sentence_transformers.MultiVectorEncoder(
                str(files.folder),
                device=target,
                local_files_only=True,
                trust_remote_code=trust_remote_code,
                model_kwargs={"dtype": dtype_of(torch, chosen), "use_safetensors": True},  # never pickles
            )
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            msg = f"The late-interaction model {model!r} could not be loaded: {error}"
            raise ModelNotFoundError(msg, searched=[files.folder]) from error
        return TokenEncoder(loaded, fixed=True)

    return shared(key, load)


def _fetched(model: str, revision: str | None, cache_dir: str | None, *, local_files_only: bool, code: bool) -> Path:
    """The folder of a model in the hub's cache, downloaded if need be: no pickles, and code only where it is trusted."""
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", model) or model.startswith("."):
        msg = f"There is no folder {model!r}, and it is not a name on the model hub either."
        raise ModelNotFoundError(msg, searched=[model])
    hub = require("huggingface_hub", extra="local")
    try:
        return snapshot(model, revision, cache_dir, local_files_only=local_files_only, code=code)
    except Exception as error:
        place = cache_dir or hub.constants.HF_HUB_CACHE
        msg = (
            f"The model {model!r} could not be loaded: {error} Give an existing folder, or a model that is in the cache "
            f"{place} when there is no network."
        )
        raise ModelNotFoundError(msg, searched=[place]) from error


def _check_trained(files: ModelFiles) -> None:
    """Refuse what sentence-transformers would fill up with random numbers, or read with a pickle."""
    kinds = [str(kind) for kind in files.settings("config.json").get("architectures") or []]
    settings = files.settings("config_sentence_transformers.json")
    made = settings.get("model_type") in {"MultiVectorEncoder", "ColBERT"} or "query_prefix" in settings
    whole = "HF_ColBERT" in kinds or any(kind.endswith("ForRetrieval") for kind in kinds)
    if not whole and not (made and (files.folder / "modules.json").is_file()):
        msg = (
            f"{files.name!r} is no late-interaction model: it lacks the layer that makes vectors of tokens, and a random one "
            "would score at random. Give a checkpoint of sentence-transformers (MultiVectorEncoder), PyLate or ColBERT."
        )
        raise ModelNotFoundError(msg, searched=[files.folder])
    for pickled in [*files.folder.glob("pytorch_model.bin"), *files.folder.glob("*/pytorch_model.bin")]:
        if not pickled.with_name("model.safetensors").is_file():
            msg = f"{pickled} is a pickle, which is never read: save the model again as safetensors."
            raise ModelNotFoundError(msg, missing=["model.safetensors"], searched=[pickled.parent])
