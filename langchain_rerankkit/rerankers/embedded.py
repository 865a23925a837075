"""The reranker that ships in the package: no configuration, no network, no torch."""
