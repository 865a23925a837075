"""Tables of question, answer and source as people have them: CSV, spreadsheets, data frames, dicts."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import zip_longest
from numbers import Number
from pathlib import Path
from typing import Any

from langchain_rerankkit._optional import require
from langchain_rerankkit.errors import DatasetError
from langchain_rerankkit.evaluation.datasets.files import read_lines
from langchain_rerankkit.evaluation.datasets.questions import (
    ANSWER,
    DOCUMENTS,
    ID,
    QUESTION,
    Question,
    named,
    parse_question,
)

__all__ = ["SUFFIXES", "read_table"]

SUFFIXES = (".csv", ".tsv", ".xlsx", ".xlsm")

_Row = tuple["int | None", Sequence[Any]]
# What is looked for, by the field of a question; and what `Dataset.from_table` calls it.
_USUAL = {"question": QUESTION, "answers": ANSWER, "documents": DOCUMENTS, "id": ID}
_ARGUMENT = {"question": "question", "answers": "answer", "documents": "source", "id": "id"}


def read_table(
    table: Any,
    columns: Mapping[str, str | None],
    separator: str | None,
    sheet: str | None,
    encoding: str | None,
) -> tuple[Question, ...]:
    """The questions of a table: see `Dataset.from_table`.

    Args:
        table: A file, a data frame, or rows as mappings.
        columns: The column of ``question``, ``answer``, ``source`` and ``id``; None to find it by its usual names.
        separator: What stands between several answers or sources of a cell.
        sheet: The sheet of a spreadsheet.
        encoding: The encoding of a text file.
    """
    file = Path(table) if isinstance(table, (str, Path)) else None
    rows = _file_rows(file, columns, sheet, encoding) if file else _object_rows(table)
    rows = ((line, cells) for line, row in rows if (cells := _without_blank_end(row)))
    line, header = next(rows, (None, ()))
    places = _find(header, columns, file, line)
    names = {role: str(header[place]) for role, place in places.items()}
    questions: dict[str, Question] = {}
    for number, (line, cells) in enumerate(rows, start=1):
        row: dict[str, Any] = {"id": str(number)}
        for role, place in places.items():
            value = cells[place] if place < len(cells) else None
            try:
                row[role] = _text(value) if role in {"id", "question"} else _several(value, separator, role)
                if not row[role] and role in {"id", "question"}:
                    msg = "The cell is blank."
                    raise ValueError(msg)  # noqa: TRY301 - the place is added below
            except ValueError as error:
                raise DatasetError(str(error), file=file, line=line, field=names[role]) from error
        if row["id"] in questions:
            msg = f"The id {row['id']!r} occurs twice."
            raise DatasetError(msg, file=file, line=line, field=names["id"])
        questions[row["id"]] = parse_question(row, file, line, names)
    if not questions:
        msg = "The table has no rows below its header."
        raise DatasetError(msg, file=file)
    return tuple(questions.values())


def _find(
    header: Sequence[Any], columns: Mapping[str, str | None], file: Path | None, line: int | None
) -> dict[str, int]:
    """The place of each column that there is, by the field of a question."""
    there = ", ".join(repr(str(name)) for name in header if name) or "none"
    places: dict[str, int] = {}
    for role, usual in _USUAL.items():
        argument = _ARGUMENT[role]
        wanted = columns[argument]
        found = [
            n for n, name in enumerate(header) if (str(name).strip() == wanted if wanted else named([name], usual))
        ]
        if len(found) > 1:
            several = ", ".join(repr(header[n]) for n in found)
            msg = f"Several columns may be the {argument}: {several}. Say which by {argument}=…; a name must be unique."
            raise DatasetError(msg, file=file, line=line)
        if found:
            places[role] = found[0]
        elif wanted or role == "question":
            msg = f"There is no column {wanted or 'for the question'}; there are {there}. Name it: Dataset.from_table(…, {argument}='…'), or rename the column."
            raise DatasetError(msg, file=file, line=line)
    if not {"answers", "documents"} & set(places):
        msg = f"There is no column for the answer or the source; there are {there}. Name one by answer=… or source=…"
        raise DatasetError(msg, file=file, line=line)
    return places


# --- cells ------------------------------------------------------------------------------------------------------------


def _text(value: Any) -> str:
    """A cell as a person reads it: 42 for 42.0, dates in ISO's form, nothing for what pandas has in blank cells."""
    if isinstance(value, _CellError):
        raise value
    if _is_blank(value):
        return ""
    if isinstance(value, dt.datetime) and value.time() == dt.time():
        value = value.date()
    if hasattr(value, "is_integer") and value.is_integer():
        value = int(value)
    if not isinstance(value, (str, Number, dt.date, dt.time)):
        msg = f"The cell must be text, a number or a date, not {type(value).__name__}."
        raise ValueError(msg)  # noqa: TRY004 - told with its place by the caller
    return str(value).strip()


def _several(value: Any, separator: str | None, role: str) -> list[str] | dict[str, int]:
    """The texts of a cell: a JSON list, a list of Python's, texts with the separator between, or one text."""
    graded = role == "documents"
    if hasattr(value, "tolist"):  # numpy's arrays
        value = value.tolist()
    if isinstance(value, str) and value.strip()[:1] + value.strip()[-1:] in {"[]", "{}"}:
        try:
            parsed = json.loads(value)
        except (ValueError, RecursionError):
            parsed = None
        if isinstance(parsed, list) and all(isinstance(item, str) for item in parsed):
            return parsed
        if graded and isinstance(parsed, dict) and all(type(grade) is int for grade in parsed.values()):
            return parsed
    if graded and isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (list, tuple)):
        return [_text(item) for item in value]
    text = _text(value)
    parts = text.split(separator) if separator else [text]
    return [part.strip() for part in parts if part.strip()]


