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
        EndpointError,
        IndexFormatError,
        MissingExtraError,
        ModelNotFoundError,
        OrderError,
        RerankKitError,
        ScoreError,
    )
    from langchain_rerankkit.evaluation.calibration.calibrate import Calibration, calibrate
    from langchain_rerankkit.evaluation.chain import RetrievalEvaluator
    from langchain_rerankkit.evaluation.compare import Comparison, compare
    from langchain_rerankkit.evaluation.datasets.dataset import Dataset, Question
    from langchain_rerankkit.evaluation.evaluate import evaluate
    from langchain_rerankkit.evaluation.gold.llm_judge import LLMJudge
    from langchain_rerankkit.evaluation.langsmith import (
        evaluate_with_langsmith,
        push_dataset,
        push_report,
        row_evaluator,
        summary_evaluator,
    )
    from langchain_rerankkit.evaluation.regression import assert_no_regression
    from langchain_rerankkit.evaluation.report import EvaluationReport
    from langchain_rerankkit.evaluation.running.ray import rerank_dataset
    from langchain_rerankkit.lexical import TermStatistics
    from langchain_rerankkit.records import RankedDocument, Ranking, RerankInput
    from langchain_rerankkit.rerankers.bi_encoder import BiEncoderReranker
    from langchain_rerankkit.rerankers.cross_encoder import CrossEncoderReranker
    from langchain_rerankkit.rerankers.embedded import EmbeddedReranker
    from langchain_rerankkit.rerankers.ensemble import EnsembleReranker
    from langchain_rerankkit.rerankers.fallback import FallbackReranker
    from langchain_rerankkit.rerankers.flashrank import FlashRankReranker
    from langchain_rerankkit.rerankers.function import FunctionReranker
    from langchain_rerankkit.rerankers.hosted import HostedReranker
    from langchain_rerankkit.rerankers.lexical import LexicalReranker
    from langchain_rerankkit.rerankers.listwise import ListwiseReranker
    from langchain_rerankkit.rerankers.pointwise import PointwiseLLMReranker
    from langchain_rerankkit.rerankers.providers import (
        CohereReranker,
        ContextualReranker,
        DashScopeReranker,
        DeepInfraReranker,
        ElasticsearchReranker,
        FireworksReranker,
        InfinityReranker,
        IsaacusReranker,
        JinaReranker,
        LlamaCppReranker,
        MixedbreadReranker,
        NVIDIAReranker,
        PineconeReranker,
        SiliconFlowReranker,
        TEIReranker,
        TogetherReranker,
        VLLMReranker,
        VoyageReranker,
        WatsonxReranker,
        ZeroEntropyReranker,
    )
    from langchain_rerankkit.rerankers.rankllm import RankLLMReranker
    from langchain_rerankkit.rerankers.seq2seq import Seq2SeqReranker
    from langchain_rerankkit.retrievers.reranked import ContextualCompressionRetriever
    from langchain_rerankkit.vectorstores.faiss import FAISS

__version__ = "0.1.0"

