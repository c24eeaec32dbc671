"""``reproduce_run``: train a run again from its own record, and compare the two."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Unpack

import torch

from medseg.config.schema import RunConfig, load_config
from medseg.data.curation.splits import FileSplit
from medseg.errors import ConfigError, DataError
from medseg.files import write_json
from medseg.progress import ConsoleProgress, Progress
from medseg.study.data_changes import advising
from medseg.study.reproduction.differences import CaseChange, Difference, compare_cases, compare_environments
from medseg.study.reproduction.weights import WeightComparison, compare_models
from medseg.system.device import resolve_device
from medseg.training.dataset.preparation import find_labeled_cases, measure_cases
from medseg.training.extensions import ExtensionArguments
from medseg.training.fit import fit
from medseg.training.pacing.replayed_pace import ClockDecisions
from medseg.training.pacing.segments import PaceRecord
from medseg.training.run_folder.case_record import CaseRecord, read_record
from medseg.training.run_folder.checkpoint import load_checkpoint
from medseg.training.run_folder.layout import RunFolder, current_environment
from medseg.training.run_folder.log import read_log
from medseg.training.tracking.options import TrackingConfig

RESULT_FILE = "reproduction.json"

_CHANGED = (
    "Restore the dataset, or choose another --output: a new reproduction takes the cases as they are, and "
    "names those that changed."
)

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reproduction:
    """What differs between a run and its reproduction.

    Attributes:
        run: folder of the run.
        output: folder of its reproduction.
        cases: changed, missing and added cases.
        environment: differences of code, versions and hardware.
        notes: what else may make the results differ.
        weights: the comparison of the weights; None if it was not trained.
    """

    run: Path
    output: Path
    cases: list[CaseChange]
    environment: list[Difference]
    notes: list[str]
    weights: WeightComparison | None = None

    @property
    def equal(self) -> bool | None:
        """Whether the weights came out equal bit by bit; None if it was not trained."""
        return None if self.weights is None else self.weights.equal

    @property
    def unchanged(self) -> bool:
        """Whether code, versions, hardware and the cases of the run are as recorded; others take no part."""
        return not self.environment and all(one.change == "added" for one in self.cases)

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain types."""
        paths = {"run": str(self.run), "output": str(self.output)}
        return asdict(self) | paths | {"unchanged": self.unchanged, "equal": self.equal}


def reproduce_run(
    run: Path | str,
    output: Path | str,
    *,
    data: Path | str | None = None,
    train: bool = True,
    progress: Progress | None = None,
    **extensions: Unpack[ExtensionArguments],
) -> Reproduction:
    """Train a run again from its own record, and compare cases, code, versions, hardware and weights.

    The reproduction has the settings, the split, the seed, the number of threads and the device of the run. A
    run with a time budget repeats the recorded decisions of its clock: the same updates, learning rates and
    validations, however long they take. Cases that were added since take no part. Started again with the same
    output, it continues.

    Args:
        run: run folder of a finished training.
        output: run folder of the reproduction; also receives ``reproduction.json``.
        data: where the cases are now; by default where they were.
        train: whether to train; otherwise only the differences of cases, code, versions and hardware are
            found.
        progress: receives the progress. By default it is shown on standard error.
        **extensions: your own code, as the run had it; see :func:`medseg.training.fit.fit`.

    Raises:
        ConfigError: if the run is not finished, or was trained with code of your own that is not given.
        DataError: if cases are faulty, their folder does not exist, or they changed since an interrupted
            reproduction began.

    Example:
        >>> result = reproduce_run("runs/liver", "runs/liver-reproduced")  # doctest: +SKIP
        >>> result.equal, result.cases  # doctest: +SKIP
        (True, [])
    """
    if progress is None:
        with ConsoleProgress() as shown:
            return reproduce_run(run, output, data=data, train=train, progress=shown, **extensions)
    recorded, again = RunFolder(Path(run)), RunFolder(Path(output))
    record = _check_run(recorded, extensions)
    if again.root.resolve() == recorded.root.resolve():
        raise ConfigError(f"{output}: is the run itself", hint="Choose another --output.")
    config = _repeated_config(recorded, None if data is None else Path(data))
    if data is None:
        _check_place(recorded, config.data.path)
    _, plan = find_labeled_cases(config.data)
    statistics = measure_cases(plan, again.cache(config) if train else config.data.cache)
    cases = compare_cases(record.cases, statistics)
    threads = config.train.threads or torch.get_num_threads()
    environment = current_environment(resolve_device(config.train.device), threads)
    result = Reproduction(
        recorded.root, again.root, cases, compare_environments(recorded.environment(), environment),
        _notes(recorded),
    )  # fmt: skip
    if not train:
        return result
    decisions = clock_decisions(recorded)
    if decisions is not None and not again.config.exists():
        again.check_foreign()
        decisions.write(again.replay)
    with advising(_CHANGED):
        fit(config, again.root, resume="auto", progress=progress, **extensions)
    weights = compare_models(recorded.model, again.model)
    result = Reproduction(result.run, result.output, cases, result.environment, result.notes, weights)
    write_json(again.root / RESULT_FILE, result.to_json())
    return result


