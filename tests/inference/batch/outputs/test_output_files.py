from contextlib import ExitStack
from types import SimpleNamespace

import numpy as np

from medseg.inference.batch.outputs.files import write_probabilities


def test_stored_probabilities_of_pictures_do_not_become_certain(tmp_path):
    probability = np.full((1, 2, 2), 0.9998, np.float32)
    both = np.concatenate([1 - probability, probability])
    prediction = SimpleNamespace(probabilities=both, scan=SimpleNamespace(kind="picture"))
    with ExitStack() as staged:
        write_probabilities(tmp_path, "a", prediction, staged)  # type: ignore[arg-type]
    with np.load(tmp_path / "probabilities" / "a.npz") as content:
        assert np.array_equal(content["probabilities"], both)
