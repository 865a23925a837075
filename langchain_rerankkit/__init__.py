"""Rerankers, retrievers and retrieval evaluation for LangChain.

Everything public is here by name and imported at first use, so ``import langchain_rerankkit`` costs nothing beside
langchain-core, and a class needs its extra only when it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_rerankkit.base import Reranker
    from langchain_rerankkit.embedded.embeddings import EmbeddedEmbeddings
    from langchain_rerankkit.errors import (
        DatasetError,
        IndexFormatError,
        MissingExtraError,
        ModelNotFoundError,
        OrderError,
        RerankKitError,
        ScoreError,
    )
    from langchain_rerankkit.evaluation.chain import RetrievalEvaluator
    from langchain_rerankkit.evaluation.dataset import Dataset, Question
    from langchain_rerankkit.evaluation.evaluate import evaluate
    from langchain_rerankkit.evaluation.report import EvaluationReport
    from langchain_rerankkit.lexical import TermStatistics
    from langchain_rerankkit.records import RankedDocument, RerankInput
    from langchain_rerankkit.rerankers.bi_encoder import BiEncoderReranker
    from langchain_rerankkit.rerankers.cross_encoder import CrossEncoderReranker
    from langchain_rerankkit.rerankers.embedded import EmbeddedReranker
    from langchain_rerankkit.rerankers.ensemble import EnsembleReranker
    from langchain_rerankkit.rerankers.flashrank import FlashRankReranker
    from langchain_rerankkit.rerankers.function import FunctionReranker
    from langchain_rerankkit.rerankers.lexical import LexicalReranker
    from langchain_rerankkit.rerankers.listwise import ListwiseReranker
    from langchain_rerankkit.rerankers.pointwise import PointwiseLLMReranker
    from langchain_rerankkit.rerankers.rankllm import RankLLMReranker
    from langchain_rerankkit.rerankers.seq2seq import Seq2SeqReranker
    from langchain_rerankkit.retrievers.reranked import ContextualCompressionRetriever
    from langchain_rerankkit.vectorstores.faiss import FAISS

__version__ = "0.1.0"

_MODULES = {
    "BiEncoderReranker": "rerankers.bi_encoder",
    "ContextualCompressionRetriever": "retrievers.reranked",
    "CrossEncoderReranker": "rerankers.cross_encoder",
    "Dataset": "evaluation.dataset",
    "DatasetError": "errors",
    "EmbeddedEmbeddings": "embedded.embeddings",
    "EmbeddedReranker": "rerankers.embedded",
    "EnsembleReranker": "rerankers.ensemble",
    "EvaluationReport": "evaluation.report",
    "FAISS": "vectorstores.faiss",
    "FlashRankReranker": "rerankers.flashrank",
    "FunctionReranker": "rerankers.function",
    "IndexFormatError": "errors",
    "LexicalReranker": "rerankers.lexical",
    "ListwiseReranker": "rerankers.listwise",
    "MissingExtraError": "errors",
    "ModelNotFoundError": "errors",
    "OrderError": "errors",
    "PointwiseLLMReranker": "rerankers.pointwise",
    "Question": "evaluation.dataset",
    "RankLLMReranker": "rerankers.rankllm",
    "RankedDocument": "records",
    "RerankInput": "records",
    "RerankKitError": "errors",
    "Reranker": "base",
    "RetrievalEvaluator": "evaluation.chain",
    "ScoreError": "errors",
    "Seq2SeqReranker": "rerankers.seq2seq",
    "TermStatistics": "lexical",
    "evaluate": "evaluation.evaluate",
}

__all__ = [
    "FAISS",
    "BiEncoderReranker",
    "ContextualCompressionRetriever",
    "CrossEncoderReranker",
    "Dataset",
    "DatasetError",
    "EmbeddedEmbeddings",
    "EmbeddedReranker",
    "EnsembleReranker",
    "EvaluationReport",
    "FlashRankReranker",
    "FunctionReranker",
    "IndexFormatError",
    "LexicalReranker",
    "ListwiseReranker",
    "MissingExtraError",
    "ModelNotFoundError",
    "OrderError",
    "PointwiseLLMReranker",
    "Question",
    "RankLLMReranker",
    "RankedDocument",
    "RerankInput",
    "RerankKitError",
    "Reranker",
    "RetrievalEvaluator",
    "ScoreError",
    "Seq2SeqReranker",
    "TermStatistics",
    "__version__",
    "evaluate",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
