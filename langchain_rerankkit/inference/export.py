"""A cross-encoder of sentence-transformers as an ONNX graph, once, so that it runs without torch afterwards."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from langchain_rerankkit._optional import require
from langchain_rerankkit.errors import ModelNotFoundError
from langchain_rerankkit.inference.torch import open_cross_encoder

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["export"]

_OPSET = 17
_LARGE = 1 << 30  # bytes of weights
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def export(
    model: str,
    folder: str | Path,
    *,
    precisions: Sequence[Literal["fp32", "fp16", "int8"]] = ("fp32",),
    revision: str | None = None,
    cache_dir: str | None = None,
    local_files_only: bool = False,
) -> list[Path]:
    """Write a cross-encoder as ``onnx/model.onnx`` (and ``model_fp16.onnx``, ``model_int8.onnx``) beside its tokenizer.

    int8 weights are quantised for each output channel to seven bits, so that the sums of processors without VNNI do not
    overflow and all processors give the same scores; what flows through the model is quantised as it runs.

    Args:
        model: A folder with safetensors, or a name on the hub. A model with a classification head; language models
            that judge by their vocabulary need their template and stay with torch.
        folder: Where to; made if needed.
        precisions: Which graphs to write. fp32 is always written.
        revision: Commit, tag or branch on the hub.
        cache_dir: Folder for downloads.
        local_files_only: Never download.

    Returns:
        The files written.

    Raises:
        ModelNotFoundError: If there is no such model, or it has no classification head.
        MissingExtraError: If the extra ``export`` is not installed.
    """
    torch = require("torch", extra="export")
    onnx = require("onnx", extra="export")
    loaded = open_cross_encoder(
        model,
        precision="fp32",
        device="cpu",
        revision=revision,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
    ).model
    network: Any = loaded.model
    if not type(network).__name__.endswith("ForSequenceClassification"):
        msg = f"{model!r} is a {type(network).__name__}, not a cross-encoder with a classification head: use torch."
        raise ModelNotFoundError(msg)
    network.set_attn_implementation("eager")
    names = [
        name
        for name in _INPUTS
        if name != "token_type_ids" or name in getattr(loaded.tokenizer, "model_input_names", ())
    ]

    class Logits(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, *tensors: Any) -> Any:
            return self.network(**dict(zip(names, tensors, strict=True))).logits

    target = Path(folder).expanduser()
    path = target / "onnx" / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    network.config.save_pretrained(target)
    loaded.tokenizer.save_pretrained(target)
    with warnings.catch_warnings(), tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        traced = Path(scratch) / path.name
        torch.onnx.export(
            Logits().eval(),
            tuple(torch.full((2, 8), int(name != "token_type_ids")) for name in names),
            str(traced),
            input_names=names,
            output_names=["logits"],
            dynamic_axes={name: {0: "rows", 1: "tokens"} for name in names} | {"logits": {0: "rows"}},
            opset_version=_OPSET,
            dynamo=False,
        )
        _save(onnx.load(traced), path)
    written = [path]
    if "int8" in precisions:
        written.append(_int8(path))
    if "fp16" in precisions:
        written.append(_fp16(path))
    return written


def _save(graph: Any, path: Path) -> None:
    """Write a graph; the weights of a large one, of which the format holds 2 GiB, into one file beside it."""
    large = sum(len(tensor.raw_data) for tensor in graph.graph.initializer) > _LARGE
    weights = path.with_name(f"{path.name}_data")
    weights.unlink(missing_ok=True)  # to which would be appended
    require("onnx", extra="export").save_model(graph, path, save_as_external_data=large, location=weights.name)


def _int8(path: Path) -> Path:
    quantization = require("onnxruntime.quantization", extra="export")
    target = path.with_name("model_int8.onnx")
    quantization.quantize_dynamic(
        path, target, weight_type=quantization.QuantType.QInt8, per_channel=True, reduce_range=True
    )
    return target


def _fp16(path: Path) -> Path:
    float16 = require("onnxruntime.transformers.float16", extra="export")
    target = path.with_name("model_fp16.onnx")
    _save(float16.convert_float_to_float16(str(path), keep_io_types=True), target)
    return target
