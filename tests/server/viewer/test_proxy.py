"""Requests that the server passes on to a DICOMweb service."""

import json
import socket
import threading
import time
from contextlib import contextmanager
from io import BytesIO

import numpy as np
import pydicom
import pytest
from dicomweb_double import DicomWeb, dripping, listening, related, write_build
from pydicom.uid import DeflatedExplicitVRLittleEndian
from series import NAME, turned, write_dicom
from server_doubles import client_of, make_app

from medseg.data.io.dicom.segmentation import read_segments
from medseg.data.io.readers import read_scan
from medseg.server.datastore import Author
from medseg.server.errors import RefusedError, ServiceError, UnknownIdError
from medseg.server.viewer.proxy import DicomProxy, accepted_type, check_resource

pytestmark = pytest.mark.filterwarnings("ignore")  # values of the planted patient

TOKEN = "correct horse battery"
SERIES = "studies/1.2/series/1.3"
HOSTILE = (
    "../system", "studies/../../system", "studies/1.2/../../../instances", "%2e%2e/system", "studies/%2e%2e/x",
    "patients", "instances/1.2/file", "studies/1.2/series/1.3/instances/1.4/frames/1;x", "studies/a", "",
    "http://evil.example/studies", "//evil.example/studies", "studies/1.2%3Fx=1", "studies\\..\\system",
    "studies/1.2/series/1.3/instances/1.4/bulk/../../../../x", "servers", "studies/1.2/media",
    "studies/1.2%0d%0aX:",    "studies/1.2/series/1.3/instances/1.4/bulkdata", "studies/" + "1." * 2000 + "1",
)  # fmt: skip


@pytest.fixture
def source(tmp_path):
    voxels = np.arange(4 * 8 * 9).reshape(4, 8, 9)
    return write_dicom(tmp_path / "source", voxels, orientation=turned(20, 10))


@pytest.fixture
def service(source):
    service = DicomWeb(source)
    with listening(service.app) as url:
        service.url = f"{url}/dicom-web"
        yield service


@pytest.fixture
def client(service, tmp_path):
    app = make_app(service.url, cache=tmp_path / "cache", ohif=write_build(tmp_path / "build"))
    with client_of(app) as client:
        service.asked.clear()
        yield client


def test_searches_and_frames_are_passed_on(client, service):
    service.replies["/dicom-web/studies"] = (200, "application/dicom+json", b"[]")
    reply = client.get(
        "/proxy/dicom/qido/studies?PatientName=*M%C3%BCl*&limit=3&token=abc&includefield=a&includefield=b"
    )
    assert (reply.status_code, reply.json()) == (200, [])
    method, path, headers = service.asked[-1]
    assert (method, path) == (
        "GET",
        "/dicom-web/studies?PatientName=%2AM%C3%BCl%2A&limit=3&includefield=a&includefield=b",
    )
    assert headers["accept"] == "application/dicom+json"
    frames = b"--b\r\n\r\n" + bytes(range(256)) * 4096 + b"\r\n--b--"
    kind = 'multipart/related; type="application/octet-stream"; boundary=b'
    service.replies[f"/dicom-web/{SERIES}/instances/1.4/frames/1"] = (200, kind, frames)
    asked = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
    reply = client.get(f"/proxy/dicom/wado/{SERIES}/instances/1.4/frames/1", headers={"accept": asked})
    assert (reply.content, reply.headers["content-type"]) == (frames, kind)
    assert service.asked[-1][2]["accept"] == 'multipart/related; type="application/octet-stream"'
    service.replies["/dicom-web/studies"] = (204, None, b"")
    assert client.get("/proxy/dicom/qido/studies").status_code == 204


