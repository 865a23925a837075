"""Ask each stage of each system once, on the same candidates, and keep the answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from hashlib import sha256

from langchain_core.documents import Document
from langchain_core.runnables import Runnable

from langchain_rerankkit._progress import progress
from langchain_rerankkit.evaluation.datasets.dataset import Dataset
from langchain_rerankkit.evaluation.running.asking import Asked, Engine, Item, Stage, ask_here
from langchain_rerankkit.evaluation.running.outcome import Outcome
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
        self._corpus = {identify(document): document for document in dataset.corpus}
        self._engine = engine
        self._concurrency = concurrency
        self._folder = folder
        self._need_text = need_text
        self._found: dict[str, tuple[dict[str, Asked], dict[str, Asked]]] = {}

    def outcome(self, line: Line, repeats: int) -> Outcome:
        """Everything that a line answers, with documents cut down to id, text and score."""
        if line.first not in self._found:
            found = self._first_stage(line)
            self._found[line.first] = found, {id_: self._slim(asked) for id_, asked in found.items()}
        found, slim = self._found[line.first]
        if line.reranker is None:
            return Outcome(line, slim)
        texts = {question.id: question.text for question in self._dataset.questions}
        # What was not retrieved cannot be reranked.
        items = [Item(id_, texts[id_], asked.documents) for id_, asked in found.items() if not asked.error]
        failed = {id_: Asked(error=asked.error) for id_, asked in found.items() if asked.error}
        runs = []
        for number in range(1, repeats + 1):
            stage = Stage(f"rerank: {line.name}", line.reranker, line.cut, number)
            answers = self._ask(stage, items, self._engine)
            runs.append({id_: answers.get(id_) or failed[id_] for id_ in found})
        return Outcome(line, slim, runs)

    def _first_stage(self, line: Line) -> dict[str, Asked]:
        if isinstance(line.source, Runnable):
            items = [Item(question.id, question.text) for question in self._dataset.questions]
            # From this process always: a store is where it is.
            return self._ask(Stage(f"retrieve: {line.first}", line.source), items, ask_here)
        asked = [question.id for question in self._dataset.questions]
        if line.source and not any(id_ in line.source for id_ in asked):
            msg = (
                f"The run {line.first!r} answers none of the questions: it knows {next(iter(line.source))!r}, and the dataset "
                f"asks {asked[0]!r}. Both must use the same ids."
            )
            raise ValueError(msg)
        return {
            id_: Asked([self._document(found, line.first) for found in _ids(line.source.get(id_, ()))]) for id_ in asked
        }

    def _ask(self, stage: Stage, items: Sequence[Item], engine: Engine) -> dict[str, Asked]:
        key = json.dumps([stage.name, stage.run])
        by_id = {item.id: item for item in items}
        given = {item.id: _digest(item) for item in items} if self._folder else {}
        known = self._folder.read(key, given) if self._folder else {}
        answers = {id_: self._kept(asked, by_id[id_]) for id_, asked in known.items()}
        missing = [item for item in items if item.id not in known]
        for id_, asked in progress(engine(stage, missing, self._concurrency), len(missing), stage.name):
            if self._folder:
                self._folder.write(key, id_, asked, given[id_])
            answers[id_] = self._kept(asked, by_id[id_])
        return {item.id: answers[item.id] for item in items}

    def _kept(self, asked: Asked, item: Item) -> Asked:
        """Candidates whole, since a reranker reads them; of a reranker's answer only what is looked at."""
        slim = self._slim(asked, item.candidates or ())  # at once: it fails where documents have no id
        return asked if item.candidates is None else slim

    def _slim(self, asked: Asked, candidates: Sequence[Document] = ()) -> Asked:
        """The same answer with documents known by their ids, and of their metadata only what is looked at."""
        nameless = {document.page_content: document for document in reversed(candidates)}
        documents = []
        for document in asked.documents:
            known = document
            if document.id is None and document.page_content in nameless:
                known = nameless[document.page_content]  # a compressor may build new documents and leave out their ids
            metadata = {"relevance_score": document.metadata.get("relevance_score")}
            details = document.metadata.get("rerank")
            if isinstance(details, Mapping) and details.get("status", "ok") != "ok":
                metadata["rerank"] = {name: details.get(name) for name in ("status", "reason")}
            id_ = str(self._identify(known))
            documents.append(Document.model_construct(id=id_, page_content=document.page_content, metadata=metadata))
        return Asked(documents, asked.seconds, asked.cold, asked.usage, asked.error)

    def _document(self, id_: str, run: str) -> Document:
        if id_ in self._corpus:
            document = self._corpus[id_]
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
