"""Files of the objects of a case: a table of measures, COCO JSON and GeoJSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from io import StringIO
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from medseg.data.io.pictures import apply_palette
from medseg.data.labels.schema import LabelSchema
from medseg.data.scans import Scan
from medseg.files import write_atomic, write_text
from medseg.geometry import Array
from medseg.instances.result import Instances
from medseg.instances.run_lengths import compress_runs, run_lengths
from medseg.report.export.contour_files import polygon_feature
from medseg.report.media.contours import label_polygons
from medseg.report.palette import Legend

FOLDER = "instances"
TABLE = "instances.csv"
"""Table of the objects of all cases, in the output folder."""

_COMMON_COLUMNS = "case,instance,class,score,"
_SUFFIXES = (".csv", ".json", ".geojson")


def instance_paths(output: Path, case: str) -> list[Path]:
    """List every file of the objects of a case."""
    return [output / FOLDER / f"{case}{suffix}" for suffix in _SUFFIXES]


def write_instance_files(
    output: Path, case: str, instances: Instances, scan: Scan, labels: LabelSchema, staged: ExitStack
) -> None:
    """Write ``instances/CASE.csv`` and, for pictures, ``CASE.json`` (COCO) and ``CASE.geojson`` (QuPath).

    Args:
        output: output folder.
        case: id of the case.
        instances: the objects.
        scan: the input.
        labels: names of the classes.
        staged: receives the temporary files; they get their final names when the stack is closed.
    """
    writer = InstanceWriter(instance_paths(output, case), case, scan.path.name, labels, staged)
    writer.add(instances, instances.mean_intensities(apply_palette(scan)), scan.grid.affine)
    writer.finish(instances.shape)


class InstanceWriter:
    """Writes the files of the objects of a case, also part by part.

    Sizes in the table are in mm³ (volumes) or pixels (pictures), centers and boxes in voxels along each array
    axis; the center of the first voxel is 0, and boxes end at their last voxel. Volumes also have the center in
    mm (RAS).

    Args:
        paths: of the table, the COCO JSON and the GeoJSON.
        case: id of the case.
        file_name: name of the image.
        labels: names of the classes.
        staged: receives the temporary files.
        enlarged: rows and columns of the finest level of a pyramid for one of the level that was segmented:
            QuPath's coordinates are those of the finest level.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        case: str,
        file_name: str,
        labels: LabelSchema,
        staged: ExitStack,
        *,
        enlarged: tuple[float, float] = (1.0, 1.0),
    ) -> None:
        self._paths, self._case, self._file_name, self._labels = paths, case, file_name, labels
        self._staged, self._enlarged = staged, enlarged
        self._palette = Legend.of(labels).palette(len(labels.class_names))
        self._streams: list[TextIO] = []
        self._count = 0

    def add(self, instances: Instances, means: Array, affine: Array | None = None) -> None:
        """Add objects.

        Args:
            instances: the objects; their numbers continue those added before.
            means: (N, C) mean intensities.
            affine: of the voxels of volumes.
        """
        if not self._streams:
            self._open(instances, means)
        table, *others = self._streams
        csv.writer(table, lineterminator="\n").writerows(self._rows(instances, means, affine))
        if others:
            for index, (box, mask) in enumerate(zip(instances.boxes, instances.masks, strict=True)):
                number, label = self._count + index + 1, int(instances.classes[index])
                score = round(float(instances.scores[index]), 4)
                before = ",\n" if number > 1 else "\n"
                entry = _coco_entry(number, label, score, (box, mask), instances.shape)
                others[0].write(before + json.dumps(entry))
                others[1].write(before + json.dumps(self._feature(number, label, score, (box, mask))))
        self._count += len(instances)

    def finish(self, shape: tuple[int, ...]) -> None:
        """Complete the files; ``shape`` is that of the image."""
        _, *others = self._streams
        if others:
            image = {"id": 1, "file_name": self._file_name, "height": shape[0], "width": shape[1]}
            names = [{"id": k, "name": name} for k, name in enumerate(self._labels.class_names) if k]
            others[0].write(f'\n], "images": [{json.dumps(image)}], "categories": {json.dumps(names)}}}\n')
            others[1].write("\n]}\n")
        for stream in self._streams:
            stream.close()

    def _open(self, instances: Instances, means: Array) -> None:
        picture = len(instances.shape) == 2
        for path in self._paths if picture else self._paths[:1]:
            temporary = self._staged.enter_context(write_atomic(path))
            self._streams.append(self._staged.enter_context(temporary.open("w", encoding="utf-8")))
        axes = "yx" if picture else "xyz"
        columns = ["case", "instance", "class", "score", "area" if picture else "volume_mm3"]
        columns += [f"center_{axis}" for axis in axes]
        columns += [] if picture else [f"center_{axis}_mm" for axis in axes]
        columns += [f"{end}_{axis}" for axis in axes for end in ("first", "last")]
        columns += ["mean_intensity"] if means.shape[1] == 1 else [f"mean_{c}" for c in range(means.shape[1])]
        self._streams[0].write(",".join(columns) + "\n")
        if picture:
            self._streams[1].write('{"annotations": [')
            self._streams[2].write('{"type": "FeatureCollection", "features": [')

    def _rows(self, instances: Instances, means: Array, affine: Array | None) -> Iterator[list[Any]]:
        """Yield the rows of the table."""
        names, centers, sizes = self._labels.class_names, instances.centers, instances.sizes
        for index in range(len(instances)):
            number, label = self._count + index + 1, names[int(instances.classes[index])]
            row: list[Any] = [self._case, number, label, round(float(instances.scores[index]), 4)]
            row += [f"{sizes[index]:.6g}", *(f"{value:.2f}" for value in centers[index])]
            if affine is not None and len(instances.shape) == 3:
                row += [f"{value:.3f}" for value in affine[:-1, :-1] @ centers[index] + affine[:-1, -1]]
            row += [int(n) for first, last in instances.boxes[index] for n in (first, last - 1)]
            yield [*row, *(f"{value:.6g}" for value in means[index])]

    def _feature(self, number: int, label: int, score: float, region: tuple[Array, Array]) -> dict[str, Any]:
        """Return a GeoJSON detection for QuPath: closed rings, holes as further rings, in pixels."""
        box, mask = region
        offset = box[::-1, 0].astype(np.float64)
        polygons, scale = label_polygons(mask), np.array(self._enlarged[::-1])
        parts: list[list[Array]] = [[(ring + offset) * scale for ring in one.rings] for one in polygons]
        feature = polygon_feature(parts, self._labels.class_names[label], self._palette[label])
        feature["properties"] |= {"objectType": "detection", "measurements": {"score": score}}
        return {**feature, "id": number}


