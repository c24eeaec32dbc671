"""Other people's models, read as they are."""
