"""500 hostile requests: each is refused, the server stays healthy, nothing is left on the disk."""

import gzip
import hashlib

import anyio
import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian
from server_doubles import make_app, small_models, write_dataset

from medseg.server.datastore.incoming import declared_bytes
from medseg.server.errors import RefusedError
from medseg.server.options import Limits

COUNT = 500
IDS = [
    "", ".", "..", "../../etc/passwd", "/etc/passwd", "..\\..\\x", "scan_0/../../x", "%2e%2e%2f", "a\0b",
    "a\nb",
    "x" * 5000, "scan_0.nii.gz", ".medseg", "~", "$HOME", "`id`", "{}", "null", "\ud7ff", "CON", "🧠", "scan_9",
    "file:///etc/passwd", "http://127.0.0.1/", "scan_0#1", "scan_0,scan_1", "*", "' or 1=1 --", "<script>",
]  # fmt: skip
ROUTES = [
    "/", "/info/", "/auth/", "/auth/token", "/infer/tiny", "/infer/cubes", "/infer/{}", "/session/",
    "/session/{}",
    "/activelearning/{}", "/datastore/", "/datastore/image", "/datastore/image/info", "/datastore/label",
    "/datastore/label/info", "/datastore/label/versions", "/train/{}", "/batch/infer/{}", "/logs/", "/{}",
    "/proxy/dicom/{}", "/ohif/{}", "//{}", "/datastore/../{}", "/static/{}", "/infer/wsi/{}",
]  # fmt: skip
NAMES = [
    "x.nii.gz", "x.nii", "x.nrrd", "x.mha", "x.png", "x.seg.nrrd", "x.tif", "x.py", "", "../../x.nii.gz",
    "x", "x.bin",
    "x.dcm", "/etc/cron.d/x.nrrd", "x.zip",
]  # fmt: skip
JSON = [
    "", "{", "[]", "null", "1", '"x"', "{}", '{"foreground": [[1e999, 0, 0]]}', '{"foreground": [[0]]}',
    '{"foreground": [["a", 1, 2]]}', '{"foreground": 7}', '{"foreground": [[1, 2, 3]], "label": {"a": 1}}',
    '{"prompts": [{"type": "lasso", "axis": 9}]}', '{"prompts": [{"type": "box", "lower": [0], "upper": [1]}]}',
    '{"prompts": [{"type": "scribble", "voxels": [[1, 2], [3]]}]}', '{"prompts": [1]}',
    '{"roi": [1, 2, 3, 4, 5, "x"]}',
    '{"label_info": [{"name": "a\\u0000", "idx": 1}]}', '{"label_info": {"name": 3}}', "[" * 100000,
    '{"a":' * 5000,
    '{"result_extension": "../../x.nrrd", "foreground": [[1, 1, 1]]}', '{"client_id": "' + "x" * 5000 + '"}',
    '{"expiry": -1}', '{"epochs": 1e308}', '{"budget": "1; rm -rf /"}', '{"plane": [0, 99999999999999999999]}',
]  # fmt: skip
PARAMETERS = [
    "image",
    "label",
    "id",
    "tag",
    "output",
    "session_id",
    "version",
    "check_sum",
    "lines",
    "expiry",
    "token",
]


def contents():
    """Files that are damaged, lie about their size, or name other files."""
    header = nib.Nifti1Header()
    header.set_data_shape((32000, 32000, 32000))
    zero = nib.Nifti1Header()
    zero["dim"] = [3, 0, -5, 7, 1, 1, 1, 1]
    return [
        b"", b"\0" * 100, header.binaryblock + b"\0" * 4, gzip.compress(header.binaryblock + b"\0" * 4),
        zero.binaryblock + b"\0" * 4, gzip.compress(b"\0" * 3_000_000), gzip.compress(b"x")[:-4],
        b"\x89PNG\r\n\x1a\n" + b"\0" * 40,
        b"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 12 14 10\nencoding: raw\ndata file: /etc/passwd\n\n",
        b"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 99999 99999 99999\nencoding: raw\nendian: little\n\n",
        b"NRRD0004\ntype: block\nblock size: -1\ndimension: 16\n\n",
        b"NDims = 3\nElementDataFile = LIST\n/etc/passwd\n",
        b"II*\0\x08\0\0\0" + b"\xff" * 60, b"\0" * 128 + b"DICM" + b"\xff" * 50, b"PK\x03\x04" + b"\0" * 60,
    ]  # fmt: skip


