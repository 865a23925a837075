"""A threshold for the scores of one reranker, and what it rests on."""
