"""Orthanc of Debian's packages ``orthanc`` and ``orthanc-dicomweb``, and MONAI Label's wheel."""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

PROGRAM = shutil.which("Orthanc", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
PLUGIN = next(
    (
        path
        for folder in (
            "/usr/share/orthanc/plugins",
            "/usr/lib/orthanc/plugins",
            "/usr/local/share/orthanc/plugins",
        )
        for path in sorted(Path(folder).glob("libOrthancDicomWeb*"))
    ),
    None,
)
VARIABLE = "MEDSEG_MONAILABEL_WHEEL"


def find_wheel():
    """MONAI Label's wheel, whose file or folder ``MEDSEG_MONAILABEL_WHEEL`` names; None without it."""
    place = Path(os.environ.get(VARIABLE) or "missing")
    wheels = sorted(place.glob("monailabel-*.whl")) if place.is_dir() else [place] if place.is_file() else []
    return wheels[0] if wheels else None


@contextmanager
def orthanc(folder):
    """Run Orthanc with an empty storage on a free port; yields its address without ``/`` at the end."""
    folder.mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db"), "HttpPort": port,
        "DicomServerEnabled": False, "RemoteAccessAllowed": False, "AuthenticationEnabled": False,
        "Plugins": [str(PLUGIN)], "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "EnableWado": False},
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen([PROGRAM, str(folder / "orthanc.json")], stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(f"{url}/dicom-web/studies", process, folder / "log.txt")
        yield url
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def send(url, series):
    """Send the files of a folder to Orthanc."""
    for path in sorted(series.iterdir()):
        request = urllib.request.Request(f"{url}/instances", data=path.read_bytes(), method="POST")
        urllib.request.urlopen(request, timeout=60).read()


def _wait_for(url, process, log):
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=10).read()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"Orthanc does not answer: {log.read_text()[-2000:]}")
