"""Plan the settings of a training from the data, the device and the time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from medseg.config.instances import DETECTORS
from medseg.config.loading import apply_override, check_overrides
from medseg.config.schema import RunConfig, load_config
from medseg.config.tasks import TaskConfig
from medseg.errors import ConfigError
from medseg.instances.options import InstanceTask
from medseg.planning.describe import describe_network, describe_plan, describe_spacing
from medseg.planning.draft import Draft
from medseg.planning.fingerprint import Fingerprint, measure_fingerprint, number_instances
from medseg.planning.instances import choose_instances
from medseg.planning.measured.candidate_choice import Budget, Choice, Workload, choose_candidate
from medseg.planning.measured.machine import Machine
from medseg.planning.measured.step_timer import StepTimer, Timer, network_config
from medseg.planning.measured.workers import plan_threads, plan_workers, seconds_of_patch
from medseg.planning.network_candidates import first_stage
from medseg.planning.spacing_and_patch import Dims, Geometry, plan_geometry, spacing_setting
from medseg.planning.training_settings import (
    FIRST_STAGE_SHARE,
    choose_augmentation,
    choose_first_stage,
    choose_loss,
    choose_mirror_images,
    choose_normalization,
    choose_sampling,
    choose_windows,
)
from medseg.task import Task
from medseg.training.dataset.preparation import find_labeled_cases, measure_cases

_UPDATE_SHARE = 0.8
"""Share of a budget that is left for updates; the rest is for preparing and validating cases."""
_MEASURING_SHARE = 0.005
"""Largest share of a budget for the measurement of one network."""
_DEFAULT_MINUTES = {"cpu": 20.0, "cuda": 120.0}
_VALIDATIONS = 12
_EPOCH = {"cpu": 100, "cuda": 250}


@dataclass(frozen=True)
class PlanRequest:
    """What a plan has to respect.

    Attributes:
        minutes: time of the whole training; if None, a number of epochs is planned that takes about 20 minutes
            on a CPU and 2 hours on a GPU.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        gpu_memory_gb: memory to fill on a CUDA device; if None, 90% of it.
        dims: 2 or 3; if None, this follows from the data.
        cascade: whether volumes get a first stage at low resolution; it has to be requested, because no
            gain has been measured yet.
    """

    minutes: float | None = None
    device: str = "auto"
    gpu_memory_gb: float | None = None
    dims: Dims | None = None
    cascade: bool = False


DEFAULT_REQUEST = PlanRequest()


@dataclass(frozen=True)
class Plan:
    """Settings and what they follow from.

    Attributes:
        config: the settings.
        reasons: dotted key → reason.
        header: paragraphs about the data, the machine and the whole plan.
        fingerprint: of the dataset.
        choice: the chosen network and its measured cost.
    """

    config: RunConfig
    reasons: dict[str, str]
    header: list[str]
    fingerprint: Fingerprint
    choice: Choice


def plan_config(data: Path, overrides: Sequence[str] = (), request: PlanRequest = DEFAULT_REQUEST) -> RunConfig:
    """Plan settings for a folder of cases.

    Args:
        data: the folder.
        overrides: ``key.sub=value`` settings that are applied last.
        request: time, device and dimensions.

    Raises:
        DataError: if the cases cannot be used.
        ConfigError: if an override is invalid.
    """
    return plan_dataset(data, overrides, request).config


def plan_dataset(
    data: Path,
    overrides: Sequence[str] = (),
    request: PlanRequest = DEFAULT_REQUEST,
    *,
    timer: Timer | None = None,
) -> Plan:
    """Plan settings for a folder of cases, with reasons.

    Measures the cases and, on the device, updates of a few candidate networks.

    Args:
        data: the folder.
        overrides: ``key.sub=value`` settings that are applied last.
        request: time, device and dimensions.
        timer: measures candidates; by default on the device.

    Raises:
        DataError: if the cases cannot be used.
        ConfigError: if an override is invalid.
    """
    check_overrides(overrides)
    declared = load_config({"data": {"path": str(data)}}, _declarations(overrides))
    request = _with_overrides(request, overrides, declared)
    if request.cascade and declared.data.instances is not None:
        raise ConfigError("a cascade is not possible if objects are separated", hint="Leave --cascade out.")
    machine = Machine.detect(request.device, request.gpu_memory_gb)
    draft = Draft()
    draft.set("data.path", str(Path(data).resolve()))
    _, labels = find_labeled_cases(declared.data)
    statistics = measure_cases(labels, declared.data.cache)
    if labels.schema is None and number_instances(statistics):
        draft.set("data.labels.instances", "foreground", "the values of the label files number objects")
        declared = load_config(draft.settings, _declarations(overrides))
        _, labels = find_labeled_cases(declared.data)
    draft.notes += [labels.note] if labels.note else []
    fingerprint = measure_fingerprint(statistics, labels)
    return _Planner(fingerprint, machine, request, draft, declared.task).plan(overrides, timer)


@dataclass(frozen=True)
class _Planner:
    fingerprint: Fingerprint
    machine: Machine
    request: PlanRequest
    draft: Draft
    task: TaskConfig

    def plan(self, overrides: Sequence[str], timer: Timer | None) -> Plan:
        geometry = self._geometry()
        cascade = self.request.cascade
        if cascade:
            geometry = self._geometry(full_resolution=True)
        channels = self._input_channels(geometry, cascade=cascade)
        timer = timer or StepTimer(
            Task(geometry.dims, channels, max(self.fingerprint.num_labels, 2)), self.machine.device,
            deep_supervision=self.machine.on_gpu, longest=min(4.0, _MEASURING_SHARE * 60 * self._minutes),
        )  # fmt: skip
        workload = Workload(channels, self.fingerprint.num_labels)
        budget = self._budget(geometry.patience, 1 - FIRST_STAGE_SHARE if cascade else 1.0)
        choice = choose_candidate(geometry.ladder, workload, budget, timer)
        first = first_stage(choice.candidate, geometry.max_levels) if cascade and geometry.dims == 3 else None
        if cascade and first is None:
            raise self._useless_cascade(choice)
        threads, seconds = None, choice.cost.seconds
        if not self.machine.on_gpu:
            threads, seconds = plan_threads(timer, choice.candidate, choice.cost, self.machine.cores)
        draft = self.draft
        self._set_network(geometry, choice, draft)
        choose_normalization(self.fingerprint, draft)
        choose_sampling(self.fingerprint, geometry.coverage(choice.candidate), draft)
        choose_augmentation(self.fingerprint, geometry.dims, draft)
        choose_loss(self.fingerprint, draft)
        choose_windows(self.fingerprint, draft)
        if self.task.name == "semantic":
            choose_mirror_images(self.fingerprint, draft)
        elif isinstance(self.task, InstanceTask) and self.task.decoder != "boxes":
            topology = geometry.topology(choice.candidate)
            choose_instances(self.fingerprint, topology, draft, on_gpu=self.machine.on_gpu)
        self._set_training(choice, budget.updates(seconds), seconds, draft)
        if first is not None:
            choose_first_stage(draft, geometry, (first, choice.candidate), deep_supervision=self.machine.on_gpu)
        if threads is not None:
            draft.set("train.threads", threads, "measured: faster than one thread per core")
        self._set_workers(seconds, channels, draft)
        fit_levels(draft, overrides)
        config = load_config(draft.settings, overrides)
        header = describe_plan(self.fingerprint, self.machine, geometry, choice, first)
        return Plan(config, draft.reasons, header + draft.notes, self.fingerprint, choice)

    def _geometry(self, *, full_resolution: bool = False) -> Geometry:
        return plan_geometry(
            self.fingerprint,
            on_gpu=self.machine.on_gpu,
            memory_gb=self.machine.memory_gb,
            dims=self.request.dims,
            full_resolution=full_resolution,
        )

    def _useless_cascade(self, choice: Choice) -> ConfigError:
        """Return the error for a cascade whose first stage would see no more than the second."""
        reason = f"a patch covers {choice.candidate.coverage:.0%} of the median case"
        return ConfigError(
            f"a cascade has no use here: {reason}, and a first stage at low resolution is for less than 25%"
            if self.fingerprint.kind == "volume"
            else "a cascade is for volumes, and the cases are pictures",
            hint="Leave --cascade out.",
        )

    @property
    def _minutes(self) -> float:
        return self.request.minutes or _DEFAULT_MINUTES.get(self.machine.device.type, 20.0)

    def _budget(self, patience: float, share: float) -> Budget:
        seconds = 60 * self._minutes * _UPDATE_SHARE * share
        return Budget(seconds, self.machine.memory, self.machine.device.type, patience)

    def _input_channels(self, geometry: Geometry, *, cascade: bool) -> int:
        masks = len(self.fingerprint.classes) if cascade else 0
        return self.fingerprint.channels * (1 + 2 * geometry.neighbors) + masks

    def _set_network(self, geometry: Geometry, choice: Choice, draft: Draft) -> None:
        topology, spacing = geometry.topology(choice.candidate), geometry.spacing(choice.candidate)
        draft.set("spatial_dims", geometry.dims)
        draft.set("preprocess", {})
        if self.fingerprint.kind == "volume":
            reason = describe_spacing(self.fingerprint, geometry, choice.candidate)
            draft.set("preprocess.spacing", spacing_setting(self.fingerprint, spacing), reason)
        if geometry.slice_axis is not None:
            slices = {"axis": geometry.slice_axis, "neighbors": geometry.neighbors}
            reason = "2D slices across the coarsest axis, with the slices on either side as further channels"
            draft.set("preprocess.slices", slices, reason)
        reasons = describe_network(choice)
        draft.set("sampling.patch_size", list(topology.patch_size), reasons.patch)
        network = network_config(topology, deep_supervision=self.machine.on_gpu)
        draft.set("model", network.model_dump(mode="json"), reasons.model)

    def _set_training(self, choice: Choice, updates: int, seconds: float, draft: Draft) -> None:
        iterations = _EPOCH.get(self.machine.device.type, 100)
        epochs = max(1, round(updates / iterations))
        draft.set("train.batch_size", choice.candidate.batch_size)
        draft.set("train.iterations", iterations)
        minutes = self._minutes
        draft.set(
            "train.epochs", epochs,
            f"an update takes {seconds:.3g} s on this machine (measured): about {updates} updates in "
            f"{minutes:g} minutes, {1 - _UPDATE_SHARE:.0%} of which are for preparing and validating cases",
        )  # fmt: skip
        if self.request.minutes is not None:
            draft.set("train.budget", minutes, "minutes for the whole command; train.epochs is then not used")
        draft.set(
            "train.validate_every", max(1, epochs // _VALIDATIONS),
            f"about {_VALIDATIONS} validations; each takes at most validate_share of the time of the updates",
        )  # fmt: skip
        decay = min(max(1 - 10 / max(updates, 1), 0.98), 0.999)
        draft.set(
            "train.ema", round(decay, 4), "the averaged weights cover about the last tenth of the training"
        )
        draft.explain("train.schedule", "polynomial decay to 0 after a short warm-up (nnU-Net: power 0.9)")
        draft.explain("train.optimizer", "AdamW needs no tuning of momentum in short trainings")
        if self.request.device != "auto":
            draft.set("train.device", self.request.device)

    def _set_workers(self, seconds: float, channels: int, draft: Draft) -> None:
        config = load_config(draft.settings)
        patch = seconds_of_patch(config, channels)
        count = plan_workers(self.machine.cores, patch, config.train.batch_size, seconds)
        reason = f"a patch takes {patch:.2g} s on one core (measured), an update {seconds:.2g} s"
        draft.set("data.workers", count, reason)


def fit_levels(draft: Draft, overrides: Sequence[str]) -> None:
    """Adapt what is planned per level to the number of levels that ``model.channels`` of the user has.

    Further levels have the kernel and the stride of the coarsest planned one.
    """
    chosen: dict[str, Any] = {}
    for override in overrides:
        if override.partition("=")[0].strip() == "model.channels":
            apply_override(chosen, override)
    channels: Any = chosen.get("model", {}).get("channels")
    if not isinstance(channels, list):
        return
    model, levels = draft.settings["model"], len(cast(list[Any], channels))
    for key in ("kernel", "stride", "convs_per_level", "decoder_convs"):
        entries = levels - 1 if key == "decoder_convs" else levels
        if isinstance(model.get(key), list):
            model[key] = (model[key] + model[key][-1:] * entries)[:entries]
    model["deep_supervision"] = min(model.get("deep_supervision", 0), max(levels - 2, 0))


def _declarations(overrides: Sequence[str]) -> list[str]:
    """Return the overrides about the data, the task, the device and the time, which a plan depends on."""
    detectors = (f"model.name={name}" for name in DETECTORS)
    names = ("data.", "task.", "train.device", "train.budget", *detectors)
    return [one for one in overrides if one.lstrip().startswith(names)]


def _with_overrides(request: PlanRequest, overrides: Sequence[str], declared: RunConfig) -> PlanRequest:
    """Take dimensions, device and time from the overrides, where the request leaves them open."""
    compact = {one.replace(" ", "") for one in overrides}
    if request.dims is None:
        for dims in (2, 3):
            if f"spatial_dims={dims}" in compact:
                request = replace(request, dims=dims)
    if request.device == "auto":
        request = replace(request, device=declared.train.device)
    if request.minutes is None:
        request = replace(request, minutes=declared.train.budget)
    return request
