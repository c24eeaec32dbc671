"""OHIF of MONAI Label's wheel in headless Chromium, with Orthanc and a model that marks a phantom."""

import io
import json
import time
import urllib.request

import numpy as np
import pydicom
import pytest
from browser import Browser, needs_chromium
from dicomweb_double import listening
from orthanc_server import PLUGIN, PROGRAM, VARIABLE, find_wheel, orthanc, send
from phantom import ORIENTATIONS, phantom_mask, threshold_model, write_phantom
from PIL import Image
from server_doubles import make_app

from medseg.data.io.dicom.segmentation import read_segments
from medseg.data.io.readers import read_scan

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        PROGRAM is None or PLUGIN is None,
        reason="Orthanc is not installed: apt-get install orthanc orthanc-dicomweb",
    ),
    pytest.mark.filterwarnings("ignore"),  # values of the planted patient
]
needs_wheel = pytest.mark.skipif(
    find_wheel() is None,
    reason=f"MONAI Label's wheel is not here; {VARIABLE} names its folder (scripts/test --with-viewers)",
)
CASES = [(orientation, descending) for orientation in ORIENTATIONS for descending in (False, True)]
GL = (
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
    "--window-size=1600,1000",
)


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """Orthanc with six series; yields its address and orientation, order → folder of the series."""
    folder = tmp_path_factory.mktemp("orthanc")
    series = {
        case: write_phantom(folder / f"{case[0]}-{case[1]}", case[0], descending=case[1]) for case in CASES
    }
    with orthanc(folder / "server") as url:
        for one in series.values():
            send(url, one)
        yield url, series


def uids_of(series):
    header = pydicom.dcmread(next(iter(series.iterdir())), stop_before_pixels=True)
    return str(header.StudyInstanceUID), str(header.SeriesInstanceUID)


def ask(url, **request):
    with urllib.request.urlopen(urllib.request.Request(url, **request), timeout=120) as reply:
        return reply.read()


def test_labels_lie_on_the_right_voxels(service, tmp_path):
    pytest.importorskip("highdicom")
    orthanc_url, series = service
    data = f"{orthanc_url}/dicom-web"
    app = make_app(data, in_memory=[threshold_model()], cache=tmp_path / "cache", send_seg=True)
    with listening(app) as url:
        for (orientation, descending), folder in series.items():
            study, uid = uids_of(folder)
            raw = ask(
                f"{url}/infer/threshold?image={uid}&output=image", method="POST",
                data=b"--b\r\nContent-Disposition: form-data; name=\"params\"\r\n\r\n{}\r\n--b--\r\n",
                headers={"content-type": "multipart/form-data; boundary=b"},
            )  # fmt: skip
            voxels = np.frombuffer(raw.partition(b"\n\n")[2], np.uint8).reshape(phantom_mask().shape)
            assert np.array_equal(voxels, phantom_mask()), (orientation, descending)
            form = b'--b\r\nContent-Disposition: form-data; name="params"\r\n\r\n%s\r\n--b\r\n'
            form += b'Content-Disposition: form-data; name="label"; filename="label.bin"\r\n\r\n%s\r\n--b--\r\n'
            info = json.dumps({"label_info": [{"name": "phantom", "idx": 1}]}).encode()
            reply = ask(
                f"{url}/datastore/label?image={uid}", method="PUT", data=form % (info, voxels.tobytes()),
                headers={"content-type": "multipart/form-data; boundary=b"},
            )  # fmt: skip
            assert json.loads(reply)["sent"] is True
            check_label(tmp_path / "cache" / "labels" / f"{uid}.nii.gz", folder)
            check_seg(orthanc_url, study, folder, tmp_path)


def check_label(label, folder):
    """Check each voxel of a label map at its position in the patient against the slices of the series."""
    scan = read_scan(label)
    to_voxel = np.linalg.inv(scan.grid.affine) @ np.diag([-1.0, -1.0, 1.0, 1.0])
    seen = 0
    for path in folder.iterdir():
        one = pydicom.dcmread(path)
        right, down = np.array(one.ImageOrientationPatient).reshape(2, 3).astype(float)
        rows, columns = np.indices(one.pixel_array.shape)
        between_rows, between_columns = (float(v) for v in one.PixelSpacing)
        place = np.array(one.ImagePositionPatient, float) + columns[..., None] * right * between_columns
        place = place + rows[..., None] * down * between_rows
        found = np.rint(place @ to_voxel[:3, :3].T + to_voxel[:3, 3]).astype(int)
        values = scan.array[0][tuple(np.moveaxis(found, -1, 0))]
        assert np.array_equal(values > 0, one.pixel_array > 500)
        seen += int((values > 0).sum())
    assert seen == int((scan.array > 0).sum()) == int(phantom_mask().sum())


