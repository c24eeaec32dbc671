"""Reports in headless Chromium, without network: they load fast, sort, filter, and have no serious faults."""

import base64
import shutil
import subprocess
import tarfile

import numpy as np
import pytest
from browser import Browser, needs_chromium
from conftest import write_volume
from report_pages import (
    score_rows,
    write_comparison,
    write_evaluation,
    write_objects,
    write_panoptic,
    write_training,
)
from scipy import ndimage

from medseg.metrics import summarize
from medseg.report.pages.case_sections import CaseFiles, draw_case_sections
from medseg.report.pages.evaluation import write_evaluation_page

pytestmark = [pytest.mark.slow, needs_chromium]

AXE = "axe-core@4.10.3"
"""Checks of accessibility, fetched from npm when the tests run."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("pages")
    write_evaluation(root / "evaluation.html")
    write_comparison(root / "comparison.html")
    write_comparison(root / "four.html", ("unet", "swin", "resenc", "deeplab"))
    write_training(root / "training.html")
    write_objects(root / "objects.html")
    write_panoptic(root / "panoptic.html")
    return root


@pytest.fixture(scope="module")
def few_cases(tmp_path_factory):
    """Pages with all their parts and few rows, for checks that look at every element."""
    root = tmp_path_factory.mktemp("small")
    write_evaluation(root / "evaluation.html", cases=6)
    write_comparison(root / "comparison.html", cases=6)
    write_comparison(root / "four.html", ("unet", "swin", "resenc", "deeplab"), cases=6, labels=("liver",))
    write_training(root / "training.html", epochs=6)
    write_objects(root / "objects.html", cases=6)
    write_panoptic(root / "panoptic.html", cases=6)
    return root


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as one:
        yield one


@pytest.fixture(scope="module")
def axe(tmp_path_factory):
    folder, npm = tmp_path_factory.mktemp("axe"), shutil.which("npm")
    if npm is None:
        pytest.skip("npm, which fetches axe-core, is not installed")
    command = [npm, "pack", AXE, "--silent", "--fetch-retries=0", "--fetch-timeout=20000"]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)
    except (subprocess.SubprocessError, OSError):
        pytest.skip(f"{AXE} cannot be fetched from npm")
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        member = archive.extractfile("package/axe.min.js")
        return member.read().decode()


def column(browser, table, index):
    """Return the visible cells of a column."""
    return browser.evaluate(
        f"[...document.querySelectorAll('.table table')[{table}].tBodies[0].rows].filter((r) => !r.hidden)"
        f".map((r) => r.cells[{index}].querySelector('data')?.value ?? r.cells[{index}].textContent)"
    )


def test_tables_sort_and_filter(browser, folder):
    browser.errors.clear()
    browser.resize(1200)
    browser.open(folder / "evaluation.html")
    table, dice = 1, 3
    shown = [float(value) for value in column(browser, table, dice)]
    assert len(shown) == 25
    assert shown == sorted(shown)
    box = "document.querySelectorAll('.table')[1]"
    browser.evaluate(f"{box}.querySelectorAll('thead button')[{dice}].click()")
    falling = [float(value) for value in column(browser, table, dice)]
    assert falling == sorted(falling, reverse=True)
    assert falling[0] > shown[-1]
    heads = f"[...{box}.querySelectorAll('thead th')].map((one) => one.ariaSort)"
    assert [one for one in browser.evaluate(heads) if one] == ["descending"]
    browser.evaluate(f"{{ const one = {box}.querySelector('select'); one.value = 'spleen';"
                     " one.dispatchEvent(new Event('input', {bubbles: true})); }")  # fmt: skip
    assert set(column(browser, table, 1)) == {"spleen"}
    browser.evaluate(f"{{ const one = {box}.querySelector('input'); one.value = 'CASE_01';"
                     " one.dispatchEvent(new Event('input', {bubbles: true})); }")  # fmt: skip
    assert sorted(column(browser, table, 0)) == [f"case_{i:03d}" for i in range(10, 20)]
    assert browser.evaluate(f"{box}.querySelector('output').textContent") == "10 of 180 rows shown"
    assert browser.errors == []
    assert browser.requests == []


def test_infinite_distances_sort_last_and_undefined_ones_after_them(browser, folder):
    browser.open(folder / "evaluation.html")
    browser.evaluate("document.querySelectorAll('.table')[1].querySelector('.more').click()")
    for _ in range(2):
        browser.evaluate("[...document.querySelectorAll('.table')[1].querySelectorAll('thead button')]"
                         ".find((one) => one.textContent.startsWith('HD95')).click()")  # fmt: skip
    values = column(browser, 1, 8)
    assert len(values) == 180
    assert values[0] == "inf"
    assert float(values[-1]) < 1


def test_headings_are_reached_and_pressed_by_keyboard(browser, folder):
    browser.open(folder / "comparison.html")
    browser.evaluate("document.querySelectorAll('.table')[0].querySelectorAll('thead button')[1].focus()")
    browser.press("Enter")
    sorted_ = "document.querySelectorAll('.table')[0].querySelectorAll('thead th')[1].ariaSort"
    assert browser.evaluate(sorted_) == "ascending"


@pytest.mark.parametrize("name", ["evaluation", "comparison", "four", "training", "objects", "panoptic"])
@pytest.mark.parametrize("width", [1440, 390])
def test_pages_fit_the_screen_and_are_silent(browser, folder, name, width):
    browser.errors.clear()
    browser.resize(width, mobile=width < 500)
    browser.open(folder / f"{name}.html")
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.errors == []
    assert browser.requests == []


def test_small_screens_break_names_between_words_only(browser, tmp_path):
    names = ("left_superior_temporal_gyrus", "right_lateral_orbitofrontal_cortex", "sub-01_ses-baseline/liver")
    rows = score_rows(4, names)
    write_evaluation_page(tmp_path / "long.html", rows, summarize(rows))
    write_objects(tmp_path / "objects.html", cases=4)
    write_panoptic(tmp_path / "panoptic.html", cases=4)
    browser.resize(390, mobile=True)
    lines = """[...document.querySelectorAll('h1, tbody th')].flatMap((one) => {
      const texts = document.createTreeWalker(one, NodeFilter.SHOW_TEXT), broken = [];
      for (let text; (text = texts.nextNode());)
        for (const word of text.data.matchAll(/[^-_/\\s]+/g)) {
          const range = document.createRange();
          range.setStart(text, word.index);
          range.setEnd(text, word.index + word[0].length);
          if (new Set([...range.getClientRects()].map((line) => line.top)).size > 1) broken.push(text.data);
        }
      return broken; })"""
    for page in ("long", "objects", "panoptic"):
        browser.open(tmp_path / f"{page}.html")
        assert browser.evaluate(lines) == []
        assert browser.evaluate("document.documentElement.scrollWidth") <= 390
    browser.open(tmp_path / "long.html")
    height = "document.querySelector('tbody th.long').getBoundingClientRect().height"
    assert browser.evaluate(height) > 40  # it is broken: two lines


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", ["evaluation", "comparison", "four", "training", "objects", "panoptic"])
def test_accessibility(browser, few_cases, axe, name, dark):
    browser.resize(1440, dark=dark)
    browser.open(few_cases / f"{name}.html")
    browser.evaluate(axe + "; 0")
    found = browser.evaluate(
        "axe.run().then((result) => result.violations.map((one) => [one.id, one.impact, one.nodes[0].html]))"
    )
    assert [one for one in found if one[1] in ("serious", "critical")] == []


def case_sections(folder, count=8):
    """Return sections with figures and volumes of cases of the size of a hippocampus."""
    rng = np.random.default_rng(0)
    files = {}
    for index in range(count):
        image = ndimage.gaussian_filter(rng.normal(size=(36, 50, 36)), 1.5)
        reference = (ndimage.gaussian_filter(rng.normal(size=image.shape), 6) > 0.005).astype(np.uint8)
        parts = {"image": image.astype(np.float32), "reference": reference}
        parts["prediction"] = np.roll(reference, 2, axis=0)
        paths = {name: write_volume(folder / name / f"{index}.nii.gz", one) for name, one in parts.items()}
        files[f"case_{index:03d}"] = CaseFiles(**paths)
    return draw_case_sections(files)


def test_200_cases_with_pictures_load_fast_and_folded_ones_open_and_print(browser, tmp_path):
    path = write_evaluation(tmp_path / "report.html", 200, case_sections(tmp_path))
    assert 5e5 < path.stat().st_size < 25e6
    browser.errors.clear()
    browser.resize(1440)
    assert min(browser.open(path) for _ in range(2)) < 3
    last = "document.querySelectorAll('article.case')[7]"
    drawn = f"[...{last}.querySelectorAll('img')].filter((one) => one.complete && one.naturalWidth > 0).length"
    assert browser.evaluate(drawn) == 0
    browser.evaluate(f"{last}.querySelector('summary').click()")
    browser.wait(f"{drawn} === 12")
    browser.open(path)
    printed = base64.b64decode(browser._call("Page.printToPDF")["data"])
    # 12 pictures a case; equal ones are stored once
    assert printed.count(b"/Subtype /Image") > 75
    assert browser.errors == []


def test_200_cases_load_fast(browser, tmp_path):
    path = write_evaluation(tmp_path / "report.html", cases=200)
    assert path.stat().st_size < 25e6
    browser.resize(1440)
    assert browser.open(path) < 3
