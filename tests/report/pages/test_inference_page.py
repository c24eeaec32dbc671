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
