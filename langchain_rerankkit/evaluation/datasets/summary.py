"""What a dataset holds, and what about it looks wrong."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_rerankkit.evaluation.gold.matching import holds_answer, normalise
from langchain_rerankkit.evaluation.wording import counted, some

if TYPE_CHECKING:
    from langchain_core.documents import Document

    from langchain_rerankkit.evaluation.datasets.dataset import Dataset

__all__ = ["DatasetSummary", "summarise"]

_SHORT = 2  # characters of an answer that occurs in many a text by chance


@dataclass(frozen=True, repr=False)
class DatasetSummary:
    """What a dataset holds; a short text when printed.

    Attributes:
        name: The dataset's name.
        questions: Number of questions.
        with_answers: Questions with accepted answers.
        with_documents: Questions with at least one relevant document (grade 1 or more).
        gold_mean: Relevant documents per question of these.
        gold_max: Most relevant documents of a question.
        grades: Number of judgements by grade.
        documents: Documents of the corpus.
        words_median: Words of a document, separated by blanks.
        words_p95: 95th percentile of the same.
        without_gold: Ids of questions with neither answers nor a relevant document.
        missing_documents: Ids of relevant documents that the corpus lacks; none where there is no corpus.
        contradicted: Ids of questions whose relevant documents in the corpus hold none of the accepted answers.
        wordless_answers: Ids of questions with an answer without any word, which no document can hold.
        short_answers: Ids of questions with an answer of one or two characters.
        repeated_questions: Texts that several questions have, without regard to case and punctuation: ids of each.
        repeated_documents: Ids that several documents of the corpus have.
        blank_documents: Ids of documents without text.
        nameless_documents: Number of documents without an id.
    """

    name: str
    questions: int
    with_answers: int
    with_documents: int
    gold_mean: float
    gold_max: int
    grades: Mapping[int, int]
    documents: int
    words_median: float
    words_p95: int
    without_gold: Sequence[str]
    missing_documents: Sequence[str]
    contradicted: Sequence[str]
    wordless_answers: Sequence[str]
    short_answers: Sequence[str]
    repeated_questions: Sequence[Sequence[str]]
    repeated_documents: Sequence[str]
    blank_documents: Sequence[str]
    nameless_documents: int

    @property
    def notes(self) -> list[str]:
        """What looks wrong, in words; empty where nothing does."""
        return list(self.mistakes().values())

    def mistakes(self) -> dict[str, str]:
        """The same by the attribute that it is about."""
        said: dict[str, tuple[Sequence[Any], str, str]] = {
            "without_gold": (self.without_gold, "question has no gold", "questions have no gold"),
            "missing_documents": (
                self.missing_documents,
                "gold id is not in the corpus",
                "gold ids are not in the corpus",
            ),
            "contradicted": (
                self.contradicted,
                "question's gold documents hold none of its answers, so a gold id may be wrong",
                "questions' gold documents hold none of their answers, so gold ids may be wrong",
            ),
            "wordless_answers": (
                self.wordless_answers,
                "question has an answer without words, which no document can hold",
                "questions have an answer without words, which no document can hold",
            ),
            "short_answers": (
                self.short_answers,
                "question has an answer of one or two characters, which many a text holds by chance",
                "questions have an answer of one or two characters, which many a text holds by chance",
            ),
            "repeated_questions": (
                [" = ".join(ids) for ids in self.repeated_questions],
                "question is asked more than once",
                "questions are asked more than once",
            ),
            "repeated_documents": (
                self.repeated_documents,
                "document id occurs more than once",
                "document ids occur more than once",
            ),
            "blank_documents": (self.blank_documents, "document is blank", "documents are blank"),
        }
        notes = {
            name: f"{counted(len(ids), one, many)}: {some(ids)}." for name, (ids, one, many) in said.items() if ids
        }
        if self.nameless_documents:
            notes["nameless_documents"] = (
                f"{self.nameless_documents} of {self.documents} documents have no id to be judged by."
            )
        return notes

    def __repr__(self) -> str:
        return str(self)  # lists of ids may be long

    def __str__(self) -> str:
        head = f"{self.name}: {self.questions} questions, {self.with_answers} with answers, {self.with_documents} with"
        lines = [f"{head} relevant documents"]
        if self.with_documents:
            lines[0] += f" ({self.gold_mean:.1f} on average, at most {self.gold_max})"
        if self.grades:
            lines.append("judgements by grade: " + ", ".join(f"{n} of {grade}" for grade, n in self.grades.items()))
        if self.documents:
            words = f"{self.words_median:.0f} words (median; 95th percentile {self.words_p95})"
            lines.append(f"{self.documents} documents of {words}")
        return "\n".join([*lines, *(f"- {note}" for note in self.notes)])


def summarise(
    dataset: Dataset, identify: Callable[[Document], str | None] = lambda document: document.id
) -> DatasetSummary:
    """Look through a dataset: see `Dataset.describe`.

    Args:
        dataset: The dataset.
        identify: Gives a document's id, by which gold names it.
    """
    questions, corpus = dataset.questions, dataset.corpus
    ids = [identify(document) for document in corpus]
    relevant = {q.id: [id_ for id_, grade in q.documents.items() if grade > 0] for q in questions}
    counts = [len(ids) for ids in relevant.values() if ids]
    words = sorted(len(document.page_content.split()) for document in corpus)
    answers = {q.id: [normalise(answer) for answer in q.answers] for q in questions}
    texts = {id_: document.page_content for id_, document in zip(ids, corpus, strict=True) if id_ is not None}
    gold = dict.fromkeys(id_ for ids in relevant.values() for id_ in ids)
    same: dict[str, list[str]] = {}
    for question in questions:
        words_of_it = normalise(question.text)
        same.setdefault(words_of_it if words_of_it.strip() else question.text, []).append(question.id)

    def contradicted(id_: str) -> bool:
        found = [texts[document] for document in relevant[id_] if document in texts]
        return bool(found and answers[id_]) and not any(holds_answer(normalise(text), answers[id_]) for text in found)

    return DatasetSummary(
        name=dataset.name,
        questions=len(questions),
        with_answers=sum(bool(q.answers) for q in questions),
        with_documents=len(counts),
        gold_mean=statistics.fmean(counts) if counts else 0.0,
        gold_max=max(counts, default=0),
        grades=dict(sorted(Counter(grade for q in questions for grade in q.documents.values()).items())),
        documents=len(corpus),
        words_median=statistics.median(words) if words else 0.0,
        words_p95=words[math.ceil(0.95 * len(words)) - 1] if words else 0,
        without_gold=[q.id for q in questions if not q.answers and not relevant[q.id]],
        missing_documents=[id_ for id_ in gold if id_ not in texts] if corpus else [],
        contradicted=[q.id for q in questions if contradicted(q.id)],
        wordless_answers=[id_ for id_, given in answers.items() if any(not answer.strip() for answer in given)],
        short_answers=[id_ for id_, given in answers.items() if any(0 < len(a.strip()) <= _SHORT for a in given)],
        repeated_questions=[ids for ids in same.values() if len(ids) > 1],
        repeated_documents=_repeated(id_ for id_ in ids if id_ is not None),
        blank_documents=[str(i) for i, document in zip(ids, corpus, strict=True) if not document.page_content.strip()],
        nameless_documents=ids.count(None),
    )


def _repeated(values: Iterable[str]) -> list[str]:
    return [value for value, count in Counter(values).items() if count > 1]
