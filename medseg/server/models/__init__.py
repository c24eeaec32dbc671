"""The models of a server, the open images of clients, and label maps in the order of viewers."""

from medseg.server.models.clicks import PromptSessions, prompt_from_json
from medseg.server.models.pool import AutomaticModel, Model, ModelPool, PromptModel

__all__ = ["AutomaticModel", "Model", "ModelPool", "PromptModel", "PromptSessions", "prompt_from_json"]
