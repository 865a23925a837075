"""Measures that ir-measures computes, with odd ids and orders without scores made fit for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_rerankkit._optional import require

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["by_ir_measures", "is_of_aspects"]


def is_of_aspects(measure: Any) -> bool:
    """Whether it is one of its measures of diversity, which look at subtopics."""
    return type(measure).__module__ == "ir_measures.measures.diversity"


def by_ir_measures(
    measure: Any,
    gold: Mapping[str, Mapping[str, int]],
    rankings: Mapping[str, Sequence[str]],
    aspects: Mapping[str, Mapping[str, Mapping[str, int]]] | None = None,
) -> dict[str, float]:
    """Score of each question in ``gold``.

    Args:
        measure: The measure of ir-measures.
        gold: Grade of each judged document, by question id and document id.
        rankings: Document ids of each question, best first.
        aspects: For measures of diversity: by question id and name of an aspect, the grades of documents for it.
    """
    # trec_eval orders by score and breaks ties by name; scores that fall by one leave no ties. Numbers in place of
    # names keep odd ids (spaces, surrogates, NUL) out of its C code.
    ir_measures = require("ir_measures", extra="evaluation")
    qrels: list[Any] = []
    run: dict[str, dict[str, float]] = {}
    for number, (question, grades) in enumerate(gold.items()):
        numbers: dict[str, str] = {}
        by_aspect = [grades] if aspects is None else _by_aspect(grades, aspects.get(question, {}))
        for aspect, of_it in enumerate(by_aspect):
            for document, grade in of_it.items():
                id_ = numbers.setdefault(document, str(len(numbers)))
                qrels.append(ir_measures.Qrel(str(number), id_, int(grade), str(aspect)))
        placed: dict[str, float] = {}
        seen: set[str] = set()
        for place, document in enumerate(rankings.get(question, ())):
            known = document in numbers and document not in seen
            seen.add(document)
            placed[numbers[document] if known else f"other-{place}"] = -float(place)
        if placed:
            run[str(number)] = placed
    scores = dict.fromkeys(gold, 0.0)
    originals = list(gold)
    if run:
        for value in ir_measures.iter_calc([measure], qrels, run):
            scores[originals[int(value.query_id)]] = float(value.value)
    return scores


def _by_aspect(grades: Mapping[str, int], named: Mapping[str, Mapping[str, int]]) -> list[Mapping[str, int]]:
    """Grades of each aspect; a document that none names is an aspect of its own."""
    has_aspect = {document for of_it in named.values() for document, grade in of_it.items() if grade > 0}
    alone = [{document: grade} for document, grade in grades.items() if document not in has_aspect]
    return [*named.values(), *alone]
