"""A small DICOMweb service on this machine, and applications that listen on a port."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from contextlib import contextmanager, suppress
from io import BytesIO

import pydicom
import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route


@contextmanager
def listening(app):
    """Serve an application on a free port of this machine; yields its address without ``/`` at the end."""
    config = uvicorn.Config(app, port=0, log_config=None, access_log=False, ws="none", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        end = time.monotonic() + 60
        while not server.started and thread.is_alive() and time.monotonic() < end:
            time.sleep(0.005)
        assert server.started, "the server does not start"
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(60)


@contextmanager
def dripping(head):
    """A service whose replies never end: after the head, a letter every 20 ms; yields its address."""
    ended = threading.Event()

    def drip(connection):
        with connection, suppress(OSError):
            connection.recv(1 << 16)
            connection.sendall(head)
            while not ended.wait(0.02):
                connection.sendall(b"H")

    def accept(listener):
        with suppress(OSError):
            while not ended.is_set():
                threading.Thread(target=drip, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        thread = threading.Thread(target=accept, args=(listener,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        ended.set()
        with suppress(OSError):
            socket.create_connection(listener.getsockname(), 1).close()  # wakes the thread
        thread.join()


class DicomWeb:
    """Instances behind ``/dicom-web``: lists series, sends them, stores objects. ``replies`` answers anything.

    Attributes:
        replies: path → status, type and body (bytes, or a function that returns an iterator).
        asked: method, path with query, and headers of every request.
        bodies: bodies of the objects that were sent.
    """

    def __init__(self, folder=None):
        self.instances = [pydicom.dcmread(p) for p in sorted(folder.iterdir())] if folder else []
        self.replies, self.asked, self.bodies, self.refuses = {}, [], [], False
        self.app = Starlette(
            routes=[Route("/{path:path}", self.answer, methods=["GET", "POST", "PUT", "DELETE"])]
        )

    async def answer(self, request):
        """Answer one request."""
        query = request.url.query
        path = request.url.path
        self.asked.append((request.method, f"{path}?{query}" if query else path, dict(request.headers)))
        if path in self.replies:
            status, kind, body = self.replies[path]
            return Response(body, status, {"content-type": kind} if kind else None)
        if request.method == "POST":
            self.bodies.append(await request.body())
            return Response(b"{}", 409 if self.refuses else 200, media_type="application/dicom+json")
        if path == "/dicom-web/series":
            return self._listed(request.query_params)
        if re.fullmatch(r"/dicom-web/studies/[0-9.]+/series/[0-9.]+", path):
            return self._sent(path.rpartition("/")[2])
        return Response(status_code=404)

    def _listed(self, query):
        found = {str(d.SeriesInstanceUID): d for d in self.instances if d.Modality == query.get("Modality")}
        rows = [
            {
                "0020000D": {"vr": "UI", "Value": [str(d.StudyInstanceUID)]},
                "0020000E": {"vr": "UI", "Value": [uid]},
            }
            for uid, d in found.items()
        ]
        return Response(json.dumps(rows), media_type="application/dicom+json")

    def _sent(self, uid):
        parts = [_part10(d) for d in self.instances if str(d.SeriesInstanceUID) == uid]
        kind = 'multipart/related; type="application/dicom"; boundary=double'
        return Response(related(parts, "double"), media_type=kind)


PAGE = """<!doctype html><head><script>window.PUBLIC_URL = '/ohif/';</script>
<link href="https://fonts.googleapis.com/css?family=Inter" rel="stylesheet"><link rel="icon" href="/ohif/a.png">
<script src="/ohif/app-config.js"></script><script defer src="/ohif/app.bundle.1.js"></script></head>"""
"""Page of a built OHIF, in short."""


def write_build(folder):
    """A folder that looks like a built OHIF."""
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text(PAGE)
    (folder / "app-config.js").write_text("window.config = {};")
    (folder / "app.bundle.1.js").write_text("code")
    (folder / "assets" / "a.png").write_bytes(b"png")
    return folder


def related(parts, boundary):
    """A body of ``multipart/related`` with DICOM objects."""
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    return b"".join(head + part + b"\r\n" for part in parts) + f"--{boundary}--".encode()


def _part10(dataset):
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
