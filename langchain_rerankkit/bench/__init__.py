"""Speed, memory and agreement of this package's backends and of others, on the same weights and passages."""
