"""ONNX graphs, and OpenVINO's own, on OpenVINO or ONNX Runtime: no torch."""

from __future__ import annotations

import importlib.util
import logging
import os
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from langchain_rerankkit._optional import require
from langchain_rerankkit.errors import ModelNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from langchain_rerankkit.inference.models import Precision

__all__ = ["Graph", "installed", "native_bf16", "open_graph"]

_logger = logging.getLogger("langchain_rerankkit")


@dataclass(frozen=True)
class Graph:
    """A graph that is ready to run, one call at a time (see `Passes`).

    Attributes:
        run: From arrays by input name to the first output; inputs that the graph does not have are left out.
        runtime: What it runs on, in words: ``"openvino bf16 CPU"``.
        inputs: Names of its inputs.
        batch_tokens: Tokens of a pass that are fastest here.
    """

    run: Callable[[dict[str, Any]], Any]
    runtime: str
    inputs: frozenset[str]
    batch_tokens: int


def open_graph(
    source: Path | bytes,
    *,
    backend: Literal["openvino", "onnx"],
    precision: Precision = "auto",
    weights: str = "fp32",
    device: str | None = None,
    threads: int | None = None,
) -> Graph:
    """Load a graph.

    Args:
        source: The file, or its content.
        backend: The runtime.
        precision: Arithmetic. ``"auto"`` is bf16 on OpenVINO where the processor has it, else the graph's own.
        weights: Precision of the graph's weights, for the description.
        device: ``"cpu"``, ``"cuda"`` (ONNX Runtime), ``"gpu"`` (OpenVINO's name for Intel's); the CPU by default.
        threads: Threads of one pass; by default one for each physical core that this process may use.

    Raises:
        ModelNotFoundError: If the file is not a graph.
        ValueError: If the runtime cannot compute as asked.
    """
    opener = _openvino if backend == "openvino" else _onnxruntime
    return opener(source, precision, weights, (device or "cpu").lower(), threads or _default_threads())


def installed(module: str) -> bool:
    """Whether a module could be imported; does not import it."""
    return importlib.util.find_spec(module) is not None


@cache
def native_bf16() -> bool:
    """Whether OpenVINO is installed and this processor multiplies bf16 matrices (AMX or AVX512-BF16)."""
    if not installed("openvino"):
        return False
    return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@cache
def _core() -> Any:
    return require("openvino", extra="openvino").Core()


def _openvino(source: Path | bytes, precision: Precision, weights: str, device: str, threads: int) -> Graph:
    openvino = require("openvino", extra="openvino")
    core = _core()
    name = device.upper()
    bf16 = precision == "bf16" or (precision == "auto" and weights != "int8" and name == "CPU" and native_bf16())
    hint = "bf16" if bf16 else "f16" if precision == "fp16" else "f32"
    options = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1"}
    if name == "CPU":
        # Kernels are kept for each shape of a pass, 5,000 of them by default: memory that grows with every new length.
        options["CPU_RUNTIME_CACHE_CAPACITY"] = "64"
        if threads:
            options["INFERENCE_NUM_THREADS"] = str(threads)
    try:
        model = core.read_model(source) if isinstance(source, bytes) else core.read_model(str(source))
        compiled = core.compile_model(model, name, options)
    except RuntimeError as error:
        msg = f"OpenVINO cannot load {_name(source)} on {name}: {str(error).strip().splitlines()[-1]}"
        raise ModelNotFoundError(msg) from error
    kind = str(compiled.get_property("INFERENCE_PRECISION_HINT"))  # the arithmetic it settled on
    used = "bf16" if "bfloat16" in kind else "fp16" if "float16" in kind else "fp32"
    if precision in {"bf16", "fp16"} and used != precision:
        _logger.warning("This %s has no %s arithmetic: OpenVINO computes in %s.", name, precision, used)
    label = "int8" if weights == "int8" else used
    output = compiled.output(0)
    inputs = frozenset(tensor.get_any_name() for tensor in compiled.inputs)
    request = compiled.create_infer_request()  # Passes runs one at a time

    def run(feed: dict[str, Any]) -> Any:
        given = {key: openvino.Tensor(array, shared_memory=True) for key, array in feed.items() if key in inputs}
        return request.infer(given, share_inputs=True)[output].copy()

    # bf16 tiles want larger matrices; everything else was as fast with 512, with the least memory.
    return Graph(run, f"openvino {label} {name}", inputs, 1024 if used == "bf16" else 512)


def _onnxruntime(source: Path | bytes, precision: Precision, weights: str, device: str, threads: int) -> Graph:
    ort = require("onnxruntime", extra="onnx")
    if precision == "bf16":
        msg = "ONNX Runtime has no bf16 arithmetic on processors: use backend='openvino' or backend='torch'."
        raise ValueError(msg)
    kind, _, number = device.partition(":")
    provider: Any = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}.get(kind)
    if provider not in ort.get_available_providers():
        msg = f"ONNX Runtime has no device {device!r} here; it has {', '.join(ort.get_available_providers())}."
        raise ValueError(msg)
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors, which are raised as well; its warnings are about speed
    options.intra_op_num_threads = threads
    options.enable_cpu_mem_arena = False  # the arena never gives memory back
    # Threads that spin between passes would take the processor from the rest of the program.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Weights that are held in int8 and widened by the graph are widened once, at load.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    if number:
        provider = (provider, {"device_id": number})
    try:
        session = ort.InferenceSession(source if isinstance(source, bytes) else str(source), options, [provider])
    except Exception as error:
        msg = f"ONNX Runtime cannot load {_name(source)}: {str(error).strip().splitlines()[-1]}"
        raise ModelNotFoundError(msg) from error
    inputs = frozenset(tensor.name for tensor in session.get_inputs())

    def run(feed: dict[str, Any]) -> Any:
        return session.run(None, {key: array for key, array in feed.items() if key in inputs})[0]

    return Graph(run, f"onnxruntime {weights} {kind.upper()}", inputs, 512 if kind == "cpu" else 16384)


def _name(source: Path | bytes) -> str:
    return "a graph in memory" if isinstance(source, bytes) else str(source)


def _default_threads() -> int:
    """Zero, by which a runtime means its count of physical cores, unless the process may not use them all."""
    # Ray tells its actors their share so.
    told = os.environ.get("OMP_NUM_THREADS", "")
    if told.isdecimal() and int(told):
        return int(told)
    cores = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
    return allowed if allowed < cores else 0
