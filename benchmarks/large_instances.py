"""Objects in a picture of 10,000 × 10,000 pixels: time, memory, and whether strips show in them.

    .venv/bin/python benchmarks/large_instances.py DATA --model MODEL [--size 10000] [--folder DIR]

DATA is a dataset of pictures with numbered objects (``data.instances=keep``), MODEL a run folder or model file
that tells objects apart. The pictures are cut into tiles; those with the most objects are laid side by side in
a block, and copies of the block fill a tiled TIFF. ``medseg infer`` segments it in strips, in a child process:
its time, most resident memory (Linux) and number of objects are printed.

A part of the size of the block, from the middle of the picture, is then segmented in memory and decoded as a
whole. It begins where a window begins and has the pixels of the block in another order, so that windows and
statistics (zscore) are those of the picture. Away from its border, both have the same objects, pixel by pixel,
if the strips do not show.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from medseg.data.io.multichannel import read_image
from medseg.data.io.pictures import convert_channels
from medseg.data.io.readers import read_scan
from medseg.data.labels.config import LabelConfig
from medseg.data.labels.label_plan import LabelDeclarations, plan_labels
from medseg.data.layouts import find_dataset
from medseg.data.tiled.formats import open_tiled
from medseg.inference.model import instance_prediction
from medseg.inference.model.instance_prediction import InstanceDecoder
from medseg.inference.model.model_file import ModelHeader
from medseg.inference.model.predictor import Predictor
from medseg.instances import Instances

Array = np.ndarray
TILE = 512
"""Of the TIFF."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the files, run, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="dataset of pictures with numbered objects")
    parser.add_argument("--model", type=Path, required=True, help="run folder or model file")
    parser.add_argument("--size", type=int, default=10_000, help="pixels a side")
    parser.add_argument("--part", type=int, default=2_000, help="pixels a side of the block, and of the part")
    parser.add_argument("--tile", type=int, default=250, help="pixels a side of what is cut from a picture")
    parser.add_argument("--objects", type=int, default=200_000, help="objects that the picture should have")
    parser.add_argument("--window", type=int, default=512, help="pixels a side of a window")
    parser.add_argument("--away", type=int, default=64, help="pixels beyond those that border windows change")
    parser.add_argument("--strip", type=int, help="values of a strip, for trials with small pictures")
    parser.add_argument("--backend", default="auto", help="of medseg infer")
    parser.add_argument("--set", action="append", default=[], help="of medseg infer, but overlap")
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    options = parser.parse_args(arguments)
    if options.size % options.part or options.part % options.tile or options.size < 2 * options.part:
        parser.error("--size has to be 2, 3 … times --part, and --part a multiple of --tile")
    if any(one.startswith(("overlap", "roi_size")) for one in options.set):
        parser.error("--set: overlap is the model's, and roi_size is --window")
    with tempfile.TemporaryDirectory(prefix="medseg-objects-", dir=options.folder) as name:
        print_figures(options, measure(options, Path(name)))
    return 0


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run the benchmark in a folder; return its figures."""
    header = Predictor(options.model).header
    block, labeled = make_block(options, header)
    write_picture(folder / "picture.tif", block, options.size)
    step = int(options.window * (1 - header.inference.overlap))
    first = (options.size - options.part) // 2 // step * step
    part = block[np.ix_(*2 * [np.arange(first, first + options.part) % options.part])]
    tifffile.imwrite(folder / "part.tif", part, photometric="rgb" if part.ndim == 3 else "minisblack")
    figures: dict[str, Any] = {"labeled": labeled * (options.size // options.part) ** 2, "first": first}
    began = time.perf_counter()
    infer(options, folder / "picture.tif", folder / "out", "large_above=0", strip=options.strip)
    figures["minutes"] = (time.perf_counter() - began) / 60
    figures["gib"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    files = ["picture.tif", "out/picture.tif", *(f"out/instances/picture.{end}" for end in ("json", "geojson"))]
    figures["mib"] = {file: (folder / file).stat().st_size / 2**20 for file in files}
    with (folder / "out" / "instances" / "picture.csv").open() as table:
        figures["objects"] = sum(1 for _ in table) - 1
    infer(options, folder / "part.tif", folder / "whole")
    inner = slice(options.window - step + options.away, options.part - options.window - options.away)
    borders = [row for row in strip_starts(options, header) if inner.start < row - first < inner.stop]
    found = compare(folder / "out" / "picture.tif", next((folder / "whole").glob("part.*")), first, inner)
    return {**figures, **found, "borders": len(borders)}


def make_block(options: argparse.Namespace, header: ModelHeader) -> tuple[Array, int]:
    """Return a block (part, part[, 3]) of tiles, and the number of objects of their labels."""
    tiles = cut_tiles(options.data, options.tile, header.channels)
    if not tiles:
        raise SystemExit(f"{options.data}: no picture has {options.tile} × {options.tile} pixels")
    tiles.sort(key=lambda tile: -tile[1])
    across = options.part // options.tile
    wanted = options.objects / (options.size // options.tile) ** 2
    means = np.cumsum([count for _, count in tiles]) / np.arange(1, len(tiles) + 1)
    used = max(1, int((means >= wanted).sum()))
    order = [int(i) for _ in range(-(-(across**2) // used)) for i in np.random.default_rng(0).permutation(used)]
    rows = [order[start : start + across] for start in range(0, across**2, across)]
    block = np.concatenate([np.concatenate([tiles[i][0] for i in row], axis=1) for row in rows])
    return block, sum(tiles[i][1] for row in rows for i in row)


def cut_tiles(data: Path, side: int, channels: int) -> list[tuple[Array, int]]:
    """Return the tiles (side, side[, 3]) of all pictures, and the number of objects in each."""
    listing = find_dataset(data)
    plan = plan_labels(
        listing.checked().cases, LabelDeclarations(LabelConfig(), layout=listing.labels, instances="keep")
    )
    tiles: list[tuple[Array, int]] = []
    for case in plan.cases:
        scan = read_image(case)
        objects = plan.reader.read(case, scan).objects
        pixels = np.moveaxis(convert_channels(scan, channels), 0, -1)
        if pixels.dtype != np.uint8 or objects is None:
            raise SystemExit(f"{case.image}: expected 8-bit pixels and numbered objects")
        pixels = pixels[..., 0] if channels == 1 else pixels
        for top in range(0, pixels.shape[0] - side + 1, side):
            for left in range(0, pixels.shape[1] - side + 1, side):
                place = (slice(top, top + side), slice(left, left + side))
                tiles.append((pixels[place], len(np.unique(objects[place])) - int((objects[place] == 0).any())))
    return tiles


def write_picture(path: Path, block: Array, size: int) -> None:
    """Write copies of a block as a tiled TIFF, deflated."""

    def tiles() -> Iterator[Array]:
        for top in range(0, size, TILE):
            for left in range(0, size, TILE):
                rows, columns = (np.arange(start, start + TILE) % len(block) for start in (top, left))
                yield block[np.ix_(rows, columns)]

    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        tiff.write(
            tiles(), shape=(size, size, *block.shape[2:]), dtype=np.uint8, tile=(TILE, TILE),
            compression="zlib", photometric="rgb" if block.ndim == 3 else "minisblack", metadata=None,
        )  # fmt: skip


def infer(
    options: argparse.Namespace, picture: Path, output: Path, *settings: str, strip: int | None = None
) -> None:
    """Run ``medseg infer`` on a picture in a child process."""
    start = ["-m", "medseg"]
    if strip is not None:
        start = ["-c", f"import {instance_prediction.__name__} as one; one._STRIP = {strip}\n"
                       "from medseg.cli.main import main; main()"]  # fmt: skip
    settings = (f"roi_size=[{options.window},{options.window}]", *options.set, *settings)
    command = [
        sys.executable, *start, "infer", str(picture), "--model", str(options.model), "--output", str(output),
        "--device", "cpu", "--backend", options.backend, *(text for one in settings for text in ("--set", one)),
    ]  # fmt: skip
    subprocess.run(command, check=True, env={"OMP_NUM_THREADS": "1", **os.environ})


def compare(picture: Path, part: Path, first: int, inner: slice) -> dict[str, int]:
    """Count the objects inside ``inner`` of the part in both label maps, and those that are equal."""
    whole = read_scan(part).array[0]
    image = open_tiled(picture, above=0)
    assert image is not None  # medseg writes label maps of large pictures in tiles
    with image:
        place = slice(first, first + len(whole))
        strips = image.read((place, place))[..., 0]
    found = [inner_objects(label_map, inner) for label_map in (strips, whole)]
    return {"in_strips": len(found[0]), "as_a_whole": len(found[1]), "equal": len(found[0] & found[1])}


def inner_objects(label_map: Array, inner: slice) -> set[tuple[Any, ...]]:
    """Return the place and the pixels of each object that lies inside ``inner`` along both axes."""
    found = Instances.from_label_map(label_map.astype(np.int32))
    inside = (found.boxes[..., 0] >= inner.start) & (found.boxes[..., 1] <= inner.stop)
    kept = found.select(inside.all(axis=1))
    return {(*box.ravel().tolist(), mask.tobytes()) for box, mask in zip(kept.boxes, kept.masks, strict=True)}


def strip_starts(options: argparse.Namespace, header: ModelHeader) -> range:
    """Return the rows of the picture at which strips begin."""
    values = options.strip or instance_prediction._STRIP
    return range(0, options.size, max(64, values // (InstanceDecoder(header).channels * options.size)))


def print_figures(options: argparse.Namespace, figures: dict[str, Any]) -> None:
    """Print what was measured."""
    print(
        f"{options.size} × {options.size}: {figures['objects']:,} objects in {figures['minutes']:.1f} minutes, "
        f"{figures['gib']:.2f} GiB resident at most; {figures['labeled']:,} objects in the labels"
    )
    print(", ".join(f"{file}: {mib:.1f} MiB" for file, mib in figures["mib"].items()))
    print(
        f"part from row and column {figures['first']}, away from its border, {figures['borders']} limits "
        f"of strips inside: {figures['in_strips']:,} objects in strips, {figures['as_a_whole']:,} as a whole, "
        f"{figures['equal']:,} of them equal"
    )


if __name__ == "__main__":
    sys.exit(main())
