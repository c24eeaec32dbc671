"""Prompts: points, boxes, scribbles and lassos, and what answers them with a mask."""

from medseg.prompts.prompts import Box, Lasso, Point, Prompt, Scribble
from medseg.prompts.session import Promptable, PromptSession

__all__ = ["Box", "Lasso", "Point", "Prompt", "PromptSession", "Promptable", "Scribble"]
