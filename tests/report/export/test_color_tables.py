from medseg.data.labels.schema import LabelSchema
from medseg.report.export import itksnap_labels, slicer_color_table

LABELS = LabelSchema(
    names={"background": (0,), "left lung": (2, 7), "liver": (1,)}, colors={"liver": (10, 20, 30)}
)


def test_slicer_names_have_no_spaces_and_every_value_has_a_line():
    lines = slicer_color_table(LABELS).splitlines()[1:]
    assert lines == [
        "0 background 0 0 0 0",
        "1 liver 10 20 30 255",
        "2 left_lung 86 180 233 255",
        "7 left_lung 86 180 233 255",
    ]


def test_itksnap_lines_have_seven_numbers_and_a_quoted_name():
    lines = [line for line in itksnap_labels(LABELS).splitlines() if not line.startswith("#")]
    assert lines[0].split(maxsplit=7) == ["0", "0", "0", "0", "0", "0", "0", '"Clear Label"']
    assert lines[1].split(maxsplit=7) == ["1", "10", "20", "30", "1", "1", "1", '"liver"']
    assert lines[2].endswith('"left lung"')
