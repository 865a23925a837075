"""Retrievers that compose: what comes in is a retriever, what comes out is one too."""
