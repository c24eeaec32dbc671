"""A server for tests of the page, with a model that segments what is as bright as the prompted voxel."""

import socket
import threading
from contextlib import contextmanager

import numpy as np
import uvicorn

from medseg.prompts import Point
from medseg.server.app import create_app
from medseg.server.models import PromptModel
from medseg.server.options import ServerOptions


class BrightnessSession:
    """Every click adds (or removes) all voxels with the value of the clicked one; a box adds what it holds."""

    def __init__(self, image):
        self.image = image
        self.restart()

    @property
    def prompts(self):
        return tuple(self._prompts)

    @property
    def mask(self):
        return self._masks[-1]

    def restart(self, mask=None):
        self._prompts = []
        self._masks = [np.zeros(self.image.shape, bool) if mask is None else mask.copy()]

    def add(self, prompt):
        if isinstance(prompt, Point):
            found = self.image == self.image[tuple(int(one) for one in prompt.position)]
        else:
            found = np.zeros(self.image.shape, bool)
            found[tuple(slice(a, b) for a, b in zip(prompt.lower, prompt.upper, strict=True))] = True
        self._prompts.append(prompt)
        self._masks.append(self.mask | found if prompt.positive else self.mask & ~found)
        return self.mask

    def undo(self):
        self._prompts.pop()
        self._masks.pop()
        return self.mask


class BrightnessModel:
    name = "brightness"

    def __init__(self, *spatial_dims):
        self.spatial_dims = spatial_dims or (2, 3)

    def open(self, scan, spacing=None):
        array = getattr(scan, "array", scan)
        return BrightnessSession(array.astype(float).sum(axis=0) if hasattr(scan, "array") else array)


@contextmanager
def serve_page(data, *, labels=("object", "other"), model=None):
    """Serve a dataset on a free port of this machine and yield the address of its page."""
    options = ServerOptions(data, labels=labels)
    models = [PromptModel("brightness", model or BrightnessModel())]
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(create_app(options, models), log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/annotate/"
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
