"""Vector stores, and what rerankers read from them. Importing this loads neither faiss nor numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_rerankkit.vectorstores import faiss

    FAISS = faiss.FAISS

__all__ = ["FAISS"]


def __getattr__(name: str) -> Any:
    if name != "FAISS":
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    from langchain_rerankkit.vectorstores import faiss

    return faiss.FAISS


def __dir__() -> list[str]:
    return __all__
