"""What is evaluated and tuned on a dataset, as the words of a command line name it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from langchain_core.documents import BaseDocumentCompressor
from langchain_core.retrievers import BaseRetriever, RetrieverLike
from langchain_core.runnables import Runnable
from pydantic import ValidationError

from langchain_rerankkit.cli.specs import RERANKERS, assignment, is_config, make, make_reranker, value_of
from langchain_rerankkit.config.kinds import KINDS, nearest
from langchain_rerankkit.embedded.embeddings import EmbeddedEmbeddings
from langchain_rerankkit.errors import mistakes
from langchain_rerankkit.lexical import TermStatistics
from langchain_rerankkit.retrievers.bm25 import BM25Retriever
from langchain_rerankkit.retrievers.fusion import FusionRetriever
from langchain_rerankkit.vectorstores.faiss import FAISS

if TYPE_CHECKING:
    from langchain_rerankkit.base import Reranker
    from langchain_rerankkit.evaluation.datasets.dataset import Dataset

__all__ = ["DATASETS", "SYSTEMS", "Systems", "read_dataset"]

_CANDIDATES = 100  # of a question
_RETRIEVERS = ("bm25", "faiss", "hybrid")
_OF_BM25 = [
    name
    for name in BM25Retriever.model_fields
    if name not in {*BaseRetriever.model_fields, "preprocess_func", "index"}  # no data
]
DATASETS = "a folder (questions.jsonl, or BEIR's layout), a .jsonl, .csv, .tsv or .xlsx file, or ir_datasets:NAME"
SYSTEMS = f"""A system is NAME=SPEC or SPEC alone. The first one is the baseline; rerankers reorder what it finds. SPEC is
  a file                 a TREC run, such as runs/bm25.trec, or a reranker's configuration.toml
  bm25[?k=100]           a search of the dataset's corpus by words; bm25?k=50&language=german sets other fields of it
  faiss[?k=100]          a FAISS store of it with the embedded model
  hybrid[?k=100]         both, fused by z-scores; fields are those of bm25
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
        self._indexes: dict[str | None, Any] = {}  # of words, by language
        self._statistics: dict[str | None, TermStatistics] = {}

    def named(self, text: str) -> tuple[str, Any]:
        """Name and system of ``NAME=SPEC``, or of a spec alone."""
        name, sign, spec = text.partition("=")
        if not sign or not name or set(name) & set("?:/"):  # the sign of a field's value, or of a path
            name, spec = text, text
        if Path(spec).is_file():
            name = Path(spec).name if name == spec else name
            return name, self._reranker(spec) if spec.endswith(".toml") else Path(spec)
        kind, _, query = spec.partition("?")
        if kind in _RETRIEVERS:
            return name, self._retriever(kind, _fields(kind, query))
        if ":" not in kind and set(kind) & set("/."):
            msg = f"There is no such file: {kind}"
            raise ValueError(msg)
        if is_config(spec):
            if ":" not in kind and kind not in KINDS:
                msg = (
                    f"Unknown system {kind!r}{nearest(kind, [*_RETRIEVERS, *KINDS])} There are the searches "
                    f"{', '.join(_RETRIEVERS)} and the rerankers {', '.join(KINDS)}."
                )
                raise ValueError(msg)
            return name, self._reranker(spec)
        system = make(spec, {})
        if not isinstance(system, (BaseDocumentCompressor, Runnable)):
            msg = f"{kind!r} is a {type(system).__name__}; a system is a retriever or a reranker."
            raise TypeError(msg)
        return name, system

    def _reranker(self, spec: str) -> Reranker:
        return make_reranker(spec, {}, allow=self._allow, give=self._give)

    def _give(self, argument: str, fields: Mapping[str, Any]) -> Any:
        """What a reranker of a configuration can use of the corpus."""
        if argument == "statistics" and self._dataset.corpus:
            language = fields.get("language", "english")
            return self._counted(language) if language is None or isinstance(language, str) else None
        return self._faiss() if argument == "store" and self._pays() else None

    def _counted(self, language: str | None) -> TermStatistics:
        """Word statistics of the dataset's corpus, made once for each language."""
        if language not in self._statistics:
            texts = (document.page_content for document in self._dataset.corpus)
            self._statistics[language] = TermStatistics.from_texts(texts, language=language)
        return self._statistics[language]

    def _pays(self) -> bool:
        """Whether it takes less to embed the corpus than the candidates of every question."""
        return self._store is not None or 0 < len(self._dataset.corpus) < _CANDIDATES * len(self._dataset.questions)

    def _retriever(self, kind: str, fields: Mapping[str, Any]) -> BaseRetriever:
        if not self._dataset.corpus:
            msg = "The dataset has no corpus to search: give a run or a retriever of your own as the first system."
            raise ValueError(msg)
        k = fields["k"]
        if kind == "faiss":
            return self._faiss().as_retriever(search_kwargs={"k": k})
        try:
            by_words = self._bm25(fields)
        except ValidationError as error:
            msg = f"{kind}: {mistakes(error)}"
            raise ValueError(msg) from error
        if kind == "bm25":
            return by_words
        parts: list[RetrieverLike] = [by_words, self._retriever("faiss", {"k": k})]
        return FusionRetriever(retrievers=parts, names=["bm25", "faiss"], method="z-score", k=k)

    def _bm25(self, fields: Mapping[str, Any]) -> BM25Retriever:
        """A search by words; those of a language share one index."""
        retriever = BM25Retriever(**fields)
        if retriever.language in self._indexes:
            return BM25Retriever(**fields, index=self._indexes[retriever.language])
        retriever.add_documents(self._dataset.corpus)
        self._indexes[retriever.language] = retriever.index
        return retriever

    def _faiss(self) -> FAISS:
        """A FAISS store of the dataset's corpus with the embedded model, made once and where it is asked for."""
        if self._store is None:
            self._store = FAISS.from_documents(list(self._dataset.corpus), EmbeddedEmbeddings())
        return self._store


def _fields(kind: str, query: str) -> dict[str, Any]:
    """The fields of a search of the corpus: what ``k=50&language=german`` says.

    Raises:
        ValueError: If it has no such field, one is said twice, or k is no number of documents.
    """
    said = [assignment(part) for part in query.split("&")] if query else []
    takes = ["k"] if kind == "faiss" else _OF_BM25
    for name, _ in said:
        if name not in takes:
            msg = f"{kind} has no field {name!r}{nearest(name, takes)} It takes {', '.join(takes)}."
            raise ValueError(msg)
    fields = {"k": _CANDIDATES, **{name: value_of(unquote(value)) for name, value in said}}
    if len({name for name, _ in said}) < len(said):
        msg = f"{kind}: a field is said twice."
        raise ValueError(msg)
    if type(fields["k"]) is not int or fields["k"] < 1:
        msg = f"{kind}: k is a number of documents, at least 1, as in {kind}?k={_CANDIDATES}."
        raise ValueError(msg)
    return fields
