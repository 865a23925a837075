"""Documents as stores keep them: made once, never changed, copied on the way in and out, saved as lines of JSON."""

from __future__ import annotations

import copy
import json
import math
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from langchain_core.documents import Document

from langchain_rerankkit.errors import IndexFormatError

__all__ = ["Ids", "Metadatas", "copy_document", "from_lines", "make_documents", "several", "to_lines"]

_Item = TypeVar("_Item")

_DEEPEST = 100  # lists and dicts inside each other in metadata: copying needs two calls for each

Ids = Iterable[str | None] | None
Metadatas = Iterable[Mapping[str, Any] | None] | None


def make_documents(texts: Iterable[str], metadatas: Metadatas, ids: Ids) -> list[Document]:
    """Documents of a store's own.

    Args:
        texts: The texts.
        metadatas: The metadata of each; copied.
        ids: The id of each; made up where there is none.

    Raises:
        TypeError: If there is one text in place of several.
        ValueError: If lengths differ or an id comes twice.
    """
    texts = several(texts, "texts")
    metadatas = [{}] * len(texts) if metadatas is None else list(metadatas)
    ids = [None] * len(texts) if ids is None else several(ids, "ids")
    if not len(texts) == len(metadatas) == len(ids):
        msg = f"{len(texts)} texts came with {len(metadatas)} metadatas and {len(ids)} ids."
        raise ValueError(msg)
    documents = [
        Document(
            page_content=text,
            metadata=copy.deepcopy(dict(metadata or {})),
            id=str(uuid.uuid4()) if id_ is None or id_ == "" else id_,
        )
        for text, metadata, id_ in zip(texts, metadatas, ids, strict=True)
    ]
    seen: set[str | None] = set()
    for document in documents:
        if document.id in seen:
            msg = f"An id comes twice: {document.id!r}."
            raise ValueError(msg)
        seen.add(document.id)
    return documents


def several(given: Iterable[_Item], what: str) -> list[_Item]:
    """Several texts or ids, as a list.

    Raises:
        TypeError: If it is one str, whose characters would be taken for them.
    """
    if isinstance(given, (str, bytes)):
        msg = f"Give a list of {what}, not one {type(given).__name__}."
        raise TypeError(msg)
    return list(given)


def copy_document(document: Document) -> Document:
    """A document that the caller may change."""
    return Document(page_content=document.page_content, metadata=copy.deepcopy(document.metadata), id=document.id)


def to_lines(documents: Iterable[Document]) -> bytes:
    """One document a line, as JSON in UTF-8.

    Raises:
        TypeError: If metadata would not come back from JSON as it is; names the document and the key.
    """
    return b"".join(map(_to_line, documents))


def from_lines(path: Path, data: bytes, count: int) -> list[Document]:
    """What `to_lines` wrote.

    Args:
        path: Where the lines came from, for messages.
        data: The lines.
        count: How many documents there must be.

    Raises:
        IndexFormatError: If a line is no document, an id comes twice, or the count differs; names the file.
    """
    documents = []
    for number, line in enumerate(data.split(b"\n")[:-1], start=1):
        try:
            entry = json.loads(line.decode("utf-8", "surrogatepass"))
            if line.count(b"{") + line.count(b"[") > _DEEPEST:  # else nothing can be too deep
                _check_metadata(entry["id"], entry["metadata"])
            documents.append(Document(page_content=entry["text"], metadata=entry["metadata"], id=entry["id"] + ""))
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            msg = f"{path}: line {number} is not a document."
            raise IndexFormatError(msg) from error
    different = len({document.id for document in documents})
    if not different == len(documents) == count:
        msg = f"{path}: {count} documents of different ids are expected, {different} found."
        raise IndexFormatError(msg)
    return documents


def _to_line(document: Document) -> bytes:
    _check_metadata(document.id, document.metadata)
    line = {"id": document.id, "text": document.page_content, "metadata": document.metadata}
    return json.dumps(line, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


def _check_metadata(id_: str | None, metadata: Mapping[str, Any]) -> None:
    for key, value in metadata.items():
        if problem := _unsaveable({key: value}, _DEEPEST):
            msg = f"Document {id_!r}, metadata {key!r}: {problem} would not come back from JSON as it is."
            raise TypeError(msg)


def _unsaveable(value: Any, levels: int) -> str:
    """What in a value JSON would refuse or change, or nests deeper than so many levels; nothing if all is well."""
    kind = type(value)
    if kind is dict and not all(type(key) is str for key in value):
        return "a key that is not a str"
    if kind in (dict, list):
        if not levels:
            return f"a value of more than {_DEEPEST} levels"
        values = value.values() if kind is dict else value
        return next(filter(None, (_unsaveable(inner, levels - 1) for inner in values)), "")
    if kind is int and value.bit_length() > 10_000:  # noqa: PLR2004 - Python neither prints nor reads such
        return "so large an int"
    if kind is float and not math.isfinite(value):
        return "a float that is not finite"
    return "" if kind in (str, int, float, bool, type(None)) else f"a {kind.__module__}.{kind.__qualname__}"
