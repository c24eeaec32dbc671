"""Active learning: the next image to label."""

import numpy as np
import pytest
from conftest import write_volume
from server_doubles import SHAPE, client_of, make_app, small_models, write_dataset

from medseg.data.io.readers import read_scan
from medseg.server.active_learning import Strategies, leases, select_cases, strategies
from medseg.server.active_learning.descriptors import describe_scan, distances, farthest
from medseg.server.datastore import Author, Datastore
from medseg.server.errors import UnknownIdError
from medseg.server.models import AutomaticModel, ModelPool


def point(*values):
    return np.array(values, float), np.zeros(1)


def test_the_farthest_images_by_hand():
    described = {"a": point(0), "b": point(1), "c": point(10), "d": point(11), "e": point(5)}
    assert farthest(described, ["b", "c", "d", "e"], ["a"], 2) == ["d", "e"]
    assert farthest(described, ["a", "b", "c", "d", "e"], [], 2) == ["e", "d"]
    assert farthest(described, ["b"], ["a"], 3) == ["b"]


def test_uncertain_images_that_differ_are_preferred():
    described = {name: point(value) for name, value in zip("abcdef", (0, 0.1, 5, 0.2, 9, 1), strict=True)}
    scores = dict(zip("abcdef", (0.9, 0.8, 0.7, 0.6, 0.5, 0.4), strict=True))
    rng = np.random.default_rng(0)
    chosen = select_cases(
        "uncertainty", list("abcdef"), [], 2, rng, describe=described.__getitem__, score=scores.__getitem__
    )
    assert chosen == ["a", "e"]
    one = select_cases(
        "uncertainty", list("abcdef"), [], 1, rng, describe=described.__getitem__, score=scores.__getitem__
    )
    assert one == ["a"]
    at_random = [
        select_cases(
            "random", list("abcdef"), [], 3, np.random.default_rng(seed), describe=described.__getitem__
        )
        for seed in range(20)
    ]
    assert len({tuple(sorted(one)) for one in at_random}) > 5


def test_descriptions_see_shape_and_not_the_unit(tmp_path):
    rng = np.random.default_rng(0)
    base = rng.normal(100, 5, SHAPE)
    left, right = base.copy(), base.copy()
    left[:5] += 100
    right[7:] += 100
    files = {"left": left, "scaled": 3 * left, "right": right}
    scans = [
        read_scan(write_volume(tmp_path / f"{name}.nii.gz", values.astype(np.float32)))
        for name, values in files.items()
    ]
    described = [describe_scan(scan) for scan in scans]
    table = distances(described, described)
    assert table[0, 1] < 0.1 * table[0, 2]


@pytest.fixture
def store(tmp_path):
    return Datastore(write_dataset(tmp_path / "data", labeled=1, unlabeled=3))


def test_clients_get_different_images_until_a_lease_ends(store, monkeypatch):
    chooser = Strategies(store, ModelPool([]), lease_seconds=100)
    given = [chooser.next("random", client) for client in ("ana", "ben", "ana")]
    assert sorted(given) == ["scan_1", "scan_2", "scan_3"]
    assert chooser.next("random", "eve") is None
    assert chooser.next("random", "ben") == given[1]
    now = leases.time.time()
    monkeypatch.setattr(leases.time, "time", lambda: now + 200)
    assert chooser.next("random", "eve") in given


def test_servers_of_one_dataset_give_different_images(store, monkeypatch):
    first, second = (Strategies(Datastore(store.root), ModelPool([])) for _ in range(2))
    given = [one.next("random", client) for one, client in ((first, "ana"), (second, "ben"), (first, "ana"))]
    assert sorted(given) == ["scan_1", "scan_2", "scan_3"]
    assert second.next("random", "eve") is None
    first.release(given[0])
    assert second.next("random", "eve") == given[0]
    monkeypatch.setattr(leases, "has_ended", lambda server: True)
    assert second.next("random", "ivy") in given  # what a server gave that has ended


def test_an_image_that_another_server_gave_meanwhile_is_not_given(store, monkeypatch):
    first, second = (Strategies(Datastore(store.root), ModelPool([])) for _ in range(2))
    taken = []

    def slow(strategy, candidates):
        if not taken:
            taken.append(candidates[0])
            second._leases.take(candidates[0], "ben")
        return taken[0] if taken[0] in candidates else candidates[0]

    monkeypatch.setattr(first, "_choose", slow)
    assert first.next("random", "ana") not in (None, *taken)


def test_leases_without_a_file_that_can_be_written(tmp_path):
    (tmp_path / "file").touch()
    for file in (None, tmp_path / "file" / "leases.json"):
        kept = leases.Leases(file, 100)
        assert kept.take("a", "ana")
        assert not kept.take("a", "ben")
        kept.release("a")
        assert kept.take("a", "ben")


def test_without_unlabeled_images_there_is_none(store):
    chooser = Strategies(store, ModelPool([]))
    for id in store.unlabeled():
        store.save(id, np.ones(SHAPE, np.uint8), Author("ana"))
    assert chooser.next("diversity", "ana") is None


def test_the_image_with_the_highest_disagreement_is_next(store, monkeypatch):
    model = AutomaticModel("m", type("P", (), {"digest": "d"})())
    values = {"scan_1": 0.2, "scan_2": 0.7, "scan_3": 0.4}
    monkeypatch.setattr(strategies, "views", lambda predictor: [predictor])
    monkeypatch.setattr(
        strategies, "disagreement", lambda views, scan: values[scan.path.name.removesuffix(".nii.gz")]
    )
    chooser = Strategies(store, ModelPool([model]))
    assert [chooser.next("uncertainty", "ana") for _ in range(3)] == ["scan_2", "scan_3", "scan_1"]
    with pytest.raises(UnknownIdError):
        Strategies(store, ModelPool([])).next("uncertainty", "ana")


def test_broken_images_are_passed_over(store):
    store.scan("scan_1")
    (store.root / "images" / "scan_2.nii.gz").write_bytes(b"broken")
    assert Strategies(store, ModelPool([])).next("diversity", "ana") in ("scan_1", "scan_3")


def test_the_route_describes_the_next_image(tmp_path):
    root = write_dataset(tmp_path / "data", labeled=1, unlabeled=1)
    with client_of(make_app(root, small_models(tmp_path))) as client:
        assert set(client.get("/info/").json()["strategies"]) == {"random", "diversity", "uncertainty"}
        for strategy in ("random", "diversity", "uncertainty"):
            sample = client.post(f"/activelearning/{strategy}", json={"client_id": "ana"}).json()
            assert (sample["id"], sample["name"], sample["path"]) == ("scan_1", "scan_1.nii.gz", "")
            digest = {"image": "scan_1", "check_sum": sample["checksum"]}
            assert client.head("/datastore/image", params=digest).status_code == 200
        assert client.post("/activelearning/random", json={"client_id": "ben"}).json() == {}
        assert client.post("/activelearning/other").status_code == 404
