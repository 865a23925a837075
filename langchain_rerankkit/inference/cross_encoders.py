"""A cross-encoder on the fastest backend that is installed and that its files and this machine allow."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from langchain_rerankkit.errors import MissingExtraError, ModelNotFoundError
from langchain_rerankkit.inference.models import ModelFiles, find_model
from langchain_rerankkit.inference.onnx import installed, native_bf16, open_graph
from langchain_rerankkit.inference.pairs import GraphPairs
from langchain_rerankkit.inference.shared import shared
from langchain_rerankkit.inference.torch import open_cross_encoder

if TYPE_CHECKING:
    from langchain_rerankkit.inference.models import Format, Precision
    from langchain_rerankkit.inference.pairs import PairModel

__all__ = ["Backend", "load_cross_encoder"]

Backend = Literal["auto", "openvino", "onnx", "torch"]
_MODULES = {"openvino": "openvino", "onnx": "onnxruntime", "torch": "sentence_transformers"}


def load_cross_encoder(
    model: str,
    *,
    backend: Backend = "auto",
    precision: Precision = "auto",
    device: str | None = None,
    threads: int | None = None,
    file_name: str | None = None,
    revision: str | None = None,
    cache_dir: str | None = None,
    local_files_only: bool = False,
    trust_remote_code: bool = False,
) -> PairModel:
    """The cross-encoder of a folder or the hub, shared by all who ask for the same in this process.

    Args:
        model: A folder, or a name on the hub.
        backend: What runs it; see `backends` for ``"auto"``.
        precision: Arithmetic, and for int8 and fp16 the file to take.
        device: ``"cpu"``, ``"cuda"`` …; by default what backend and machine offer.
        threads: Threads of one pass; by default all processors.
        file_name: The graph to take.
        revision: Commit, tag or branch on the hub.
        cache_dir: Folder for downloads.
        local_files_only: Never use the network.
        trust_remote_code: Run Python code that comes with the model (torch only).

    Raises:
        ModelNotFoundError: If there is no such model, or no file of it that an installed backend runs.
        MissingExtraError: If no backend is installed.
    """
    order: list[Backend] = backends(precision, device) if backend == "auto" else [backend]
    if file_name is not None or trust_remote_code:  # which only some can honour
        order = [name for name in order if (name == "torch") == trust_remote_code] or order
    graphs: list[Backend] = [name for name in order if name != "torch"]
    folder = Path(model).expanduser()
    if graphs and folder.is_dir() and not any(folder.glob("*.safetensors")):
        order = graphs  # nothing there that torch could load
    why = ""
    if order[0] != "torch":
        formats: tuple[Format, ...] = ("onnx", "openvino") if "openvino" in graphs else ("onnx",)
        if graphs == ["openvino"]:
            formats = ("openvino", "onnx")
        files = find_model(
            model,
            formats=formats,
            precision=precision,
            file_name=file_name,
            revision=revision,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
        )
        why = _unfit(files, explicit=backend != "auto" or file_name is not None)
        if files.graph is not None and not why:
            # A graph that quantises as it runs takes several times longer on OpenVINO.
            preferred = "onnx" if files.weights == "int8" and "onnx" in graphs else graphs[0]
            runtime = "openvino" if files.graph.suffix == ".xml" else preferred
            return _graph(files, runtime, precision, device, threads)
        if "torch" not in order:
            msg = (
                f"{model!r} {why}. Install the extra 'local' for backend='torch', or make a graph where it is installed: "
                f"rerankkit export {model} FOLDER."
            )
            raise ModelNotFoundError(msg, missing=["onnx/model.onnx"], searched=[files.folder])
    local = ModelFiles(model, folder, None) if folder.is_dir() else None
    place, changed = (str(folder.resolve()), local.changed) if local else (model, 0)
    key = ("torch", place, changed, revision, precision, device, threads, cache_dir, trust_remote_code)

    def load() -> PairModel:
        if local:
            local.check_weights()
        return open_cross_encoder(
            place,
            precision=precision,
            device=device,
            threads=threads,
            revision=revision,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            trust_remote_code=trust_remote_code,
        )

    return shared(key, load)


def backends(precision: Precision, device: str | None) -> list[Backend]:
    """Installed backends, the fastest first.

    On a GPU that is torch. On a processor with bf16 matrix products it is OpenVINO in bf16; on any other ONNX Runtime,
    which was never slower than OpenVINO in fp32 or int8 (``rerankkit bench`` shows them side by side).

    Args:
        precision: The arithmetic asked for.
        device: The device asked for.

    Raises:
        MissingExtraError: If none is installed that can do it.
    """
    order: list[Backend]
    if (device or "cpu").partition(":")[0] not in {"cpu", "gpu"} or (device is None and _nvidia()):
        order = ["torch", "onnx"]
    elif device == "gpu":
        order = ["openvino"]
    elif precision == "int8":
        order = ["onnx", "openvino"]
    elif precision == "bf16":
        order = ["openvino", "torch"]
    else:
        order = (
            ["openvino", "onnx", "torch"] if precision == "auto" and native_bf16() else ["onnx", "openvino", "torch"]
        )
    there = [name for name in order if installed(_MODULES[name])]
    if not there:
        raise MissingExtraError(_MODULES[order[0]], "local" if order[0] == "torch" else order[0])
    return there


def _graph(files: ModelFiles, runtime: str, precision: Precision, device: str | None, threads: int | None) -> PairModel:
    path = files.graph
    if path is None or runtime not in {"openvino", "onnx"}:  # pragma: no cover - the caller has seen to it
        raise ValueError(runtime)
    key = (runtime, str(path.resolve()), files.changed, files.revision, precision, device, threads)

    def load() -> PairModel:
        files.check_graph()
        graph = open_graph(
            path,
            backend="openvino" if runtime == "openvino" else "onnx",
            precision=precision,
            weights=files.weights,
            device=device,
            threads=threads,
        )
        return GraphPairs.from_files(files, graph)

    return shared(key, load)


def _unfit(files: ModelFiles, *, explicit: bool) -> str:
    """Why a graph cannot be used, in words; empty where it can."""
    if files.graph is None:
        return "has no graph (ONNX or OpenVINO)"
    kinds = files.settings("config.json").get("architectures") or []
    if not explicit and kinds and not any("ForSequenceClassification" in str(kind) for kind in kinds):
        return f"is a {kinds[0]}, which needs its template"
    return ""


def _nvidia() -> bool:
    """Whether there is a GPU that torch could use. Asked without importing torch, which takes seconds."""
    return installed("torch") and (
        Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None
    )
