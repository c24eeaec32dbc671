"""HTTP: what is checked before a request is answered, how bodies are read, what is logged."""
