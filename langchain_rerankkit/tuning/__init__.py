"""How deep, in which order, with which weights: the best setting of rerankers for the time there is."""
