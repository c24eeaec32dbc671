import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from medseg.data.labels.schema import LabelSchema, describe_undeclared, guess_schema, smallest_integer
from medseg.errors import ConfigError, DataError

MERGED = LabelSchema(names={"background": (0,), "organ": (3, 5), "lesion": (-7,)}, ignore_value=255)
REGIONS = LabelSchema.model_validate(
    {
        "names": {"background": 0, "oedema": 1, "core": 2, "enhancing": 4},
        "regions": {
            "whole": ["oedema", "core", "enhancing"],
            "core": ["core", "enhancing"],
            "enh": ["enhancing"],
        },
    }
)


def test_encode_and_decode_by_hand():
    values = np.array([[0, 3, 5], [-7, 255, 0]])
    # codes are class + 1, ignored 0; merged values come back as the first of them
    assert MERGED.encode(values, "here").tolist() == [[1, 2, 2], [3, 0, 1]]
    assert MERGED.decode(np.array([0, 1, 2])).tolist() == [0, 3, -7]
    assert MERGED.decode(np.array([0, 1, 2])).dtype == np.int8


@given(st.lists(st.integers(-300, 70_000), min_size=2, max_size=8, unique=True), st.data())
@settings(max_examples=50, deadline=None)
def test_encoding_and_decoding_is_the_identity(values, data):
    labels = LabelSchema(names={f"l{v}": (v,) for v in values})
    label_map = np.array(data.draw(st.lists(st.sampled_from(values), min_size=6, max_size=6))).reshape(2, 3)
    decoded = labels.decode(labels.encode(label_map, "here").astype(int) - 1)
    assert np.array_equal(decoded, label_map)
    assert decoded.dtype == smallest_integer(tuple(values))


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ((0, 255), np.uint8),
        ((0, 256), np.uint16),
        ((-1, 5), np.int8),
        ((-1, 127), np.int8),
        ((-1, 128), np.int16),
        ((-300, 70_000), np.int32),
        ((0, 2**20), np.uint32),
    ],
)
def test_smallest_integer(values, dtype):
    assert smallest_integer(values) == dtype


@pytest.mark.parametrize(("number", "dtype"), [(254, np.uint8), (255, np.uint16), (300, np.uint16)])
def test_many_classes(number, dtype):
    labels = LabelSchema(names={f"l{v}": (v,) for v in range(number)})
    values = np.arange(number).reshape(1, -1)
    codes = labels.encode(values, "here")
    assert codes.dtype == dtype
    assert np.array_equal(codes, values + 1)
    assert np.array_equal(labels.decode(codes.astype(int) - 1), values)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int64, np.uint64])
def test_any_integer_type_is_encoded(dtype):
    labels = LabelSchema(names={"a": (0,), "b": (200 if dtype != np.int16 else 1,)})
    assert labels.encode(np.array([0, labels.names["b"][0]], dtype), "here").tolist() == [1, 2]


def test_undeclared_values_are_listed():
    with pytest.raises(DataError) as caught:
        MERGED.encode(np.array([[0, 9, -2]]), "case_7.png")
    assert str(caught.value) == (
        "case_7.png: undeclared label values: -2, 9; declared: background = 0, organ = 3/5, lesion = -7. "
        "Name them under data.labels.names, set data.labels.others=background or data.labels.ignore_value, or "
        "map them in a copy: medseg data check DATA --fix DIR --map -2=NEW."
    )
    text, hint = describe_undeclared(list(range(100, 115)), MERGED)
    assert "100, 101, 102, 103, 104, 105, 106, 107, 108, 109 and 5 more" in text
    assert "data.labels.instances=foreground" in hint


def test_instances_are_collapsed():
    labels = LabelSchema(names={"background": (0,), "cell": (1,)}, collapse_instances=True, ignore_value=65535)
    values = np.array([0, 1, 2, 999, -3, 65535])
    assert labels.encode(values, "here").tolist() == [1, 2, 2, 2, 2, 0]


