"""A store as a folder: three files of data, replaced in one step, checked before they are read.

index.manifest.json       format, version, distance, dimension, count, and the SHA-256 of the other two
index-<16 digits>.jsonl   one document a line, in the order of the vectors; the digits begin its SHA-256
index-<16 digits>.faiss   a flat index in faiss's own format; likewise
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import threading
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_core.documents import Document

from langchain_rerankkit.errors import IndexFormatError

__all__ = ["Saved", "read_folder", "write_folder"]

_saving = threading.Lock()  # the clean-up of one save must not take the files of another
_MANIFEST = {  # every key, and the JSON of its value
    "format": '"langchain-rerankkit-faiss"',
    "version": "1",
    "distance": '"(euclidean|cosine|inner_product)"',
    "dimension": "[0-9]+",
    "count": "[0-9]+",
    "documents_sha256": '"[0-9a-f]{64}"',
    "index_sha256": '"[0-9a-f]{64}"',
}


@dataclass(frozen=True)
class Saved:
    """What a folder holds.

    Attributes:
        documents: In the order of the vectors; their ids differ.
        index: The bytes of the index, whose checksum fits.
        index_path: Where those came from, for messages.
        distance: The store's distance.
        shape: Number of vectors, and their dimension.
    """

    documents: list[Document]
    index: bytes
    index_path: Path
    distance: str
    shape: tuple[int, int]


def write_folder(
    folder: str | os.PathLike[str],
    name: str,
    documents: Sequence[Document],
    index: bytes,
    *,
    distance: str,
    dimension: int,
) -> None:
    """Save a store. Whatever stops this half-way, the folder reads as before.

    Raises:
        TypeError: If metadata would not come back from JSON as it is; nothing is written.
        ValueError: If the name is a path.
    """
    path = _manifest_path(folder, name)
    lines = b"".join(map(_to_line, documents))
    manifest = {
        "format": "langchain-rerankkit-faiss",
        "version": 1,
        "distance": distance,
        "dimension": dimension,
        "count": len(documents),
        "documents_sha256": hashlib.sha256(lines).hexdigest(),
        "index_sha256": hashlib.sha256(index).hexdigest(),
    }
    files = dict(zip(_data_paths(path, manifest), (lines, index), strict=True))
    files[path] = json.dumps(manifest, indent=2).encode()  # last
    path.parent.mkdir(parents=True, exist_ok=True)
    with _saving:
        replaced = path.stat().st_mtime_ns if path.exists() else 0
        for file, data in files.items():
            _write(file, data)
        _remove_earlier(path, replaced, keep=files)


def read_folder(folder: str | os.PathLike[str], name: str) -> Saved:
    """Read what `write_folder` wrote.

    Raises:
        IndexFormatError: If a file is missing, damaged, foreign, or of an unknown version; names the file.
        ValueError: If the name is a path.
    """
    path = _manifest_path(folder, name)
    manifest = _read_manifest(path)
    lines, index = _data_paths(path, manifest)
    documents = _from_lines(lines, _read(lines, manifest["documents_sha256"]))
    different = len({document.id for document in documents})
    if not different == len(documents) == manifest["count"]:
        msg = f"{lines}: {manifest['count']} documents of different ids are expected, {different} found."
        raise IndexFormatError(msg)
    return Saved(
        documents=documents,
        index=_read(index, manifest["index_sha256"]),
        index_path=index,
        distance=manifest["distance"],
        shape=(manifest["count"], manifest["dimension"]),
    )


def _manifest_path(folder: str | os.PathLike[str], name: str) -> Path:
    if Path(name).name != name:
        msg = f"index_name must be a plain name, not {name!r}."
        raise ValueError(msg)
    return Path(folder) / f"{name}.manifest.json"


def _data_paths(manifest: Path, sums: Mapping[str, Any]) -> tuple[Path, Path]:
    """Documents and index. The names are made of checksums and the manifest's own name: no file can name another."""
    name = manifest.name.removesuffix(".manifest.json")
    return (
        manifest.with_name(f"{name}-{sums['documents_sha256'][:16]}.jsonl"),
        manifest.with_name(f"{name}-{sums['index_sha256'][:16]}.faiss"),
    )


