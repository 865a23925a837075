"""Rerankers as data: a line, a TOML file or a dict says which, and holds no code and no secret."""

from __future__ import annotations

from langchain_rerankkit.config.loading import load_reranker, read_config
from langchain_rerankkit.config.saving import reranker_config, save_reranker
from langchain_rerankkit.config.specs import as_spec, parse_spec

__all__ = ["as_spec", "load_reranker", "parse_spec", "read_config", "reranker_config", "save_reranker"]
