"""Active learning: which image to label next."""

from medseg.server.active_learning.selection import STRATEGIES, select_cases
from medseg.server.active_learning.strategies import Strategies

__all__ = ["STRATEGIES", "Strategies", "select_cases"]