def _write(path: Path, data: bytes) -> None:
    """Replace a file in one step, so that it is there as a whole or not at all, even after a loss of power."""
    new = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with new.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)  # noqa: PTH105 - Path.replace would do the same; tests make this one fail
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # elsewhere a folder cannot be opened
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _remove_earlier(manifest: Path, replaced: int, keep: Iterable[Path]) -> None:
    """Remove files of earlier saves, up to the time of the manifest that was replaced, in nanoseconds.

    Younger ones stay until the next save but one: another process may be about to write the manifest that names them.
    """
    name = re.escape(manifest.name.removesuffix(".manifest.json"))
    ours = re.compile(rf"{name}(-[0-9a-f]{{16}}\.(jsonl|faiss)|\.manifest\.json)(\.[0-9a-f]{{32}}\.tmp)?")
    for file in set(manifest.parent.iterdir()) - set(keep):
        with suppress(OSError):
            if ours.fullmatch(file.name) and file.stat().st_mtime_ns <= replaced:
                file.unlink()


def _read(path: Path, sha256: str) -> bytes:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        msg = f"{path}: missing, though the manifest names it."
        raise IndexFormatError(msg) from error
    if hashlib.sha256(data).hexdigest() != sha256:
        msg = f"{path}: damaged or changed since it was saved: its SHA-256 is not the manifest's."
        raise IndexFormatError(msg)
    return data


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        msg = f"{path}: missing; nothing that FAISS.save_local of langchain-rerankkit saved."
        if (pickled := path.with_name(path.name.removesuffix(".manifest.json") + ".pkl")).exists():
            msg = (
                f"{pickled}: a pickle, as langchain-community saves its index. Loading it can run any code, so this "
                "package never opens one. If you trust it, load it with langchain-community and hand the documents and "
                "vectors to FAISS.from_embeddings, then save; langchain_rerankkit.vectorstores.faiss shows how."
            )
        raise IndexFormatError(msg) from error
    except (ValueError, RecursionError) as error:
        msg = f"{path}: not JSON, so not a manifest of this package, or damaged."
        raise IndexFormatError(msg) from error
    known = isinstance(manifest, dict) and manifest.keys() == _MANIFEST.keys()
    wrong = [name for name, form in _MANIFEST.items() if known and not re.fullmatch(form, json.dumps(manifest[name]))]
    if not known or wrong:
        msg = f"{path}: wrong {', '.join(wrong) or 'keys'}: foreign, damaged, or saved by a newer release."
        raise IndexFormatError(msg)
    return dict(manifest)


def _to_line(document: Document) -> bytes:
    for key, value in document.metadata.items():
        if problem := _unsaveable({key: value}):
            msg = f"Document {document.id!r}, metadata {key!r}: {problem} would not come back from JSON as it is."
            raise TypeError(msg)
    line = {"id": document.id, "text": document.page_content, "metadata": document.metadata}
    return json.dumps(line, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


def _unsaveable(value: Any) -> str:
    """What in a value JSON would refuse or change; nothing if all is well."""
    kind = type(value)
    if kind is dict and not all(type(key) is str for key in value):
        return "a key that is not a str"
    if kind in (dict, list):
        return next(filter(None, map(_unsaveable, value.values() if kind is dict else value)), "")
    if kind is int and value.bit_length() > 10_000:  # noqa: PLR2004 - Python neither prints nor reads such
        return "so large an int"
    if kind is float and not math.isfinite(value):
        return "a float that is not finite"
    return "" if kind in (str, int, float, bool, type(None)) else f"a {kind.__module__}.{kind.__qualname__}"


def _from_lines(path: Path, data: bytes) -> list[Document]:
    documents = []
    for number, line in enumerate(data.split(b"\n")[:-1], start=1):
        try:
            entry = json.loads(line.decode("utf-8", "surrogatepass"))
            documents.append(Document(page_content=entry["text"], metadata=entry["metadata"], id=entry["id"] + ""))
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            msg = f"{path}: line {number} is not a document."
            raise IndexFormatError(msg) from error
    return documents
