"""The store of embeddings: bounds in memory and on disk, order of removal, damaged files."""

import os
import threading

import numpy as np
import pytest
import torch

from medseg.sam.embeddings import EmbeddingStore, embedding_key


def _embedding(value: float):
    return (torch.full((1, 8, 16, 16), value), torch.full((1, 2, 4, 4), -value))


BYTES = 2 * (8 * 16 * 16 + 2 * 4 * 4)
"""Of an embedding in float16."""


def test_embeddings_of_200_slices_stay_within_the_bounds(tmp_path):
    store = EmbeddingStore(tmp_path, disk_bytes=20 * (BYTES + 1024), memory_bytes=5 * BYTES)
    for index in range(200):
        store.get(f"{index:03}", lambda i=index: _embedding(i))
        assert store.memory_used <= 5 * BYTES
        assert store.disk_used <= 20 * (BYTES + 1024)
    kept = sorted(path.stem for path in tmp_path.glob("*.safetensors"))
    assert kept[-1] == "199"
    assert 20 <= len(kept) <= 24  # files have less than 1024 bytes of header
    assert len(store._kept) == 5
    assert not list(tmp_path.glob(".tmp-*"))


def test_embeddings_not_used_for_longest_are_removed_first(tmp_path):
    store = EmbeddingStore(tmp_path, disk_bytes=3 * (BYTES + 1024), memory_bytes=0)
    for index, name in enumerate("abc"):
        store.get(name, lambda: _embedding(1))
        os.utime(tmp_path / f"{name}.safetensors", (index, index))
    store.get("a", lambda: pytest.fail("it is on disk"))  # a is used again, so b is the oldest
    store.disk_bytes = store.disk_used
    store.get("d", lambda: _embedding(2))
    assert {path.stem for path in tmp_path.glob("*.safetensors")} <= {"a", "c", "d"}
    assert "b" not in {path.stem for path in tmp_path.glob("*.safetensors")}


def test_same_numbers_whether_computed_or_kept(tmp_path):
    value = 1 / 3
    store = EmbeddingStore(tmp_path)
    first = store.get("a", lambda: _embedding(value))
    again = store.get("a", lambda: pytest.fail("it is in memory"))
    other = EmbeddingStore(tmp_path).get("a", lambda: pytest.fail("it is on disk"))
    assert first[0].dtype == torch.float32
    for one in (again, other):
        for part, same in zip(first, one, strict=True):
            torch.testing.assert_close(part, same, atol=0, rtol=0)
    exact = EmbeddingStore(dtype=torch.float32).get("a", lambda: _embedding(value))
    assert exact[0][0, 0, 0, 0] == torch.tensor(value)


def test_damaged_file_is_computed_again(tmp_path):
    EmbeddingStore(tmp_path).get("a", lambda: _embedding(1))
    file = tmp_path / "a.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    found = EmbeddingStore(tmp_path).get("a", lambda: _embedding(2))
    assert found[0].unique().tolist() == [2]
    assert EmbeddingStore(tmp_path).get("a", lambda: pytest.fail("it is on disk"))[0].unique().tolist() == [2]


def test_embedding_larger_than_the_bounds_is_not_kept(tmp_path):
    store = EmbeddingStore(tmp_path, disk_bytes=100, memory_bytes=100)
    assert store.get("a", lambda: _embedding(1))[0].shape == (1, 8, 16, 16)
    assert (store.disk_used, store.memory_used) == (0, 0)
    assert not store.holds(1, _embedding(1))
    assert EmbeddingStore(memory_bytes=2 * BYTES).holds(2, _embedding(1))
    assert not EmbeddingStore(memory_bytes=2 * BYTES).holds(3, _embedding(1))


def test_several_threads(tmp_path):
    store = EmbeddingStore(tmp_path, disk_bytes=6 * (BYTES + 1024), memory_bytes=3 * BYTES)
    wrong: list[int] = []

    def work(first: int) -> None:
        for index in range(first, first + 30):
            found = store.get(str(index % 10), lambda i=index: _embedding(i % 10))
            if found[0].unique().tolist() != [index % 10]:
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert store.memory_used <= 3 * BYTES
    assert store.disk_used <= 6 * (BYTES + 1024)


def test_key_depends_on_picture_encoder_and_preprocessing():
    picture = np.zeros((4, 6, 3), np.uint8)
    other = picture.copy()
    other[0, 0, 0] = 1
    keys = {
        embedding_key(picture, "a", "sam"),
        embedding_key(other, "a", "sam"),
        embedding_key(picture.reshape(6, 4, 3), "a", "sam"),
        embedding_key(picture, "b", "sam"),
        embedding_key(picture, "a", "medsam"),
    }
    assert len(keys) == 5
    assert embedding_key(picture[::-1], "a", "sam") in keys  # the same pixels
