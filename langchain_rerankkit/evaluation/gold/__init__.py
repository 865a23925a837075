"""Which documents are relevant: by id, by the answers they hold, or because a judge says so."""
