"""Questions with gold answers, and where they come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from langchain_core.documents import Document

from langchain_rerankkit.errors import DatasetError
from langchain_rerankkit.evaluation.datasets import folders, sources, spreadsheets, trec
from langchain_rerankkit.evaluation.datasets.questions import Question, parse_question
from langchain_rerankkit.evaluation.datasets.summary import DatasetSummary, summarise

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Dataset", "Question"]


@dataclass(frozen=True, repr=False)
class Dataset:
    """Questions with gold, and the documents they are asked of where these are at hand.

    Raises:
        DatasetError: If two questions share an id.
    """

    questions: tuple[Question, ...]
    corpus: tuple[Document, ...] = ()
    name: str = "dataset"

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for question in self.questions:
            if question.id in seen:
                msg = f"The question id {question.id!r} occurs twice."
                raise DatasetError(msg, field="id")
            seen.add(question.id)

    def __repr__(self) -> str:
        return f"<Dataset {self.name!r}: {len(self.questions)} questions, {len(self.corpus)} documents>"

    @classmethod
    def from_questions(
        cls, questions: Iterable[Mapping[str, Any]], corpus: Sequence[Document] = (), name: str = "dataset"
    ) -> Dataset:
        """A dataset from dicts with the fields of ``questions.jsonl``: see `load`. The ``id`` may be left out.

        Raises:
            DatasetError: If a field is missing or of the wrong type.
        """
        parsed = tuple(parse_question({"id": str(n), **row}, None, n) for n, row in enumerate(questions, start=1))
        return cls(parsed, tuple(corpus), name)

    @classmethod
    def load(cls, path: str | Path, *, split: str | None = None) -> Dataset:
        """Read a folder in this package's layout or in BEIR's, or a single file of questions.

        Ours: ``questions.jsonl`` with ``{"id", "question", "answers": […], "documents": {id: grade}}`` (``answers``
        or ``documents`` may be left out; ``"aspects": {name: {id: grade}}`` may be there) and ``corpus.jsonl`` with ``{"id", "text", "metadata": {…}}``.

        BEIR's: ``queries.jsonl`` with ``{"_id", "text"}``, ``corpus.jsonl`` with ``{"_id", "title", "text"}``, and
        ``qrels.tsv`` or ``qrels/test.tsv``. Title and text become the document's content, and queries without
        judgements are left out, as in BEIR's own experiments.

        A file: a ``questions.jsonl`` of any name, or a table (see `from_table`).

        Args:
            path: The folder, whose ``corpus.jsonl`` may be missing; or the file.
            split: Which ``qrels/<split>.tsv`` of a BEIR folder; by default ``qrels.tsv``, else ``test``.

        Raises:
            DatasetError: With file, line and field; also for an id that occurs twice.
        """
        path = Path(path)
        suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
        corpus: tuple[Document, ...] = ()
        if path.is_dir():
            questions, corpus = folders.read_folder(path, split)
        elif split is not None or not path.exists():
            msg = "Only BEIR's folders have splits by name." if path.exists() else "There is no such file or folder."
            raise DatasetError(msg, file=path)
        elif suffix in spreadsheets.SUFFIXES:
            return cls.from_table(path)
        elif suffix == ".jsonl":
            questions = folders.read_questions(path)
        else:
            msg = f"A dataset is a folder, or a file of the kinds .jsonl, {', '.join(spreadsheets.SUFFIXES)}."
            raise DatasetError(msg, file=path)
        if not questions:
            msg = "The dataset has no questions."
            raise DatasetError(msg, file=path)
        return cls(questions, corpus, path.resolve().name if path.is_dir() else _stem(path))

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write this package's layout, which `load` reads back equal, but for the name, which is the folder's.

        Args:
            folder: The folder; made where it is not there.
            overwrite: Replace a dataset that is already in the folder, rather than refuse.

        Raises:
            DatasetError: If there is one already, or something cannot be written without loss: a document without an
                id or with another's, metadata that is not JSON (tuples become lists), half a surrogate pair.
        """
        folders.write_folder(Path(folder), self.questions, self.corpus, overwrite=overwrite)
        return Path(folder)

    @classmethod
    def from_table(
        cls,
        table: Any,
        *,
        question: str | None = None,
        answer: str | None = None,
        source: str | None = None,
        id: str | None = None,
        separator: str | None = None,
        sheet: str | None = None,
        encoding: str | None = None,
        corpus: Sequence[Document] = (),
        name: str | None = None,
    ) -> Dataset:
        """Read a table with one question per row.

        Columns are found by their usual names in any case (``Question``, ``query``, ``prompt``; ``answer``,
        ``ground_truth``, ``expected``; ``source``, ``document``, ``doc_id``, ``url``; ``id``), unless they are named.
        Rows without anything in them are skipped; without a column of ids, questions are numbered.

        Args:
            table: A ``.csv`` (with commas, semicolons or tabs), ``.tsv`` or ``.xlsx`` file; or a data frame of pandas', or dicts.
            question: Column of the question.
            answer: Column of accepted answers.
            source: Column of ids of gold documents.
            id: Column of the question's id.
            separator: What stands between several answers or sources in a cell, such as ``";"``. Without it a cell is
                one, unless it is a JSON list (of sources also a JSON object of grades by id).
            sheet: Name of the sheet of a spreadsheet; by default the first.
            encoding: Encoding of a text file that is neither UTF-8 nor has a byte order mark.
            corpus: The documents.
            name: The dataset's name; by default the file's.

        Raises:
            DatasetError: With file, line (of a sheet or data frame its row) and column: no or several columns may be
                meant, a question is blank, a row is longer than the header, a formula has no stored result, …
            MissingExtraError: If openpyxl, which reads spreadsheets, is not installed.
        """
        columns = {"question": question, "answer": answer, "source": source, "id": id}
        questions = spreadsheets.read_table(table, columns, separator, sheet, encoding)
        if name is None and isinstance(table, (str, Path)):
            name = _stem(table)
        return cls(questions, tuple(corpus), name or "table")

    @classmethod
    def from_trec(
        cls,
        topics: str | Path,
        qrels: str | Path,
        corpus: Sequence[Document] = (),
        name: str | None = None,
        *,
        subtopics: bool = False,
    ) -> Dataset:
        """Read TREC topics and qrels (see `langchain_rerankkit.evaluation.datasets.trec`); topics without judgements are left out.

        Args:
            topics: File of topics, as ``id<tab>text`` or ``<top> …``.
            qrels: File of judgements.
            corpus: The documents.
            name: The dataset's name; by default the topics'.
            subtopics: Whether the second column of the qrels names subtopics, as in TREC's diversity tasks: they become
                the questions' aspects.

        Raises:
            DatasetError: With file and line.
        """
        aspects = trec.load_aspects(qrels) if subtopics else None
        grades = trec.load_qrels(qrels) if aspects is None else {query: dict[str, int]() for query in aspects}
        questions = folders.judged_questions(trec.load_topics(topics), grades, qrels, aspects)
        return cls(questions, tuple(corpus), name or _stem(topics))

    @classmethod
    def from_ir_datasets(cls, name: str, *, corpus: bool | Iterable[str] = False) -> Dataset:
        """Load judged queries by a name of the ir_datasets package, such as ``"beir/scifact/test"``.

        Args:
            name: The name: https://ir-datasets.com. Its files are downloaded at first use.
            corpus: Whether to load the documents too. A collection may have millions: give the ids of those that are
                needed, such as a run's or ``{id for q in dataset.questions for id in q.documents}``.

        Raises:
            DatasetError: If the name is unknown, has no judgements, or cannot be downloaded; or an id is unknown.
            MissingExtraError: If ir_datasets is not installed.
        """
        questions, documents = sources.read_ir_dataset(name, corpus)
        return cls(questions, documents, name)

    @classmethod
    def from_langsmith(
        cls,
        name_or_id: str | UUID,
        *,
        client: Any = None,
        question: str | None = None,
        answer: str | None = None,
        documents: str | None = None,
        corpus: Sequence[Document] = (),
    ) -> Dataset:
        """Load a LangSmith dataset.

        The example's id becomes the question's; a dataset that was pushed from here gets its own ids back.

        Args:
            name_or_id: Name or id of the dataset.
            client: A ``langsmith.Client``; by default one from the environment.
            question: Key of the question in the inputs; by default found by its usual names, as in `from_table`, or
                the only one.
            answer: Key of the accepted answers in the outputs: a string or a list of them.
            documents: Key of the gold documents' ids in the outputs: one, a list, or grades by id.
            corpus: The documents.

        Raises:
            DatasetError: If there is no such dataset; or with the example's id and the key.
            langsmith.utils.LangSmithError: If LangSmith cannot be reached or refuses the key.
        """
        keys = {"question": question, "answer": answer, "documents": documents}
        questions, name = sources.read_langsmith(name_or_id, client, keys)
        return cls(questions, tuple(corpus), name)

    def sample(self, n: int, seed: int = 0) -> Self:
        """Some questions, chosen by a hash of seed and id.

        So it is the same on every machine, and a larger sample holds a smaller one.

        Args:
            n: How many; they keep their order, and the corpus stays whole.
            seed: Another seed, another sample.

        Raises:
            ValueError: If there are fewer than ``n`` questions.
        """
        if not 0 < n <= len(self.questions):
            msg = f"A sample is of 1 to {len(self.questions)} questions, not {n}."
            raise ValueError(msg)
        chosen = set(sorted((q.id for q in self.questions), key=lambda id_: _draw("sample", seed, id_))[:n])
        return replace(self, questions=tuple(q for q in self.questions if q.id in chosen))

    def split(self, share: float, seed: int = 0) -> tuple[Self, Self]:
        """Two parts, such as one to choose a threshold on and one to measure it on.

        A question's part depends on its id and the seed alone, so it does not change when others are added or go; the
        first part's share is therefore only about what was asked. Both keep the whole corpus.

        Args:
            share: Share of the first part, between 0 and 1.
            seed: Another seed, another split.

        Raises:
            ValueError: If the share is not between 0 and 1, or a part would have no questions.
        """
        if not 0 < share < 1:
            msg = f"The share of the first part is between 0 and 1, not {share}."
            raise ValueError(msg)
        first = tuple(q for q in self.questions if _draw("split", seed, q.id) < share)
        second = tuple(q for q in self.questions if not _draw("split", seed, q.id) < share)
        if not (first and second):
            msg = f"With {len(self.questions)} questions and a share of {share}, one part has none: take another seed."
            raise ValueError(msg)
        return replace(self, questions=first), replace(self, questions=second)

    def describe(self) -> DatasetSummary:
        """Count what there is, and say what looks wrong: gold ids without documents, blank documents, and the like.

        Returns:
            The summary; ``print`` it.
        """
        return summarise(self)


def _stem(path: str | Path) -> str:
    return Path(Path(path).name.removesuffix(".gz")).stem


def _draw(purpose: str, seed: int, id_: str) -> float:
    """A number from 0 to below 1, which looks random. The purpose keeps a sample from falling into one part of a split."""
    digest = sha256(f"{purpose}:{seed}:{id_}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48  # 48 bits fit a float exactly
