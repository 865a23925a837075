"""What is evaluated and tuned on a dataset, as the words of a command line name it."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_core.documents import BaseDocumentCompressor
from langchain_core.retrievers import BaseRetriever, RetrieverLike
from langchain_core.runnables import Runnable

from langchain_rerankkit.base import Reranker
from langchain_rerankkit.cli.specs import RERANKERS, assignment, is_config, make, make_reranker
from langchain_rerankkit.config.kinds import KINDS, argument, class_of
from langchain_rerankkit.config.loading import members, read_config
from langchain_rerankkit.embedded.embeddings import EmbeddedEmbeddings
from langchain_rerankkit.lexical import TermStatistics
from langchain_rerankkit.retrievers.bm25 import BM25Retriever
from langchain_rerankkit.retrievers.fusion import FusionRetriever
from langchain_rerankkit.vectorstores.faiss import FAISS

if TYPE_CHECKING:
    from langchain_rerankkit.evaluation.datasets.dataset import Dataset

__all__ = ["DATASETS", "SYSTEMS", "Systems", "read_dataset"]

_CANDIDATES = 100  # of a question
_RETRIEVERS = ("bm25", "faiss", "hybrid")
DATASETS = "a folder (questions.jsonl, or BEIR's layout), a .jsonl, .csv, .tsv or .xlsx file, or ir_datasets:NAME"
SYSTEMS = f"""A system is NAME=SPEC or SPEC alone. The first one is the baseline; rerankers reorder what it finds. SPEC is
  a file                 a TREC run, such as runs/bm25.trec, or a reranker's configuration.toml
  bm25[?k=100]           a search of the dataset's corpus by words
  faiss[?k=100]          a FAISS store of it with the embedded model
  hybrid[?k=100]         both, fused by z-scores
  a reranker             {RERANKERS}
  package.module:object  a retriever, a reranker, or a class of one, of your own (found from the current folder)
Rerankers that count words or embed know the dataset's corpus, where it has one.
"""


def read_dataset(text: str) -> Dataset:
    """The dataset that a word names."""
    from langchain_rerankkit.evaluation.datasets.dataset import Dataset

    scheme, _, name = text.partition(":")
    if scheme == "ir_datasets":
        return Dataset.from_ir_datasets(name, corpus=True)
    return Dataset.load(text)


class Systems:
    """Makes systems for a dataset.

    Args:
        dataset: The dataset.
        allow: Names of fields that configuration files may say besides.
    """

    def __init__(self, dataset: Dataset, allow: Collection[str] = ()) -> None:
        self._dataset = dataset
        self._allow = allow
        self._store: FAISS | None = None
        self._words: BM25Retriever | None = None

    def named(self, text: str) -> tuple[str, Any]:
        """Name and system of ``NAME=SPEC``, or of a spec alone."""
        name, sign, spec = text.partition("=")
        if not sign or not name or set(name) & set("?:/"):  # the sign of a field's value, or of a path
            name, spec = text, text
        if Path(spec).is_file():
            name = Path(spec).name if name == spec else name
            return name, self.reranker(spec) if spec.endswith(".toml") else Path(spec)
        kind, _, query = spec.partition("?")
        if kind in _RETRIEVERS:
            field, k = assignment(query) if query else ("k", str(_CANDIDATES))
            if field != "k" or not k.isdecimal():
                msg = f"{kind} takes a number k, as in {kind}?k={_CANDIDATES}, and nothing else."
                raise ValueError(msg)
            return name, self._retriever(kind, int(k))
        if ":" not in kind and set(kind) & set("/."):
            msg = f"There is no such file: {kind}"
            raise ValueError(msg)
        if is_config(spec):
            return name, self.reranker(spec)
        system = self._own(spec)
        if not isinstance(system, (BaseDocumentCompressor, Runnable)):
            msg = f"{kind!r} is a {type(system).__name__}; a system is a retriever or a reranker."
            raise TypeError(msg)
        return name, system

    def reranker(self, spec: str) -> Reranker:
        """The reranker of a spec, with what it can use of the corpus."""
        if is_config(spec):
            return make_reranker(spec, {}, allow=self._allow, **self._objects(spec))
        system = self._own(spec)
        if not isinstance(system, Reranker):
            msg = f"{spec!r} is a {type(system).__name__}, no Reranker."
            raise TypeError(msg)
        return system

    def _own(self, spec: str) -> Any:
        sys.path.insert(0, os.getcwd())  # noqa: PTH109 - what is there is the user's own
        try:
            return make(spec, {})
        finally:
            sys.path.pop(0)

    def _objects(self, spec: str) -> dict[str, Any]:
        """What the rerankers of a configuration can use of the corpus."""
        inside = [one for one in members(read_config(spec)) if one.get("type") in KINDS]
        takes = {field: [one for one in inside if _takes(one, field)] for field in ("statistics", "store")}
        objects: dict[str, Any] = {}
        if takes["statistics"] and self._dataset.corpus:
            texts = (document.page_content for document in self._dataset.corpus)
            language = takes["statistics"][0].get("language", "english")
            objects["statistics"] = TermStatistics.from_texts(texts, language=None if language == "null" else language)
        if takes["store"] and self._pays():
            objects["store"] = self._faiss()
        return objects

    def _pays(self) -> bool:
        """Whether it takes less to embed the corpus than the candidates of every question."""
        return self._store is not None or 0 < len(self._dataset.corpus) < _CANDIDATES * len(self._dataset.questions)

    def _retriever(self, kind: str, k: int) -> BaseRetriever:
        if not self._dataset.corpus:
            msg = "The dataset has no corpus to search: give a run or a retriever of your own as the first system."
            raise ValueError(msg)
        if kind == "faiss":
            return self._faiss().as_retriever(search_kwargs={"k": k})
        if kind == "bm25":
            if self._words is None:
                self._words = BM25Retriever.from_documents(self._dataset.corpus)
            return self._words.model_copy(update={"k": k})
        parts: list[RetrieverLike] = [self._retriever("bm25", k), self._retriever("faiss", k)]
        return FusionRetriever(retrievers=parts, names=["bm25", "faiss"], method="z-score", k=k)

    def _faiss(self) -> FAISS:
        """A FAISS store of the dataset's corpus with the embedded model, made once and where it is asked for."""
        if self._store is None:
            self._store = FAISS.from_documents(list(self._dataset.corpus), EmbeddedEmbeddings())
        return self._store


def _takes(config: Mapping[str, Any], field: str) -> bool:
    kind = config["type"]
    return field in class_of(kind).model_fields and argument(kind, field) == field
