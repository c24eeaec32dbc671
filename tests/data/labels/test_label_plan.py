from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medseg.data.cases import Case
from medseg.data.labels.config import LabelConfig
from medseg.data.labels.label_plan import LabelDeclarations, plan_labels
from medseg.data.labels.overlapping import overlapping_schema
from medseg.data.labels.schema import LabelSchema
from medseg.errors import ConfigError, DataError

HERE = Path("x.png")


def declared(schema=None, **settings):
    return LabelDeclarations(LabelConfig(**settings), schema)


def masked(**by_case):
    return [Case(case, HERE, masks=dict.fromkeys(names.split(), HERE)) for case, names in by_case.items()]


def test_masks_name_the_labels():
    plan = plan_labels(masked(a="spleen liver", b="liver spleen"))
    assert plan.schema.names == {"background": (0,), "liver": (1,), "spleen": (2,)}
    assert plan.reader.values == {"liver": 1, "spleen": 2}


def test_a_missing_mask_raises_is_empty_or_unknown():
    cases = masked(a="liver spleen", b="liver")
    with pytest.raises(
        DataError, match=r"label files are missing[^$]*case b: no file of spleen. Set data.labels.missing=empty"
    ):
        plan_labels(cases)
    assert plan_labels(cases, declared(missing="empty")).cases[1].labeled is None
    assert plan_labels(cases, declared(missing="unknown")).cases[1].labeled == ("liver",)


def test_missing_rules_hold_for_probability_maps():
    cases = masked(a="liver spleen", b="liver")
    with pytest.raises(DataError, match="case b: no file of spleen"):
        plan_labels(cases, declared(soft=True))
    assert plan_labels(cases, declared(soft=True, missing="empty")).cases[1].labeled is None
    unknown = plan_labels(cases, declared(soft=True, missing="unknown"))
    assert unknown.schema.annotated_classes(unknown.cases[1].labeled) == (
        True,
        True,
        False,
    )  # spleen has no loss there
    foreign = declared(LabelSchema(names={"background": (0,), "liver": (1,)}), soft=True)
    with pytest.raises(DataError, match="undeclared label files: spleen"):
        plan_labels(cases[:1], foreign)
    with pytest.raises(ConfigError, match=r"Leave out data\.labels\.ignore_value"):
        plan_labels(cases[:1], declared(soft=True, ignore_value=255))


@pytest.mark.parametrize("kind", [{}, {"overlapping": True}, {"soft": True}])
def test_an_excluded_mask_does_not_count_as_annotated(kind):
    cases = masked(a="liver spleen extra", b="liver extra")
    labels = LabelSchema(names={"background": (0,), "liver": (1,), "spleen": (2,)}, others="background")
    plan = plan_labels(cases, declared(labels, missing="unknown", **kind))
    assert plan.cases[1].labeled == ("liver",)
    assert plan.schema.annotated_classes(plan.cases[1].labeled)[-1] is False


def test_a_case_annotated_in_part_needs_the_files_of_its_labels_only():
    cases = masked(a="liver spleen", b="liver")
    cases[1] = replace(cases[1], labeled=("liver",))
    assert plan_labels(cases).cases[1].labeled == ("liver",)


def test_pairs_of_overlapping_labels_exchange_their_combinations():
    stated = declared(overlapping=True, pairs=(("left", "right"),))
    labels = plan_labels(masked(a="left right mid"), stated).schema
    assert labels.mirrored_classes == (2, 1, 0)  # the regions are left, mid, right
    assert labels.names["left+mid"] == (3,)
    place = {name: i for i, name in enumerate(labels.names)}
    assert labels.mirrored_labels[place["left+mid"]] == place["mid+right"]
    with pytest.raises(ConfigError, match=r"data\.labels\.pairs: .*known: \['left', 'mid', 'right'\]"):
        plan_labels(masked(a="left right mid"), declared(overlapping=True, pairs=(("left", "r"),)))


def test_undeclared_masks():
    labels = LabelSchema(names={"background": (0,), "liver": (4,)})
    with pytest.raises(DataError, match=r"undeclared label files: spleen; declared: background, liver"):
        plan_labels(masked(a="liver spleen"), declared(labels))
    others = labels.model_copy(update={"others": "background"})
    assert plan_labels(masked(a="liver spleen"), declared(others)).reader.values == {"liver": 4}


