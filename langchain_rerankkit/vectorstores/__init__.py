"""Vector stores, and what rerankers read from them. Importing this loads neither faiss nor numpy."""

from langchain_rerankkit.vectorstores.faiss import FAISS

__all__ = ["FAISS"]
