"""One table, shown three ways: Markdown, a terminal, a notebook."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from langchain_rerankkit._optional import require

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Table"]

_COMMANDS = {"Cc", "Cf", "Cs"}  # controls, marks of direction, lone surrogates


@dataclass(frozen=True)
class Table:
    """Text in cells, which may come from anywhere: each way of showing it escapes what it must.

    Attributes:
        title: A line above.
        header: Names of the columns.
        rows: Cells as text, aligned with the header; the first column is flush left.
        legend: Sentences on how to read it.
        notes: What to be careful about.
        left: Columns that are flush left besides the first.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    legend: Sequence[str] = ()
    notes: Sequence[str] = ()
    left: Sequence[int] = ()

    def markdown(self) -> str:
        """As Markdown that is also aligned for the eye."""
        cells = [[_in_a_cell(cell) for cell in row] for row in (self.header, *self.rows)]
        widths = [max(len(row[column]) for row in cells) for column in range(len(self.header))]
        lines = [
            "| "
            + " | ".join(
                cell.ljust(width) if self._is_left(column) else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            + " |"
            for row in cells
        ]
        rule = "|".join(
            f"-{'-' * width}-" if self._is_left(column) else f"{'-' * (width + 1)}:"
            for column, width in enumerate(widths)
        )
        parts = [_plain(self.title), "", lines[0], f"|{rule}|", *lines[1:]]
        for sentence in self.legend:
            parts += ["", _plain(sentence)]
        if self.notes:
            parts += ["", *(f"- {_plain(note)}" for note in self.notes)]
        return "\n".join(parts)

    def html(self) -> str:
        """As HTML without scripts, in the colours of the page around it."""
        align = ["left" if self._is_left(column) else "right" for column in range(len(self.header))]

        def line(cells: Sequence[str], tag: str) -> str:
            return "".join(
                f'<{tag} style="text-align:{side};padding:2px 8px">{escape(_plain(cell))}</{tag}>'
                for cell, side in zip(cells, align, strict=True)
            )

        rows = "".join(f"<tr>{line(row, 'td')}</tr>" for row in self.rows)
        below = "".join(f"<p>{escape(_plain(sentence))}</p>" for sentence in self.legend)
        notes = "".join(f"<li>{escape(_plain(note))}</li>" for note in self.notes)
        return (
            f"<table><caption>{escape(_plain(self.title))}</caption><thead><tr>{line(self.header, 'th')}</tr></thead>"
            f"<tbody>{rows}</tbody></table>{below}{f'<ul>{notes}</ul>' if notes else ''}"
        )

    def rich(self) -> Any:
        """As a renderable of rich; a table that is wider than the terminal goes on below, with its first columns again.

        Raises:
            MissingExtraError: Without rich.
        """
        require("rich.table", extra="report")
        return _Fitted(self)

    def _is_left(self, column: int) -> bool:
        return column == 0 or column in self.left


class _Fitted:
    """A table for a terminal, however wide that is."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        shown, kind = self._table, require("rich.text", extra="report").Text

        def text(content: str) -> Any:
            return kind(_plain(content))  # not a str: rich reads markup in strings

        yield text(shown.title)
        for columns in self._groups(options.max_width):
            table = require("rich.table", extra="report").Table()
            for column in columns:
                left = shown._is_left(column)  # noqa: SLF001 - of this module
                table.add_column(text(shown.header[column]), justify="left" if left else "right", no_wrap=not left)
            for row in shown.rows:
                table.add_row(*(text(row[column]) for column in columns))
            yield table
        yield from map(text, shown.legend)
        yield from (text(f"- {note}") for note in shown.notes)

    def _groups(self, width: int) -> list[list[int]]:
        """Columns that fit beside each other, each time after those that name the row."""
        table = self._table
        widths = [
            max(len(_plain(cells[column])) for cells in (table.header, *table.rows)) + 3
            for column in range(len(table.header))
        ]
        first = [column for column in range(len(widths)) if column <= max((0, *(c for c in table.left if c <= 1)))]
        groups = [list(first)]
        for column in range(len(first), len(widths)):
            if len(groups[-1]) > len(first) and sum(widths[c] for c in groups[-1]) + widths[column] + 1 > width:
                groups.append(list(first))
            groups[-1].append(column)
        return groups


def _in_a_cell(text: str) -> str:
    return _plain(text).replace("|", "\\|")


def _plain(text: str) -> str:
    """On one line, without characters that command a terminal."""
    return "".join("\ufffd" if unicodedata.category(c) in _COMMANDS else c for c in " ".join(text.split()))
