"""Time of the targets of dense instance heads, beside the published method of Cellpose (Stringer et al. 2021).

Cellpose 4 diffuses heat over all objects of a picture at once with torch: each step gathers the nine neighbors
of every voxel, as many steps as the largest object needs. That method is written out here.

    python benchmarks/instance_targets.py [--labels DIR]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from medseg.demo.cells import draw_cells
from medseg.instances.heads.base import build_head
from medseg.instances.options import InstanceTask


def cellpose_flows(labels: np.ndarray) -> np.ndarray:
    """Return the flows (2, H, W) of a label map by Cellpose's method for tensors."""
    padded = np.pad(labels, 1)
    rows, columns = (torch.from_numpy(axis) for axis in np.nonzero(padded))
    around = [(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1)]
    neighbors = torch.stack([torch.stack([rows + y, columns + x]) for y, x in around], dim=1)
    values = torch.from_numpy(padded.astype(np.int64))
    same = values[tuple(neighbors)] == values[rows, columns]
    centers, steps = [], 0
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        own = np.argwhere(labels[box] == number)
        middle = own[((own - own.mean(axis=0)) ** 2).sum(axis=1).argmin()]
        centers.append([middle[0] + box[0].start + 1, middle[1] + box[1].start + 1])
        steps = max(steps, sum(part.stop - part.start + 1 for part in box))
    center = tuple(torch.tensor(centers).T)
    heat = torch.zeros(padded.shape, dtype=torch.double)
    for _ in range(2 * steps):
        heat[center] += 1
        heat[rows, columns] = (heat[tuple(neighbors)] * same).mean(dim=0)
    heat = torch.log1p(heat)
    around = neighbors[:, [2, 1, 4, 3]]
    up, down, left, right = heat[tuple(around)]
    flows = np.zeros((2, *padded.shape))
    flows[:, rows, columns] = np.stack([(up - down).numpy(), (left - right).numpy()])
    flows /= 1e-60 + np.sqrt((flows**2).sum(axis=0))
    return flows[:, 1:-1, 1:-1]


def milliseconds(function: Callable[[np.ndarray], object], pictures: list[np.ndarray]) -> float:
    """Return the mean time of a function per picture."""
    function(pictures[0])
    began = time.perf_counter()
    for picture in pictures:
        function(picture)
    return 1000 * (time.perf_counter() - began) / len(pictures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=Path, help="folder of label maps; synthetic cells by default")
    folder = parser.parse_args().labels
    torch.set_num_threads(1)
    if folder is None:
        pictures = [
            draw_cells((256, 256), (1.0, 1.0), np.random.default_rng(i)).astype(np.int32) for i in range(8)
        ]
    else:
        pictures = [np.asarray(Image.open(path)).astype(np.int32) for path in sorted(folder.glob("*.png"))[:24]]
    print(f"Cellpose's method   {milliseconds(cellpose_flows, pictures):7.1f} ms a picture")
    for decoder in ("flows", "distance", "rays"):
        head = build_head(InstanceTask(decoder=decoder), 2)
        duration = milliseconds(lambda one, head=head: head.targets(one, (1.0, 1.0)), pictures)
        print(f"{decoder:19} {duration:7.1f} ms")


if __name__ == "__main__":
    main()
