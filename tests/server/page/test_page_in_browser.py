"""The annotation page in headless Chromium: clicks, accepts, reloads, and two windows at once."""

import base64
import io
from itertools import count
from urllib.request import Request, urlopen

import nibabel as nib
import numpy as np
import pytest
from browser import Browser, needs_chromium
from conftest import write_picture, write_volume
from page_server import BrightnessModel, serve_page
from PIL import Image

pytestmark = [pytest.mark.slow, needs_chromium]

RED = (200, 40, 40)
_VISITS = count()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile"), offline=False) as one:
        one.resize(1300, 850)
        yield one


def wait(browser, condition):
    """Wait until a JavaScript expression is true."""
    browser.wait(
        condition,
        "document.body.dataset.state + ' ' + document.getElementById('messages').textContent",
    )


def visit(browser, url, case):
    """Open a case and wait until it is drawn."""
    browser.leave()  # the page before may ask a server that has ended
    browser.open(f"{url}?{next(_VISITS)}#case={case}")  # another query: the page is loaded again
    wait_open(browser, case)


def wait_open(browser, case):
    wait(browser, f"document.body.dataset.case === '{case}' && document.body.dataset.state === 'ready'")
    browser.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def wait_saved(browser, version):
    """Wait until the label has a version and the page has done what follows, such as choosing the next case."""
    wait(
        browser,
        f"document.body.dataset.version.startsWith('{version}') && document.body.dataset.state === 'ready'",
    )


def screen_position(browser, axis, u, v):
    """Return where the center of a voxel of a plane is on the screen."""
    return browser.evaluate(
        f"(() => {{ const plane = medsegAnnotate.planes.find((one) => one.axis === {axis});"
        "const box = plane.canvas.getBoundingClientRect();"
        f"const [x, y] = plane.toCanvas({u} + 0.5, {v} + 0.5); return [box.left + x, box.top + y]; }})()"
    )


def picture_of_plane(browser, axis):
    """Return the canvas of a plane, (H, W, 3), and the position of its corner on the screen."""
    left, top, url = browser.evaluate(
        f"(() => {{ const {{ canvas }} = medsegAnnotate.planes.find((one) => one.axis === {axis});"
        "const box = canvas.getBoundingClientRect();"
        "return [box.left, box.top, canvas.toDataURL()]; })()"
    )
    data = base64.b64decode(url.partition(",")[2])
    return np.array(Image.open(io.BytesIO(data)).convert("RGB")).astype(int), (left, top)


def center_of(pixels):
    rows, columns = np.nonzero(pixels)
    assert rows.size, "nothing of this color is drawn"
    return columns.mean(), rows.mean()


def oriented_volume(path, codes):
    """Write a volume with a bright cuboid at the right, in front and above; return its voxels and affine."""
    ras = np.zeros((20, 24, 16), np.int16)
    ras[13:18, 15:22, 10:14] = 300
    ras[2:4, 2:4, 2:4] = 80  # small and darker: left, behind, below
    image = nib.Nifti1Image(ras, np.array([[1.5, 0, 0, -7], [0, 1, 0, 11], [0, 0, 2.5, 3], [0, 0, 0, 1]]))
    goal = nib.orientations.axcodes2ornt(codes)
    turned = image.as_reoriented(nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), goal))
    return (
        write_volume(path, np.asarray(turned.dataobj), turned.affine),
        np.asarray(turned.dataobj),
        turned.affine,
    )


