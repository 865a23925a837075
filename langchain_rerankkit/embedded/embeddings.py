"""Embeddings with the model that ships in the package: no download, no torch, no configuration."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from langchain_core.embeddings import Embeddings
from typing_extensions import override

from langchain_rerankkit._optional import require
from langchain_rerankkit._progress import progress
from langchain_rerankkit.errors import ModelNotFoundError
from langchain_rerankkit.inference.onnx import open_graph
from langchain_rerankkit.inference.passes import Passes
from langchain_rerankkit.inference.shared import shared
from langchain_rerankkit.inference.tokens import Tokenizer, pad

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    import numpy.typing as npt

    Vectors = npt.NDArray[np.float32]

__all__ = ["EmbeddedEmbeddings"]

_FOLDER = Path(__file__).parent
_CHECKSUMS = {  # printed by build.py
    "model.onnx": "8bae11036cba03ad5f07a0fd34128a70b1096dfeb416248ae4743adb2b4ecb24",
    "tokenizer.json": "5fd1c882abbd30517dced455a2c9768945ec726b96727927e4959348d9de550b",
}
_DIMENSIONS = 384
_SHOWN = 2048  # texts of one step of the progress bar
_MAX_TOKENS = 256
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
        if not positions:
            nothing: Vectors = np.empty((0, _DIMENSIONS), dtype=np.float32)
            return nothing
        model = shared(("embedded", self.threads), lambda: _Model(self.threads))
        texts = list(positions)
        parts = [texts[start : start + _SHOWN] for start in range(0, len(texts), _SHOWN)]
        vectors: Vectors = np.concatenate(
            [model.vectors(part, self.batch_tokens) for part in progress(parts, len(parts), "embed")]
        )
        chosen: Vectors = vectors[rows]
        return chosen


class _Model:
    """The tokenizer and the graph. Both are only read after construction, so threads may share them."""

    def __init__(self, threads: int | None) -> None:
        self._tokenizer = Tokenizer(_read("tokenizer.json").decode(), types=False)
        self._graph = open_graph(_read("model.onnx"), backend="onnx", threads=threads)
        self._passes = Passes(lambda rows: self._graph.run(pad(rows, 0)))

    def vectors(self, texts: list[str], batch_tokens: int) -> Vectors:
        """Shape [texts, 384]."""
        limit = _MAX_TOKENS - self._tokenizer.specials[0]
        rows = [self._tokenizer.single(ids) for ids, _ in self._tokenizer.heads(texts, limit)]
        vectors: Vectors = self._passes.outputs(rows, batch_tokens)
        return vectors


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
