"""Downloads from a local server that truncates, corrupts, stalls and refuses."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from medseg.errors import DataError
from medseg.system.download import check_hash, download_file

CONTENT = bytes(range(256)) * 4096
NAME = f"net-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        self.requests: list[str | None] = []
        self.behavior = "whole"
        self.ended = threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_): ...

    def do_GET(self):
        wanted = self.headers.get("Range")
        self.server.requests.append(wanted)
        behavior = self.server.behavior
        if behavior == "missing":
            self.send_error(404)
            return
        start = (
            int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and behavior != "no ranges" else 0
        )
        body = CONTENT[start:]
        if behavior == "corrupt":
            body = b"x" + body[1:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if behavior == "stall":
            self.wfile.write(body[:1000])
            self.wfile.flush()
            self.server.ended.wait(60)
            return
        cut = behavior == "truncate" or (behavior == "truncate once" and len(self.server.requests) == 1)
        self.wfile.write(body[: len(body) // 2] if cut else body)


@pytest.fixture
def server():
    made = Server()
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.ended.set()
    made.shutdown()
    made.server_close()
    thread.join()


def url(server):
    return f"http://127.0.0.1:{server.server_port}/{NAME}"


def test_a_complete_file_is_downloaded_once(server, tmp_path):
    path = download_file(url(server), tmp_path / "cache" / NAME)
    assert path.read_bytes() == CONTENT
    assert download_file(url(server), path) == path
    assert len(server.requests) == 1
    assert [p.name for p in path.parent.iterdir()] == [NAME]


def test_an_interrupted_download_is_continued(server, tmp_path):
    server.behavior = "truncate once"
    assert download_file(url(server), tmp_path / NAME).read_bytes() == CONTENT
    assert server.requests == [None, f"bytes={len(CONTENT) // 2}-"]


def test_the_next_call_continues_a_failed_download(server, tmp_path):
    server.behavior = "truncate"
    with pytest.raises(
        DataError, match=r"download failed \(the connection ended early|download failed \(IncompleteRead"
    ):
        download_file(url(server), tmp_path / NAME, attempts=1)
    assert not (tmp_path / NAME).exists()
    server.behavior = "whole"
    assert download_file(url(server), tmp_path / NAME).read_bytes() == CONTENT
    assert server.requests[1] is not None


def test_without_range_support_the_download_restarts(server, tmp_path):
    (tmp_path / f"{NAME}.part").write_bytes(CONTENT[:100])
    server.behavior = "no ranges"
    assert download_file(url(server), tmp_path / NAME).read_bytes() == CONTENT


def test_a_corrupt_file_is_deleted(server, tmp_path):
    server.behavior = "corrupt"
    with pytest.raises(DataError, match=r"has the SHA-256 \w{8}…, expected"):
        download_file(url(server), tmp_path / NAME)
    assert list(tmp_path.iterdir()) == []


def test_a_stalled_download_times_out(server, tmp_path):
    server.behavior = "stall"
    with pytest.raises(DataError, match="timed out"):
        download_file(url(server), tmp_path / NAME, timeout=0.3, attempts=2)
    assert not server.ended.is_set()
    assert len(server.requests) == 2
    assert not (tmp_path / NAME).exists()


def test_a_missing_file_fails_without_further_attempts(server, tmp_path):
    server.behavior = "missing"
    with pytest.raises(DataError, match="404"):
        download_file(url(server), tmp_path / NAME)
    assert len(server.requests) == 1


def test_no_network(tmp_path):
    with pytest.raises(
        DataError, match="Without a network connection, download the file on another machine and copy it to"
    ):
        download_file("http://127.0.0.1:9/x.pth", tmp_path / "x.pth", attempts=1)


def test_check_hash_detects_a_damaged_file(server, tmp_path):
    (tmp_path / NAME).write_bytes(b"other")
    with pytest.raises(DataError, match="it is damaged or another file"):
        check_hash(tmp_path / NAME)
    check_hash(tmp_path / "no_hash.pth")
