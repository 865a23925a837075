"""Does it rank better? Rankings of document ids are compared with gold answers; backends are never looked into."""