def _coco_entry(
    number: int, label: int, score: float, region: tuple[Array, Array], shape: tuple[int, ...]
) -> dict[str, Any]:
    """Return a COCO annotation with compressed run lengths; the category is the class index."""
    box, mask = region
    (top, bottom), (left, right) = box.tolist()
    height, width = shape
    runs = run_lengths(mask, box, (height, width))
    return {
        "id": number,
        "image_id": 1,
        "category_id": label,
        "segmentation": {"size": [height, width], "counts": compress_runs(runs)},
        "area": int(mask.sum()),
        "bbox": [left, top, right - left, bottom - top],
        "iscrowd": 0,
        "score": score,
    }


def is_instance_table(path: Path) -> bool:
    """Whether a file begins as ``instances.csv`` does."""
    if not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as stream:
        return stream.readline().startswith(_COMMON_COLUMNS)


def write_instance_table(output: Path, cases: Sequence[str]) -> None:
    """Write ``instances.csv``: the rows of all cases that have a table; remove it if none has.

    Args:
        output: output folder.
        cases: ids of the cases with a finished result.
    """
    texts = [
        path.read_text(encoding="utf-8")
        for case in cases
        if (path := instance_paths(output, case)[0]).is_file()
    ]
    table = output / TABLE
    if not texts:
        if is_instance_table(table):
            table.unlink()
        return
    rows = [row for text in texts for row in csv.DictReader(StringIO(text))]
    columns = list(dict.fromkeys(column for text in texts for column in text.partition("\n")[0].split(",")))
    stream = StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(table, stream.getvalue())