def test_addresses_in_json_lead_to_the_proxy(client, service):
    bulk = f"http:\\/\\/10.0.0.7:8042/dicom-web/{SERIES}/instances/1.4/bulk/7fe00010"
    text = (
        f'[{{"00420011":{{"BulkDataURI":"{bulk}"}},"00081030":{{"Value":["see http://x/studies/1 there"]}}}}]'
    )
    service.replies[f"/dicom-web/{SERIES}/metadata"] = (200, "application/json; charset=utf-8", text.encode())
    (found,) = client.get(f"/proxy/dicom/qido/{SERIES}/metadata").json()
    own = f"/proxy/dicom/wado/{SERIES}/instances/1.4/bulk/7fe00010"
    assert found["00420011"]["BulkDataURI"] == own
    assert found["00081030"]["Value"] == ["see http://x/studies/1 there"]
    service.replies[f"/dicom-web/{SERIES}/instances/1.4/bulk/7fe00010"] = (200, "text/html", b"<script>")
    reply = client.get(own)
    assert (reply.content, reply.headers["content-type"]) == (b"<script>", "application/octet-stream")
    assert reply.headers["x-content-type-options"] == "nosniff"


def test_what_is_no_resource_does_not_reach_the_service(client, service):
    for path in HOSTILE:
        with pytest.raises(UnknownIdError):
            check_resource(path)
        for kind in ("qido", "wado"):
            reply = client.get(f"/proxy/dicom/{kind}/{path}")
            assert reply.status_code in (404, 400), path
    assert client.get("/proxy/dicom/stow/studies").status_code == 404
    assert client.get("/proxy/http://evil.example/studies").status_code == 404
    for method in ("PUT", "DELETE", "PATCH"):
        assert client.request(method, "/proxy/dicom/wado/studies/1.2").status_code == 405
    kind = {"content-type": "multipart/related; boundary=b"}
    for path in ("studies/1.2/series/1.3", "series", "../x"):
        assert client.post(f"/proxy/dicom/wado/{path}", content=b"x", headers=kind).status_code == 404
    assert client.post("/proxy/dicom/wado/studies", json={}).status_code == 400
    assert client.get("/proxy/dicom/qido/studies?x=" + "a" * 9000).status_code == 400
    assert client.get("/proxy/dicom/qido/studies?x=%00").status_code == 400
    assert service.asked == []


def test_errors_of_the_service_carry_none_of_its_text(client, service):
    for status, expected in ((400, 400), (401, 502), (404, 404), (500, 502), (302, 502)):
        service.replies["/dicom-web/series"] = (status, "text/html", NAME.encode())
        reply = client.get("/proxy/dicom/qido/series")
        assert reply.status_code == expected, status
        assert "Planted" not in reply.text
    service.replies.clear()
    assert len(client.get("/proxy/dicom/qido/series?Modality=CT").json()) == 1


def test_a_service_that_is_away(tmp_path):
    proxy = DicomProxy("http://127.0.0.1:9/dicom-web", 100, 100, 5.0)
    with pytest.raises(ServiceError, match="does not answer"):
        proxy.get("studies", [], "x/y", "")


def test_replies_are_bounded(service):
    service.replies["/dicom-web/studies"] = (200, "application/json", b"[" + b" " * 200 + b"]")
    service.replies[f"/dicom-web/{SERIES}"] = (200, "application/dicom", b"x" * (1 << 20))
    proxy = DicomProxy(service.url, 100, 1 << 19, 30.0)
    with pytest.raises(ServiceError, match="too long"):
        proxy.get("studies", [], "x/y", "")
    with pytest.raises(ServiceError, match="too long"):
        list(proxy.get(SERIES, [], "x/y", "").chunks)
    slow = DicomProxy(service.url, 100, 1 << 21, 1e-9)
    with pytest.raises((ServiceError, TimeoutError)):
        list(slow.get(SERIES, [], "x/y", "").chunks)
    proxy.close()


