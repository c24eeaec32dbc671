"""Commands that serve models for annotation."""
