"""The main job on bundled documents: retrieve, rerank, measure, look."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from langchain_rerankkit.embedded.embeddings import EmbeddedEmbeddings
from langchain_rerankkit.evaluation.datasets.dataset import Dataset
from langchain_rerankkit.evaluation.evaluate import evaluate
from langchain_rerankkit.inference.models import default_cache_dir
from langchain_rerankkit.rerankers.bi_encoder import BiEncoderReranker
from langchain_rerankkit.rerankers.cross_encoder import CrossEncoderReranker
from langchain_rerankkit.rerankers.embedded import EmbeddedReranker
from langchain_rerankkit.rerankers.ensemble import EnsembleReranker
from langchain_rerankkit.rerankers.flashrank import FlashRankReranker
from langchain_rerankkit.rerankers.lexical import LexicalReranker
from langchain_rerankkit.vectorstores.faiss import FAISS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_rerankkit.base import Reranker
    from langchain_rerankkit.evaluation.report import EvaluationReport

__all__ = ["load_demo", "run_demo"]

_CANDIDATES = 20
_METRICS = ("hit@1", "hit@5", "mrr@10", "ndcg@10", "recall@5")
_CROSS_ENCODER = "cross-encoder/ms-marco-MiniLM-L6-v2"


def load_demo() -> Dataset:
    """The bundled passages on the subjects of twelve countries, yoga and Pilates, with questions, answers and gold ids."""
    return Dataset.load(Path(__file__).parent)


def run_demo() -> Iterator[str]:
    """Run the demo.

    Yields:
        Paragraphs to print, as they become known.
    """
    dataset = load_demo()
    yield f"{len(dataset.corpus)} bundled passages, {len(dataset.questions)} questions with gold ids."

    start = time.perf_counter()
    store = FAISS.from_documents(list(dataset.corpus), EmbeddedEmbeddings())
    yield f"FAISS store built with the embedded all-MiniLM-L6-v2 in {time.perf_counter() - start:.1f} s, no download."

    retriever = store.as_retriever(search_kwargs={"k": _CANDIDATES})
    cosine, words = BiEncoderReranker(embeddings=EmbeddedEmbeddings(), store=store), LexicalReranker.from_store(store)
    systems = {
        "FAISS alone": retriever,
        "+ LexicalReranker, idf of candidates": LexicalReranker(),
        "+ LexicalReranker, idf of store": words,
        "+ EnsembleReranker, reciprocal ranks": EnsembleReranker(rerankers=[cosine, words], method="rrf"),
        "+ EmbeddedReranker": EmbeddedReranker.from_store(store),
        **dict(_models_on_disk()),
    }
    report = evaluate(systems, dataset, _METRICS)
    yield f"The first {_CANDIDATES} passages of each question, reranked:\n\n{report}"
    yield _before_and_after(report, dataset)
    yield (
        "Next:\n"
        "  pip install 'langchain-rerankkit[local]'      cross-encoders of the model hub: CrossEncoderReranker\n"
        "  pip install 'langchain-rerankkit[flashrank]'  small ONNX cross-encoders: FlashRankReranker\n"
        "  rerankkit rerank 'your question' passages.txt --top-n 5\n"
        "  evaluate({'before': retriever, 'after': reranker}, Dataset.load('folder'))  on documents of your own"
    )


def _models_on_disk() -> Iterator[tuple[str, Reranker]]:
    """Rerankers whose model is already here and loads; nothing is downloaded."""
    folder = default_cache_dir() / "flashrank"
    flashrank = [
        FlashRankReranker(model=path.name, local_files_only=True)
        for path in (sorted(folder.iterdir()) if folder.is_dir() else [])
        if path.is_dir() and not path.name.startswith(".")
    ]
    cross_encoder = CrossEncoderReranker(model=_CROSS_ENCODER, local_files_only=True)
    rerankers: list[FlashRankReranker | CrossEncoderReranker] = [*flashrank, cross_encoder]
    for reranker in rerankers:
        try:
            reranker.warmup()
        except (ImportError, OSError):
            continue
        yield f"+ {type(reranker).__name__} {reranker.model}", reranker


def _before_and_after(report: EvaluationReport, dataset: Dataset) -> str:
    """The question that the last built-in reranker helped most, as two rankings."""
    before, after = report.baseline, report["+ EmbeddedReranker"]
    gain = {id_: value - before.per_question["mrr@10"][id_] for id_, value in after.per_question["mrr@10"].items()}
    question = max(dataset.questions, key=lambda question: gain.get(question.id, 0.0))
    texts = {document.id: document.page_content for document in dataset.corpus}
    was = {id_: rank for rank, id_ in enumerate(before.rankings[question.id], start=1)}
    lines = [f"One question: {question.text}", ""]
    for title, result in (("before, FAISS alone", before), ("after, + EmbeddedReranker", after)):
        lines.append(f"  {title}")
        for rank, id_ in enumerate(result.rankings[question.id][:5], start=1):
            gold = "*" if question.documents.get(id_, 0) > 0 else " "
            text = texts[id_] if len(texts[id_]) <= 76 else texts[id_][:75] + "…"  # noqa: PLR2004 - fits a line
            moved = "" if result is before else f"(was {was[id_]})".rjust(9)
            lines.append(f"  {gold} {rank}. {moved} {text}".rstrip())
        lines.append("")
    return "\n".join([*lines, "  * gold"])
