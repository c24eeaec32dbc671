"""Samples of a training: which patch is drawn, and what it contains.

Modules:
    patch_sampler: ``PatchSampler``: from which case, with which class, and where each patch is cut.
    patch_dataset: ``PatchDataset``: the samples; every random draw follows from (seed, epoch, position).
    options: the settings ``sampling``.
    class_shares: how much of each class was drawn.
    cropping: crops of scans, also beyond their borders.
    lateral_swap: exchange of left and right labels in mirrored patches.
    object_targets: objects in samples, and the maps that a dense head learns.
    prompt_samples: samples of a network that answers prompts; ``intensity_regions`` adds unlabeled objects.
    user_transforms: transforms of your own.
"""
