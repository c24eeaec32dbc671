"""What every request passes: host, origin, token, size; and what is logged."""

import json
from pathlib import Path

import pytest
from server_doubles import client_of, make_app, small_models, write_dataset
from starlette.testclient import TestClient

from medseg.errors import ConfigError
from medseg.server.options import Limits, ServerOptions

TOKEN = "correct horse battery"


@pytest.fixture
def root(tmp_path):
    return write_dataset(tmp_path / "data", labeled=1, unlabeled=1)


def test_other_names_of_the_server_are_refused(root):
    app = make_app(root)
    with client_of(app) as client:
        for host in ("127.0.0.1:8000", "localhost:8000", "[::1]:8000", "localhost"):
            assert client.get("/health", headers={"host": host}).status_code == 200, host
        for host in ("evil.example", "127.0.0.1.evil.example", "", "a@b:c", "[::1", "192.168.0.7",
                     'x"y@localhost', "localhost/x", "localhost?x"):  # fmt: skip
            assert client.get("/health", headers={"host": host}).status_code == 421, host
    app = make_app(root, allowed_hosts=("annotate.hospital.example",))
    with client_of(app) as client:
        assert client.get("/health", headers={"host": "annotate.hospital.example"}).status_code == 200


def test_other_web_pages_are_refused_unless_allowed(root):
    with client_of(make_app(root, allowed_origins=("https://viewer.example",))) as client:
        assert client.get("/info/", headers={"origin": "http://127.0.0.1:8000"}).status_code == 200
        for origin in ("http://evil.example", "null", "http://127.0.0.1:9000", "https://127.0.0.1:8000"):
            assert client.get("/info/", headers={"origin": origin}).status_code == 403, origin
        reply = client.get("/info/", headers={"origin": "https://viewer.example"})
        assert reply.headers["access-control-allow-origin"] == "https://viewer.example"
        asked = {"origin": "https://viewer.example", "access-control-request-method": "PUT"}
        assert client.options("/datastore/label", headers=asked).status_code == 204


def test_a_token_is_needed_where_there_is_one(root):
    with client_of(make_app(root, token=TOKEN)) as client:
        assert client.get("/auth/").json() == {"enabled": True}
        for path in ("/info/", "/datastore/", "/logs/", "/nothing", "/auth/token/valid"):
            assert client.get(path).status_code == 401, path
        for header in ("Bearer x", TOKEN, "Basic " + TOKEN, "Bearer", f"Bearer {TOKEN}x"):
            assert client.get("/info/", headers={"authorization": header}).status_code == 401, header
        assert client.post("/auth/token", data={"username": "ana", "password": "no"}).status_code == 401
        given = client.post("/auth/token", data={"username": "ana", "password": TOKEN}).json()
        header = {"authorization": f"{given['token_type']} {given['access_token']}"}
        assert client.get("/info/", headers=header).status_code == 200


def test_a_token_in_the_url_becomes_a_cookie(root):
    with TestClient(
        make_app(root, token=TOKEN), base_url="http://127.0.0.1:8000", follow_redirects=False
    ) as client:
        assert client.get("/datastore/", params={"token": "wrong"}).status_code == 401
        reply = client.get("/datastore/", params={"token": TOKEN, "output": "all"})
        assert (reply.status_code, reply.headers["location"]) == (303, "/datastore/?output=all")
        cookie = reply.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert client.get("/datastore/").status_code == 200
        assert (
            client.get("//evil.example/", params={"token": TOKEN}).headers.get("location") != "//evil.example/"
        )


def test_slicers_stale_headers_do_no_harm(root):
    """With a token, 3D Slicer repeats the content type and length of an earlier request."""
    with client_of(
        make_app(root, small_models(root.parent), token=TOKEN), authorization=f"Bearer {TOKEN}"
    ) as client:
        stale = {"content-type": "application/json", "content-length": "0"}
        assert client.get("/info/", headers=stale).status_code == 200
        body = (
            b'--abc\r\nContent-Disposition: form-data; name="files"; filename="x.nii.gz"\r\n\r\n'
            + (root / "images" / "scan_0.nii.gz").read_bytes()
            + b"\r\n--abc--\r\n"
        )
        for kind in ("multipart/form-data; boundary=----------lImIt_of_THE_fIle_eW_$", "application/json"):
            assert client.put("/session/", content=body, headers={"content-type": kind}).status_code == 200, (
                kind
            )


