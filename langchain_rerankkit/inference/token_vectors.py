"""Vectors of tokens: MaxSim between those of a query and of a document, and their small form."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from langchain_rerankkit._optional import require

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

__all__ = ["Stored", "TokenVectors", "compress", "maxsim"]

Stored = Literal["int8", "fp16"]
"""How vectors are kept: in 8 bits with a factor for each vector, or in half precision."""

_AT_ONCE = 1 << 16  # tokens whose vectors are multiplied at a time: 32 MiB of float32 at 128 dimensions
_LARGEST = 127
_SMALLEST = 1e-30  # a vector whose values are all below is one of zeros


@dataclass(frozen=True)
class TokenVectors:
    """The vectors of a document's tokens; padding and skipped tokens have none.

    Attributes:
        values: Shape [tokens, dimensions]: float32, or int8 or float16 from `compress`.
        scales: Shape [tokens], float32: the factor of each vector; None where it is 1 for all.
        chunks: How many passages the document was read in.
        truncated: Whether its end was not read.
    """

    values: npt.NDArray[Any]
    scales: Floats | None = None
    chunks: int = 1
    truncated: bool = False


def maxsim(query: Floats, documents: Sequence[TokenVectors]) -> list[float]:
    """Score documents: the sum, over the query's vectors, of the largest dot product with a vector of the document.

    Source: Khattab, Zaharia, "ColBERT: Efficient and Effective Passage Search via Contextualized Late Interaction over
    BERT", SIGIR 2020, equation 3.

    Args:
        query: Shape [tokens, dimensions]; only tokens that count.
        documents: Of the same dimensions, and all of one kind: full, int8 or float16.

    Returns:
        One score per document. Vectors of length 1 give cosines, so it lies between plus and minus the number of the
        query's vectors. A document without any vector has the lowest score that vectors of length 1 can have.
    """
    # torch multiplies, since numpy's threads would wait for those that torch has just read the query with.
    np, torch = require("numpy", extra="local"), require("torch", extra="local")
    lowest = -float(np.linalg.norm(query, axis=1).sum())
    scores = np.full(len(documents), lowest)
    query = np.ascontiguousarray(query.T, dtype=np.float32)
    for block in _blocks([len(document.values) for document in documents]):
        chosen = [documents[position] for position in block]
        values = np.concatenate([document.values for document in chosen], dtype=np.float32, casting="unsafe")
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is found by whoever reads the scores
            products = (torch.from_numpy(values) @ torch.from_numpy(query)).numpy()
            scales = [document.scales for document in chosen if document.scales is not None]
            if scales:
                products *= np.concatenate(scales)[:, None]
            starts = np.cumsum([0, *(len(document.values) for document in chosen[:-1])])
            scores[block] = np.maximum.reduceat(products, starts, axis=0).sum(axis=1)
    return [float(score) for score in scores]


def compress(vectors: TokenVectors, kind: Stored) -> TokenVectors:
    """The small form: a quarter (int8, one factor for each vector) or half (float16) of full precision.

    Rounding to int8 moves each value by at most 1/254 of the largest of its vector. A vector that is not finite stays so.

    Args:
        vectors: In full precision.
        kind: Which form.
    """
    np = require("numpy", extra="local")
    if kind == "fp16":
        return replace(vectors, values=vectors.values.astype(np.float16))
    largest = np.abs(vectors.values).max(axis=1, initial=0)
    scales = (np.where(largest < _SMALLEST, 1, largest) / _LARGEST).astype(np.float32)
    scales[~np.isfinite(scales)] = np.nan  # whatever it is multiplied by
    values = np.nan_to_num(vectors.values / scales[:, None])
    return replace(vectors, values=np.rint(values).astype(np.int8), scales=scales)


def _blocks(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Positions of documents that have vectors, in groups of about as many vectors as are multiplied at once."""
    block: list[int] = []
    tokens = 0
    for position, length in enumerate(lengths):
        if length == 0:
            continue
        if block and tokens + length > _AT_ONCE:
            yield block
            block, tokens = [], 0
        block.append(position)
        tokens += length
    if block:
        yield block
