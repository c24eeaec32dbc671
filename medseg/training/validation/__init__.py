"""Validation during a training.

Modules:
    validator: whole cases by sliding window, and their scores.
    schedule: the cases that a validation can afford.
    instance_tuning: thresholds of decoding objects, chosen at the end.
"""
