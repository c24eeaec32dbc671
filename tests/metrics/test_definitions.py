import math

import numpy as np
import pytest

from medseg.metrics import LesionOptions, MeasureOptions, measure_case, metric_info

EVERYTHING = MeasureOptions(
    groups=("overlap", "boundary", "topology", "lesions", "calibration"),
    percentiles=(95, 99.5),
    lesions=LesionOptions(size_edges=(10, 100), brats="GLI"),
)


def test_every_column_is_defined():
    mask = np.ones((3, 3, 5), np.uint8)
    row = measure_case(mask, mask, {"x": [1]}, (1, 1, 1), EVERYTHING, {"x": mask * 0.5})[0]
    columns = [column for column in row if column not in ("label", "name")]
    infos = [metric_info(column) for column in columns]
    assert [info.column for info in infos] == columns
    assert all(info.definition for info in infos)
    assert {info.group for info in infos} == {*EVERYTHING.groups, None}


def test_missed_structures_have_the_worst_value():
    mask = np.ones((4, 4, 4), np.uint8)
    options = MeasureOptions(groups=("overlap", "boundary"))
    row = measure_case(mask, 0 * mask, {"x": [1]}, (1, 1, 1), options)[0]
    for column, value in row.items():
        info = None if column in ("label", "name") else metric_info(column)
        if info and info.group and not math.isnan(value) and column not in ("specificity", "accuracy"):
            assert value == info.worst, column


def test_unknown_columns():
    with pytest.raises(KeyError):
        metric_info("charm")
