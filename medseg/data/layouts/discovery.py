"""Result of listing a dataset: its cases, the labels its layout declares, and files without partners."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from medseg.data.cases import Case, join_problems
from medseg.data.labels.schema import LabelSchema
from medseg.errors import DataError, Finding
from medseg.progress import plural


@dataclass(frozen=True)
class LayoutOptions:
    """Settings that select files where the layout leaves it open.

    Attributes:
        label_suffix: what a label file's name adds to its image's; of several the first that is there.
        modalities: kinds of image that are the channels, in order (``T1w``; ``t1c``; a column).
        image_dir, label_dir: the folders of images and of label maps, relative to the dataset or to its parts.
    """

    label_suffix: str | tuple[str, ...] | None = None
    modalities: tuple[str, ...] | None = None
    image_dir: Path | None = None
    label_dir: Path | None = None


DEFAULT_LAYOUT = LayoutOptions()


UNLABELED = "unlabeled"
"""Topic of the finding that a dataset has no label maps: nothing is wrong, but there is nothing to learn."""


def partner_problem(subject: str, message: str, hint: str) -> Finding:
    """Return the finding that a file lacks its partner, or has several.

    Args:
        subject: the case, or the file's name.
        message: what is wrong.
        hint: what to do about it.
    """
    return Finding("problem", "partner", subject, message, hint)


@dataclass(frozen=True)
class DatasetListing:
    """The cases of a dataset.

    Attributes:
        layout: name of the layout.
        cases: sorted by id; those with problems are in ``findings`` only, or lack their label.
        findings: files without exactly one partner, which prevent training.
        labels: names and values, if the layout declares them.
    """

    layout: str
    cases: list[Case]
    findings: list[Finding] = field(default_factory=list)
    labels: LabelSchema | None = None

    def describe(self) -> str:
        """Describe layout, cases of each part, channels and labels in one line."""
        parts: dict[str, int] = defaultdict(int)
        for case in self.cases:
            parts[case.part or ""] += 1
        counted = ", ".join(f"{n} {part}" for part, n in sorted(parts.items()) if part)
        channels = max((len(case.images) for case in self.cases), default=1)
        unlabeled = sum(not case.label_files for case in self.cases)
        facts = [plural(len(self.cases), "case") + (f" ({counted})" if counted else "")]
        facts += [f"{channels} files of channels each"] if channels > 1 else []
        facts += [f"{plural(len(self.labels.names), 'label')} named"] if self.labels else []
        facts += [f"{unlabeled} without label map"] if unlabeled else []
        return f"layout: {self.layout}; " + ", ".join(facts)

    def labeled(self) -> DatasetListing:
        """Return the listing without images that have no label map; those of a test part are kept."""
        kept = [case for case in self.cases if case.label_files or case.part == "test"]
        dropped = {case.id for case in self.cases} - {case.id for case in kept}
        return replace(self, cases=kept, findings=[f for f in self.findings if f.subject not in dropped])

    def checked(self) -> DatasetListing:
        """Return the listing if every case can be used.

        Raises:
            DataError: files do not have exactly one partner; the message lists them.
        """
        if self.findings:
            lines = [f"{finding.message} ({finding.hint})" for finding in self.findings]
            if all(finding.topic == UNLABELED for finding in self.findings):
                raise DataError(lines[0])
            raise DataError(join_problems("files without exactly one partner", lines))
        return self


class Layout(Protocol):
    """One way of laying out a dataset: a module in this package and an entry in ``LAYOUTS``."""

    name: str

    def holds(self, root: Path) -> bool:
        """Return whether a folder (or file) has this layout; looks at names only."""
        ...

    def find(self, root: Path, choice: LayoutOptions) -> DatasetListing:
        """List the cases of a folder or file."""
        ...


def with_channel_names(cases: list[Case], names: Sequence[str]) -> list[Case]:
    """Return the cases with the names of their channels."""
    return [replace(case, channel_names=tuple(names)) for case in cases]


def check_unique_ids(cases: Iterable[Case]) -> None:
    """Check that ids are unique.

    Raises:
        DataError: cases share an id; the message lists them.
    """
    by_id: dict[str, list[Path]] = defaultdict(list)
    for case in cases:
        by_id[case.id].append(case.image)
    problems = [f"case {name}: {', '.join(map(str, same))}" for name, same in by_id.items() if len(same) > 1]
    if problems:
        raise DataError(join_problems("images that share a name", problems))


def choose_modalities(
    groups: dict[str, dict[str, Path]], choice: LayoutOptions, *, usual: tuple[str, ...] = ()
) -> dict[str, tuple[Path, ...]]:
    """Choose the channels of each case from its files by kind of image.

    Args:
        groups: case → kind of image → file.
        choice: options; without ``modalities``, the ``usual`` kinds that every case has are chosen, or the only
            kind.
        usual: kinds to choose, in this order.

    Returns:
        Case → files of its channels.

    Raises:
        DataError: the choice is ambiguous, or a case has no image of a chosen kind.
    """
    kinds = sorted({kind for files in groups.values() for kind in files})
    wanted = choice.modalities
    if wanted is None:
        common = [k for k in kinds if all(k in files for files in groups.values())]
        ordered = [k for k in usual if k in common]
        if not ordered and len(kinds) > 1:
            raise DataError(
                f"the images are of several kinds: {', '.join(kinds)}",
                hint=f"Choose the channels, for example data.modalities=[{kinds[0]}].",
            )
        wanted = tuple(ordered or kinds)
    lacking = [
        f"case {case}: has no {kind}" for case, files in groups.items() for kind in wanted if kind not in files
    ]
    if lacking:
        raise DataError(join_problems(f"images of kinds {list(wanted)} are missing", lacking))
    return {case: tuple(files[kind] for kind in wanted) for case, files in groups.items()}


def kinds_of(files: Sequence[Path], group: Mapping[str, Path]) -> tuple[str, ...]:
    """Return the kinds of image of the files of a case, in their order."""
    kinds = {path: kind for kind, path in group.items()}
    return tuple(kinds[path] for path in files)
