import re

from medseg.report.pages.inference import SegmentedCase, write_inference_page


def test_failures_come_first_and_shifts_are_named(tmp_path):
    shift = {
        "score": 2.5,
        "features": {"share:liver": 0.05, "spacing:0": 3.0},
        "warnings": [{"finding": "spacing is coarse", "value": "3 mm", "training": "1 to 2 mm"}],
    }
    empty = {"shift": {"score": 0.2, "features": {"share:liver": 0.0}}}
    cases = [
        SegmentedCase.of({"case": "a", "status": "done", "seconds": 2.0}, empty),
        SegmentedCase.of({"case": "b", "status": "skipped"}, {"shift": shift, "seconds": 4.0}),
        SegmentedCase.of({"case": "c", "status": "failed", "error": "no such file"}, None),
    ]
    write_inference_page(tmp_path / "out" / "report.html", cases, {"file": "model.safetensors"})
    page = (tmp_path / "out" / "report.html").read_text()
    text = re.sub("<[^>]*>", "", page.partition("<main")[2])
    assert text.startswith(' id="results">out2 of 3 scans were segmented (1 earlier, with the same settings).')
    assert "1 case failed: c: no such file" in text
    assert "1 case differs from the training cases: b: spacing is coarse (3 mm; training 1 to 2 mm)" in text
    assert "liver is predicted nowhere in 1 of 2 cases: a" in text
    table = page.partition("<caption>Cases, failed and unusual")[2]
    assert re.findall('<th scope="row">(.)</th>', table) == ["c", "b", "a"]
    row = re.search('<th scope="row">b</th>.*?</tr>', table)[0]
    assert re.findall('value="([^"]*)"', row) == ["2.5", "5", "4"]  # deviation, share in percent, seconds


def verdict_of(tmp_path, cases):
    write_inference_page(tmp_path / "report.html", cases, {})
    page = (tmp_path / "report.html").read_text()
    return re.sub("<[^>]*>", "", page.partition('class="verdict"')[2].partition("</section>")[0])


def test_a_label_that_is_predicted_in_no_case_is_named(tmp_path):
    empty = {"shift": {"score": 0.2, "features": {"share:liver": 0.0}}}
    cases = [SegmentedCase.of({"case": name, "status": "done"}, empty) for name in "ab"]
    text = verdict_of(tmp_path, cases)
    assert "liver is predicted nowhere in 2 of 2 cases: a, b" in text
    assert "No scan differs from the training cases" in text


def test_scans_that_could_not_be_compared_are_not_called_alike(tmp_path):
    alike = {"shift": {"score": 0.2, "features": {"share:liver": 0.1}}}
    cases = [
        SegmentedCase.of({"case": n, "status": "done"}, one)
        for n, one in zip("abc", [alike, alike, {}], strict=True)
    ]
    text = verdict_of(tmp_path, cases)
    assert (
        "None of 2 compared scans differs from the training cases by more than is tolerated; 1 could not"
        in text
    )
    assert "training cases" not in verdict_of(tmp_path, cases[2:])
