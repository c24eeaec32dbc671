"""The annotation page of the server: cases, planes, prompts and labels in a browser."""

from medseg.server.page.routes import PREFIX, routes

__all__ = ["PREFIX", "routes"]
