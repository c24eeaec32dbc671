"""Trainings that clients start: each a ``medseg train`` in a process of its own."""

from medseg.server.training.trainings import Trainings

__all__ = ["Trainings"]
