"""The parts of an inverted index as bytes: data, checked when it is read.

documents    one a line, as JSON
vocabulary   a JSON list of the different terms
terms        int32, the lowest byte first: how many terms each document has, then the places of those terms in the
             vocabulary, one document after the other
"""

from __future__ import annotations

import json
from pathlib import Path

from langchain_rerankkit._optional import require
from langchain_rerankkit.documents import from_lines, to_lines
from langchain_rerankkit.errors import IndexFormatError
from langchain_rerankkit.inverted_index import Contents
from langchain_rerankkit.saved import Saved

__all__ = ["SUFFIXES", "from_bytes", "to_bytes"]

SUFFIXES = {"documents": "jsonl", "vocabulary": "json", "terms": "int32"}


def to_bytes(contents: Contents) -> dict[str, bytes]:
    """The parts of an index.

    Raises:
        TypeError: If metadata would not come back from JSON as it is; names the document and the key.
    """
    return {
        "documents": to_lines(contents.documents),
        "vocabulary": json.dumps(contents.vocabulary, ensure_ascii=False).encode("utf-8", "surrogatepass"),
        "terms": contents.lengths.astype("<i4").tobytes() + contents.terms.astype("<i4").tobytes(),
    }


def from_bytes(saved: Saved) -> Contents:
    """What `to_bytes` wrote, with the number of documents in the field ``count``.

    Raises:
        IndexFormatError: If anything is not what an index writes: no number points outside of what it belongs to.
    """
    np = require("numpy", extra="bm25")
    count = saved.fields["count"]
    documents = from_lines(saved.paths["documents"], saved.data["documents"], count)
    vocabulary = _vocabulary(saved.paths["vocabulary"], saved.data["vocabulary"])
    data = saved.data["terms"]
    numbers = np.frombuffer(data, "<i4", len(data) // 4).astype(np.int32)
    lengths, terms = numbers[:count], numbers[count:]
    sound = (
        len(data) % 4 == 0
        and len(lengths) == count
        and (lengths >= 0).all()
        and lengths.sum(dtype=np.int64) == len(terms)
    )
    if not sound or not ((terms >= 0) & (terms < len(vocabulary))).all():
        msg = f"{saved.paths['terms']}: not the terms of {count} documents."
        raise IndexFormatError(msg)
    return Contents(documents, vocabulary, lengths, terms)


def _vocabulary(path: Path, data: bytes) -> list[str]:
    try:
        terms = json.loads(data.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        terms = None
    if not isinstance(terms, list) or not all(isinstance(term, str) for term in terms) or len(set(terms)) < len(terms):
        msg = f"{path}: not a list of different terms."
        raise IndexFormatError(msg)
    return terms
