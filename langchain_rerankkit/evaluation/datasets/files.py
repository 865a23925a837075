"""Text files as people have them: lines that can be counted, gzip, byte order marks; written whole or not at all."""

from __future__ import annotations

import codecs
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from uuid import uuid4

from langchain_rerankkit.errors import DatasetError

__all__ = ["json_rows", "read_json", "read_lines", "write_lines"]

# The longer mark first: UTF-32's begins with UTF-16's.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def read_lines(path: str | Path, *, encoding: str | None = None) -> Iterator[tuple[int, str]]:
    r"""The lines of a file with their ends, counted from 1; only ``"\n"`` ends one.

    The file is UTF-8, or UTF-16 or UTF-32 with a byte order mark; gzip is seen by its first bytes. It is read as the
    lines are asked for, so that it may be larger than memory.

    Args:
        path: The file.
        encoding: The encoding, where it is another.

    Raises:
        DatasetError: If the file cannot be read or decoded; with the line.
    """
    path = Path(path)
    number = 0
    try:
        with path.open("rb") as raw, _unpacked(raw) as file:
            start = file.peek(4)
            known = encoding or next((name for mark, name in _MARKS.items() if start.startswith(mark)), None)
            # UTF-8 is decoded line by line, to know the line of a wrong byte.
            lines = io.TextIOWrapper(file, known, newline="\n") if known else (line.decode() for line in file)
            for number, line in enumerate(lines, start=1):
                yield number, line.removeprefix("\ufeff") if number == 1 else line
    except (OSError, EOFError, zlib.error) as error:
        msg = f"The file cannot be read ({getattr(error, 'strerror', None) or error})."
        raise DatasetError(msg, file=path) from error
    except (UnicodeError, LookupError) as error:
        msg = f"The {'file' if known else 'line'} is not {known or 'UTF-8'} text."
        raise DatasetError(msg, file=path, line=None if known else number + 1) from error


def _unpacked(raw: io.BufferedReader) -> Any:
    return gzip.open(raw) if raw.peek(2).startswith(b"\x1f\x8b") else raw


def write_lines(path: str | Path, lines: Iterable[str]) -> None:
    """Write lines as UTF-8, gzipped where the name ends with ``.gz``. A failure leaves the file as it was.

    Raises:
        DatasetError: If a line cannot be written as UTF-8.
        OSError: If the file cannot be written.
    """
    path = Path(path)
    zipped = path.suffix == ".gz"
    draft = path.with_name(f".{path.name}-{uuid4().hex}")
    try:
        # Of gzip the header has no time: equal data, equal files.
        with draft.open("xb") as raw, gzip.GzipFile("", "wb", 6, raw, 0) if zipped else nullcontext(raw) as file:
            for number, line in enumerate(lines, start=1):
                try:
                    file.write(f"{line}\n".encode())
                except UnicodeEncodeError as error:
                    msg = "The text holds half of a surrogate pair, which no file can hold."
                    raise DatasetError(msg, file=path, line=number) from error
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def read_json(path: str | Path) -> Any:
    """What a file of JSON holds.

    Raises:
        DatasetError: If it cannot be read or is no JSON.
    """
    text = "".join(line for _, line in read_lines(path))
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        msg = f"The file is not JSON ({error})."
        raise DatasetError(msg, file=path) from error


def json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file with one JSON object per line, with their lines; blank lines are skipped.

    Raises:
        DatasetError: If a line is something else, or names a field twice.
    """
    for number, line in read_lines(path):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_object)
        except (ValueError, RecursionError) as error:
            msg = f"The line is not JSON ({getattr(error, 'msg', error)})."
            raise DatasetError(msg, file=path, line=number) from error
        if not isinstance(row, dict):
            msg = "Each line must be a JSON object."
            raise DatasetError(msg, file=path, line=number)
        yield number, row


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        msg = "a name occurs twice in an object"
        raise ValueError(msg)
    return row