def form(rng, files):
    """A form, whole or damaged."""
    parts = b""
    for name in rng.choice(["params", "label", "file", "files", "image", "x"], rng.integers(0, 4)):
        if name == "params":
            content, file = rng.choice(JSON).encode(), ""
        else:
            content, file = files[rng.integers(len(files))], f'; filename="{rng.choice(NAMES)}"'
        head = f'Content-Disposition: form-data; name="{name}"{file}\r\n\r\n'
        parts += b"--b\r\n" + head.encode() + content + b"\r\n"
    body = parts + b"--b--\r\n"
    return body[: rng.integers(0, len(body) + 1)] if rng.random() < 0.3 else body


def hostile(rng, files):
    """One request: method, path, query, headers, body."""
    path = str(rng.choice(ROUTES)).replace("{}", str(rng.choice(IDS)))
    pairs = [f"{rng.choice(PARAMETERS)}={rng.choice(IDS)}" for _ in range(rng.integers(0, 4))]
    method = str(rng.choice(["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "x" * 300]))
    kinds = [
        "multipart/form-data; boundary=b",
        "multipart/form-data",
        "application/json",
        "",
        "x" * 2000,
        "multipart/form-data; boundary=",
    ]
    headers = {
        "host": str(rng.choice(["127.0.0.1:8000"] * 8 + ["evil.example", ""])),
        "content-type": str(rng.choice(kinds)),
        "if-match": str(rng.choice(['"x"', "*", "", "x" * 3000])), "x-annotator": str(rng.choice(IDS)),
        "range": "bytes=0-1,5-9999999999", "user-agent": str(rng.choice(IDS)), "cookie": str(rng.choice(IDS)),
    }  # fmt: skip
    if rng.random() < 0.2:
        headers["content-length"] = str(rng.choice(["-1", "x", "99999999999999999999", "5"]))
    body = form(rng, files) if rng.random() < 0.6 else str(rng.choice(JSON)).encode()
    return method, path, "&".join(pairs), headers, body


async def call(app, method, path, query, headers, body):
    """Send one request straight to the application, without a client that would repair it."""
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path,
        "raw_path": path.encode("utf-8", "surrogatepass"), "query_string": query.encode("utf-8",
        "surrogatepass"),
        "headers": [(k.encode(), v.encode("utf-8", "surrogatepass")) for k, v in headers.items()],
        "scheme": "http", "server": ("127.0.0.1", 8000), "client": ("127.0.0.1", 5), "root_path": "",
        "state": {},
    }  # fmt: skip
    chunks = [body[i : i + 700] for i in range(0, len(body), 700)] or [b""]
    sent = []

    async def receive():
        if chunks:
            return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks)}
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    return sent[0]["status"]


def snapshot(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_hostile_requests_are_harmless(tmp_path):
    root = write_dataset(tmp_path / "data", labeled=1, unlabeled=1)
    app = make_app(root, small_models(tmp_path), limits=Limits(upload_bytes=1 << 20, text_bytes=1 << 16))
    state, before = app.state.server, snapshot(tmp_path)
    rng, files = np.random.default_rng(7), contents()
    requests = [hostile(rng, files) for _ in range(COUNT)]

    async def send_all():
        statuses = [await call(app, *request) for request in requests]
        good = {"host": "127.0.0.1:8000"}
        last = [await call(app, "GET", path, "", good, b"") for path in ("/info/", "/datastore/image")]
        return statuses, [*last, await call(app, "GET", "/datastore/image", "image=scan_0", good, b"")]

    statuses, last = anyio.run(send_all)
    failed = [(s, r[:4]) for s, r in zip(statuses, requests, strict=True) if s >= 500]
    assert failed == [], state.log.lines
    assert last == [200, 400, 200]
    assert sum(status >= 400 for status in statuses) > 0.7 * COUNT
    assert snapshot(tmp_path) == before
    assert [path for path in state.temporary.rglob("*") if path.is_file()] == []
    assert not any("passwd" in line or "scan_" in line for line in state.log.lines)
    state.close()


def test_deflated_dicom_is_not_inflated(tmp_path):
    data = pydicom.Dataset()
    data.SOPClassUID, data.SOPInstanceUID, data.ImageComments = CTImageStorage, "1.2", "x" * 10_000
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    with pytest.raises(RefusedError, match="deflated"):
        declared_bytes([tmp_path / "a.dcm"])
