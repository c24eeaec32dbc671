"""Training of a SAM's mask decoder on your own labels, with embeddings that are computed once.

Modules:
    options: settings.
    samples: the objects of labeled slices, and prompts drawn from them.
    training: the loop, its checkpoint and the result.
"""
