"""The scans and objects of an interactive evaluation."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

import cc3d
import numpy as np
from numpy.typing import NDArray

from medseg.data.cases import Case, join_problems
from medseg.data.chunked_statistics import count_values
from medseg.data.io.multichannel import read_image
from medseg.data.labels.label_plan import LabelDeclarations, LabelPlan, plan_labels
from medseg.data.labels.reader import LabelMap
from medseg.data.labels.schema import LabelSchema
from medseg.data.layouts import DatasetListing, LayoutOptions, find_dataset
from medseg.data.scans import Scan
from medseg.errors import ConfigError, DataError
from medseg.evaluation.interactive.options import HUMAN, InteractiveOptions
from medseg.evaluation.interactive.scribbles import Archive, RecordedScribbles, find_archives
from medseg.evaluation.parallel_cases import describe_error
from medseg.prompts import Prompt

_LOGGER = logging.getLogger(__name__)

BoolArray = NDArray[np.bool_]

_PARTNERS = (
    "If names of label maps add a suffix to those of images, give it with --label-suffix; or give a manifest "
    "(CSV with the columns id, image, label) as the data."
)


@dataclass(frozen=True, eq=False)
class TargetObject:
    """An object to segment.

    Attributes:
        name: unique in its case, such as ``tumor`` or ``nucleus 12``.
        label: name of its class.
        mask: (\\*S) bool on the scan's grid.
        recorded: who → prompts that a person made for it, in order.
    """

    name: str
    label: str
    mask: BoolArray
    recorded: Mapping[str, Sequence[Prompt]] = field(default_factory=dict[str, Sequence[Prompt]])


@dataclass(frozen=True, eq=False)
class InteractiveCase:
    """A scan with its objects.

    Attributes:
        id: unique in an evaluation.
        scan: what is opened: a file, a scan in memory, or an array (\\*S) or channels first.
        objects: the objects.
        spacing: in mm, of an array.
        group: part of the dataset that the case comes from, such as a source; scores of each are reported.
        skipped: number of objects that are left out, because they are small or too many.
        image: (C, \\*S), for pictures in a report; None if they are to be drawn from ``scan``.
    """

    id: str
    scan: Path | Scan | NDArray[np.generic]
    objects: Sequence[TargetObject]
    spacing: tuple[float, ...] | None = None
    group: str = ""
    skipped: int = 0
    image: NDArray[np.generic] | None = None

    def read(self, options: InteractiveOptions) -> InteractiveCase:
        """Return the case itself."""
        return self

    def channels(self) -> NDArray[np.generic] | None:
        """Return the image (C, \\*S); None if it is only known as a file."""
        if self.image is not None or isinstance(self.scan, Path):
            return self.image
        array = self.scan.array if isinstance(self.scan, Scan) else self.scan
        dims = self.objects[0].mask.ndim if self.objects else array.ndim
        return array[None] if array.ndim == dims else array


class CaseSource(Protocol):
    """A case that is read when its turn comes."""

    @property
    def id(self) -> str: ...

    def read(self, options: InteractiveOptions) -> InteractiveCase:
        """Read the scan and its objects."""
        ...


@dataclass(frozen=True, eq=False)
class _Candidate:
    """An object that may be chosen: its names, its number of voxels, and how its mask is drawn."""

    name: str
    label: str
    size: int
    draw: Callable[[], BoolArray]


@dataclass(frozen=True, eq=False)
class DatasetCase:
    """A case of a dataset in any layout.

    Attributes:
        case: its files.
        plan: how its label files are read.
        schema: meaning of the values; None if they number instances.
        scribbles: recorded scribbles; None without.
    """

    case: Case
    plan: LabelPlan
    schema: LabelSchema | None
    scribbles: RecordedScribbles | None = None

    @property
    def id(self) -> str:
        return self.case.id

    def read(self, options: InteractiveOptions) -> InteractiveCase:
        """Read the image and the label map, and separate the objects."""
        scan = read_image(self.case)
        label_map = self.plan.reader.read(self.case, scan)
        if label_map is None:
            raise DataError(f"{self.id}: no label map")
        candidates = self._candidates(label_map, options)
        chosen = _choose(candidates, self.id, options)
        names = [one.name for one in chosen]
        recorded = {} if self.scribbles is None else self.scribbles.of(self.id, names, scan.grid)
        targets = [TargetObject(one.name, one.label, one.draw(), recorded.get(one.name, {})) for one in chosen]
        opened = scan if self.case.other_channels else self.case.image
        group = self.case.metadata.get("source", "")
        skipped = len(candidates) - len(targets)
        return InteractiveCase(self.id, opened, targets, None, group, skipped, scan.array)

    def _candidates(self, label_map: LabelMap, options: InteractiveOptions) -> list[_Candidate]:
        values = np.asarray(label_map.values)
        if self.schema is None:
            numbered = values if label_map.objects is None else label_map.objects
            counts = count_values(numbered)
            return [
                _Candidate(f"object {n}", "object", size, partial(np.equal, numbered, n))
                for n, size in counts.items()
                if n > 0
            ]
        classes = self.schema.evaluated.items()
        if options.objects == "components":
            return [one for name, group in classes for one in _components(name, values, group)]
        counts = count_values(values)
        sizes = {name: sum(counts.get(value, 0) for value in group) for name, group in classes}
        return [
            _Candidate(name, name, sizes[name], partial(np.isin, values, group))
            for name, group in classes
            if sizes[name]
        ]


@dataclass(frozen=True)
class ArchiveCase:
    """A case in an ``.npz`` archive; its label map is one object, all that is not 0."""

    archive: Archive

    @property
    def id(self) -> str:
        return self.archive.id

    def read(self, options: InteractiveOptions) -> InteractiveCase:
        """Read the archive; colors may be its first or last axis."""
        image, label, recorded = self.archive.load()
        mask = np.asarray(label > 0, bool)
        if image.shape[:-1] == mask.shape:
            image = np.moveaxis(image, -1, 0)
        if mask.shape not in (image.shape, image.shape[1:]):
            raise DataError(
                f"{self.archive.path}: the image has the shape {image.shape}, the label map {mask.shape}",
                path=self.archive.path,
            )
        objects = [TargetObject("object", "object", mask, recorded)] if mask.any() else []
        return InteractiveCase(self.id, image, objects, (1.0,) * mask.ndim, self.archive.group)


def find_interactive_cases(
    data: Path,
    options: InteractiveOptions,
    *,
    scribbles: Path | None = None,
    layout: LayoutOptions | None = None,
) -> list[CaseSource]:
    """List the labeled cases of a dataset.

    Args:
        data: a dataset in any layout, of which only the test part is used if its label maps are there; or a
            folder of ``.npz`` archives with the arrays ``image``, ``label`` and, optionally, ``scribbles``, as
            MedScribble ships its cases.
        options: says what one object is.
        scribbles: folder of recorded scribbles, see `RecordedScribbles`.
        layout: selects files where the layout leaves it open.

    Raises:
        DataError: if there is no labeled case, or none can be read.
    """
    archives = find_archives(data)
    if archives:
        _check_human(options, any("scribbles" in archive.arrays for archive in archives))
        return [ArchiveCase(archive) for archive in archives]
    _check_human(options, scribbles is not None)
    listing = _list_dataset(data, layout or LayoutOptions())
    labeled = [case for case in listing.cases if case.label_files]
    tested = [case for case in labeled if case.part == "test"]
    cases = tested or labeled
    instances = "keep" if options.objects == "instances" else None
    declared = LabelDeclarations(layout=listing.labels, instances=instances)
    plan = plan_labels(cases, declared, folder=Path(data))
    schema = None if options.objects == "instances" else _schema(plan)
    recorded = None if scribbles is None else RecordedScribbles(Path(scribbles))
    if recorded is not None:
        recorded.check([case.id for case in cases])
    return [DatasetCase(case, plan, schema, recorded) for case in cases]


def _list_dataset(data: Path, layout: LayoutOptions) -> DatasetListing:
    """List a dataset that has label maps.

    Raises:
        DataError: files lack their partner, or no case has a label map.
    """
    found = find_dataset(data, layout)
    listing = found.labeled()
    try:
        listing.checked()
    except DataError as error:
        raise DataError(error.message, hint=_PARTNERS, path=Path(data)) from error
    if not any(case.label_files for case in listing.cases):
        title, reasons = f"{data}: no case has a label map", [finding.message for finding in found.findings]
        raise DataError(join_problems(title, reasons) if reasons else title, hint=_PARTNERS, path=Path(data))
    unlabeled = [case.id for case in found.cases if not case.label_files]
    if unlabeled:
        _LOGGER.warning(join_problems(f"{data}: cases without a label map, left out", unlabeled))
    return listing


def _check_human(options: InteractiveOptions, has_scribbles: bool) -> None:
    if HUMAN in options.users and not has_scribbles:
        raise DataError(
            f"--user {HUMAN}: the dataset has no recorded scribbles",
            hint=f"Add --scribbles FOLDER, or leave out --user {HUMAN}.",
        )


def _schema(plan: LabelPlan) -> LabelSchema:
    if plan.schema is not None:
        return plan.schema
    values = _values(plan)
    try:
        return plan.resolve(values).schema
    except ConfigError as error:
        raise DataError(
            f"{plan.folder}: the label maps hold {len(values)} different values, and no names are declared",
            hint="Add --objects if the values number objects.",
        ) from error


def _values(plan: LabelPlan) -> set[int]:
    """Return the values of all label maps; a case that cannot be read is left out here, and fails later.

    Raises:
        DataError: no case can be read.
    """
    values: set[int] = set()
    faults: list[str] = []
    for case in plan.cases:
        try:
            label_map = plan.reader.read(case, read_image(case))
        except Exception as error:  # a damaged file can make a library raise anything
            faults.append(f"{case.id}: {describe_error(error)}")
            continue
        if label_map is not None:
            values |= set(count_values(label_map.values))
    if len(faults) == len(plan.cases):
        raise DataError(join_problems("no case can be read", faults))
    return values


def _components(name: str, values: NDArray[np.integer], group: Sequence[int]) -> list[_Candidate]:
    """Return the connected components of a class; each is drawn from the values again, to bound memory."""
    sizes = np.bincount(_number_components(values, group).ravel()).tolist()[1:]
    return [
        _Candidate(f"{name} {number}", name, size, partial(_draw_component, values, group, number))
        for number, size in enumerate(sizes, start=1)
    ]


def _draw_component(values: NDArray[np.integer], group: Sequence[int], number: int) -> BoolArray:
    return _number_components(values, group) == number


def _number_components(values: NDArray[np.integer], group: Sequence[int]) -> NDArray[np.integer]:
    return cc3d.connected_components(np.isin(values, group), connectivity=26 if values.ndim == 3 else 8)


def _choose(candidates: Sequence[_Candidate], case: str, options: InteractiveOptions) -> list[_Candidate]:
    """Leave out small objects and draw the most that a case may have, by the case's name."""
    kept = [one for one in candidates if one.size >= options.least_voxels]
    if len(kept) > options.most_objects:
        rng = np.random.default_rng(stable_seed(options.seed, case))
        chosen: list[int] = sorted(rng.choice(len(kept), options.most_objects, replace=False).tolist())
        kept = [kept[i] for i in chosen]
    return kept


def stable_seed(*parts: object) -> int:
    """Return a seed that follows from texts and numbers, the same in every process."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big")
