"""COCO panoptic files from the results of two models: one tells things apart, the other segments stuff."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medseg.data.cases import list_images
from medseg.data.io.coco_panoptic import PanopticCategory, PanopticWriter
from medseg.data.io.readers import image_stem, read_scan
from medseg.data.labels.schema import LabelSchema
from medseg.data.scans import align_to_grid, as_label_map
from medseg.errors import DataError
from medseg.evaluation.labels import read_labels
from medseg.evaluation.objects.references import numbered_objects, read_class_table, read_score_table
from medseg.files import check_exists
from medseg.instances.panoptic import DEFAULT_OPTIONS, PanopticOptions, PanopticSegments, merge_panoptic
from medseg.instances.result import Instances


@dataclass(frozen=True)
class _Sources:
    """The folders of both models, and the categories of their labels, by name."""

    things: Path
    stuff: Path
    categories: tuple[PanopticCategory, ...]

    @property
    def ids(self) -> dict[str, int]:
        """Name of a category → its id."""
        return {one.name: one.id for one in self.categories}


def merge_panoptic_folders(
    things: Path | str, stuff: Path | str, output: Path | str, options: PanopticOptions = DEFAULT_OPTIONS
) -> list[str]:
    """Merge the pictures of two folders of ``medseg infer`` into ``panoptic.json`` and ``panoptic/CASE.png``.

    Labels that both models have are things.

    Args:
        things: results of a model that tells objects apart.
        stuff: results of a model of classes.
        output: folder of the files.
        options: thresholds of the merge.

    Returns:
        The cases.

    Raises:
        DataError: a folder or its ``medseg.json`` is missing, or no picture is in both.
        ConfigError: a ``medseg.json`` is damaged.
    """
    sources = _sources(Path(things), Path(stuff))
    own, other = ({image_stem(p): p for p in list_images(one)} for one in (sources.things, sources.stuff))
    cases = sorted(own.keys() & other.keys())
    if not cases:
        raise DataError(
            f"{things} and {stuff}: no picture is in both folders",
            hint="Run medseg infer on the same images with both models.",
        )
    writer = PanopticWriter(Path(output) / "panoptic.json", sources.categories)
    for case in cases:
        merged = _merge_case(sources, own[case], other[case], options)
        classes = {number: int(kind) for number, kind in enumerate(merged.classes, start=1)}
        writer.add(case, merged.segments, classes)
    writer.finish()
    return cases


def _sources(things: Path, stuff: Path) -> _Sources:
    labels: list[LabelSchema] = []
    for folder in (things, stuff):
        check_exists(folder)
        file = folder / "medseg.json"
        if not file.is_file():
            raise DataError(
                f"{file}: no such file",
                hint="Give two folders that medseg infer has written: of things, then of stuff.",
                path=file,
            )
        labels.append(read_labels(file))
    countable = list(labels[0].names)[1:]
    names = [*countable, *(name for name in list(labels[1].names)[1:] if name not in countable)]
    categories = [PanopticCategory(i, name, name in countable) for i, name in enumerate(names, start=1)]
    return _Sources(things, stuff, tuple(categories))


def _merge_case(sources: _Sources, things: Path, stuff: Path, options: PanopticOptions) -> PanopticSegments:
    found = numbered_objects(read_scan(things))
    if found.numbers.ndim != 2:
        raise DataError(f"{things}: is a volume; COCO's panoptic files hold pictures", path=things)
    table = sources.things / "instances" / f"{image_stem(things)}.csv"
    kinds, scores = read_class_table(table) or {}, read_score_table(table) or {}
    ids, fallback = sources.ids, sources.categories[0].name
    present = found.present
    numbers = np.searchsorted([0, *present], found.numbers)
    instances = Instances.from_label_map(
        numbers,
        np.array([ids[kinds.get(number, fallback)] for number in present], np.int64),
        np.array([scores.get(number, 1.0) for number in present], np.float64),
    )
    values = as_label_map(align_to_grid(read_scan(stuff), found.grid))
    names = read_labels(sources.stuff / "medseg.json").names
    kinds_of_stuff = np.zeros(values.shape, np.int64)
    for name, group in list(names.items())[1:]:
        kinds_of_stuff[np.isin(values, group)] = ids[name]
    classes = tuple(one.id for one in sources.categories if not one.is_thing)
    return merge_panoptic(instances, kinds_of_stuff, classes, options)