def test_token_and_origin_are_checked_and_nothing_of_a_patient_is_logged(service, tmp_path, caplog):
    build = write_build(tmp_path / "build")
    with client_of(make_app(service.url, cache=tmp_path / "cache", ohif=build, token=TOKEN)) as client:
        assert client.get("/proxy/dicom/qido/series").status_code == 401
        client.headers["authorization"] = f"Bearer {TOKEN}"
        for origin, status in (("http://evil.example", 403), ("http://127.0.0.1:8000", 200)):
            sent = client.get("/proxy/dicom/qido/series?Modality=CT", headers={"origin": origin})
            assert sent.status_code == status
        caplog.clear()
        client.get(f"/proxy/dicom/qido/series?Modality=CT&PatientName={NAME}")
        client.get(f"/proxy/dicom/wado/{SERIES}/metadata")
        logged = " ".join(
            [*client.get("/logs/").json(), *(r.getMessage() for r in caplog.records if r.name != "httpx")]
        )
    assert "/proxy/dicom/{kind:str}/{path:path}" in logged
    for secret in ("Planted", "1.3/metadata", TOKEN):
        assert secret not in logged
    assert all("authorization" not in headers for _, _, headers in service.asked)


def test_accepted_types():
    assert accepted_type("studies/1/metadata", "multipart/related; type=application/octet-stream") == (
        "application/dicom+json"
    )
    assert accepted_type("instances", "") == "application/dicom+json"
    asked = 'multipart/related; type="application/dicom";transfer-syntax="*"'
    assert accepted_type(SERIES, asked) == 'multipart/related; type="application/dicom"'
    assert accepted_type(f"{SERIES}/thumbnail", "*/*") == "image/jpeg"
    assert accepted_type(f"{SERIES}/instances/1/frames/1", "*/*").startswith("multipart/related")


def deflated(part10):
    """The same object, deflated."""
    data = pydicom.dcmread(BytesIO(part10))
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    buffer = BytesIO()
    data.save_as(buffer)
    return buffer.getvalue()


def with_rows(part10, rows):
    """The same object, which declares another size."""
    data = pydicom.dcmread(BytesIO(part10))
    data.Rows = data.Columns = rows
    buffer = BytesIO()
    data.save_as(buffer)
    return buffer.getvalue()


def test_a_segmentation_that_ohif_stores_becomes_a_label(service, tmp_path, caplog):
    pytest.importorskip("highdicom")
    build = write_build(tmp_path / "build")
    options = {"cache": tmp_path / "cache", "ohif": build, "send_seg": True, "labels": ("core", "ball")}
    with client_of(make_app(service.url, **options)) as client:
        store = client.app.state.server.datastore
        (uid,) = store.ids()
        values = np.zeros(store.scan(uid).grid.shape, np.uint8)
        values[2:5, 1:3, 2:4], values[0, 0, 0] = 1, 2
        store.save(uid, values, Author("ana"))
        (sent,) = service.bodies
        assert store.is_sent(uid) is True

        seg = sent[sent.index(b"\r\n\r\n") + 4 : sent.rindex(b"\r\n--")]
        (tmp_path / "seg.dcm").write_bytes(seg)
        segments = read_segments(tmp_path / "seg.dcm", read_scan(tmp_path / "source").grid)
        assert set(segments.names.values()) == {"core", "ball"}
        for number, name in segments.names.items():
            assert np.array_equal(segments.masks[number], values == {"core": 1, "ball": 2}[name])

        store.remove_label(uid, Author("ana"))
        for hostile in (deflated(seg), with_rows(seg, 60_000)):
            kind = 'multipart/related; type="application/dicom"; boundary="B"'
            body = related([hostile], "B")
            reply = client.post("/proxy/dicom/wado/studies", content=body, headers={"content-type": kind})
            assert (reply.status_code, service.bodies.pop()) == (200, body)
            assert store.labeled() == []
            assert "not kept as label: RefusedError" in caplog.messages[-2]
        body, kind = related([seg], "B"), 'multipart/related; type="application/dicom"; boundary="B"'
        reply = client.post("/proxy/dicom/wado/studies", content=body, headers={"content-type": kind})
        assert reply.status_code == 200
        assert service.bodies[1:] == [body]  # passed on once as it is, and not sent again
        assert np.array_equal(store.read_label(uid), values)