def _is_blank(value: Any) -> bool:
    if isinstance(value, str):
        return not value.strip()
    return value is None or str(value) in {"nan", "NaT", "<NA>"}


def _without_blank_end(cells: Sequence[Any]) -> Sequence[Any]:
    filled = [place for place, cell in enumerate(cells, start=1) if not _is_blank(cell)]
    return cells[: max(filled, default=0)]


# --- rows -------------------------------------------------------------------------------------------------------------


def _file_rows(
    file: Path, columns: Mapping[str, str | None], sheet: str | None, encoding: str | None
) -> Iterator[_Row]:
    suffix = Path(file.name.removesuffix(".gz")).suffix.lower()
    if suffix not in SUFFIXES:
        msg = f"A table is a file of the kinds {', '.join(SUFFIXES)}; save it as one of these."
        raise DatasetError(msg, file=file)
    if suffix.startswith(".xls"):
        return _sheet_rows(file, sheet)
    try:
        text = "".join(line for _, line in read_lines(file, encoding=encoding))
    except DatasetError as error:
        if isinstance(error.__cause__, UnicodeError) and encoding is None:
            msg = "The file is not UTF-8. Save it as UTF-8, or name its encoding: Dataset.from_table(…, encoding='cp1252') for Western Europe."
            raise DatasetError(msg, file=file, line=error.line) from error
        raise
    return _csv_rows(text, "\t" if suffix == ".tsv" else _delimiter(text, columns), file)


def _csv_rows(text: str, delimiter: str, file: Path) -> Iterator[_Row]:
    # newline="" leaves line ends inside quotes as they are. strict, since a quote that is never closed would otherwise
    # swallow the rest of the file.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    width = 0
    while True:
        line = reader.line_num + 1
        try:
            cells = _without_blank_end(next(reader))
        except StopIteration:
            return
        except csv.Error as error:
            msg = f"The row is not CSV ({error}); inside quotes a quote is written twice."
            raise DatasetError(msg, file=file, line=line) from error
        if width and len(cells) > width:
            msg = f"The row has {len(cells)} cells, the header {width}: quote cells that hold the separator."
            raise DatasetError(msg, file=file, line=line)
        width = width or len(cells)
        yield line, cells


def _delimiter(text: str, columns: Mapping[str, str | None]) -> str:
    """What stands between the columns: that under which the most are known by name; else that which gives the most."""

    def worth(delimiter: str) -> tuple[int, int]:
        try:
            header = next((cells for _, cells in _csv_rows(text, delimiter, Path()) if any(cells)), [])
        except DatasetError:
            return 0, 0
        given = {name for name in columns.values() if name is not None}
        known = sum(bool(named([name], usual)) for name in header for usual in _USUAL.values())
        return known + len(given & set(header)), len(header)

    return max(",;\t", key=worth)


def _sheet_rows(file: Path, sheet: str | None) -> Iterator[_Row]:
    openpyxl = require("openpyxl", extra="tables")
    from zipfile import BadZipFile

    def book(*, values: bool) -> Any:
        return closing(openpyxl.load_workbook(file, read_only=True, data_only=values))

    try:
        # Twice: a formula whose result was never stored has no value, and would be a blank cell without a word.
        with book(values=True) as results, book(values=False) as formulas:
            pairs = zip_longest(_cells(results, sheet, file), _cells(formulas, sheet, file), fillvalue=())
            for line, (cells, sources) in enumerate(pairs, start=1):
                yield line, [_checked(cell, source) for cell, source in zip_longest(cells, sources)]
    except DatasetError:
        raise
    except OSError as error:
        msg = f"The file cannot be read ({error.strerror})."
        raise DatasetError(msg, file=file) from error
    except (KeyError, ValueError, SyntaxError, BadZipFile, openpyxl.utils.exceptions.InvalidFileException) as error:
        msg = "The file is not a spreadsheet that openpyxl can read."
        raise DatasetError(msg, file=file) from error


def _cells(book: Any, name: str | None, file: Path) -> Iterator[Sequence[Any]]:
    if name is not None and name not in book.sheetnames:
        msg = f"There is no sheet {name!r}; there are {book.sheetnames}."
        raise DatasetError(msg, file=file)
    sheet = book[name] if name is not None else book.worksheets[0]
    sheet.reset_dimensions()  # what the file says of its own size is often wrong
    rows: Iterator[Sequence[Any]] = sheet.iter_rows()
    return rows


class _CellError(ValueError):
    """A cell that has no value to read; an error only where its column is needed."""


def _checked(cell: Any, source: Any) -> Any:
    value = None if cell is None else cell.value
    if value is not None and cell.data_type == "e":
        return _CellError(f"The cell holds the error {value}.")
    if value is None and source is not None and source.data_type == "f":
        return _CellError("The formula's result is not in the file: open it in a spreadsheet program and save it.")
    return value


def _object_rows(table: Any) -> Iterator[_Row]:
    """Rows of pandas' data frames or of mappings; the header first."""
    if hasattr(table, "to_dict"):
        table = table.to_dict("records")
    rows: list[Mapping[str, Any]] = list(table) if isinstance(table, Iterable) else []
    if not rows or not all(isinstance(row, Mapping) for row in rows):
        msg = "A table is a file, a data frame, or rows as dicts; and it has at least one row."
        raise DatasetError(msg)
    header = list(dict.fromkeys(name for row in rows for name in row))
    yield None, header
    for line, row in enumerate(rows, start=1):
        yield line, [row.get(name) for name in header]
