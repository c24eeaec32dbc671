"""The reports of comparisons of objects and of panoptic segmentations: which cases are drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from medseg.data.io.readers import read_scan
from medseg.data.scans import Scan, align_to_grid
from medseg.errors import MedsegError
from medseg.evaluation.objects.comparison import ObjectEvaluation
from medseg.evaluation.objects.pairing import PairedObjects
from medseg.evaluation.objects.panoptic import PanopticEvaluation
from medseg.evaluation.objects.scores import FOUND_IOU
from medseg.evaluation.pairing import find_images
from medseg.geometry import Grid
from medseg.report.folder_names import without_folders
from medseg.report.html import paragraph
from medseg.report.media.case_view import view_of_objects
from medseg.report.media.figures.object_matches import MatchedObjects, object_figures
from medseg.report.pages.case_sections import CaseSections, with_viewer
from medseg.report.pages.objects import worst_first, write_objects_page
from medseg.report.pages.panoptic import write_panoptic_page


@dataclass(frozen=True)
class DrawnCases:
    """Which cases of a report have pictures.

    Attributes:
        worst: number of cases with the lowest F1.
        middle: number of cases around the median.
        best: number of cases with the highest F1.
        case_bytes: limit of the pictures of a case.
    """

    worst: int = 4
    middle: int = 2
    best: int = 2
    case_bytes: int = 400_000

    def choose(self, ordered: Sequence[str]) -> dict[str, str]:
        """Return case → ``worst``, ``median`` or ``best``, without repetitions.

        Args:
            ordered: all cases, the worst first.

        Example:
            >>> DrawnCases(1, 1, 1).choose("abcde")
            {'a': 'worst', 'c': 'median', 'e': 'best'}
        """
        start = max(0, (len(ordered) - self.middle) // 2)
        ranks = {
            "worst": ordered[: self.worst],
            "median": ordered[start : start + self.middle],
            "best": ordered[max(0, len(ordered) - self.best) :],
        }
        chosen: dict[str, str] = {}
        for rank, cases in ranks.items():
            for case in cases:
                chosen.setdefault(case, rank)
        return chosen


DEFAULT_CASES = DrawnCases()


def write_objects_report(
    path: Path | str,
    evaluation: ObjectEvaluation,
    images: Path | None = None,
    drawn: DrawnCases = DEFAULT_CASES,
) -> None:
    """Write the report of a comparison of objects: verdict, tables, plots, pictures of worst and best cases.

    Args:
        path: file to write, ``.html``.
        evaluation: result of ``evaluate_objects``.
        images: folder of the images, matched by name; None: those of the dataset that has the references, or
            none.
        drawn: how many cases are drawn.

    Raises:
        ExistingFileError: if the file exists and is not a page of medseg of the same kind.

    Example:
        >>> evaluation = evaluate_objects("predictions", "labels")  # doctest: +SKIP
        >>> write_objects_report("report.html", evaluation, Path("images"))  # doctest: +SKIP
    """
    ordered = [str(row["case"]) for row in worst_first(evaluation.rows) if row["f1_50"] is not None]
    chosen = drawn.choose(ordered)
    files = {} if images is None else find_images(images, chosen, None)
    pictures = {case: _draw(case, evaluation.paired, files, drawn.case_bytes) for case in chosen}
    write_objects_page(Path(path), evaluation.rows, evaluation.summary, _sections(pictures, chosen))


def write_panoptic_report(path: Path | str, evaluation: PanopticEvaluation) -> None:
    """Write the report of a comparison of panoptic segmentations: verdict, tables and a plot.

    Args:
        path: file to write, ``.html``.
        evaluation: result of ``evaluate_panoptic``.

    Raises:
        ExistingFileError: if the file exists and is not a page of medseg of the same kind.
    """
    write_panoptic_page(Path(path), evaluation.rows, evaluation.summary)


def _sections(pictures: Mapping[str, Markup], chosen: Mapping[str, str]) -> CaseSections:
    counts = {rank: list(chosen.values()).count(rank) for rank in ("worst", "median", "best")}
    order = ", ".join(f"{count} {rank}" for rank, count in counts.items() if count)
    return with_viewer(
        pictures, (), f"Cases by F1: {order}. Objects are found at an IoU of {FOUND_IOU:g} or more."
    )


def _draw(case: str, paired: PairedObjects, files: Mapping[str, Path], most: int) -> Markup:
    """Draw a case; a sentence if that is not possible."""
    try:
        expected, found = paired.read(case)
        image = _image(case, paired, files.get(case), expected.grid)
        objects = MatchedObjects.of(expected.numbers, found.numbers, FOUND_IOU, expected.ignored)
        view = view_of_objects(case, expected.grid, (objects.reference, objects.predicted), image)
        return Markup(object_figures(view, objects, most).to_html())
    except (MedsegError, OSError, ValueError) as error:  # a picture is not worth the page
        known: list[Any] = [path for path in (paired.predictions[case], files.get(case)) if path is not None]
        return paragraph(f"This case cannot be drawn: {without_folders(str(error), known)}", class_="note")


def _image(case: str, paired: PairedObjects, file: Path | None, grid: Grid) -> Scan | None:
    """Return the image of a case on the grid of its objects; None if it is not known."""
    scan = paired.image(case) if file is None else read_scan(file)
    if scan is None or (scan.kind == "picture" and scan.grid.shape == grid.shape):
        return scan  # files of one picture may declare different sizes of a pixel
    return align_to_grid(scan, grid)
