"""Rerankers as data: a line, a TOML file or a dict says which, and holds no code and no secret."""

from __future__ import annotations

from langchain_rerankkit.config.loading import load_reranker
from langchain_rerankkit.config.saving import reranker_config, save_reranker

__all__ = ["load_reranker", "reranker_config", "save_reranker"]
