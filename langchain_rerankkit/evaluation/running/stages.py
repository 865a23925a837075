"""Ask each stage of each system once, on the same candidates, and keep the answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from hashlib import sha256

from langchain_core.documents import Document
from langchain_core.runnables import Runnable

from langchain_rerankkit._progress import progress
from langchain_rerankkit.evaluation.datasets.dataset import Dataset
from langchain_rerankkit.evaluation.running.asking import Asked, Engine, Item, Stage, ask_here
from langchain_rerankkit.evaluation.running.outcome import Answer, Found, Outcome
from langchain_rerankkit.evaluation.running.run_folder import RunFolder, as_json
from langchain_rerankkit.evaluation.running.systems import Line

__all__ = ["Stages"]


class Stages:
    """Asks what lines need, each first stage once, so that all rerankers of it see the same candidates.

    Args:
        dataset: The questions.
        identify: Gives a document's id.
        engine: What asks rerankers.
        concurrency: Questions asked at a time.
        folder: Where answers are kept, if anywhere.
        need_text: Names of the first stages whose documents must have a text, to be reranked or judged.

    Attributes:
        corpus: The dataset's documents by id.
    """

    def __init__(
        self,
        dataset: Dataset,
        identify: Callable[[Document], str],
        engine: Engine,
        concurrency: int,
        folder: RunFolder | None,
        *,
        need_text: AbstractSet[str],
    ) -> None:
        self._dataset = dataset
        self._identify = identify
        self.corpus = {identify(document): document for document in dataset.corpus}
        self._engine = engine
        self._concurrency = concurrency
        self._folder = folder
        self._need_text = need_text
        self._candidates: dict[str, dict[str, Sequence[Document]]] = {}  # whole, since rerankers read them
        self._found: dict[str, dict[str, Answer]] = {}

    def outcome(self, line: Line, repeats: int) -> Outcome:
        """Everything that a line answers."""
        if line.first not in self._found:
            self._ask_first_stage(line)
        found = self._found[line.first]
        if line.reranker is None:
            return Outcome(line, found)
        texts = {question.id: question.text for question in self._dataset.questions}
        candidates = self._candidates[line.first]
        # What was not retrieved cannot be reranked.
        failed = {id_: Answer(error=answer.error) for id_, answer in found.items() if answer.error}
        items = [Item(id_, texts[id_], found) for id_, found in candidates.items() if id_ not in failed]
        runs = []
        for number in range(1, repeats + 1):
            stage = Stage(f"rerank: {line.name}", line.reranker, line.cut, number)
            answers = {
                id_: self._cut_down(asked, candidates[id_]) for id_, asked in self._ask(stage, items, self._engine)
            }
            runs.append({id_: answers.get(id_) or failed[id_] for id_ in found})
        return Outcome(line, found, runs)

    def pool(self, outcomes: Sequence[Outcome], question: str, depth: int | None) -> list[Document]:
        """What lines returned for a question together, each text of each document once, under the ids they are known by.

        Args:
            outcomes: What they answered.
            question: The question's id.
            depth: Ranks that are looked at; None for all.
        """
        whole = {
            (str(self._identify(document)), document.page_content): document
            for candidates in self._candidates.values()
            for document in candidates[question]
        }
        found = dict.fromkeys(
            (document.id, document.text)
            for outcome in outcomes
            for run in (outcome.found, *outcome.runs)
            for document in run[question].documents[:depth]
        )
        return [
            whole[id_, text].model_copy(update={"id": id_})
            if (id_, text) in whole
            else Document(id=id_, page_content=text)
            for id_, text in found
        ]

    def _ask_first_stage(self, line: Line) -> None:
        if isinstance(line.source, Runnable):
            items = [Item(question.id, question.text) for question in self._dataset.questions]
            # From this process always: a store is where it is.
            stage = Stage(f"retrieve: {line.first}", line.source)
            asked_of = self._ask(stage, items, ask_here)
        else:
            asked_of = self._run(line)
        answers = {id_: (asked, self._cut_down(asked)) for id_, asked in asked_of}
        ids = [question.id for question in self._dataset.questions]
        self._candidates[line.first] = {id_: answers[id_][0].documents for id_ in ids}
        self._found[line.first] = {id_: answers[id_][1] for id_ in ids}

    def _run(self, line: Line) -> Iterator[tuple[str, Asked[Document]]]:
        """What a ready-made run answers."""
        asked = [question.id for question in self._dataset.questions]
        if line.source and not any(id_ in line.source for id_ in asked):
            msg = (
                f"The run {line.first!r} answers none of the questions: it knows {next(iter(line.source))!r}, and the dataset "
                f"asks {asked[0]!r}. Both must use the same ids."
            )
            raise ValueError(msg)
        for id_ in asked:
            yield id_, Asked([self._document(found, line.first) for found in _ids(line.source.get(id_, ()))])

    def _ask(self, stage: Stage, items: Sequence[Item], engine: Engine) -> Iterator[tuple[str, Asked[Document]]]:
        """Each question's id and its answer, as it comes."""
        key = json.dumps([stage.name, stage.run])
        given = {item.id: _digest(item) for item in items} if self._folder else {}
        known = self._folder.read(key, given) if self._folder else {}
        yield from known.items()
        missing = [item for item in items if item.id not in known]
        for id_, asked in progress(engine(stage, missing, self._concurrency), len(missing), stage.name):
            if self._folder:
                self._folder.write(key, id_, asked, given[id_])
            yield id_, asked

    def _cut_down(self, asked: Asked[Document], candidates: Sequence[Document] = ()) -> Answer:
        """What is kept of an answer. Fails, and so early, where documents have no id."""
        nameless = {}
        if any(document.id is None for document in asked.documents):
            # A compressor may build new documents and leave out their ids.
            nameless = {document.page_content: document for document in reversed(candidates)}
        documents = []
        for document in asked.documents:
            known = nameless.get(document.page_content, document) if document.id is None else document
            details = document.metadata.get("rerank")
            said = details if isinstance(details, Mapping) else {}
            documents.append(
                Found(
                    str(self._identify(known)),
                    document.page_content,
                    document.metadata.get("relevance_score"),
                    str(said.get("status", "ok")),
                    str(said.get("reason", "")),
                )
            )
        return Answer(documents, asked.seconds, asked.cold, asked.usage, asked.error)

    def _document(self, id_: str, run: str) -> Document:
        if id_ in self.corpus:
            document = self.corpus[id_]
            return document.model_copy(update={"metadata": dict(document.metadata)})
        if run in self._need_text:
            msg = f"The run {run!r} names documents that the dataset's corpus lacks, {id_!r} among them."
            raise ValueError(msg)
        return Document(id=id_, page_content="")


def _ids(ranking: Mapping[str, float] | Sequence[str]) -> list[str]:
    if isinstance(ranking, Mapping):
        return sorted(ranking, key=lambda id_: -ranking[id_])  # stable: ties keep their order
    return list(ranking)


def _digest(item: Item) -> str:
    """Of all that an answer depends on beside the system: other candidates, other answer."""
    given = [[document.id, document.page_content, document.metadata] for document in item.candidates or ()]
    return sha256(as_json([item.question, given]).encode()).hexdigest()
