import base64
import io
import json
import re

import numpy as np
import pytest
from browser import WEBGL, Browser, needs_chromium
from PIL import Image

from medseg.report.media import (
    CaseView,
    viewer_html,
    viewer_scripts,
    viewer_style,
    volume_payload,
    write_case_page,
)
from medseg.report.media.error_map import ERROR_COLORS, EXTRA
from medseg.report.media.viewer import has_niivue
from medseg.report.palette import Legend

BLUE, ORANGE = (86, 180, 233), (230, 90, 10)


def _view(name="scan"):
    """A bright box in the dark: its half at larger x is label 1, the other half is predicted as label 2."""
    image = np.zeros((24, 24, 24), np.int16)
    image[6:18, 6:18, 6:18] = 100
    reference, prediction = np.zeros(image.shape, int), np.zeros(image.shape, int)
    reference[12:18, 6:18, 6:18] = 1
    prediction[6:12, 6:18, 6:18], prediction[12:18, 6:18, 6:18] = 2, 1
    return CaseView(name, (1, 1, 1), image, reference, prediction, Legend(("bg", "right part", "left part")))


def _share(png, color, tolerance=60):
    """Return the share of the pixels of a picture that are near a color."""
    pixels = np.array(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    return (np.abs(pixels - color).max(axis=-1) <= tolerance).mean()


def test_scripts_work_under_a_strict_policy():
    text = "\n".join(viewer_scripts()) + viewer_html([volume_payload(_view())])
    assert not re.search(r"\beval\b|new Function|innerHTML|style=|onclick=", text)
    assert "</script" not in "".join(viewer_scripts())
    assert "url(" not in viewer_style()


def test_names_are_escaped_and_there_is_one_viewer_for_all_volumes():
    html = viewer_html([volume_payload(_view("<a>")), volume_payload(_view("b"))])
    assert html.count('class="volume-viewer"') == 1
    assert "<option>&lt;a&gt;</option><option>b</option>" in html
    data = re.findall(r'class="medseg-volume">(.*?)</script>', html)
    assert [json.loads(one)["name"] for one in data] == ["<a>", "b"]


def test_without_volumes_there_is_no_viewer():
    assert viewer_html([]) == ""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile"), WEBGL) as one:
        yield one


def _open(browser, folder, view):
    browser.errors.clear()
    write_case_page(folder / "page.html", view)
    browser.resize(1200, 1000)
    browser.open(folder / "page.html")
    browser.evaluate("document.querySelector('.volume-viewer').scrollIntoView()")
    _wait(browser, f"slices {view.name}")


def _wait(browser, ready):
    browser.wait(
        f"document.querySelector('.volume-viewer').dataset.ready === '{ready}'",
        "document.querySelector('.vv-status').textContent",
    )


def _canvas(browser, index=0):
    code = f"document.querySelectorAll('.vv-planes canvas')[{index}].toDataURL().split(',')[1]"
    return base64.b64decode(browser.evaluate(code))


@pytest.mark.slow
@needs_chromium
def test_nothing_is_unpacked_before_the_viewer_comes_into_sight(browser, tmp_path):
    write_case_page(tmp_path / "page.html", _view())
    page = (tmp_path / "page.html").read_text()
    viewer, spacer = '<section class="volume-viewer"', '<svg width="10" height="4000"></svg>'
    (tmp_path / "page.html").write_text(page.replace(viewer, spacer + viewer))
    browser.resize(1200, 1000)
    browser.open(tmp_path / "page.html")
    ready = "document.querySelector('.volume-viewer').dataset.ready ?? null"
    browser.evaluate("new Promise((done) => setTimeout(done, 200))")
    assert browser.evaluate(ready) is None
    assert browser.evaluate("typeof globalThis.niivue") == "undefined"
    browser.evaluate("document.querySelector('.volume-viewer').scrollIntoView()")
    _wait(browser, "slices scan")


@pytest.mark.slow
@needs_chromium
def test_slices_show_the_volume_with_its_masks(browser, tmp_path):
    _open(browser, tmp_path, _view())
    axial = _canvas(browser)
    # in the picture the patient's right is on the left; the half of the reference, at larger x, is on the right
    pixels = np.array(Image.open(io.BytesIO(axial)).convert("RGB")).astype(int)
    row = pixels[pixels.shape[0] // 3]
    assert np.abs(row[10] - (0, 0, 0)).max() < 10
    blend = np.array(BLUE) * 0.4 + 255 * 0.6
    assert np.abs(row[int(pixels.shape[1] * 0.3)] - blend).max() < 12
    blend = np.array(ORANGE) * 0.4 + 255 * 0.6
    assert np.abs(row[int(pixels.shape[1] * 0.62)] - blend).max() < 12
    assert _share(axial, BLUE, 20) > 0.002  # the outline of the reference
    assert browser.errors == []
    assert browser.requests == []


@pytest.mark.slow
@needs_chromium
def test_controls_change_what_is_drawn(browser, tmp_path):
    _open(browser, tmp_path, _view())
    caption = "document.querySelector('.vv-planes figcaption').textContent"
    before, first = _canvas(browser), browser.evaluate(caption)
    browser.evaluate("document.querySelector('.vv-planes canvas').focus()")
    browser.press("ArrowUp")
    assert browser.evaluate(caption) != first
    browser.press("ArrowDown")
    assert _canvas(browser) == before
    browser.press("e")  # errors: the left part is extra
    over_white = tuple(round(0.6 * value + 0.4 * 255) for value in ERROR_COLORS[EXTRA])
    assert _share(_canvas(browser), over_white, 40) > 0.05
    browser.press("e")
    browser.press("p")
    browser.press("r")
    image = np.array(Image.open(io.BytesIO(_canvas(browser))).convert("RGB")).astype(int)
    assert np.ptp(image, axis=-1).max() == 0  # gray values alone
    assert browser.errors == []


@pytest.mark.slow
@needs_chromium
@pytest.mark.skipif(not has_niivue(), reason="NiiVue is not installed: scripts/assets")
def test_niivue_renders_the_volume_with_its_masks(browser, tmp_path):
    _open(browser, tmp_path, _view())
    if not browser.evaluate("document.createElement('canvas').getContext('webgl2') !== null"):
        pytest.skip("this Chromium has no WebGL 2")
    browser.evaluate("document.querySelector('[data-mode=niivue]').click()")
    _wait(browser, "niivue scan")
    browser.evaluate("document.querySelector('.vv-niivue').scrollIntoView()")
    shares = (0, 0, 0)
    for _ in range(40):  # until the frame is on the screen
        browser.evaluate("new Promise((done) => setTimeout(done, 250))")
        browser.screenshot(tmp_path / "niivue.png", full=False)
        pixels = np.array(Image.open(tmp_path / "niivue.png").convert("RGB")).astype(int)
        excess = pixels[..., 2] - pixels[..., 0]
        shares = ((excess > 50).mean(), (excess < -50).mean(), (pixels.max(axis=-1) < 10).mean())
        # label 1 is blue, label 2 orange, each over white and in 3D; the background is dark
        if min(shares[:2]) > 0.03 and shares[2] > 0.3:
            break
    else:
        pytest.fail(f"blue, orange, dark: {shares}")
    assert browser.errors == []
    assert browser.requests == []
