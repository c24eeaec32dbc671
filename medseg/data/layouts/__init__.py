"""Layouts of datasets on disk. A new layout is one module and one entry in ``LAYOUTS``."""

from __future__ import annotations

from pathlib import Path

from medseg.data.cases import Case
from medseg.data.layouts.bids import BidsLayout
from medseg.data.layouts.brats import BratsLayout
from medseg.data.layouts.case_folders import CaseFoldersLayout
from medseg.data.layouts.coco import CocoLayout, CocoPanopticLayout
from medseg.data.layouts.discovery import DEFAULT_LAYOUT, DatasetListing, Layout, LayoutOptions
from medseg.data.layouts.folder_names import describe_content
from medseg.data.layouts.folders import SETTINGS, FoldersLayout, LooseLayout, PairsLayout, channel_groups
from medseg.data.layouts.manifest import ManifestLayout, describe_other_tables
from medseg.data.layouts.msd import MsdLayout
from medseg.data.layouts.nnunet import NnunetLayout
from medseg.data.layouts.photo_datasets import Ade20kLayout, CityscapesLayout, VocLayout
from medseg.errors import DataError
from medseg.files import check_exists

LAYOUTS: tuple[Layout, ...] = (
    ManifestLayout(),
    NnunetLayout(),
    MsdLayout(),
    VocLayout(),
    CocoPanopticLayout(),
    CityscapesLayout(),
    Ade20kLayout(),
    CocoLayout(),
    BidsLayout(),
    BratsLayout(),
    FoldersLayout(),
    CaseFoldersLayout(),
    PairsLayout(),
    LooseLayout(),
)
"""Layouts in the order they are tried, the most specific first."""


def layout_of(root: Path, choice: LayoutOptions = DEFAULT_LAYOUT) -> Layout | None:
    """Detect the layout of a folder or manifest: the first that matches, or the one that the options require.

    Returns:
        The layout; None if there is none.
    """
    root = Path(root)
    if root.is_dir() and (choice.image_dir is not None or choice.label_dir is not None):
        return FoldersLayout()
    found = next((layout for layout in LAYOUTS if layout.holds(root)), None)
    return PairsLayout() if isinstance(found, LooseLayout) and PairsLayout().holds(root, choice) else found


def find_dataset(root: Path, choice: LayoutOptions = DEFAULT_LAYOUT) -> DatasetListing:
    """List the cases of a folder or manifest, by the first layout that matches.

    Args:
        root: the folder, or a manifest (.csv, .json).
        choice: options that choose folders, label maps and channels.

    Returns:
        The cases, and the problems of files that do not match.

    Raises:
        DataError: no layout matches.
    """
    root = Path(root)
    layout = layout_of(root, choice)
    if layout is not None:
        return layout.find(root, choice)
    check_exists(root)
    if root.is_file():
        raise DataError(f"{root}: expected a folder, or a manifest of cases (.csv or .json)")
    names = ", ".join(layout.name for layout in LAYOUTS)
    raise DataError(
        f"{root}: expected the folders images/ and labels/ in it, {describe_content(root)}. {SETTINGS}. "
        f"Supported layouts: {names}{describe_other_tables(root)}"
    )


def find_cases(root: Path, *, label_suffix: str | tuple[str, ...] | None = None) -> list[Case]:
    """List the cases of a folder, sorted by id; each has exactly one label map or is in a ``test`` part.

    Args:
        root: the folder, or a manifest.
        label_suffix: end of the names of the label maps, if an image has several.

    Raises:
        DataError: no layout matches, or a file has no partner or more than one.
    """
    return find_dataset(root, LayoutOptions(label_suffix)).checked().cases


__all__ = [
    "DEFAULT_LAYOUT",
    "LAYOUTS",
    "DatasetListing",
    "FoldersLayout",
    "Layout",
    "LayoutOptions",
    "LooseLayout",
    "PairsLayout",
    "channel_groups",
    "find_cases",
    "find_dataset",
    "layout_of",
]
