"""A report as one HTML page that holds everything: it opens from disk and asks no network.

The tables are plain HTML; what they cannot show is drawn by the scripts beside this file, which become one: ``data.js``
(what the page holds), ``tables.js``, ``figures.js`` and ``plots.js`` (by Plotly), ``finder.js`` (the list of questions),
``question.js`` (the rankings of one) and ``main.js`` (what is chosen).

Names, ids and texts come from anywhere. They enter the page escaped, or as JSON in elements that no browser executes, and
the scripts turn them into text nodes only. The page's policy lets nothing run but the two scripts it was written with.
"""

from __future__ import annotations

import base64
import gzip
import json
from functools import lru_cache
from hashlib import sha256
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from langchain_rerankkit._optional import require
from langchain_rerankkit.evaluation.page.data import pack

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from langchain_rerankkit.evaluation.compare import Comparison
    from langchain_rerankkit.evaluation.report import EvaluationReport
    from langchain_rerankkit.evaluation.table import Table

__all__ = ["write_page"]

_SCRIPTS = ("data.js", "tables.js", "figures.js", "plots.js", "finder.js", "question.js", "main.js")
# Control characters as pictures of them, and lone surrogates, which no file can hold, as the replacement character.
_VISIBLE = {
    **{code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n"},
    0x7F: 0x2421,
    **dict.fromkeys(range(0xD800, 0xE000), 0xFFFD),
}


def write_page(
    report: EvaluationReport,
    path: str | Path,
    *,
    comparison: Comparison | None = None,
    title: str | None = None,
    depth: int = 20,
    characters: int = 600,
) -> Path:
    """Write a report as one HTML page with tables, plots and every question's rankings.

    The page is one file without links to others. It is dark or light as the reader's system is, and can be printed.

    Args:
        report: What `langchain_rerankkit.evaluate` returned.
        path: The file to write.
        comparison: Systems against a baseline; by default ``report.compare()``.
        title: Of the page; by default the dataset's name.
        depth: Places of each ranking that are kept; of gold documents and of those that another system has in its first
            places, the place is kept at any depth.
        characters: To which each document's text is cut. Where there are very many documents, texts are cut shorter, so
            that the page stays small; the page says how short.

    Returns:
        The path.

    Raises:
        ValueError: If ``depth`` is below 1 or ``characters`` below 0.
        MissingExtraError: Without plotly or numpy.
    """
    if depth < 1 or characters < 0:
        msg = f"depth must be at least 1 and characters at least 0, not {depth} and {characters}."
        raise ValueError(msg)
    if comparison is None and len(report.systems) > 1 and report.questions:
        comparison = report.compare()
    head, chunks = pack(report, comparison, depth=depth, characters=characters)
    plotly, plotly_hash = _plotly()
    script = _script()
    policy = (
        f"default-src 'none'; script-src {_source(script)} {plotly_hash}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    page = Template(_read("page.html")).substitute(
        policy=policy,
        title=_text(title or report.dataset),
        style=_read("page.css"),
        counts=_text(_counts(report)),
        notes=_notes(report.notes),
        scores=_scores(report),
        comparison="" if comparison is None else _comparison(comparison, report.metrics),
        footer=_text(_footer(report, head, depth)),
        head=_json(head),
        # What the list of questions needs comes before the script, which so starts before the rest is read.
        early="\n".join(_chunk(name, value) for name, value in chunks.items() if not _is_late(name)),
        late="\n".join(_chunk(name, value) for name, value in chunks.items() if _is_late(name)),
        plotly=plotly,
        script=script,
    )
    path = Path(path)
    path.write_bytes(page.encode())
    return path


# --- what is readable without scripts ---------------------------------------------------------------------------------


def _counts(report: EvaluationReport) -> str:
    amounts = {"question": report.questions, "system": len(report.systems), "metric": len(report.metrics)}
    counts = " · ".join(f"{amount:,} {what}{'' if amount == 1 else 's'}" for what, amount in amounts.items())
    return f"{counts} · relevant from grade {report.relevance}" if report.relevance != 1 else counts


def _footer(report: EvaluationReport, head: dict[str, Any], depth: int) -> str:
    parts = [f"Rankings are shown to place {depth}; places of gold and of moved documents at any depth."]
    if head["cut"] and report.documents:
        parts.append(f"Texts of documents are cut to {head['cut']:,} characters.")
    elif not head["cut"]:
        parts.append("Texts of documents were left out.")
    return " ".join([*parts, "Written by langchain-rerankkit."])


def _notes(notes: Sequence[str]) -> str:
    if not notes:
        return ""
    items = "".join(f"<li><bdi>{_text(note)}</bdi></li>" for note in notes)
    return (
        '<section class="notes" aria-labelledby="notes-title"><h2 id="notes-title">What to be careful about</h2>'
        f"<ul>{items}</ul></section>"
    )


def _scores(report: EvaluationReport) -> str:
    table = report.table()
    # A ceiling's row belongs to the system above it, and moves with it when the table is sorted.
    groups: list[list[Sequence[str]]] = []
    names = [system.name for system in report.systems]
    for row in table.rows:
        if len(groups) < len(names) and row[0] == names[len(groups)]:
            groups.append([row])
        else:
            groups[-1].append(row)
    return _table(table, [(' class="system"', rows) for rows in groups])


def _comparison(comparison: Comparison, metrics: Sequence[str]) -> str:
    table = comparison.table()
    groups: dict[str, list[Sequence[str]]] = {}
    findings = []
    for line, row in zip(comparison.differences, table.rows, strict=True):
        groups.setdefault(line.metric, []).append(row)
        findings.append(f'<li data-metric="{metrics.index(line.metric)}"><bdi>{_text(str(line))}</bdi></li>')
    bodies = [(f' data-metric="{metrics.index(metric)}"', rows) for metric, rows in groups.items()]
    return (
        '<section id="comparison" aria-labelledby="comparison-title"><h2 id="comparison-title">Against the baseline</h2>'
        f'<ul class="findings">{"".join(findings)}</ul>{_table(table, bodies)}'
        '<p class="needs-script"><label><input type="checkbox" id="every-metric"> every metric</label></p></section>'
    )


def _table(table: Table, bodies: Iterable[tuple[str, Sequence[Sequence[str]]]]) -> str:
    """A table whose bodies are sorted as a whole; each has attributes and rows."""
    left = {0, *table.left}
    sides = [' class="text"' if column in left else "" for column in range(len(table.header))]
    titles = "".join(
        f'<th scope="col"{side}>{_text(name)}</th>' for name, side in zip(table.header, sides, strict=True)
    )

    def line(row: Sequence[str]) -> str:
        first, *rest = (f"<bdi>{_text(cell)}</bdi>" for cell in row)
        cells = "".join(f"<td{side}>{cell}</td>" for cell, side in zip(rest, sides[1:], strict=True))
        return f'<tr><th scope="row" class="text">{first}</th>{cells}</tr>'

    groups = "".join(f"<tbody{attributes}>{''.join(map(line, rows))}</tbody>" for attributes, rows in bodies)
    legend = "".join(f"<p>{_text(sentence)}</p>" for sentence in table.legend)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{_text(table.title)}"><table class="sortable">'
        f"<caption>{_text(table.title)}</caption><thead><tr>{titles}</tr></thead>{groups}</table></div>"
        f'<div class="muted legend">{legend}</div>'
    )


def _text(text: str) -> str:
    return escape(text.translate(_VISIBLE))


# --- what the scripts read --------------------------------------------------------------------------------------------


def _json(value: Any) -> str:
    """JSON that can stand in an element of HTML: ASCII, and nothing in it ends the element or starts another."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _is_late(name: str) -> bool:
    return name.startswith(("rankings-", "documents-"))


def _chunk(name: str, value: Any) -> str:
    return f'<script type="text/plain" id="{name}">{_packed(_json(value))}</script>'


def _packed(text: str) -> str:
    return base64.b64encode(gzip.compress(text.encode(), compresslevel=6, mtime=0)).decode()


def _source(script: str) -> str:
    """What a policy calls a script."""
    return f"'sha256-{base64.b64encode(sha256(script.encode()).digest()).decode()}'"


@lru_cache(maxsize=1)
def _plotly() -> tuple[str, str]:
    """The plotting library, packed, and what the policy calls it."""
    library = require("plotly.offline", extra="report").get_plotlyjs()
    return _packed(library), _source(library)


def _script() -> str:
    return "\n(() => {\n'use strict';\n" + "\n".join(map(_read, _SCRIPTS)) + "})();\n"


def _read(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")
