from medseg.metrics.tables.mistaken import describe_mistaken, mistaken_labels

CLASSES = ["background", "a", "b", "c"]


def test_half_of_a_label_is_not_most_of_it():
    matrix = [[9, 0, 0, 0], [0, 5, 5, 0], [1, 5, 1, 3], [0, 0, 6, 5]]
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


def test_one_label_predicted_everywhere_is_no_exchange():
    # b is 0.8 of a, 0.9 of b and 0.7 of c: it is predicted wherever there is anything
    matrix = [[90, 1, 9, 0], [1, 1, 8, 0], [1, 0, 9, 0], [2, 0, 7, 1]]
    assert mistaken_labels({"classes": CLASSES, "confusion": matrix}) == []


def test_exchanged_and_shifted_labels_are_found():
    exchanged = [[90, 0, 0, 0], [1, 2, 7, 0], [2, 6, 1, 1], [0, 0, 0, 9]]
    assert mistaken_labels({"classes": CLASSES, "confusion": exchanged}) == [("a", "b"), ("b", "a")]
    shifted = [[90, 0, 0, 0], [8, 2, 0, 0], [0, 9, 1, 0], [0, 0, 8, 2]]  # a is background, b is a, c is b
    assert mistaken_labels({"classes": CLASSES, "confusion": shifted}) == [("b", "a"), ("c", "b")]