@pytest.mark.parametrize("codes", ["LPS", "PIR"])
def test_a_click_labels_the_right_voxels_of_a_volume(browser, tmp_path, codes):
    _, voxels, affine = oriented_volume(tmp_path / "images" / "a.nii.gz", codes)
    write_volume(tmp_path / "images" / "b.nii.gz", voxels, affine)
    (tmp_path / "labels").mkdir()
    with serve_page(tmp_path) as url:
        visit(browser, url, "a")
        browser.evaluate("medsegAnnotate.moveToVoxel([15, 18, 12])")
        wait(browser, "!medsegAnnotate.isDrawing")
        pixels, (left, top) = picture_of_plane(browser, 2)
        x, y = center_of(pixels.min(axis=-1) > 200)
        assert x < 0.45 * pixels.shape[1]  # a patient's right is on the left of the screen,
        assert y < 0.45 * pixels.shape[0]  # and the front at the top
        browser.press("c", "KeyC")
        browser.drag((left + x, top + y))
        wait(browser, "medsegAnnotate.doc.labels.counts.get(1) === 140")
        browser.press("a", "KeyA")
        wait_open(browser, "b")
        label = nib.load(tmp_path / "labels" / "a.nii.gz")
        np.testing.assert_array_equal(np.asarray(label.dataobj), voxels == 300)
        np.testing.assert_allclose(label.affine, affine)
        visit(browser, url, "a")  # the label is drawn where the cuboid is
        blue, _ = picture_of_plane(browser, 2)
        tinted = (blue[..., 2] - blue[..., 0]) > 40
        assert center_of(tinted) == pytest.approx((x, y), abs=4)
        assert browser.errors == []


def test_a_click_labels_the_right_pixels_of_a_picture(browser, tmp_path):
    pixels = np.full((60, 90, 3), 90, np.uint8)
    pixels[8:20, 60:84] = RED
    write_picture(tmp_path / "images" / "a.png", pixels)
    (tmp_path / "labels").mkdir()
    with serve_page(tmp_path) as url:
        visit(browser, url, "a")
        shown, (left, top) = picture_of_plane(browser, 2)
        x, y = center_of(np.abs(shown - RED).max(axis=-1) < 10)
        browser.press("2", "Digit2")
        browser.press("c", "KeyC")
        browser.drag((left + x, top + y))
        wait(browser, "medsegAnnotate.doc.labels.counts.get(2) === 288")
        browser.press("s", "KeyS")
        wait_saved(browser, "draft")
        assert list((tmp_path / "labels").iterdir()) == []  # a draft is not in the dataset
        browser.press("a", "KeyA")
        wait_saved(browser, "final")
        label = np.array(Image.open(tmp_path / "labels" / "a.png"))
        np.testing.assert_array_equal(label, 2 * (pixels == RED).all(axis=-1))
        assert browser.errors == []


def test_everything_works_with_keys(browser, tmp_path):
    write_picture(tmp_path / "images" / "a.png", np.full((31, 31), 70, np.uint8))
    (tmp_path / "labels").mkdir()
    with serve_page(tmp_path) as url:
        visit(browser, url, "a")
        for key, code in (("b", "KeyB"), ("[", "BracketLeft"), ("[", "BracketLeft")):
            browser.press(key, code)
        browser.press(" ", "Space")
        # a disk of diameter 5 voxels: rows of 3, 5, 5, 5, 3 voxels
        wait(browser, "medsegAnnotate.doc.labels.counts.get(1) === 21")
        browser.press("z", "KeyZ")
        wait(browser, "(medsegAnnotate.doc.labels.counts.get(1) || 0) === 0")
        browser.press("x", "KeyX")
        browser.press(" ", "Space")
        browser.evaluate("medsegAnnotate.moveToVoxel([20, 18, 0])")
        browser.press(" ", "Space")
        # a box from the center (15, 15) to (20, 18): 6 x 4 pixels
        wait(browser, "medsegAnnotate.doc.labels.counts.get(1) === 24")
        browser.press("?", "Slash")
        assert browser.evaluate("document.getElementById('help').open")
        assert browser.errors == []


def test_a_model_of_slices_changes_one_slice(browser, tmp_path):
    voxels = np.zeros((12, 10, 8), np.int16)
    voxels[3:6, 3:6, 2:6] = 100
    write_volume(tmp_path / "images" / "a.nii.gz", voxels)
    (tmp_path / "labels").mkdir()
    with serve_page(tmp_path, model=BrightnessModel(2)) as url:
        visit(browser, url, "a")
        for index in (3, 4):
            browser.evaluate(f"medsegAnnotate.moveToVoxel([4, 4, {index}])")
            browser.press("c", "KeyC")
            browser.press(" ", "Space")
            wait(browser, f"medsegAnnotate.doc.labels.counts.get(1) === {9 * (index - 2)}")
        browser.press("a", "KeyA")
        wait_saved(browser, "final")
    expected = (voxels == 100) & np.isin(np.arange(8), (3, 4))
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "labels" / "a.nii.gz").dataobj), expected)


