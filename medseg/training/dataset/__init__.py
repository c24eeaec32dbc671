"""The dataset of a training.

Modules:
    preparation: ``prepare_dataset``: discovered, measured, split, labeled.
    checks: comparison of the dataset with the settings.
"""