def test_large_requests_are_refused(root):
    limits = Limits(upload_bytes=2000, text_bytes=500)
    with client_of(make_app(root, limits=limits)) as client:
        assert client.put("/datastore/label?image=scan_0", content=b"x" * 3000).status_code == 413

        def chunks():
            for _ in range(30):
                yield b"--a\r\n" + b"x" * 100

        reply = client.put(
            "/datastore/label?image=scan_0",
            content=chunks(),
            headers={"content-type": "multipart/form-data; boundary=a"},
        )
        assert reply.status_code in (400, 413)
        assert (
            client.put("/session/", data={"params": "x" * 1000}, files={"files": ("a.nii", b"")}).status_code
            == 400
        )


def test_every_reply_has_protecting_headers(root):
    with client_of(make_app(root)) as client:
        for path in ("/health", "/nothing", "/datastore/label?image=nothing"):
            headers = client.get(path).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert "default-src 'self'" in headers["content-security-policy"]
            assert headers["cache-control"] == "no-store"


def test_logs_name_no_patients(root):
    (root / "images" / "scan_0.nii.gz").rename(root / "images" / "Doe^Jane 1970.nii.gz")
    (root / "images" / "scan_1.nii.gz").write_bytes(b"damaged")
    with client_of(make_app(root, small_models(root.parent))) as client:
        for id in ("Doe^Jane 1970", "scan_1", "../Doe"):
            client.get("/datastore/image", params={"image": id})
            client.get(f"/session/{id}")
            client.get(f"/{id}")
            data = {"params": json.dumps({"client_id": "Doe", "foreground": [[1, 1, 1]], "label": "Doe"})}
            client.post("/infer/cubes", params={"image": id}, data=data, files={"x": b""})
            client.put("/datastore/label", params={"image": id}, files={"label": ("Doe.nii.gz", b"x")})
        lines = client.get("/logs/").json()
        text = client.get("/logs/?text=true&lines=3").text
    assert len(lines) > 10
    assert any("POST /infer/{model} 200" in line for line in lines)
    assert not any("Doe" in line or "scan_" in line or "Jane" in line for line in lines)
    assert len(text.splitlines()) == 3


@pytest.mark.parametrize("folder", ["data", "Jane Doe/study 1"])
@pytest.mark.parametrize("relative", [False, True])
def test_error_texts_name_no_folders(tmp_path, folder, relative, monkeypatch):
    root = write_dataset(tmp_path / folder, labeled=1, unlabeled=1)
    (root / "images" / "scan_1.nii.gz").write_bytes(b"damaged")
    (root / "labels" / "scan_0.nii.gz").write_bytes(b"damaged")
    monkeypatch.chdir(tmp_path)
    with client_of(make_app(Path(folder) if relative else root, small_models(tmp_path))) as client:
        replies = [
            client.post("/infer/tiny", params={"image": "scan_1"}, data={"params": "{}"}, files={"x": b""}),
            client.get("/datastore/image/info", params={"image": "scan_1"}),
            client.put("/datastore/label?image=scan_0", files={"label": ("x.nii.gz", b"x")}),
        ]
    assert [reply.status_code for reply in replies] == [422, 422, 400]
    for reply in replies:
        assert not any(word in reply.text for word in ("Doe", "study", str(tmp_path), "images/", "/tmp"))
    assert "damaged" in replies[0].json()["detail"]


def test_a_server_for_others_needs_a_token(root):
    with pytest.raises(ConfigError, match="token"):
        ServerOptions(data=root, host="0.0.0.0")
    with pytest.raises(ConfigError, match="shorter"):
        ServerOptions(data=root, host="0.0.0.0", token="x")
    app = make_app(root, host="0.0.0.0", token=TOKEN)
    with client_of(app, authorization=f"Bearer {TOKEN}") as client:
        assert client.get("/info/", headers={"host": "192.168.0.7:8000"}).status_code == 200
        assert client.get("/info/", headers={"host": "evil.example"}).status_code == 421
