"""One file per way of judging relevance, and per way of combining them."""
