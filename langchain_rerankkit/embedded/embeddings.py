"""Embeddings with the model that ships in the package: no download, no torch, no configuration."""

from __future__ import annotations

import os
import re
import threading
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from langchain_core.embeddings import Embeddings
from typing_extensions import override

from langchain_rerankkit._optional import require
from langchain_rerankkit.errors import ModelNotFoundError
from langchain_rerankkit.inference.batching import token_batches

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    import numpy.typing as npt

    Ids = npt.NDArray[np.int32]
    Vectors = npt.NDArray[np.float32]

__all__ = ["EmbeddedEmbeddings"]

_FOLDER = Path(__file__).parent
_CHECKSUMS = {  # printed by build.py
    "model.onnx": "8bae11036cba03ad5f07a0fd34128a70b1096dfeb416248ae4743adb2b4ecb24",
    "tokenizer.json": "5fd1c882abbd30517dced455a2c9768945ec726b96727927e4959348d9de550b",
}
_DIMENSIONS = 384
_MAX_TOKENS = 256
_HEAD = 4096  # characters; most texts reach 256 tokens long before
_TOKENISED_AT_ONCE = 1024  # texts; an encoding is far larger than the ids kept of it
_SURROGATES = re.compile("[\ud800-\udfff]")


class EmbeddedEmbeddings(Embeddings):
    """Embeds English texts with the embedded all-MiniLM-L6-v2.

    Vectors have 384 dimensions and length 1, so their dot product is their cosine. Texts are read up to 256 tokens,
    about 200 words. The model is loaded at first use and shared by all instances of a process.

    Args:
        batch_tokens: Tokens in one pass of the model, padding included: bounds memory whatever the number of texts.
            More was not faster on any number of texts, on two cores.
        threads: Threads of one pass; by default one for each physical core that the process may use.
    """

    model: ClassVar[str] = "all-MiniLM-L6-v2"
    """Name of the model."""

    def __init__(self, *, batch_tokens: int = 512, threads: int | None = None) -> None:
        if batch_tokens < 1 or (threads is not None and threads < 1):
            msg = f"batch_tokens and threads must be at least 1, not {batch_tokens} and {threads}."
            raise ValueError(msg)
        self.batch_tokens = batch_tokens
        self.threads = threads

    def __repr__(self) -> str:
        return f"{type(self).__name__}(batch_tokens={self.batch_tokens}, threads={self.threads})"

    @override
    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        vectors: list[list[float]] = self.embed(texts).tolist()
        return vectors

    @override
    def embed_query(self, text: str) -> list[float]:
        vector: list[float] = self.embed([text])[0].tolist()
        return vector

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Embed texts, each different one once.

        Args:
            texts: Any strings, the empty one included. Surrogates, which are no characters, count as U+FFFD.

        Returns:
            Shape [texts, 384], every row of length 1, in the order of the texts. A text's vector does not depend on
            the texts beside it, but for rounding in the last bits.

        Raises:
            TypeError: If something is not a string.
            MissingExtraError: If the extra ``embedded`` is not installed.
            ModelNotFoundError: If the model's files are missing or are not those of this release.
        """
        np = require("numpy", extra="embedded")
        positions: dict[str, int] = {}
        rows = [positions.setdefault(text, len(positions)) for text in _strings(texts)]
        vectors: Vectors = np.empty((len(positions), _DIMENSIONS), dtype=np.float32)
        if not positions:
            return vectors
        model = _shared_model(self.threads)
        ids = list(model.tokenise(list(positions)))
        for batch in token_batches([len(tokens) for tokens in ids], self.batch_tokens):
            vectors[batch] = model.run([ids[position] for position in batch])
        return vectors[rows]


class _Model:
    """The tokeniser and the ONNX session. Both are only read after construction, so threads may share them."""

    def __init__(self, threads: int) -> None:
        self._np = require("numpy", extra="embedded")
        tokenizers = require("tokenizers", extra="embedded")
        ort = require("onnxruntime", extra="embedded")
        self._tokenizer = tokenizers.Tokenizer.from_str(_read("tokenizer.json").decode())
        self._tokenizer.enable_truncation(_MAX_TOKENS)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.enable_cpu_mem_arena = False  # the arena never gives memory back
        # Widens the int8 weights once, at load. Left to itself, ONNX Runtime keeps them, for kernels that are slower on
        # many texts and round the activations too.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        # Threads that spin between passes would take the processor from the rest of the program.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = ort.InferenceSession(_read("model.onnx"), options, providers=["CPUExecutionProvider"])

    def tokenise(self, texts: list[str]) -> Iterator[Ids]:
        """Token ids of each text, at most 256.

        Of a long text only the head is tokenised. Cut before white space, its tokens are the first of the whole
        text; where they are fewer than 256 all the same, the whole text is tokenised after all.
        """
        for start in range(0, len(texts), _TOKENISED_AT_ONCE):
            chunk = texts[start : start + _TOKENISED_AT_ONCE]
            heads = [_head(text) for text in chunk]
            for text, head, encoding in zip(chunk, heads, self._tokenizer.encode_batch_fast(heads), strict=True):
                ids = encoding.ids
                if len(ids) < _MAX_TOKENS and len(head) < len(text):
                    ids = self._tokenizer.encode(text).ids
                yield self._np.array(ids, dtype=self._np.int32)

    def run(self, ids: list[Ids]) -> Vectors:
        """Vectors of shape [texts, 384] of one batch, whose first text is its longest."""
        shape = len(ids), len(ids[0])
        input_ids, mask = self._np.zeros(shape, self._np.int64), self._np.zeros(shape, self._np.int64)
        for row, tokens in enumerate(ids):
            input_ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        vectors: Vectors = self._session.run(None, {"input_ids": input_ids, "attention_mask": mask})[0]
        return vectors


_models: dict[int, _Model] = {}  # by number of threads: in almost every process, one
_lock = threading.Lock()


def _shared_model(threads: int | None) -> _Model:
    threads = _default_threads() if threads is None else threads
    with _lock:
        if threads not in _models:
            _models[threads] = _Model(threads)
        return _models[threads]


def _default_threads() -> int:
    """Zero, by which ONNX Runtime means its count of physical cores, unless the process may not use them all."""
    cores = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
    return allowed if allowed < cores else 0


def _read(name: str) -> bytes:
    """The content of a file of the model, which must be the released one."""
    try:
        content = (_FOLDER / name).read_bytes()
    except OSError as error:
        msg = f"The embedded model lacks its file {name} ({error.strerror}). Install langchain-rerankkit again."
        raise ModelNotFoundError(msg, missing=[name], searched=[_FOLDER]) from error
    if sha256(content).hexdigest() != _CHECKSUMS[name]:
        msg = f"The embedded model's file {name} is not the released one. Install langchain-rerankkit again."
        raise ModelNotFoundError(msg, searched=[_FOLDER])
    return content


def _strings(texts: Sequence[str]) -> Iterator[str]:
    if isinstance(texts, (str, bytes)):
        msg = "Give a list of texts, not a single one."
        raise TypeError(msg)
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            msg = f"Text {position} is of type {type(text).__name__}, not a string."
            raise TypeError(msg)
        yield text if text.isascii() else _SURROGATES.sub("\ufffd", text)


def _head(text: str) -> str:
    """The text up to the last blank or line end within the first characters; all of it where there is none."""
    if len(text) <= _HEAD:
        return text
    end = max(text.rfind(" ", 0, _HEAD), text.rfind("\n", 0, _HEAD))
    return text if end < 0 else text[:end]
