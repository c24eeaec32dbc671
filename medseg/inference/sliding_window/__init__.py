"""Sliding-window inference: windows over an image, and the average of their logits.

Modules:
    options: size, overlap and weighting of the windows.
    window_plan: positions and weights of the windows.
    prediction: the logits of a whole image, and the classes and probabilities that follow.
    streaming: windows through a network in batches; ``streaming_resample`` resamples the result.
    accumulator: the protocol of accumulators; ``ring_accumulator`` and ``strip_accumulator`` implement it.
    output_chunk: part of the output of an image.
    overlap_tile: logits without weighting, computed tile by tile with context.
    tta: test-time augmentation.
    finite_checks: checks for NaN and infinity.
"""
