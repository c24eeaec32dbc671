"""Dense heads: maps that a network predicts beside its classes, and their loss.

Modules:
    base: the protocol of dense heads, and how one is built.
    flows, distance, rays: the dense heads.
    object_batches: objects of similar size as one array.
    loss: the loss of classes and maps.
"""
