"""One table, shown three ways: Markdown, a terminal, a notebook."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from langchain_rerankkit._optional import require

if TYPE_CHECKING:
    from collections.abc import Sequence

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
        """As a renderable of rich.

        Raises:
            MissingExtraError: Without rich.
        """
        kind = require("rich.text", extra="report").Text

        def text(content: str) -> Any:
            return kind(_plain(content))  # not a str: rich reads markup in strings

        table = require("rich.table", extra="report").Table(title=text(self.title), title_justify="left")
        for column, name in enumerate(self.header):
            table.add_column(text(name), justify="left" if self._is_left(column) else "right", overflow="fold")
        for row in self.rows:
            table.add_row(*(text(cell) for cell in row))
        below = [text(sentence) for sentence in self.legend] + [text(f"- {note}") for note in self.notes]
        return require("rich.console", extra="report").Group(table, *below)

    def _is_left(self, column: int) -> bool:
        return column == 0 or column in self.left


def _in_a_cell(text: str) -> str:
    return _plain(text).replace("|", "\\|")


def _plain(text: str) -> str:
    """On one line, without characters that command a terminal."""
    return "".join("\ufffd" if unicodedata.category(c) in _COMMANDS else c for c in " ".join(text.split()))