def test_colors_need_labels_with_their_names():
    colors = {"sky": (0, 0, 1), "road": (0, 0, 2)}
    plan = plan_labels([Case("a", HERE, HERE)], declared(colors=colors))
    assert plan.schema.names == {"sky": (0,), "road": (1,)}
    labels = LabelSchema(names={"sky": (0,), "road": (7,)}, ignore_value=9)
    stated = declared(labels, colors=colors | {"ignore": (1, 1, 1)})
    assert plan_labels([Case("a", HERE, HERE)], stated).reader.values == {"sky": 0, "road": 7, "ignore": 9}
    with pytest.raises(ConfigError, match=r"data.labels.colors names \['tree'\], which are not among"):
        plan_labels([], declared(labels, colors={"tree": (0, 0, 0)}))
    with pytest.raises(ConfigError, match=r"share a color, which identifies them: \['sky', 'road'\]"):
        plan_labels([], declared(labels, colors=dict.fromkeys(colors, (0, 0, 1))))


def test_configured_colors_override_declared_ones():
    stated = {"sky": (0, 0, 1), "ignore": (9, 9, 9)}
    layout = LabelSchema(
        names={"sky": (0,), "road": (7,)}, ignore_value=9, colors={"sky": (1, 1, 1), "road": (2, 2, 2)}
    )
    plan = plan_labels([Case("a", HERE, HERE)], LabelDeclarations(LabelConfig(colors=stated), layout=layout))
    assert plan.schema.colors == {"sky": (0, 0, 1), "road": (2, 2, 2)}  # what is ignored is no label
    assert plan_labels([Case("a", HERE, HERE)], LabelDeclarations(layout=layout)).schema == layout
    soft = plan_labels([Case("a", HERE, HERE)], LabelDeclarations(LabelConfig(soft=True), layout=layout))
    assert soft.schema.colors == layout.colors


def test_overlapping_labels_are_regions_of_their_combinations():
    labels = overlapping_schema(("a", "b", "c"))
    assert len(labels.names) == 8
    assert labels.names["a+c"] == (5,)
    assert labels.regions["b"] == ("b", "a+b", "b+c", "a+b+c")
    # painting and reading back is the identity on all combinations
    masks = np.array([[(value >> bit) & 1 for value in range(8)] for bit in range(3)], dtype=bool)
    assert labels.paint(masks).tolist() == list(range(8))
    with pytest.raises(ConfigError, match="9 labels overlap"):
        overlapping_schema(tuple("abcdefghi"))


def test_nested_regions_map_to_the_label_in_exactly_these_regions():
    # BraTS: whole = 1+2+4, core = 1+4, enhancing = 4
    labels = LabelSchema(
        names={"background": (0,), "necrosis": (1,), "oedema": (2,), "enhancing": (4,)},
        regions={
            "whole": ("necrosis", "oedema", "enhancing"),
            "core": ("necrosis", "enhancing"),
            "et": ("enhancing",),
        },
    )
    masks = np.array([[0, 1, 1, 1, 0], [0, 0, 1, 1, 1], [0, 0, 0, 1, 0]], dtype=bool)
    assert labels.paint(masks).tolist() == [0, 2, 1, 4, 1]  # core without whole, which no label has: core's


def test_others_and_scenes_without_background():
    values = np.array([0, 1, 5])
    names = {"sky": (0,), "road": (1,)}
    with pytest.raises(DataError, match="undeclared label values: 5"):
        LabelSchema(names=names).encode(values, "x")
    assert LabelSchema(names=names, others="background").encode(values, "x").tolist() == [1, 2, 1]
    assert LabelSchema(names=names, others="ignore").encode(values, "x").tolist() == [1, 2, 0]
    assert list(LabelSchema(names=names, background=False).evaluated) == ["sky", "road"]
    assert list(LabelSchema(names=names).evaluated) == ["road"]


def test_known_classes_of_partly_annotated_cases():
    labels = LabelSchema(names={"background": (0,), "liver": (1,), "spleen": (2,)})
    assert labels.annotated_classes(None) == (True, True, True)
    assert labels.annotated_classes(("spleen",)) == (True, False, True)
    regions = overlapping_schema(("a", "b"))
    assert regions.annotated_classes(("b",)) == (False, True)
    with pytest.raises(DataError, match=r"unknown annotated labels \['kidney'\]"):
        labels.annotated_classes(("kidney",))
