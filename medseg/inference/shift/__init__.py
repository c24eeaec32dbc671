"""Shift: how far a scan and its prediction are from what the model was trained on.

Modules:
    features: the numbers that are compared, and what to do where one differs.
    objects: sizes of connected objects, and the share of the foreground.
    fingerprint: ``TrainingFingerprint``, the distribution of each feature over the training cases.
    training_cases: measures the training cases for the fingerprint.
    comparison: ``ShiftReport``, the distance of one scan from a fingerprint.
    modality: refusal of scans of another modality, such as CT for a model of MR.
    rescale: the scale at which a picture shows objects of the training's size.
    warnings_table: ``warnings.csv``.
"""
