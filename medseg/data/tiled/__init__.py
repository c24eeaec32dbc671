"""Pictures too large for the memory: read window by window, written row by row."""
