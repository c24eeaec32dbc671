"""The fingerprint of a dataset."""

import pytest

from medseg.data.cases import Case
from medseg.data.curation.case_statistics import CaseStatistics
from medseg.data.labels.schema import LabelSchema
from medseg.data.options import DataConfig
from medseg.planning.fingerprint import combine, measure_fingerprint, number_instances, sample_cases
from medseg.planning.structures import CaseStructures, Structure
from medseg.training.dataset.preparation import find_labeled_cases, measure_cases

LABELS = LabelSchema(names={"background": (0,), "organ": (1,), "lesion": (2, 3)})


def statistics(name, counts, shape=(10, 10, 10), spacing=(1.0, 1.0, 1.0), **fields):
    values = {
        "id": name, "image_sha256": name, "label_sha256": name, "voxels_sha256": name, "kind": "volume",
        "shape": shape, "spacing": spacing, "channels": 1, "dtype": "int16", "label_dtype": "uint8",
        "intensities": (0.0, 100.0), "label_counts": counts, "foreground": (1.0, 2.0, 3.0),
    }  # fmt: skip
    return CaseStatistics(**(values | fields))


def structure(voxels, radius=2.0, center=(0.5, 0.5, 0.5), components=1):
    extent = (0.2, 0.4, 0.6)
    return Structure(
        components=components, component_voxels=voxels, radius=radius, center=center, extent=extent
    )


def test_measurements_are_combined():
    cases = [statistics("a", {0: 900, 1: 100}), statistics("b", {0: 880, 1: 100, 2: 15, 3: 5})]
    measured = [
        CaseStructures(nonzero_share=0.5, classes={"organ": structure(100)}),
        CaseStructures(nonzero_share=0.7, classes={"organ": structure(800, 4), "lesion": structure(20, 1)}),
    ]
    found = combine(cases, LABELS, measured)
    organ, lesion = found.classes
    assert (organ.voxel_share, organ.case_share) == (0.1, 1.0)
    assert (lesion.voxel_share, lesion.case_share) == (0.02, 0.5)  # of the case that contains it
    assert found.imbalance == pytest.approx(5)
    assert found.rarest.name == "lesion"
    assert found.radius == 1  # of 3 and 1, the thinner
    assert found.nonzero_share == pytest.approx(0.6)
    assert organ.component_voxels == 450
    assert organ.radius_ratio == pytest.approx(3.8 / 2.2)  # percentiles of 2 and 4
    assert organ.extent == (0.2, 0.4, 0.6)


def test_without_background_every_label_is_a_class():
    scene = LabelSchema(names={"sky": (0,), "road": (1,)}, background=False)
    found = combine([statistics("a", {0: 60, 1: 40})], scene, [])
    assert [one.name for one in found.classes] == ["sky", "road"]
    assert (found.num_labels, found.radius, found.sampled) == (2, None, 0)


def test_instances_count_as_one_class():
    nuclei = LabelSchema(names={"background": (0,), "nucleus": (1,)}, collapse_instances=True, ignore_value=9)
    found = combine([statistics("a", {0: 70, 1: 10, 2: 10, 9: 10})], nuclei, [])
    assert found.classes[0].voxel_share == pytest.approx(20 / 90)


def test_a_sample_is_spread_and_bounded():
    cases = [Case(str(i), None) for i in range(100)]
    small = [statistics(str(i), {}) for i in range(100)]
    chosen = [case.id for case in sample_cases(cases, small)]
    assert (chosen[0], chosen[-1], len(chosen)) == ("0", "99", 12)
    large = [statistics(str(i), {}, shape=(512, 512, 400)) for i in range(100)]
    assert len(sample_cases(cases, large)) == 2  # 105 million voxels each


def test_volumes_are_measured(balls):
    _, plan = find_labeled_cases(DataConfig(path=balls))
    found = measure_fingerprint(measure_cases(plan), plan)
    assert (found.kind, found.cases, found.channels, found.sampled) == ("volume", 6, 1, 6)
    assert found.median_shape == (20, 20, 20)
    shell, core = found.classes
    assert shell.components == core.components == 1
    assert core.radius == pytest.approx(3, abs=0.7)  # radius 3
    assert shell.radius < core.radius  # 3 voxels thick


def test_pictures_are_measured(squares):
    _, plan = find_labeled_cases(DataConfig(path=squares))
    found = measure_fingerprint(measure_cases(plan), plan)
    assert (found.kind, found.modality, found.channels) == ("picture", "color", 3)
    assert found.classes[0].component_voxels == 144
    assert found.classes[0].radius_ratio == 1


def test_numbers_of_objects_are_recognized():
    def numbered(counts):
        return [statistics(str(i), {0: 50} | dict.fromkeys(range(1, n + 1), 5)) for i, n in enumerate(counts)]

    assert number_instances(numbered([70, 12, 33, 40]))
    assert not number_instances(numbered([20, 12, 33, 40]))  # as few as classes
    assert not number_instances(numbered([116] * 8))  # an atlas: every case has the same structures
    gaps = [statistics(str(i), {0: 50} | dict.fromkeys(range(2, 200 + i, 2), 5)) for i in range(4)]
    assert not number_instances(gaps)