def clock_decisions(run: RunFolder) -> ClockDecisions | None:
    """Return what the clock decided in a run; None if it had no time budget.

    Raises:
        ConfigError: if it had one and its last checkpoint is not there.
    """
    if load_config(run.config).train.budget is None:
        return None
    if not run.last.is_file():
        raise ConfigError(
            f"{run.last}: is missing, and only this file records the decisions of a time budget",
            hint="Restore checkpoints/last.pt of the run.", path=run.last,
        )  # fmt: skip
    state = load_checkpoint(run.last)
    stages = sorted(run.first_stage.glob("network_*"), key=lambda path: int(path.name.rpartition("_")[2]))
    first_stage = [clock_decisions(RunFolder(folder)) for folder in stages]
    return ClockDecisions.of(
        PaceRecord.restore(state["pace"]), read_log(run.log), state["validated"],
        [one for one in first_stage if one is not None],
    )  # fmt: skip


def _check_run(run: RunFolder, extensions: ExtensionArguments) -> CaseRecord:
    """Check that a run can be reproduced, and return the record of its cases."""
    if not run.config.is_file():
        raise ConfigError(f"{run.root}: contains no run (config.yaml)", path=run.root)
    record = read_record(run.cases)
    if record is None or not run.model.is_file():
        raise ConfigError(
            f"{run.root}: the training is not finished", hint=f"Finish it with: {run.resume_command}",
            path=run.root,
        )  # fmt: skip
    given: dict[str, Any] = {**extensions}
    names = run.extension_names()
    missing = [key for key in ("model", "loss", "transforms") if names.get(key) and not given.get(key)]
    if missing:
        key = missing[0]
        option = {"model": "--network", "loss": "--loss"}.get(key)
        hint = f"Give it: {option} {names[key]}." if option and ":" in str(names[key]) else None
        raise ConfigError(
            f"{run.root}: was trained with your own {key} ({names[key]})",
            hint=hint or f"Call medseg.study.reproduction.reproduce_run with {key}=….",
            path=run.root,
        )
    return record


def _check_place(run: RunFolder, folder: Path | None) -> None:
    """Check that the cases of a run are where they were. Raises: DataError if they are not."""
    if folder is not None and not folder.exists():
        raise DataError(
            f"{folder}: does not exist; {run.root} was trained on its cases",
            hint="If they were moved, give their folder: --data FOLDER (in Python data=).",
            path=folder,
        )


def _repeated_config(run: RunFolder, data: Path | None) -> RunConfig:
    """Return the settings of the reproduction."""
    config, environment = load_config(run.config), run.environment()
    split = FileSplit(file=run.cases.resolve(), unmatched="leave_out")
    update = {"split": split, "path": config.data.path if data is None else data.resolve()}
    train = {
        "threads": environment.get("threads") or config.train.threads,
        "tracking": TrackingConfig(),
        "device": _device(config, environment),
    }
    return config.model_copy(
        update={"data": config.data.model_copy(update=update), "train": config.train.model_copy(update=train)}
    )


def _device(config: RunConfig, environment: dict[str, Any]) -> str:
    """Return the kind of device that the run was trained on, if it exists here."""
    kind = str(environment.get("device", config.train.device)).partition(":")[0]
    if kind == "cuda" and not torch.cuda.is_available():
        return "cpu"
    return kind if config.train.device == "auto" else config.train.device


def _notes(run: RunFolder) -> list[str]:
    """Return what else may make the results differ."""
    notes = [
        f"the dataset changed during the training ({path.name}); the reproduction uses the last one"
        for path in sorted(run.root.glob("cases-until-step-*.json"))
    ]
    weights = load_config(run.config).weights.file
    if weights is not None:
        notes.append(f"the training began with {weights}, whose content is not recorded")
    return notes