def test_what_is_painted_while_a_case_opens_is_saved(browser, tmp_path):
    for name in "ab":
        write_picture(tmp_path / "images" / f"{name}.png", np.full((8, 9), 70, np.uint8))
    (tmp_path / "labels").mkdir()
    with serve_page(tmp_path) as url:
        visit(browser, url, "a")
        browser.evaluate(
            "(() => { const { labels } = medsegAnnotate.doc; medsegAnnotate.open('b');"
            "const edit = labels.begin(); edit.set(3, 1); medsegAnnotate.keep(edit); return 1; })()"
        )
        wait_open(browser, "b")
        visit(browser, url, "a")
        assert browser.evaluate("medsegAnnotate.doc.labels.voxels[3]") == 1


def test_what_is_painted_while_a_model_answers_stays(browser, tmp_path):
    pixels = np.full((20, 30), 70, np.uint8)
    pixels[5:8, 5:9] = 200
    write_picture(tmp_path / "images" / "a.png", pixels)
    (tmp_path / "labels").mkdir()
    with serve_page(tmp_path) as url:
        visit(browser, url, "a")
        browser.evaluate(
            "(() => { const { labels } = medsegAnnotate.doc; const edit = labels.begin();"
            "const point = { kind: 'point', position: [6, 6, 0], positive: true, axis: 2, index: 0 };"
            "const answered = medsegAnnotate.prompts.add(point);"
            "edit.set(3, 2); edit.set(155, 2); medsegAnnotate.keep(edit); return answered; })()"  # 155: (5, 5)
        )
        counts = browser.evaluate("[1, 2].map((value) => medsegAnnotate.doc.labels.counts.get(value))")
        assert counts == [12, 1]
        browser.evaluate("medsegAnnotate.undo()")  # the answer; what was painted comes back
        counts = browser.evaluate("[1, 2].map((value) => medsegAnnotate.doc.labels.counts.get(value))")
        assert counts == [0, 2]
        browser.evaluate("Promise.all([medsegAnnotate.save(false), medsegAnnotate.accept()])")
        wait_saved(browser, "final")  # accepted, although a save ran


def test_a_label_that_was_removed_elsewhere_is_kept(browser, tmp_path):
    write_picture(tmp_path / "images" / "a.png", np.full((20, 30), 70, np.uint8))
    (tmp_path / "labels").mkdir()
    with serve_page(tmp_path) as url:
        visit(browser, url, "a")
        paint(browser, 5, 6, 1)
        browser.press("a", "KeyA")
        wait_saved(browser, "final")
        request = Request(url.replace("annotate/", "datastore/label?image=a"), method="DELETE")
        with urlopen(request) as reply:
            assert reply.status == 200
        assert not (tmp_path / "labels" / "a.png").exists()
        browser.evaluate("medsegAnnotate.reload()")
        assert browser.evaluate("medsegAnnotate.isChanged")
        browser.press("a", "KeyA")
        wait_saved(browser, "final")
        assert np.count_nonzero(np.array(Image.open(tmp_path / "labels" / "a.png"))) == 1


def test_objects_get_numbers_that_are_free(browser, tmp_path):
    write_picture(tmp_path / "images" / "a.png", np.full((20, 30), 70, np.uint8))
    numbers = np.zeros((20, 30), np.uint8)
    numbers[:2].flat = np.arange(60)
    numbers[5, :20] = np.arange(60, 80)
    write_picture(tmp_path / "labels" / "a.png", numbers)
    with serve_page(tmp_path, labels=()) as url:
        visit(browser, url, "a")
        browser.evaluate("medsegAnnotate.brush.size = 1; medsegAnnotate.select('brush')")
        browser.drag(screen_position(browser, 2, 12, 15))
        browser.press("n", "KeyN")
        browser.drag(screen_position(browser, 2, 14, 15))
        browser.press("a", "KeyA")
        wait_saved(browser, "final-2")
    label = np.array(Image.open(tmp_path / "labels" / "a.png"))
    assert (label[15, 12], label[15, 14]) == (80, 81)
    np.testing.assert_array_equal(label[:6], numbers[:6])


