"""Active learning: which image to label next."""

from medseg.server.learning.selection import STRATEGIES, select_cases
from medseg.server.learning.strategies import Strategies

__all__ = ["STRATEGIES", "Strategies", "select_cases"]
