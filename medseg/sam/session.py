"""``Sam``, a SAM that answers prompts on pictures and volumes, and its sessions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medseg.data.io import read_scan
from medseg.data.io.pictures import apply_palette
from medseg.data.io.readers import write_mask
from medseg.data.scans import Scan, array_dims, check_finite, scan_from_array
from medseg.errors import DataError
from medseg.geometry import Array
from medseg.prompts import Box, Prompt
from medseg.prompts.validation import check_prompt, check_start_mask
from medseg.sam.embeddings import EmbeddingStore
from medseg.sam.network import MaskNetwork
from medseg.sam.options import SamOptions
from medseg.sam.slice_predictor import SliceMask, SlicePredictor, propagate
from medseg.sam.slicing import PlanePrompts, SliceColors, Slicing, required_axis, split_prompt


class Sam:
    """A SAM, MedSAM or SAM 2.1 that answers prompts.

    Volumes are segmented slice by slice. Embeddings are computed once for each slice and kept.

    Args:
        network: as :func:`medseg.sam.load_network` returns it.
        options: how scans are shown and prompted.
        store: keeps embeddings; None: in memory, up to 512 MB.
        name: shown to users.

    Example:
        >>> from medseg.prompts import Box
        >>> sam = load_sam("medsam_vit_b")  # doctest: +SKIP
        >>> session = sam.open("scan.nii.gz")  # doctest: +SKIP
        >>> mask = session.add(Box((40, 60, 30), (90, 110, 31)))  # doctest: +SKIP
        >>> session.save("mask.nii.gz")  # doctest: +SKIP
    """

    spatial_dims: tuple[int, ...] = (2, 3)

    def __init__(
        self,
        network: MaskNetwork,
        options: SamOptions | None = None,
        store: EmbeddingStore | None = None,
        *,
        name: str = "sam",
    ) -> None:
        self.network = network
        self.options = options or SamOptions()
        self.store = store or EmbeddingStore()
        self.name = name

    def open(self, scan: Path | Scan | Array, spacing: tuple[float, ...] | None = None) -> SamSession:
        """Open a scan.

        Args:
            scan: a file, a DICOM series, a scan, or an array: (H, W), (X, Y, Z) in RAS+ order, or channels
                first. Without ``spacing``, an array of three axes is a picture if the first has at most 4
                entries.
            spacing: mm between the voxels of an array; its length tells pictures from volumes, which need it.

        Raises:
            DataError: the scan cannot be read, or the array has other axes.
        """
        if isinstance(scan, np.ndarray):
            scan = scan_from_array(scan, array_dims(scan, spacing), spacing)
        elif not isinstance(scan, Scan):
            scan = read_scan(Path(scan))
        check_finite(scan)
        return SamSession(self, scan)

    def predictor(self, scan: Scan, slicing: Slicing) -> SlicePredictor:
        """Return what segments the slices of a scan.

        Raises:
            DataError: the scan does not have the channel that is shown.
        """
        image = apply_palette(scan) if scan.kind == "picture" else scan.array
        if self.options.channel >= len(image):
            raise DataError(
                f"{scan.path}: has {len(image)} channels, channel {self.options.channel} was asked for",
                path=scan.path,
            )
        colors = SliceColors(image, slicing, self.options.window, self.options.channel)
        return SlicePredictor(self.network, colors, self.store)


@dataclass(frozen=True)
class _State:
    """One object after some prompts.

    Attributes:
        slicing: slices that the prompts are placed on.
        prompts: oldest first.
        placed: slice → prompts on it.
        masks: slice → mask; absent where it is empty.
        given: slices of the mask that the object began with; they are not propagated over.
        limits: first slice and the one after the last that propagation may reach.
    """

    slicing: Slicing
    prompts: tuple[Prompt, ...] = ()
    placed: Mapping[int, PlanePrompts] = field(default_factory=dict)
    masks: Mapping[int, SliceMask] = field(default_factory=dict)
    given: frozenset[int] = frozenset()
    limits: tuple[int, int] | None = None


class SamSession:
    """One object of one open scan (:class:`medseg.prompts.PromptSession`).

    Args:
        sam: the model.
        scan: the open scan.
    """

    def __init__(self, sam: Sam, scan: Scan) -> None:
        self.sam = sam
        self.scan = scan
        self._predictors: dict[Slicing, SlicePredictor] = {}
        self._saved = set[Path]()
        self._history = [_State(self._slices(sam.options.axis))]

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(\\*S) bool, the current mask."""
        whole = np.zeros(self.scan.grid.shape, bool)
        for index, part in self._state.masks.items():
            self._state.slicing.view(whole, index)[...] = part.mask
        return whole

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """The prompts so far, oldest first."""
        return self._state.prompts

    @property
    def predicted_iou(self) -> dict[int, float]:
        """Slice → intersection over union that the network predicts for its mask."""
        return {index: part.iou for index, part in sorted(self._state.masks.items())}

    def add(self, prompt: Prompt) -> NDArray[np.bool_]:
        """Add a prompt and return the new mask, (\\*S) bool.

        The slices that the prompt lies in are segmented anew, with all their prompts and the previous mask;
        with ``SamOptions.propagate`` also those around them, up to the next slices that have prompts.

        Raises:
            DataError: the prompt has other axes than the scan, or lies outside, or a part of a stroke does.
        """
        check_prompt(prompt, self.scan.grid.shape)
        state = self._state
        axis = required_axis(prompt)
        if not state.prompts and not state.masks and self.sam.options.axis is None and axis is not None:
            state = replace(state, slicing=self._slices(axis))
        new = split_prompt(prompt, state.slicing, self.sam.options.scribble_points)
        placed, masks = dict(state.placed), dict(state.masks)
        for index, prompts in new.items():
            placed[index] = placed[index].joined(prompts) if index in placed else prompts
            masks[index] = self._segment(state.slicing, index, placed[index], masks.get(index))
        limits = _joined_limits(state.limits, _limits(prompt, state.slicing.axis))
        added = replace(state, prompts=(*state.prompts, prompt), placed=placed, masks=masks, limits=limits)
        if self.sam.options.propagate:
            added = self._propagated(added, new)
        self._history.append(added)
        return self.mask

    def propagate(self) -> NDArray[np.bool_]:
        """Propagate the masks of all slices that have prompts, and return the new mask."""
        state = self._state
        self._history[-1] = self._propagated(state, state.placed)
        return self.mask

    def undo(self) -> NDArray[np.bool_]:
        """Take back the last prompt and return the mask before it."""
        if len(self._history) > 1:
            self._history.pop()
        return self.mask

    def restart(self, mask: NDArray[np.generic] | None = None) -> None:
        """Begin the next object of the scan.

        Args:
            mask: (\\*S) bool, or 0 and 1, corrected instead of an empty mask.

        Raises:
            DataError: the mask does not have the scan's shape, or has other values than 0 and 1.
        """
        slicing = self._slices(self.sam.options.axis)
        masks: dict[int, SliceMask] = {}
        if mask is not None:
            start = check_start_mask(mask, self.scan.grid.shape)
            parts = ((index, slicing.view(start, index)) for index in range(len(slicing)))
            masks = {index: SliceMask(np.ascontiguousarray(part)) for index, part in parts if part.any()}
        self._history = [_State(slicing, masks=masks, given=frozenset(masks))]

    def save(self, path: Path, *, overwrite: bool = False) -> Path:
        """Write the mask (0, 1) on the scan's grid in the format of the file's ending and return the path.

        Args:
            path: the file. An earlier save of this session is replaced.
            overwrite: whether any other existing file is replaced, too; never the scan itself.

        Raises:
            DataError: masks of such a scan are not written in this format; the message lists those that are.
            ExistingFileError: the file exists and is no earlier save of this session.
        """
        return write_mask(path, self.mask, self.scan, self._saved, overwrite=overwrite)

    @property
    def _state(self) -> _State:
        return self._history[-1]

    def _slices(self, axis: int | None) -> Slicing:
        grid = self.scan.grid
        return Slicing(grid.shape) if len(grid.shape) == 2 else Slicing.of_volume(grid, axis)

    def _predictor(self, slicing: Slicing) -> SlicePredictor:
        """Return what segments the slices along one axis."""
        if slicing not in self._predictors:
            self._predictors[slicing] = self.sam.predictor(self.scan, slicing)
        return self._predictors[slicing]

    def _segment(
        self, slicing: Slicing, index: int, prompts: PlanePrompts, previous: SliceMask | None
    ) -> SliceMask:
        """Segment a slice; without anything that marks the object there is nothing to take away from."""
        if previous is not None and not previous.mask.any():
            previous = None
        if not prompts.has_object and previous is None:
            return SliceMask(np.zeros(slicing.plane, bool), iou=0.0)
        return self._predictor(slicing).predict(index, prompts, previous)

    def _propagated(self, state: _State, changed: Iterable[int]) -> _State:
        """Return the state with the masks between changed slices and their neighboring anchors renewed.

        Between two slices with prompts, each is propagated to the middle.
        """
        if state.slicing.axis is None:
            return state
        anchors = sorted({*state.placed, *state.given})
        low, high = state.limits or (0, len(state.slicing))
        masks = dict(state.masks)
        done: set[tuple[int, int]] = set()
        for index in changed:
            place = anchors.index(index)
            left = anchors[place - 1] if place else -1
            right = anchors[place + 1] if place + 1 < len(anchors) else len(state.slicing)
            for first, last in ((left, index), (index, right)):
                if (first, last) not in done:
                    done.add((first, last))
                    self._fill(state, masks, (first, last), (low, high))
        return replace(state, masks=masks)

    def _fill(
        self, state: _State, masks: dict[int, SliceMask], gap: tuple[int, int], limits: tuple[int, int]
    ) -> None:
        """Renew the masks between two anchors, from those that have prompts."""
        first, last = gap
        for index in range(first + 1, last):
            masks.pop(index, None)
        both = first in state.placed and last in state.placed
        middle = (first + last) // 2 if both else last - 1
        if first in state.placed:
            steps = range(first + 1, min(middle + 1, limits[1]))
            masks.update(self._run(state.slicing, masks[first], steps))
        if last in state.placed:
            begin = middle if both else first
            masks.update(self._run(state.slicing, masks[last], range(last - 1, max(begin, limits[0] - 1), -1)))

    def _run(self, slicing: Slicing, start: SliceMask, steps: Sequence[int]) -> dict[int, SliceMask]:
        return dict(propagate(self._predictor(slicing), start, steps, self.sam.options.propagation))


def _limits(prompt: Prompt, axis: int | None) -> tuple[int, int] | None:
    """Return the slices that a box over several slices allows."""
    if axis is None or not isinstance(prompt, Box) or not prompt.positive:
        return None
    first, last = int(prompt.lower[axis]), int(prompt.upper[axis])
    return (first, last) if last - first > 1 else None


def _joined_limits(first: tuple[int, int] | None, second: tuple[int, int] | None) -> tuple[int, int] | None:
    if first is None or second is None:
        return first or second
    return min(first[0], second[0]), max(first[1], second[1])
