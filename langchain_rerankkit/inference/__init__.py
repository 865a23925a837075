"""How many texts run through a local model: fast, and in bounded memory."""
