"""The wire: rerank endpoints as data, and the one client that talks to all of them."""
