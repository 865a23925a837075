"""A store as a folder: files of data, replaced in one step, checked before they are read.

NAME.manifest.json        format, version, what else the store says of itself, and the SHA-256 of the other files
NAME-<16 digits>.SUFFIX   one for each part of the store; the digits begin its SHA-256
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_rerankkit.errors import IndexFormatError

__all__ = ["Format", "Saved", "read_folder", "write_folder"]

_TRIES = 10  # at a folder that is being saved
_saving = threading.Lock()  # the clean-up of one save must not take the files of another


@dataclass(frozen=True)
class Format:
    """What a kind of store writes.

    Attributes:
        name: Its name in the manifest.
        saved_by: The method that saves it, for messages.
        fields: What the manifest says besides, and as a regular expression the JSON of each.
        files: The suffix of the file of each part.
        version: Raised when releases that know this one could not read the next.
    """

    name: str
    saved_by: str
    fields: Mapping[str, str]
    files: Mapping[str, str]
    version: int = 1

    def pattern(self) -> dict[str, str]:
        """Every key of the manifest, and the JSON of its value."""
        own = {"format": f'"{re.escape(self.name)}"', "version": str(self.version)}
        return own | dict(self.fields) | {f"{part}_sha256": '"[0-9a-f]{64}"' for part in self.files}


@dataclass(frozen=True)
class Saved:
    """What a folder holds.

    Attributes:
        fields: What the manifest says besides format, version and checksums.
        data: The bytes of each part, whose checksum fits.
        paths: Where those came from, for messages.
    """

    fields: dict[str, Any]
    data: dict[str, bytes]
    paths: dict[str, Path]


def write_folder(
    folder: str | os.PathLike[str], name: str, form: Format, fields: Mapping[str, Any], data: Mapping[str, bytes]
) -> None:
    """Save a store. The manifest is replaced last: whatever stops this half-way, the folder reads as before.

    Args:
        folder: The folder, which is made if need be.
        name: How the names of the files begin.
        form: The kind of store.
        fields: The value of each of the format's fields.
        data: The bytes of each of its parts.

    Raises:
        ValueError: If the name is a path, or is that of another kind of store in this folder.
    """
    path = _manifest_path(folder, name)
    sums = {f"{part}_sha256": hashlib.sha256(data[part]).hexdigest() for part in form.files}
    manifest = {"format": form.name, "version": form.version, **fields, **sums}
    paths = _data_paths(path, form, sums)
    files = {paths[part]: data[part] for part in form.files}
    files[path] = json.dumps(manifest, indent=2).encode()  # last
    path.parent.mkdir(parents=True, exist_ok=True)
    with _saving:
        _check_ours(path, form)
        replaced = path.stat().st_mtime_ns if path.exists() else 0
        for file, content in files.items():
            _write(file, content)
        _remove_earlier(path, form, replaced, keep=files)


def read_folder(folder: str | os.PathLike[str], name: str, form: Format) -> Saved:
    """Read what `write_folder` wrote, also while it writes again: what comes back is of one save.

    Raises:
        IndexFormatError: If a file is missing, damaged, foreign, or of an unknown version; names the file.
        ValueError: If the name is a path.
    """
    path = _manifest_path(folder, name)
    for left in range(_TRIES - 1, -1, -1):
        before, manifest = _state(path), _read_manifest(path, form)
        paths = _data_paths(path, form, manifest)
        try:
            data = {part: _read(file, manifest[f"{part}_sha256"]) for part, file in paths.items()}
            break
        except IndexFormatError:
            if not left or _state(path) == before:  # else a save came between, and removed what it replaced
                raise
    return Saved(fields={field: manifest[field] for field in form.fields}, data=data, paths=paths)


def _state(manifest: Path) -> tuple[int, int] | None:
    """What differs after each save, also after one of the same data."""
    try:
        found = manifest.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _manifest_path(folder: str | os.PathLike[str], name: str) -> Path:
    if Path(name).name != name:
        msg = f"index_name must be a plain name, not {name!r}."
        raise ValueError(msg)
    return Path(folder) / f"{name}.manifest.json"


def _data_paths(manifest: Path, form: Format, sums: Mapping[str, Any]) -> dict[str, Path]:
    """The names are made of checksums and the manifest's own name: no file can name another."""
    name = manifest.name.removesuffix(".manifest.json")
    return {
        part: manifest.with_name(f"{name}-{sums[f'{part}_sha256'][:16]}.{suffix}")
        for part, suffix in form.files.items()
    }


def _check_ours(path: Path, form: Format) -> None:
    """Two kinds of stores saved under one name would destroy each other."""
    there: Any = None
    with suppress(OSError, ValueError, RecursionError):
        there = json.loads(path.read_bytes())
    if isinstance(there, dict) and there.get("format", form.name) != form.name:
        msg = f"{path}: belongs to a store of another kind. Save this one under another index_name."
        raise ValueError(msg)


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


def _remove_earlier(manifest: Path, form: Format, replaced: int, keep: Iterable[Path]) -> None:
    """Remove files of earlier saves, up to the time of the manifest that was replaced, in nanoseconds.

    Younger ones stay until the next save but one: another process may be about to write the manifest that names them.
    """
    name = re.escape(manifest.name.removesuffix(".manifest.json"))
    suffixes = "|".join(map(re.escape, form.files.values()))
    ours = re.compile(rf"{name}(-[0-9a-f]{{16}}\.({suffixes})|\.manifest\.json)(\.[0-9a-f]{{32}}\.tmp)?")
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


def _read_manifest(path: Path, form: Format) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        msg = f"{path}: missing; nothing that {form.saved_by} of langchain-rerankkit saved."
        raise IndexFormatError(msg) from error
    except (ValueError, RecursionError) as error:
        msg = f"{path}: not JSON, so not a manifest of this package, or damaged."
        raise IndexFormatError(msg) from error
    pattern = form.pattern()
    known = isinstance(manifest, dict) and manifest.keys() == pattern.keys()
    wrong = [
        key for key, expected in pattern.items() if known and not re.fullmatch(expected, json.dumps(manifest[key]))
    ]
    if not known or wrong:
        msg = f"{path}: wrong {', '.join(wrong) or 'keys'}: foreign, damaged, or saved by a newer release."
        raise IndexFormatError(msg)
    return dict(manifest)
