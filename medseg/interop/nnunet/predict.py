"""Segment scans with models of nnU-Net, a few planes at a time, with the same label maps as nnU-Net."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from pydantic import ValidationError
from scipy.ndimage import gaussian_filter
from torch import nn

from medseg.config.errors import explain
from medseg.data.cases import Case
from medseg.data.labels.reader import AS_STORED, LabelReader
from medseg.data.labels.schema import LabelSchema
from medseg.data.scans import Scan
from medseg.errors import ConfigError, ModelFileError
from medseg.geometry import Array
from medseg.inference.backends import Backend, BackendInfo, BackendSetup, make_backend
from medseg.inference.model.array_allocation import allocate_or_memmap
from medseg.inference.model.memory_fallback import retry_with_less
from medseg.inference.model.prediction import Prediction, load_scan
from medseg.inference.model.protocols import ExecutionOptions
from medseg.inference.options import InferenceConfig
from medseg.inference.sliding_window.accumulator import AccumulatorOptions
from medseg.inference.sliding_window.finite_checks import check_logits, check_weights
from medseg.inference.sliding_window.options import Execution
from medseg.inference.sliding_window.output_chunk import OutputChunk, assemble
from medseg.inference.sliding_window.prediction import most_likely, move_windows, probabilities_of
from medseg.inference.sliding_window.streaming import Network, make_accumulator, stream_windows
from medseg.inference.sliding_window.tta import TTA, TrainedAugmentation, check_tta
from medseg.inference.sliding_window.window_plan import WindowPlan
from medseg.interop.nnunet.file import load_nnunet_file
from medseg.interop.nnunet.folder import LoadedNnunet, is_nnunet_folder, network_weights, read_folder
from medseg.interop.nnunet.header import Stage
from medseg.interop.nnunet.network import NnunetUNet
from medseg.interop.nnunet.preprocess import (
    Cropped,
    crop,
    network_spacing,
    prepare,
    restore_crop,
    to_plans_order,
    to_scan_order,
)
from medseg.interop.nnunet.resample import regrid_logits
from medseg.system.device import Precision, resolve_autocast_dtype, resolve_device

_LOGGER = logging.getLogger(__name__)

_PEAK = 10.0
"""Weight of the center of a window; sums in half precision would lose smaller numbers."""

_ADVICE = (
    "The windows have the size of the training, and are already processed one at a time. Omit --probabilities, "
    "use fewer --workers, or use --device cpu or a machine with more memory."
)

_BEYOND_HALF = (
    "nnU-Net sums logits in half precision, whose largest number is 65504, and fails here, too: the model is "
    "damaged, or the intensities of the scan are far from those of the training."
)


@dataclass(frozen=True)
class PreparedNnunetScan:
    """A scan, its non-zero part, and the input (C, *S) of the first stage."""

    scan: Scan
    cropped: Cropped
    image: Array


@dataclass(frozen=True)
class Member:
    """Description of the model for provenance records; see ``MemberDescription``."""

    digest: str
    backend: Backend
    planned_backend: BackendInfo
    settings: tuple[InferenceConfig, ...]
    files: tuple[Path, ...]
    stage_digests: tuple[str, ...] = ()


@dataclass(frozen=True)
class NnunetDescription:
    """Labels and inference settings of the model."""

    labels: LabelSchema
    inference: InferenceConfig
    label_reader: LabelReader = AS_STORED
    instances: None = None


class NnunetPredictor:
    """A trained nnU-Net model, from its trained folder or from the file to which it was imported.

    Logits are summed in half precision and rounded where nnU-Net rounds them, so that label maps are identical
    even where classes are almost equally likely. With ``amp="auto"`` and ``backend="auto"``, torch computes in
    single precision on CPUs and in half precision on GPUs, as nnU-Net does. Other choices are faster, but not
    identical.

    Args:
        source: trained folder, imported file, or a model in memory.
        settings: changes of ``flips`` (``[]`` disables mirroring), ``overlap`` and ``batch_size``.
        force: allow flips along axes that the training did not mirror.
        execution: device, precision and backend, as ``ExecutionOptions`` of ``Predictor``.

    Raises:
        ModelFileError: the model is missing, damaged or not supported.
        ConfigError: other settings are given, or the backend cannot be used.
    """

    def __init__(
        self,
        source: Path | str | LoadedNnunet,
        *,
        settings: Mapping[str, Any] | None = None,
        force: bool = False,
        **execution: Unpack[ExecutionOptions],
    ) -> None:
        model = source if isinstance(source, LoadedNnunet) else open_model(Path(source))
        self.device = resolve_device(execution.get("device", "auto"))
        amp, backend = execution.get("amp", "auto"), execution.get("backend", "auto")
        usual: Precision = "fp16" if self.device.type == "cuda" else "off"
        self.dtype = resolve_autocast_dtype(usual if amp == "auto" else amp, self.device)
        self.digest = model.digest
        self.plans = model.header
        self.settings = [_settings(stage, settings or {}, force) for stage in self.plans.stages]
        self.header = NnunetDescription(self.plans.labels, self.settings[-1])
        setup = BackendSetup(self.device, self.dtype, execution.get("compiled", False))
        kind = "torch" if backend == "auto" else backend
        self.backends = [
            [make_backend(kind, _network(model, i, j).to(self.device), setup) for j in range(len(stage.folds))]
            for i, stage in enumerate(self.plans.stages)
        ]
        self.files = _files(source)
        self._planned_backend = self.backends[-1][0].info
        self._logged = ""

    @property
    def members(self) -> tuple[Member]:
        """One member: the folds belong to one model."""
        backend = self.backends[-1][0]
        return (Member(self.digest, backend, self._planned_backend, tuple(self.settings), self.files),)

    @property
    def tiled(self) -> None:
        """None: scans are always held in memory."""
        return None

    def predict(
        self,
        source: Scan | Case | Path | str | Array,
        *,
        spacing: tuple[float, ...] | None = None,
        probabilities: bool = False,
    ) -> Prediction:
        """Segment one scan; arguments and errors are those of ``Predictor.predict``."""
        return self.run(self.prepare(load_scan(source, 3, spacing)), probabilities=probabilities)

    def prepare(self, source: Scan | Case | Path | str, foreground: Array | None = None) -> PreparedNnunetScan:
        """Read and preprocess a scan for the first stage. Raises: ConfigError if a foreground is given."""
        if foreground is not None:
            raise ConfigError("nnU-Net models process the whole scan and do not support --foreground")
        scan, first = load_scan(source), self.plans.stages[0]
        cropped = crop(scan, first)
        return PreparedNnunetScan(scan, cropped, prepare(cropped, first, None))

    def run(
        self, prepared: PreparedNnunetScan, *, probabilities: bool = False, scratch: Path | None = None
    ) -> Prediction:
        """Segment a prepared scan; arguments and errors are those of ``Predictor.run``."""
        first = Execution(self.device, max(settings.batch_size for settings in self.settings))
        prediction = retry_with_less(
            lambda execution: self._run(prepared, probabilities, scratch, execution), first, _ADVICE
        )
        if (backend := str(self.members[0].backend.info)) != self._logged:
            self._logged = backend
            _LOGGER.info("backend: %s", backend)
        return prediction

    def _run(
        self, prepared: PreparedNnunetScan, probabilities: bool, scratch: Path | None, execution: Execution
    ) -> Prediction:
        scan, cropped, image = prepared.scan, prepared.cropped, prepared.image
        *earlier, last = self.plans.stages
        for index, stage in enumerate(earlier):
            labels_of_stage = self._decide_labels(
                self._logits(index, image, cropped, execution, scan.path), cropped
            )
            label_map = restore_crop(labels_of_stage, cropped, stage, scan)[0]
            following = self.plans.stages[index + 1]
            image = prepare(cropped, following, to_plans_order(label_map, scan, following))
        slabs = self._logits(len(earlier), image, cropped, execution, scan.path)
        labels, soft = self.plans.labels, None
        if probabilities:
            soft = allocate_or_memmap((labels.num_classes, *cropped.whole), scratch)
            soft[0] = 0.0 if labels.regions else 1.0  # outside the non-zero part is background
            slabs = self._store_probabilities(slabs, soft[(slice(None), *cropped.box)])
        label_map = restore_crop(self._decide_labels(slabs, cropped), cropped, last, scan)[0]
        if soft is not None:
            soft = to_scan_order(soft, last, scan)
        return Prediction(label_map, soft, scan, execution.notes)

    def _logits(
        self, index: int, image: Array, cropped: Cropped, execution: Execution, case: Path
    ) -> Iterator[OutputChunk]:
        """Mean logits of all folds of one stage, on the grid of the cropped scan."""
        stage, settings = self.plans.stages[index], self.settings[index]
        folds, size, batch_size = (
            len(stage.folds),
            stage.patch_size,
            min(execution.batch_size, settings.batch_size),
        )
        predict = self._predict(index, batch_size)
        weight = window_weights(size).to(execution.accumulator_device)
        if stage.spatial_dims == 2:
            size, weight, predict = (1, *size), weight[None], _flat(predict)
        plan = WindowPlan(image.shape[1:], size, settings.overlap, "even", along=0)
        planes = stream_windows(
            lambda box: torch.from_numpy(image[(slice(None), *box)]),
            plan,
            predict,
            make_accumulator(plan, AccumulatorOptions(weight, torch.float16)),
            batch_size=batch_size,
        )
        info = self.backends[index][0].info
        slabs = (one.with_tensor(_mean(one, folds, case, info).float()) for one in planes)
        how, source = stage.resample_logits, network_spacing(cropped, stage)
        for slab in regrid_logits(slabs, image.shape[1:], cropped.shape, source, cropped.spacing, how):
            rounded = slab.tensor.half().float() if how.method == "spline" else slab.tensor
            yield slab.with_tensor(rounded)

    def _predict(self, index: int, batch_size: int) -> Network:
        """Map windows (B, C, *window) to logits of all folds (B, folds · K, *window), averaged over mirrors."""
        backends, settings = self.backends[index], self.settings[index]

        def of_folds(windows: torch.Tensor) -> torch.Tensor:
            return torch.cat([backend.predict(windows) for backend in backends], dim=1)

        averaged = move_windows(TTA(settings.flips).wrap(of_folds, batch_size), self.device)

        def predict(windows: torch.Tensor) -> torch.Tensor:
            with torch.inference_mode():
                return averaged(windows)

        return predict

    def _decide_labels(self, slabs: Iterator[OutputChunk], cropped: Cropped) -> Array:
        """Label values (1, *S): the class index, or the values of regions painted in order."""
        painted = self.plans.painted
        kind = torch.uint8 if max(self.plans.labels.output_values) < 256 else torch.int16

        def decide(slab: OutputChunk) -> torch.Tensor:
            if not painted:
                return most_likely(slab.tensor)[None]
            label_map = torch.zeros(slab.tensor.shape[1:], dtype=kind, device=slab.tensor.device)
            for scores, value in zip(slab.tensor, painted, strict=True):
                label_map[scores.sigmoid() > 0.5] = value
            return label_map[None]

        return assemble(slabs, cropped.shape, decide)

    def _store_probabilities(self, slabs: Iterator[OutputChunk], whole: Array) -> Iterator[OutputChunk]:
        """Yield the slabs unchanged, and write their probabilities to ``whole``."""
        activation = self.plans.labels.activation
        for slab in slabs:
            slab.with_tensor(probabilities_of(slab.tensor, activation)).write_to(whole)
            yield slab


def open_model(path: Path) -> LoadedNnunet:
    """Read a trained folder or an imported file. Raises: ModelFileError."""
    return read_folder(path) if is_nnunet_folder(path) else load_nnunet_file(path)


def _files(source: Path | str | LoadedNnunet) -> tuple[Path, ...]:
    """The files from which a model is read: plans and checkpoints."""
    if isinstance(source, LoadedNnunet):
        return ()
    path = Path(source)
    if not path.is_dir():
        return (path,)
    return tuple(file for pattern in ("*.json", "fold_*/checkpoint*") for file in path.glob(pattern))


def window_weights(size: tuple[int, ...]) -> torch.Tensor:
    """Weight of each voxel of a window, (*window) float32, rounded to half precision as in nnU-Net.

    A Gaussian with sigma = size / 8 around voxel size // 2. Where it is 0 in half precision, the smallest
    nonzero weight is used.
    """
    bell = np.zeros(size)
    bell[tuple(n // 2 for n in size)] = 1
    bell = gaussian_filter(bell, [n / 8 for n in size], mode="constant")
    weight = torch.from_numpy(bell / (bell.max() / _PEAK)).half()
    weight[weight == 0] = weight[weight != 0].min()
    return weight.float()


def _mean(chunk: OutputChunk, folds: int, case: Path, info: BackendInfo) -> torch.Tensor:
    """Mean logits (K, *S) of the folds, each rounded to half precision.

    Raises:
        NumericalError: the values exceed half precision, for which nnU-Net fails, too.
    """
    assert chunk.weights is not None
    scores = chunk.tensor / chunk.weights
    check_logits(scores, case, info, _BEYOND_HALF)
    first, *others = scores.chunk(folds)
    for other in others:
        first += other
    return first / folds if others else first


def _flat(predict: Network) -> Network:
    """Apply a 2D network to windows (B, C, 1, H, W)."""
    return lambda windows: predict(windows[:, :, 0])[:, :, None]


def _network(model: LoadedNnunet, stage: int, fold: int) -> nn.Module:
    config = model.header.stages[stage]
    network = NnunetUNet(config.architecture, config.channels + len(config.previous_labels), config.classes)
    try:
        network.load_state_dict(network_weights(model, stage, fold))
    except RuntimeError as error:
        raise ModelFileError(
            f"{config.configuration}, fold {config.folds[fold]}, trained by {model.header.trainer}: the "
            f"weights do not match the network that the plans describe: {error}"
        ) from error
    check_weights(network, f"{config.configuration}, fold {config.folds[fold]}")
    return network.eval()


def _settings(stage: Stage, changes: Mapping[str, Any], force: bool) -> InferenceConfig:
    """Inference settings of a stage, with changes.

    Raises: ConfigError for unsupported settings, and without ``force`` for mirrors not used in training.
    """
    unsupported = sorted(set(changes) - {"flips", "overlap", "batch_size"})
    if unsupported:
        raise ConfigError(
            f"inference: {', '.join(unsupported)}: nnU-Net models support only flips, overlap and batch_size"
        )
    defaults = {"roi_size": stage.patch_size, "flips": stage.mirror_axes, "batch_size": 1}
    try:
        settings = InferenceConfig.model_validate({**defaults, **changes})
    except ValidationError as error:
        raise ConfigError("inference: " + "; ".join(explain(error, InferenceConfig))) from error
    if any(axis >= stage.spatial_dims for axis in settings.flips):
        raise ConfigError(f"inference: flips: the network has {stage.spatial_dims} axes")
    if not force:
        check_tta(settings, TrainedAugmentation(mirror_axes=stage.mirror_axes), stage.configuration)
    return settings