def test_a_label_that_the_service_refuses_is_saved(service, tmp_path):
    pytest.importorskip("highdicom")
    service.refuses = True
    with client_of(make_app(service.url, cache=tmp_path / "cache", send_seg=True, labels=("core",))) as client:
        (uid,) = client.app.state.server.datastore.ids()
        label = BytesIO(np.ones(4 * 8 * 9, np.uint8).tobytes())
        info = json.dumps({"label_info": [{"name": "core", "idx": 1}]})
        reply = client.put(
            "/datastore/label",
            params={"image": uid},
            files={"label": ("label.bin", label)},
            data={"params": info},
        )
        assert reply.json() == {"image": uid, "label": uid, "tag": "final", "version": 1, "sent": False}
        assert client.app.state.server.datastore.labeled() == [uid]


def test_a_damaged_object_is_passed_on_and_no_label(client, service):
    kind = "multipart/related; boundary=b"
    for body in (b"", b"--b", related([b"no dicom", b""], "b"), related([], "b")):
        reply = client.post("/proxy/dicom/wado/studies", content=body, headers={"content-type": kind})
        assert reply.status_code == 200
    assert client.app.state.server.datastore.labeled() == []


def test_refused_by_the_service(service):
    service.replies["/dicom-web/studies"] = (415, "text/plain", b"")
    with pytest.raises(RefusedError, match="415"):
        DicomProxy(service.url, 100, 100, 5.0).get("studies", [], "x/y", "")


@contextmanager
def stalled_service():
    """A service that sends the begin of a picture, and then nothing until the end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ended = threading.Event()

        def answer():
            connection, _ = listener.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\ncontent-type: image/jpeg\r\ncontent-length: 99\r\n\r\nx"
                )
                ended.wait(30)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        ended.set()
        thread.join()


def test_a_reply_is_ended_while_the_service_stalls(tmp_path):
    with stalled_service() as url:
        reply = DicomProxy(url, 100, 1 << 20, 30.0).get(f"{SERIES}/thumbnail", [], "image/jpeg", "")
        failed = []

        def read():
            try:
                list(reply.chunks)
            except ServiceError as error:
                failed.append(str(error))

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        time.sleep(0.1)  # it waits for the rest now
        began = time.monotonic()
        reply.close()  # called where all requests are answered: it must not wait
        assert time.monotonic() - began < 1
        reader.join(5)
        assert not reader.is_alive()
        assert list(reply.chunks) == []


HEAD = b"HTTP/1.1 200 OK\r\n"
JPEG = HEAD + b"content-type: image/jpeg\r\n"


@pytest.mark.parametrize(
    "head", [b"", HEAD, HEAD + b"content-type: application/json\r\n\r\n", JPEG + b"\r\n",
             JPEG + b"content-length: 99999\r\n\r\n", JPEG + b"connection: close\r\n\r\n"]
)  # fmt: skip
def test_a_service_that_sends_byte_by_byte_holds_no_thread(head):
    with dripping(head) as url:
        proxy = DicomProxy(url, 1 << 20, 1 << 20, 0.3)
        began = time.monotonic()
        with pytest.raises((ServiceError, TimeoutError)):
            list(proxy.get(f"{SERIES}/thumbnail", [], "image/jpeg", "").chunks)
        assert time.monotonic() - began < 2
        proxy.close()


def test_hostile_values_take_no_time(client, service):
    began = time.monotonic()
    assert accepted_type(f"{SERIES}/instances/1/frames/1", "a" + " " * 60_000 + "b").startswith("a")
    text = b'["http:/' + b"/studies" * 20_000 + b' ", "http://x/studies/1/series/2"]'
    service.replies[f"/dicom-web/{SERIES}/metadata"] = (200, "application/json", text)
    found = client.get(f"/proxy/dicom/wado/{SERIES}/metadata").json()
    assert found[0].startswith("http://studies")
    assert found[1] == "/proxy/dicom/wado/studies/1/series/2"
    assert time.monotonic() - began < 2


def test_a_folded_header_of_the_service_is_not_passed_on(client, service):
    class Reply:
        status_code = 200
        headers = {"content-type": "multipart/related; boundary=b\r\n set-cookie: a=b"}  # noqa: RUF012

        def iter_content(self, size):
            yield b"png"

        def close(self):
            pass

    proxy = DicomProxy(service.url, 100, 100, 5.0)
    assert proxy._passed_on(Reply(), "").media_type == "application/octet-stream"
