"""Ensembles: several models that segment as one.

Modules:
    mean: the mean of several models' chunks on one grid.
    member: one model on its device.
    file: several models in one file.
"""
