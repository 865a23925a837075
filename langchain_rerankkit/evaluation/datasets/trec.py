"""TREC's files: topics, qrels and runs, as trec_eval reads them.

Ids are separated by blanks, so an id that holds one is refused when written. Any file may be gzipped.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from langchain_rerankkit.errors import DatasetError
from langchain_rerankkit.evaluation.datasets.files import read_lines, write_lines

__all__ = ["load_aspects", "load_qrels", "load_run", "load_topics", "save_qrels", "save_run", "save_topics"]

_BLANK = re.compile(r"[ \t\n\v\f\r]+")
_TOPIC = re.compile(r"<top>(.*?)</top>", re.IGNORECASE | re.DOTALL)
# The tags of TREC 1 to 8; any other <word> is text.
_TAG = re.compile(r"<(/?)(top|num|title|desc|narr|head|dom|smry|con|fac|nat|time|def)>", re.IGNORECASE)
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}  # the ampersand first when written, last when read
_LABELS = {"num": "number", "title": "topic", "desc": "description", "narr": "narrative"}


def load_topics(path: str | Path, *, field: Literal["title", "desc", "narr"] = "title") -> dict[str, str]:
    r"""Read topics: lines of ``id<tab>text``, or TREC's classic ``<top> <num> … <title> … </top>``.

    Args:
        path: The file.
        field: Which text of a classic topic is the question. Runs of blanks in it become one, since it is wrapped;
            the labels ``Number:``, ``Topic:``, ``Description:``, ``Narrative:`` go, and ``&amp;`` becomes ``&``.

    Returns:
        The text of each topic by id.

    Raises:
        DatasetError: With file, line and field; also if an id occurs twice.
    """
    path = Path(path)
    lines = list(read_lines(path))
    first = next((line for _, line in lines if line.strip()), "")
    classic = first.lstrip().startswith("<") and "\t" not in first.strip()
    topics: dict[str, str] = {}
    whole = "".join(line for _, line in lines)
    for number, id_, text in _classic_topics(whole, field, path) if classic else _tabbed_topics(lines, path):
        if id_ in topics:
            msg = f"The topic {id_!r} occurs twice."
            raise DatasetError(msg, file=path, line=number)
        topics[id_] = text
    return topics


def _tabbed_topics(lines: Sequence[tuple[int, str]], path: Path) -> Iterator[tuple[int, str, str]]:
    for number, line in lines:
        id_, tab, text = line.removesuffix("\n").removesuffix("\r").partition("\t")
        if not line.strip():
            continue
        if not (tab and id_.strip() and text.strip()):
            msg = "A line of topics reads: id, a tab, text."
            raise DatasetError(msg, file=path, line=number)
        yield number, id_, text


def _classic_topics(text: str, field: str, path: Path) -> Iterator[tuple[int, str, str]]:
    for topic in _TOPIC.finditer(text):
        line = text.count("\n", 0, topic.start()) + 1
        pieces = _TAG.split(topic[1])
        fields: dict[str, str] = {}
        for closing, tag, content in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
            name = tag.lower()
            if not closing and (name == "top" or name in fields):
                msg = "The topic has this field twice." if name in fields else "The topic does not end with </top>."
                raise DatasetError(msg, file=path, line=line, field=name)
            if not closing:
                fields[name] = content
        yield line, _topic_field(fields, "num", path, line), _topic_field(fields, field, path, line)
    rest = _TOPIC.sub(lambda topic: "\n" * topic[0].count("\n"), text)
    stray = re.search("</?top>", rest, re.IGNORECASE)
    if stray or rest == text:
        msg = "There is no whole <top> … </top> here."
        raise DatasetError(msg, file=path, line=rest.count("\n", 0, stray.start() if stray else 0) + 1)


def _topic_field(fields: Mapping[str, str], name: str, path: Path, line: int) -> str:
    text = _BLANK.sub(" ", fields.get(name, "")).strip(" ")
    text = re.sub(rf"^{_LABELS[name]} ?: ?", "", text, flags=re.IGNORECASE)
    if not text:
        msg = "The topic lacks this field."
        raise DatasetError(msg, file=path, line=line, field=name)
    for character, entity in reversed(_ENTITIES.items()):
        text = text.replace(entity, character)
    return text


def save_topics(topics: Mapping[str, str], path: str | Path, *, format: Literal["tsv", "classic"] = "tsv") -> None:
    """Write topics.

    Args:
        topics: The text of each topic by id.
        path: The file; with ``.gz`` it is gzipped.
        format: ``"tsv"`` for lines of ``id<tab>text``, or ``"classic"`` for ``<top>`` with number and title.

    Raises:
        DatasetError: If an id holds blanks, or a text is blank, holds line breaks, or (in a classic file) has blanks in
            a row or at an end.
    """
    for id_, text in topics.items():
        _check_id(id_, path, "topic")
        kept = text.translate({10: None, 13: None}) if format == "tsv" else _BLANK.sub(" ", text).strip(" ")
        if not text.strip() or text != kept:
            msg = f"The text of topic {id_!r} is blank or has line breaks or blanks that would be lost."
            raise DatasetError(msg, file=path)
    write_lines(path, (f"{id_}\t{text}" if format == "tsv" else _classic(id_, text) for id_, text in topics.items()))


def _classic(id_: str, text: str) -> str:
    # A label of its own keeps that of a title such as "Topic: none"; readers want all four fields.
    label = "Topic: " if re.match("topic ?:", text, re.IGNORECASE) else ""
    for character, entity in _ENTITIES.items():
        id_, text = id_.replace(character, entity), text.replace(character, entity)
    return f"<top>\n<num> Number: {id_}\n<title> {label}{text}\n<desc> Description:\n<narr> Narrative:\n</top>\n"


def load_qrels(path: str | Path) -> dict[str, dict[str, int]]:
    """Read qrels: lines of ``query 0 document grade``, or BEIR's three columns with tabs between and a header.

    Returns:
        Grade of each judged document, by query and document.

    Raises:
        DatasetError: With file and line; also if a document has two different grades for a query.
    """
    grades: dict[str, dict[str, int]] = {}
    for number, query, _, document, grade in _judgements(Path(path)):
        if grades.setdefault(query, {}).setdefault(document, grade) != grade:
            msg = (
                f"The document {document!r} has two grades for {query!r}: {grades[query][document]} and {grade}. Where the "
                "second column names subtopics, read them as such: Dataset.from_trec(…, subtopics=True)."
            )
            raise DatasetError(msg, file=path, line=number)
    return grades


def load_aspects(path: str | Path) -> dict[str, dict[str, dict[str, int]]]:
    """Read qrels that judge documents for each subtopic: lines of ``query subtopic document grade`` (TREC's diversity tasks).

    In other qrels the second column is no subtopic: 0, or the round of judging.

    Returns:
        Grade of each judged document, by query, subtopic and document.

    Raises:
        DatasetError: With file and line; also if a document has two different grades for a subtopic.
    """
    aspects: dict[str, dict[str, dict[str, int]]] = {}
    for number, query, subtopic, document, grade in _judgements(Path(path)):
        grades = aspects.setdefault(query, {}).setdefault(subtopic, {})
        if grades.setdefault(document, grade) != grade:
            msg = (
                f"The document {document!r} has two grades for {query!r}, subtopic {subtopic!r}: {grades[document]} and "
                f"{grade}."
            )
            raise DatasetError(msg, file=path, line=number)
    return aspects


def _judgements(path: Path) -> Iterator[tuple[int, str, str, str, int]]:
    """Line number, query, second column, document and grade."""
    for number, line in read_lines(path):
        if not line.strip():
            continue
        cells = line.rstrip("\r\n").split("\t")
        second = "0"
        if len(cells) != 3:  # noqa: PLR2004 - BEIR's
            cells = _cells(line)
            second = "".join(cells[1:2])
            del cells[1:2]
        elif '"' in line:  # BEIR writes its files, and so ids with quotes, by the csv module
            cells = next(csv.reader([line.rstrip("\r\n")], delimiter="\t"))
        try:
            query, document, value = cells
            grade = int(value)
            if not (query and document):
                raise ValueError  # noqa: TRY301 - told below
        except ValueError as error:
            if number == 1 and "\t" in line and re.fullmatch(r"query[-_ ]?id", cells[0].strip(), re.IGNORECASE):
                continue
            msg = "A line of qrels reads: query 0 document grade; BEIR's: query, document, grade, with tabs between."
            raise DatasetError(msg, file=path, line=number) from error
        yield number, query, second, document, grade


def save_qrels(qrels: Mapping[str, Mapping[str, int]], path: str | Path) -> None:
    """Write qrels as lines of ``query 0 document grade``; ``.gz`` is gzipped.

    Raises:
        DatasetError: If an id holds blanks.
    """

    def lines() -> Iterator[str]:
        for query, grades in qrels.items():
            _check_id(query, path, "query")
            for document, grade in grades.items():
                yield f"{query} 0 {_check_id(document, path, 'document')} {int(grade)}"

    write_lines(path, lines())


def load_run(path: str | Path) -> dict[str, list[str]]:
    """Read a run: lines of ``query Q0 document rank score tag``.

    Returns:
        Document ids of each query by falling score, whatever the rank says, as in trec_eval. Ties keep the order of
        the file, where trec_eval takes the larger name first.

    Raises:
        DatasetError: With file and line; also if a document occurs twice for a query.
    """
    scored: dict[str, dict[str, float]] = {}
    for number, line in read_lines(path):
        if not line.strip():
            continue
        try:
            query, _, document, _, value, *_ = _cells(line)
            score = float(value)
        except ValueError as error:
            msg = "A line of a TREC run reads: query Q0 document rank score tag."
            raise DatasetError(msg, file=path, line=number) from error
        scores = scored.setdefault(query, {})
        if document in scores or math.isnan(score):
            wrong = "has the score NaN" if math.isnan(score) else "occurs twice"
            msg = f"The document {document!r} {wrong} for {query!r}."
            raise DatasetError(msg, file=path, line=number)
        scores[document] = score
    return {query: sorted(scores, key=scores.__getitem__, reverse=True) for query, scores in scored.items()}


def save_run(
    run: Mapping[str, Sequence[str] | Mapping[str, float]], path: str | Path, *, tag: str = "langchain-rerankkit"
) -> None:
    """Write a run as lines of ``query Q0 document rank score tag``; ``.gz`` is gzipped.

    Args:
        run: By query, document ids best first, or scores by document id. Of ids, the score written is the number of
            documents that are not better, which falls strictly, so that any reader keeps the order. Scores are
            written as they are; readers may order ties in their own way.
        path: The file.
        tag: Name of the system.

    Raises:
        DatasetError: If an id or the tag holds blanks, a document occurs twice for a query, or a score is not finite.
    """
    _check_id(tag, path, "tag")

    def lines() -> Iterator[str]:
        for query, found in run.items():
            _check_id(query, path, "query")
            scores = found if isinstance(found, Mapping) else {id_: len(found) - n for n, id_ in enumerate(found)}
            if len(scores) < len(found) or not all(map(math.isfinite, scores.values())):
                msg = f"A document of {query!r} occurs twice or has a score that is not finite."
                raise DatasetError(msg, file=path)
            for rank, id_ in enumerate(sorted(scores, key=scores.__getitem__, reverse=True), start=1):
                yield f"{query} Q0 {_check_id(id_, path, 'document')} {rank} {scores[id_]} {tag}"

    write_lines(path, lines())


def _cells(line: str) -> list[str]:
    # As in trec_eval only ASCII's blanks separate, as bytes are split; str.split() would take odd ids apart.
    return [cell.decode() for cell in line.encode().split()]


def _check_id(id_: str, path: str | Path, what: str) -> str:
    if not id_ or re.search(r"[\s\0\ufeff]", id_):
        msg = f"The {what} id {id_!r} is empty or holds blanks, which TREC's files cannot hold."
        raise DatasetError(msg, file=path)
    return id_
