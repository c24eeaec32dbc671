"""Cascades: a first stage at low resolution, whose segmentation a second stage at full resolution refines.

Modules:
    options: the settings ``cascade``.
    first_stage: trains the networks of the first stage and segments the cases with them.
"""
