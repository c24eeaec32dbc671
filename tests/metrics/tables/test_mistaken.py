from medseg.metrics.tables.mistaken import describe_mistaken, mistaken_labels

CLASSES = ["background", "a", "b", "c"]


def test_half_of_a_label_is_not_most_of_it():
    matrix = [[9, 0, 0, 0], [0, 5, 5, 0], [1, 5, 4, 0], [0, 0, 6, 5]]
    assert mistaken_labels({"classes": CLASSES, "confusion": matrix}) == [("c", "b")]


def test_what_is_missed_or_correct_is_no_mistake():
    matrix = [[1, 8, 0, 0], [9, 1, 0, 0], [0, 0, 5, 4], [0, 0, 0, 0]]
    assert mistaken_labels({"classes": CLASSES, "confusion": matrix}) == []
    assert mistaken_labels({}) == []


def test_many_labels_are_counted():
    pairs = [(f"v{i}", f"v{i + 1}") for i in range(1, 9)]
    assert describe_mistaken(pairs, 2) == (
        "Most of v1 is predicted as v2, and most of v2 as v3, and so on (6 more): are names or values shifted?"
    )
    both = [("a", "b"), ("b", "a"), ("c", "d"), ("d", "c")]
    assert describe_mistaken(both) == (
        "Most of a is predicted as b, and the other way round, and most of c as d, and the other way round: "
        "are names or values exchanged?"
    )
    assert describe_mistaken([]) == ""