def paint(browser, row, column, value):
    """Paint a dab of one voxel of a class with the brush."""
    browser.evaluate(
        f"medsegAnnotate.brush.size = 1; medsegAnnotate.selectClass({value}); medsegAnnotate.select('brush')"
    )
    browser.drag(screen_position(browser, 2, column, row))


def test_two_windows_lose_no_label(browser, tmp_path, tmp_path_factory):
    write_picture(tmp_path / "images" / "a.png", np.full((20, 30), 70, np.uint8))
    (tmp_path / "labels").mkdir()
    with serve_page(tmp_path) as url, Browser(tmp_path_factory.mktemp("other"), offline=False) as other:
        other.resize(1300, 850)
        visit(browser, url, "a")
        visit(other, url, "a")
        paint(browser, 5, 6, 1)
        paint(other, 12, 20, 2)
        for window, number in ((browser, 1), (other, 2)):
            window.press("a", "KeyA")
            wait_saved(window, f"final-{number}")
        label = np.array(Image.open(tmp_path / "labels" / "a.png"))
        assert (label[5, 6], label[12, 20], np.count_nonzero(label)) == (1, 2, 2)

        paint(other, 5, 6, 2)  # both change the same pixel: the second one is asked
        paint(browser, 5, 6, 1)
        paint(browser, 5, 7, 1)
        other.press("a", "KeyA")
        wait_saved(other, "final-3")
        browser.press("e", "KeyE")
        browser.drag(screen_position(browser, 2, 6, 5))
        browser.press("a", "KeyA")
        wait(browser, "document.getElementById('conflict').open")
        browser.evaluate("document.querySelector('#conflict [value=theirs]').click()")
        wait_saved(browser, "final-4")
        label = np.array(Image.open(tmp_path / "labels" / "a.png"))
        assert (label[5, 6], label[5, 7], label[12, 20]) == (2, 1, 2)


def test_label_maps_of_two_windows_are_merged(browser, tmp_path):
    write_picture(tmp_path / "images" / "a.png", np.zeros((4, 4), np.uint8) + np.arange(4, dtype=np.uint8))
    (tmp_path / "labels").mkdir()
    with serve_page(tmp_path) as url:
        visit(browser, url, "a")
        wide = browser.evaluate(  # a class of value 256 is added to a label map of one byte for each pixel
            "(() => { const { doc } = medsegAnnotate;"
            "medsegAnnotate.setClasses([{ value: 256, name: 'new', color: [1, 2, 3] }]);"
            "const edit = doc.labels.begin(); edit.set(3, 256); doc.labels.commit(edit);"
            "return [doc.labels.dtype, doc.labels.voxels[3]]; })()"
        )
        assert wide == ["uint16", 256]
        merged = browser.evaluate(
            # unchanged, mine, theirs, both the same, both different
            "import('/annotate/static/labels.js').then(({ merge }) => {"
            "const [base, mine, theirs] = [[0, 0, 0, 0, 0], [0, 1, 0, 3, 4], [0, 0, 2, 3, 5]];"
            "const { merged, taken, conflicts } = merge(base, mine, theirs);"
            "return [[...merged], taken, conflicts]; })"
        )
        assert merged == [[0, 1, 2, 3, 4], 1, 1]
        rows = browser.evaluate(
            "import('/annotate/static/tools.js').then(({ fillOutline }) => { const rows = [];"
            "fillOutline([[1, 1], [4, 1], [4, 3], [1, 3]], 9, (...row) => rows.push(row)); return rows; })"
        )
        assert rows == [[1, 1, 3], [2, 1, 3]]