def check_seg(orthanc_url, study, folder, scratch):
    """Check the segmentation in Orthanc that belongs to a study."""
    listed = json.loads(ask(f"{orthanc_url}/dicom-web/studies/{study}/instances?Modality=SEG"))
    assert len(listed) == 1
    (uid,) = listed[0]["00080018"]["Value"]
    (id,) = json.loads(ask(f"{orthanc_url}/tools/lookup", data=uid.encode()))[:1]
    (scratch / "seg.dcm").write_bytes(ask(f"{orthanc_url}/instances/{id['ID']}/file"))
    scan = read_scan(folder)
    segments = read_segments(scratch / "seg.dcm", scan.grid)
    assert segments.names == {1: "phantom"}
    assert np.array_equal(segments.masks[1], scan.array[0] > 500)


class Chromium(Browser):
    """A browser that notes the addresses of errors, too."""

    def _note(self, method, params):
        super()._note(method, params)
        if method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors[-1] += f" {params['entry'].get('url', '')}"


class Ohif:
    """OHIF in a browser."""

    def __init__(self, browser, scratch):
        self.browser, self.scratch, self.number, self.overlaps = browser, scratch, 0, []

    def picture(self):
        """The window as RGB array."""
        path = self.scratch / f"{self.number:02d}.png"
        self.browser.screenshot(path, full=False)
        return np.asarray(Image.open(io.BytesIO(path.read_bytes())).convert("RGB")).astype(int)

    def viewports(self):
        """The rectangles of the viewports in the picture."""
        boxes = self.browser.evaluate(
            "[...document.querySelectorAll('canvas.cornerstone-canvas')].map((c) => {"
            " const r = c.getBoundingClientRect();"
            " return [r.left, r.top, r.right, r.bottom].map(Math.round); })"
        )
        return [(slice(top, bottom), slice(left, right)) for left, top, right, bottom in boxes]

    def wait(self, condition, what, limit=240):
        """Wait until a function returns something; it is given a new picture each time."""
        end = time.monotonic() + limit
        while time.monotonic() < end:
            found = condition()
            if found is not None and found is not False:
                return found
            time.sleep(0.3)
        raise AssertionError(f"{what}: {self.overlaps}; console: {self.browser.errors[-5:]}")

    def drawn(self):
        """A picture in which every viewport shows the phantom, and no longer changes; None before that."""
        places = self.viewports()
        first, second = self.picture(), self.picture()
        still = len(places) == 3 and np.array_equal(first, second)
        return second if still and all((second[p].min(-1) > 200).sum() > 200 for p in places) else None

    def agrees(self, before):
        """Whether the phantom, and nothing else, has another color than before, in every viewport."""
        now, self.overlaps = self.picture(), []
        for place in self.viewports():
            bright = before[place].min(-1) > 128
            marked = np.abs(now[place] - before[place]).max(-1) > 20
            self.overlaps.append(float((bright & marked).sum() / (bright | marked).sum()))
        return len(self.overlaps) == 3 and min(self.overlaps) > 0.85

    def click(self, selector):
        """Click an element once it is there."""
        code = (
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " if (!e || e.hidden || e.disabled) return false; e.click(); return true; })()"
        )
        self.wait(lambda: self.browser.evaluate(code), f"{selector} is not there")


@needs_chromium
@needs_wheel
def test_ohif_draws_the_result_at_the_right_place_and_saves_it(service, tmp_path):
    orthanc_url, series = service
    data, cache = f"{orthanc_url}/dicom-web", tmp_path / "cache"
    app = make_app(data, in_memory=[threshold_model()], cache=cache, ohif=find_wheel())
    with listening(app) as url, Chromium(tmp_path / "profile", GL, offline=False) as browser:
        browser.resize(1600, 1000)
        ohif = Ohif(browser, tmp_path)
        browser.open(f"{url}/ohif/")
        rows = "document.body.innerText.includes('Planted') || document.body.innerText.includes('PLANTED')"
        ohif.wait(lambda: browser.evaluate(rows), "the list of studies is empty")
        for number, (case, folder) in enumerate(series.items(), 1):
            study, uid = uids_of(folder)
            ohif.number = 10 * number
            browser.open(f"{url}/ohif/monai-label?StudyInstanceUIDs={study}")
            before = ohif.wait(ohif.drawn, f"{case}: the images are not drawn")
            ohif.click(".settingsTable .actionButton")
            shown = "!document.querySelector('#medseg-save').hidden"
            ohif.wait(lambda shown=shown: browser.evaluate(shown), "there is no segmentation")
            ohif.number += 1
            ohif.click("button[title='Run Segmentation']")
            ohif.wait(lambda before=before: ohif.agrees(before), f"{case}: the result is not at its place")
            label = cache / "labels" / f"{uid}.nii.gz"
            ohif.click("#medseg-save")
            ohif.wait(label.is_file, f"{case}: the label is not saved")
            check_label(label, folder)
        # no training runs; a file that the build itself lacks
        expected = ("/train/?check_if_running=true", "/ohif/w3.css")
        assert [one for one in browser.errors if not one.endswith(expected)] == []
        assert all(one.startswith((url, "blob:", "data:")) for one in browser.requests)