def test_regions_by_hand():
    assert REGIONS.activation == "sigmoid"
    assert REGIONS.class_names == ("whole", "core", "enh")
    assert REGIONS.num_classes == 3
    # each region is painted with the value of a label that no later one holds
    assert REGIONS.painted_values == (1, 2, 4)
    assert REGIONS.region_table.tolist() == [
        [False, True, True, True],
        [False, False, True, True],
        [False, False, False, True],
    ]
    assert REGIONS.evaluated == {"whole": (1, 2, 4), "core": (2, 4), "enh": (4,)}


@given(st.lists(st.sampled_from([0, 1, 2, 4]), min_size=6, max_size=6))
def test_regions_to_classes_inverts_classes_to_regions(values):
    label_map = np.array(values).reshape(2, 3)
    masks = REGIONS.region_table[:, REGIONS.encode(label_map, "here").astype(int) - 1]
    assert np.array_equal(REGIONS.paint(masks), label_map)


def test_regions_are_painted_in_their_order():
    # overlapping answers: the last region wins
    masks = np.array([[True, True, False, False], [False, True, False, True], [False, False, False, True]])
    assert REGIONS.paint(masks).tolist() == [1, 2, 0, 4]


def test_without_regions_classes_are_the_labels():
    assert (MERGED.activation, MERGED.num_classes) == ("softmax", 3)
    assert MERGED.class_names == ("background", "organ", "lesion")
    assert MERGED.output_values == (0, 3, -7)
    assert MERGED.evaluated == {"organ": (3, 5), "lesion": (-7,)}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"names": {"a": 0}}, "at least 2 items"),
        ({"names": {"a": 0, "b": []}}, "at least 1 item"),
        ({"names": {"a": 0, "b": [1, 0]}}, r"the values \[0\] are assigned to several labels"),
        ({"names": {"a": 0, "b": 1}, "ignore_value": 1}, "the ignore value 1 is also the value of a label"),
        ({"names": {"a": 0, "b": 1, "c": 2}, "collapse_instances": True}, "leaves two labels"),
        ({"names": {"a": 0, "b": 1}, "regions": {"r": ["c"]}}, r"region 'r' names \['c'\]"),
        ({"names": {"a": 0, "b": 1}, "regions": {"r": []}}, "region 'r' names no labels"),
        (
            {"names": {"a": 0, "b": 1, "c": 2}, "regions": {"small": ["c"], "large": ["b", "c"]}},
            "region 'small' lies within the regions listed after it.*largest to the smallest",
        ),
    ],
)
def test_contradictory_labels_raise(settings, expected):
    with pytest.raises(ValidationError, match=expected):
        LabelSchema.model_validate(settings)


def test_labels_survive_json():
    for labels in (MERGED, REGIONS):
        assert LabelSchema.model_validate_json(labels.model_dump_json()) == labels


def test_guessed_labels():
    assert guess_schema({0, 255}).names == {"background": (0,), "foreground": (255,)}
    assert guess_schema({1, 2}).names == {"background": (1,), "foreground": (2,)}
    assert guess_schema({3, 0, -1}).names == {"background": (0,), "label_-1": (-1,), "label_3": (3,)}
    with pytest.raises(ConfigError, match=r"hold only the value \[0\]"):
        guess_schema({0})
    with pytest.raises(ConfigError, match=r"65 different values.*data\.labels\.instances=foreground"):
        guess_schema(set(range(65)))


def test_colors_have_known_names_and_8_bits():
    labels = LabelSchema.model_validate({"names": {"none": 0, "car": 1}, "colors": {"car": [0, 0, 142]}})
    assert labels.colors == {"car": (0, 0, 142)}
    assert LabelSchema.model_validate_json(labels.model_dump_json()) == labels
    assert LabelSchema.model_validate({"names": {"none": 0, "car": 1}}).colors == {}  # as models were before
    with pytest.raises(ValidationError, match=r"colors of \['bus'\], which are not labels; known: .*'car'"):
        LabelSchema.model_validate({"names": {"none": 0, "car": 1}, "colors": {"bus": [0, 0, 0]}})
    with pytest.raises(ValidationError, match="less than or equal to 255"):
        labels.with_colors({"car": (0, 0, 256)})
    assert labels.with_colors({"none": (1, 2, 3), "bus": (4, 5, 6)}).colors == {
        "car": (0, 0, 142),
        "none": (1, 2, 3),
    }
