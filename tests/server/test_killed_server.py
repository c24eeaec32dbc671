"""A server that is killed while clients save: no label is lost or half-written."""

import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from running_server import wait_for
from server_doubles import SHAPE, TILTED, write_dataset
from test_datastore_routes import nrrd

from medseg.data.io.readers import read_scan
from medseg.files import TEMPORARY, sha256_file
from medseg.server.datastore import Author, Datastore

FORKS = """
import os, sys
from pathlib import Path
from medseg.server import serve, app
from medseg.server.options import ServerOptions
import uvicorn
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        serve(
            ServerOptions(data=Path(sys.argv[1]), port=0),
            started=lambda url: print(os.getpid(), url, flush=True),
        )
        os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.fixture
def servers(tmp_path):
    """A process that starts servers at once, because it imported everything before."""
    root = write_dataset(tmp_path / "data", labeled=0, unlabeled=3)
    process = subprocess.Popen(
        [sys.executable, "-c", FORKS, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip

    def start():
        process.stdin.write("\n")
        process.stdin.flush()
        number, url = process.stdout.readline().split()
        wait_for(url)
        return int(number), url

    yield root, start
    process.stdin.close()
    process.kill()
    process.wait()
    process.stdout.close()


def save_until_it_is_gone(url, image, bodies, saved):
    """Save one label after another; note those that the server confirmed."""
    host = url.removeprefix("http://").rstrip("/")
    while True:
        body = random.choice(bodies)
        try:
            with closing(http.client.HTTPConnection(host, timeout=20)) as connection:
                head = {"content-type": "multipart/form-data; boundary=b"}
                connection.request("PUT", f"/datastore/label?image={image}", body, head)
                reply = connection.getresponse()
                content = json.loads(reply.read())
            assert reply.status == 200, content
            saved.append((image, content["version"], reply.headers["etag"].strip('"')))
        except (OSError, http.client.HTTPException, ValueError):
            return


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL and fork")
@pytest.mark.parametrize("kills", [5, pytest.param(20, marks=pytest.mark.exhaustive)])
def test_no_label_is_lost_when_the_server_is_killed(servers, tmp_path, kills):
    root, start = servers
    bodies = []
    for at in range(1, 8):
        values = np.zeros(SHAPE, np.uint8)
        values[at : at + 3, 3:6, 2:5] = 1
        head = b'--b\r\nContent-Disposition: form-data; name="label"; filename="a.nrrd"\r\n\r\n'
        bodies.append(head + nrrd(values, tmp_path) + b"\r\n--b--\r\n")
    saved, images = [], ["scan_0", "scan_0", "scan_1", "scan_2"]
    random.seed(0)
    for _ in range(kills):
        (number, url), known = start(), len(saved)
        threads = [
            threading.Thread(target=save_until_it_is_gone, args=(url, image, bodies, saved)) for image in images
        ]
        for thread in threads:
            thread.start()
        end = time.monotonic() + 30
        while len(saved) == known and time.monotonic() < end:
            time.sleep(0.005)
        time.sleep(random.uniform(0, 0.2))
        os.kill(number, signal.SIGKILL)
        for thread in threads:
            thread.join()
        for label in (root / "labels").glob("scan_*.nii.gz"):  # not a hidden file that was being written
            assert read_scan(label).array.sum() == 27
    store = Datastore(root)
    assert len(saved) >= kills
    for image, version, digest in saved:
        kept = store.versions(image)[version - 1]
        assert (kept.number, kept.digest) == (version, digest)
        assert sha256_file(kept.path) == digest
        assert read_scan(kept.path).array.sum() == 27
    for image in set(images):
        assert sha256_file(root / "labels" / f"{image}.nii.gz") == store.versions(image)[-1].digest
        assert np.allclose(read_scan(root / "labels" / f"{image}.nii.gz").grid.affine, TILTED)
        store.save(image, np.ones(SHAPE, np.uint8), Author("after"))
    assert list(root.rglob(f"{TEMPORARY}*")) == []
    assert list(root.rglob("pending")) == []