_MODULES = {
    "BiEncoderReranker": "rerankers.bi_encoder",
    "Calibration": "evaluation.calibration.calibrate",
    "CohereReranker": "rerankers.providers",
    "Comparison": "evaluation.compare",
    "ContextualCompressionRetriever": "retrievers.reranked",
    "ContextualReranker": "rerankers.providers",
    "CrossEncoderReranker": "rerankers.cross_encoder",
    "DashScopeReranker": "rerankers.providers",
    "Dataset": "evaluation.datasets.dataset",
    "DatasetError": "errors",
    "DeepInfraReranker": "rerankers.providers",
    "ElasticsearchReranker": "rerankers.providers",
    "EmbeddedEmbeddings": "embedded.embeddings",
    "EmbeddedReranker": "rerankers.embedded",
    "EndpointError": "errors",
    "EnsembleReranker": "rerankers.ensemble",
    "EvaluationReport": "evaluation.report",
    "FAISS": "vectorstores.faiss",
    "FallbackReranker": "rerankers.fallback",
    "FireworksReranker": "rerankers.providers",
    "FlashRankReranker": "rerankers.flashrank",
    "FunctionReranker": "rerankers.function",
    "HostedReranker": "rerankers.hosted",
    "IndexFormatError": "errors",
    "InfinityReranker": "rerankers.providers",
    "IsaacusReranker": "rerankers.providers",
    "JinaReranker": "rerankers.providers",
    "LLMJudge": "evaluation.gold.llm_judge",
    "LexicalReranker": "rerankers.lexical",
    "ListwiseReranker": "rerankers.listwise",
    "LlamaCppReranker": "rerankers.providers",
    "MissingExtraError": "errors",
    "MixedbreadReranker": "rerankers.providers",
    "ModelNotFoundError": "errors",
    "NVIDIAReranker": "rerankers.providers",
    "OrderError": "errors",
    "PineconeReranker": "rerankers.providers",
    "PointwiseLLMReranker": "rerankers.pointwise",
    "Question": "evaluation.datasets.dataset",
    "RankLLMReranker": "rerankers.rankllm",
    "RankedDocument": "records",
    "Ranking": "records",
    "RerankInput": "records",
    "RerankKitError": "errors",
    "Reranker": "base",
    "RetrievalEvaluator": "evaluation.chain",
    "ScoreError": "errors",
    "Seq2SeqReranker": "rerankers.seq2seq",
    "SiliconFlowReranker": "rerankers.providers",
    "TEIReranker": "rerankers.providers",
    "TermStatistics": "lexical",
    "TogetherReranker": "rerankers.providers",
    "VLLMReranker": "rerankers.providers",
    "VoyageReranker": "rerankers.providers",
    "WatsonxReranker": "rerankers.providers",
    "ZeroEntropyReranker": "rerankers.providers",
    "assert_no_regression": "evaluation.regression",
    "calibrate": "evaluation.calibration.calibrate",
    "compare": "evaluation.compare",
    "evaluate": "evaluation.evaluate",
    "evaluate_with_langsmith": "evaluation.langsmith",
    "push_dataset": "evaluation.langsmith",
    "push_report": "evaluation.langsmith",
    "rerank_dataset": "evaluation.running.ray",
    "row_evaluator": "evaluation.langsmith",
    "summary_evaluator": "evaluation.langsmith",
}

__all__ = [
    "FAISS",
    "BiEncoderReranker",
    "Calibration",
    "CohereReranker",
    "Comparison",
    "ContextualCompressionRetriever",
    "ContextualReranker",
    "CrossEncoderReranker",
    "DashScopeReranker",
    "Dataset",
    "DatasetError",
    "DeepInfraReranker",
    "ElasticsearchReranker",
    "EmbeddedEmbeddings",
    "EmbeddedReranker",
    "EndpointError",
    "EnsembleReranker",
    "EvaluationReport",
    "FallbackReranker",
    "FireworksReranker",
    "FlashRankReranker",
    "FunctionReranker",
    "HostedReranker",
    "IndexFormatError",
    "InfinityReranker",
    "IsaacusReranker",
    "JinaReranker",
    "LLMJudge",
    "LexicalReranker",
    "ListwiseReranker",
    "LlamaCppReranker",
    "MissingExtraError",
    "MixedbreadReranker",
    "ModelNotFoundError",
    "NVIDIAReranker",
    "OrderError",
    "PineconeReranker",
    "PointwiseLLMReranker",
    "Question",
    "RankLLMReranker",
    "RankedDocument",
    "Ranking",
    "RerankInput",
    "RerankKitError",
    "Reranker",
    "RetrievalEvaluator",
    "ScoreError",
    "Seq2SeqReranker",
    "SiliconFlowReranker",
    "TEIReranker",
    "TermStatistics",
    "TogetherReranker",
    "VLLMReranker",
    "VoyageReranker",
    "WatsonxReranker",
    "ZeroEntropyReranker",
    "__version__",
    "assert_no_regression",
    "calibrate",
    "compare",
    "evaluate",
    "evaluate_with_langsmith",
    "push_dataset",
    "push_report",
    "rerank_dataset",
    "row_evaluator",
    "summary_evaluator",
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
