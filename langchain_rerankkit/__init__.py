"""Rerankers, retrievers and retrieval evaluation for LangChain.

Everything public is here by name and imported at first use, so ``import langchain_rerankkit`` costs nothing beside
langchain-core, and a class needs its extra only when it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_rerankkit.base import Reranker
    from langchain_rerankkit.config import load_reranker, reranker_config, save_reranker
    from langchain_rerankkit.embedded.embeddings import EmbeddedEmbeddings
    from langchain_rerankkit.errors import (
        ConfigError,
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
    from langchain_rerankkit.rerankers.cached import CachedReranker
    from langchain_rerankkit.rerankers.cascade import CascadeReranker
    from langchain_rerankkit.rerankers.cross_encoder import CrossEncoderReranker
    from langchain_rerankkit.rerankers.diversity import DiversityReranker
    from langchain_rerankkit.rerankers.embedded import EmbeddedReranker
    from langchain_rerankkit.rerankers.ensemble import EnsembleReranker
    from langchain_rerankkit.rerankers.fallback import FallbackReranker
    from langchain_rerankkit.rerankers.flashrank import FlashRankReranker
    from langchain_rerankkit.rerankers.function import FunctionReranker
    from langchain_rerankkit.rerankers.hosted import HostedReranker
    from langchain_rerankkit.rerankers.late_interaction import LateInteractionReranker
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
    from langchain_rerankkit.retrievers.bm25 import BM25Retriever
    from langchain_rerankkit.retrievers.fusion import FusionRetriever
    from langchain_rerankkit.retrievers.parents import ParentRetriever
    from langchain_rerankkit.retrievers.reranked import ContextualCompressionRetriever
    from langchain_rerankkit.tuning.report import Tuning
    from langchain_rerankkit.tuning.tune import tune
    from langchain_rerankkit.vectorstores.faiss import FAISS

__version__ = "0.1.0"

_MODULES = {
    "BM25Retriever": "retrievers.bm25",
    "BiEncoderReranker": "rerankers.bi_encoder",
    "CachedReranker": "rerankers.cached",
    "Calibration": "evaluation.calibration.calibrate",
    "CascadeReranker": "rerankers.cascade",
    "CohereReranker": "rerankers.providers",
    "Comparison": "evaluation.compare",
    "ConfigError": "errors",
    "ContextualCompressionRetriever": "retrievers.reranked",
    "ContextualReranker": "rerankers.providers",
    "CrossEncoderReranker": "rerankers.cross_encoder",
    "DashScopeReranker": "rerankers.providers",
    "Dataset": "evaluation.datasets.dataset",
    "DatasetError": "errors",
    "DeepInfraReranker": "rerankers.providers",
    "DiversityReranker": "rerankers.diversity",
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
    "FusionRetriever": "retrievers.fusion",
    "HostedReranker": "rerankers.hosted",
    "IndexFormatError": "errors",
    "InfinityReranker": "rerankers.providers",
    "IsaacusReranker": "rerankers.providers",
    "JinaReranker": "rerankers.providers",
    "LLMJudge": "evaluation.gold.llm_judge",
    "LateInteractionReranker": "rerankers.late_interaction",
    "LexicalReranker": "rerankers.lexical",
    "ListwiseReranker": "rerankers.listwise",
    "LlamaCppReranker": "rerankers.providers",
    "MissingExtraError": "errors",
    "MixedbreadReranker": "rerankers.providers",
    "ModelNotFoundError": "errors",
    "NVIDIAReranker": "rerankers.providers",
    "OrderError": "errors",
    "ParentRetriever": "retrievers.parents",
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
    "Tuning": "tuning.report",
    "VLLMReranker": "rerankers.providers",
    "VoyageReranker": "rerankers.providers",
    "WatsonxReranker": "rerankers.providers",
    "ZeroEntropyReranker": "rerankers.providers",
    "assert_no_regression": "evaluation.regression",
    "calibrate": "evaluation.calibration.calibrate",
    "compare": "evaluation.compare",
    "evaluate": "evaluation.evaluate",
    "evaluate_with_langsmith": "evaluation.langsmith",
    "load_reranker": "config",
    "push_dataset": "evaluation.langsmith",
    "push_report": "evaluation.langsmith",
    "rerank_dataset": "evaluation.running.ray",
    "reranker_config": "config",
    "row_evaluator": "evaluation.langsmith",
    "save_reranker": "config",
    "summary_evaluator": "evaluation.langsmith",
    "tune": "tuning.tune",
}

__all__ = [
    "FAISS",
    "BM25Retriever",
    "BiEncoderReranker",
    "CachedReranker",
    "Calibration",
    "CascadeReranker",
    "CohereReranker",
    "Comparison",
    "ConfigError",
    "ContextualCompressionRetriever",
    "ContextualReranker",
    "CrossEncoderReranker",
    "DashScopeReranker",
    "Dataset",
    "DatasetError",
    "DeepInfraReranker",
    "DiversityReranker",
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
    "FusionRetriever",
    "HostedReranker",
    "IndexFormatError",
    "InfinityReranker",
    "IsaacusReranker",
    "JinaReranker",
    "LLMJudge",
    "LateInteractionReranker",
    "LexicalReranker",
    "ListwiseReranker",
    "LlamaCppReranker",
    "MissingExtraError",
    "MixedbreadReranker",
    "ModelNotFoundError",
    "NVIDIAReranker",
    "OrderError",
    "ParentRetriever",
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
    "Tuning",
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
    "load_reranker",
    "push_dataset",
    "push_report",
    "rerank_dataset",
    "reranker_config",
    "row_evaluator",
    "save_reranker",
    "summary_evaluator",
    "tune",
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
