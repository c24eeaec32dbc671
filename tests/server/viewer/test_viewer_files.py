"""The files of a built OHIF."""

import base64
import hashlib
import zipfile

import pytest
from dicomweb_double import PAGE, DicomWeb, listening, write_build
from server_doubles import client_of, make_app, write_dataset

from medseg.errors import ConfigError
from medseg.server.viewer.files import ViewerFiles

IN_WHEEL = "monailabel/endpoints/static/ohif/"


def as_wheel(folder, path):
    with zipfile.ZipFile(path, "w") as wheel:
        for file in folder.rglob("*"):
            wheel.write(file, IN_WHEEL + file.relative_to(folder).as_posix())
        wheel.writestr("monailabel/config.py", "secret")
    return path


@pytest.mark.parametrize("kind", ["folder", "wheel"])
def test_files_of_a_folder_and_of_a_wheel(tmp_path, kind):
    build = write_build(tmp_path / "build")
    files = ViewerFiles(build if kind == "folder" else as_wheel(build, tmp_path / "m.whl"))
    assert files.read(files.find("app.bundle.1.js")) == b"code"
    assert files.read(files.find("assets/a.png")) == b"png"
    for path in ("", "index.html", "monai-label", "viewer/dicomweb", "../../x", "assets"):
        assert files.find(path) == "index.html", path
    for path in ("other.js", "../secret.json", "/etc/x.xml", "../../config.js"):
        assert files.find(path) is None, path


def test_the_page_loads_nothing_from_elsewhere_and_its_own_scripts_only(tmp_path):
    build = write_build(tmp_path / "build")
    (build / "a.css").write_text('@import url("https://fonts.googleapis.com/css?a=1;2");p {}')
    (build / "manifest.json").write_text('{"src": "/assets/a.png"}')
    files = ViewerFiles(build)
    page = files.read("index.html").decode()
    assert files.read("a.css") == b"p {}"
    assert files.read("manifest.json") == b'{"src": "/ohif/assets/a.png"}'
    assert "googleapis" not in page
    assert 'href="/ohif/a.png"' in page
    digest = base64.b64encode(hashlib.sha256(b"window.PUBLIC_URL = '/ohif/';").digest()).decode()
    assert f"script-src 'self' 'wasm-unsafe-eval' 'sha256-{digest}';" in files.policy
    assert b"/proxy/dicom" in files.read("app-config.js")


def test_what_is_no_ohif_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="no built OHIF"):
        ViewerFiles(tmp_path / "empty")
    with pytest.raises(ConfigError, match="neither"):
        ViewerFiles(tmp_path / "missing")
    build = write_build(tmp_path / "build")
    (build / "index.html").write_text(PAGE.replace("/ohif/", "/"))
    with pytest.raises(ConfigError, match="not built for the path /ohif/"):
        ViewerFiles(build)


def test_ohif_is_served_beside_the_service_only(tmp_path):
    build = write_build(tmp_path / "build")
    with pytest.raises(ConfigError, match="--ohif needs images from a DICOMweb service"):
        make_app(write_dataset(tmp_path / "data"), ohif=build)
    with listening(DicomWeb().app) as url:
        app = make_app(f"{url}/dicom-web", cache=tmp_path / "cache", ohif=build, token="correct horse")
        with client_of(app) as client:
            assert client.get("/ohif/").status_code == 401
            client.headers["authorization"] = "Bearer correct horse"
            page = client.get("/ohif")
            assert (page.status_code, page.url.path) == (200, "/ohif/")
            assert "'wasm-unsafe-eval'" in page.headers["content-security-policy"]
            assert "unsafe" not in client.get("/info/").headers["content-security-policy"]
            assert client.get("/ohif/app-config.js").headers["content-type"].startswith("text/javascript")
            assert client.get("/ohif/app.bundle.1.js").headers["cache-control"] == "private, max-age=3600"
            assert client.get("/ohif/%2e%2e/%2e%2e/secret.js").status_code == 404
            assert client.post("/ohif/").status_code == 405


def test_a_damaged_page_is_refused(tmp_path):
    build = write_build(tmp_path / "build")
    (build / "index.html").write_bytes(b"\xff\xfe<")
    with pytest.raises(ConfigError, match=r"its index.html cannot be read \(UnicodeDecodeError\)"):
        ViewerFiles(build)


def test_line_ends_of_windows_do_not_change_the_policy(tmp_path):
    policies = []
    for end in ("\n", "\r\n"):
        build = write_build(tmp_path / f"build{len(end)}")
        page = PAGE.replace("<script>", "<script>\n").replace("\n", end)
        (build / "index.html").write_bytes(page.encode())
        policies.append(ViewerFiles(build).policy)
    assert policies[0] == policies[1]
