"""Errors of requests: unknown ids, conflicting changes, a busy server."""

from __future__ import annotations

from medseg.errors import DataError, MedsegError


class UnknownIdError(MedsegError):
    """No image, label, model or session has this id (HTTP 404)."""


class ConflictError(MedsegError):
    """A label was changed since the client read it (HTTP 412)."""


class BusyError(MedsegError):
    """Too many requests wait for the same model, or too many sessions are open (HTTP 503)."""


class ServiceError(MedsegError):
    """The DICOMweb service does not answer, or not as expected (HTTP 502)."""


class RefusedError(DataError):
    """A request is malformed or asks for something that the server does not do (HTTP 400)."""
