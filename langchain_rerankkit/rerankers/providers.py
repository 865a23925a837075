"""The providers that people look for by name: each is `HostedReranker` with its ``provider`` said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_rerankkit.rerankers.hosted import HostedReranker

__all__ = [
    "CohereReranker",
    "ContextualReranker",
    "DashScopeReranker",
    "DeepInfraReranker",
    "ElasticsearchReranker",
    "FireworksReranker",
    "InfinityReranker",
    "IsaacusReranker",
    "JinaReranker",
    "LlamaCppReranker",
    "MixedbreadReranker",
    "NVIDIAReranker",
    "PineconeReranker",
    "SiliconFlowReranker",
    "TEIReranker",
    "TogetherReranker",
    "VLLMReranker",
    "VoyageReranker",
    "WatsonxReranker",
    "ZeroEntropyReranker",
]


class CohereReranker(HostedReranker):
    """Reranks by Cohere's rerank models."""

    provider: str | Mapping[str, Any] = "cohere"


class JinaReranker(HostedReranker):
    """Reranks by Jina AI's rerank models; v3 judges up to 64 documents beside each other."""

    provider: str | Mapping[str, Any] = "jina"


class VoyageReranker(HostedReranker):
    """Reranks by Voyage AI's rerank models; an instruction goes before the query."""

    provider: str | Mapping[str, Any] = "voyage"


class MixedbreadReranker(HostedReranker):
    """Reranks by Mixedbread's rerank models."""

    provider: str | Mapping[str, Any] = "mixedbread"


class PineconeReranker(HostedReranker):
    """Reranks by the rerank models of Pinecone Inference."""

    provider: str | Mapping[str, Any] = "pinecone"


class TEIReranker(HostedReranker):
    """Reranks by a server of Hugging Face's Text Embeddings Inference, which is asked for its batch limit."""

    provider: str | Mapping[str, Any] = "tei"


class VLLMReranker(HostedReranker):
    """Reranks by a vLLM server."""

    provider: str | Mapping[str, Any] = "vllm"


class InfinityReranker(HostedReranker):
    """Reranks by an Infinity server."""

    provider: str | Mapping[str, Any] = "infinity"


class NVIDIAReranker(HostedReranker):
    """Reranks by NVIDIA's hosted rerank models; ``provider="nvidia-nim"`` is a container of one's own."""

    provider: str | Mapping[str, Any] = "nvidia"


class LlamaCppReranker(HostedReranker):
    """Reranks by llama.cpp's server, started with ``--reranking``."""

    provider: str | Mapping[str, Any] = "llamacpp"


class TogetherReranker(HostedReranker):
    """Reranks by a dedicated endpoint of Together AI."""

    provider: str | Mapping[str, Any] = "together"


class ZeroEntropyReranker(HostedReranker):
    """Reranks by ZeroEntropy's rerank models."""

    provider: str | Mapping[str, Any] = "zeroentropy"


class IsaacusReranker(HostedReranker):
    """Reranks by Isaacus's legal rerankers."""

    provider: str | Mapping[str, Any] = "isaacus"


class ContextualReranker(HostedReranker):
    """Reranks by Contextual AI's rerank models, which follow instructions."""

    provider: str | Mapping[str, Any] = "contextual"


class DashScopeReranker(HostedReranker):
    """Reranks by the rerank models of Alibaba's Model Studio."""

    provider: str | Mapping[str, Any] = "dashscope"


class SiliconFlowReranker(HostedReranker):
    """Reranks by SiliconFlow's rerank models."""

    provider: str | Mapping[str, Any] = "siliconflow"


class FireworksReranker(HostedReranker):
    """Reranks by Fireworks' rerank models."""

    provider: str | Mapping[str, Any] = "fireworks"


class DeepInfraReranker(HostedReranker):
    """Reranks by DeepInfra's rerank models."""

    provider: str | Mapping[str, Any] = "deepinfra"


class ElasticsearchReranker(HostedReranker):
    """Reranks by a rerank endpoint of Elasticsearch's inference API; ``model`` is its id."""

    provider: str | Mapping[str, Any] = "elasticsearch"


class WatsonxReranker(HostedReranker):
    """Reranks by the rerank models of IBM watsonx.ai; name the project in ``params``."""

    provider: str | Mapping[str, Any] = "watsonx"
