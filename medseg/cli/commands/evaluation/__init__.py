"""Commands that measure, compare and show results."""
