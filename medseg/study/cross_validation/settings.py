"""Settings of a cross-validation: loaded or planned once, recorded, and compared when it is continued."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg.config.schema import RunConfig, load_config, to_yaml, with_absolute_paths
from medseg.errors import ConfigError
from medseg.files import write_json, write_text
from medseg.planning.plan import PlanRequest, plan_dataset
from medseg.planning.plan_file import format_plan
from medseg.study.cross_validation.folder import StudyFolder
from medseg.study.cross_validation.options import CrossValidationConfig
from medseg.study.executors.shares import deal_out
from medseg.system.processes.cores import run_on_cores, usable_core_numbers
from medseg.system.processes.threads import use_threads
from medseg.system.version import medseg_version
from medseg.training.run_folder.layout import setting_differences

_PLANNED_SHARE = 0.9
"""Share of the budget that is planned for trainings; the rest is for predictions and their scores."""
_OTHER_OUTPUT = "Continue it with its own settings, or choose another --output folder."


@dataclass(frozen=True)
class Study:
    """A cross-validation whose settings are loaded.

    Attributes:
        request: what is cross-validated.
        folder: the folder of the study.
        config: settings that all folds share.
    """

    request: CrossValidationConfig
    folder: StudyFolder
    config: RunConfig


def open_study(request: CrossValidationConfig, folder: StudyFolder) -> Study:
    """Load or plan the settings, and record them; a continued study has the settings that it was started with.

    Raises:
        ConfigError: if settings are invalid, or differ from those of the study in the folder.
        DataError: if settings are planned, and the cases cannot be used.
    """
    if not folder.record.is_file():
        _check_foreign(folder)
    config = _shared_settings(_load(request, folder), request, folder)
    _check_task(request, config)
    if folder.record.is_file() and folder.cases.is_file():
        _check_unchanged(request, config, folder)
    else:  # a study without folds, such as one with fewer patients than folds, has not begun
        if not folder.settings.is_file() or setting_differences(load_config(folder.settings), config):
            write_text(folder.settings, to_yaml(config))
        options = _options(request) | {"budget": request.budget}
        write_json(folder.record, {"medseg_version": medseg_version(), **options})
    return Study(request, folder, config)


def _load(request: CrossValidationConfig, folder: StudyFolder) -> RunConfig:
    source = request.source
    if not isinstance(source, str | Path) or not Path(source).is_dir():
        return load_config(source, request.overrides)
    data = Path(source).resolve()
    if folder.settings.is_file():  # a plan depends on the state of the machine
        return load_config(folder.settings, [f"data.path={data}", *request.overrides])
    with _share_of_cores(request.at_the_same_time):
        planned = plan_dataset(data, request.overrides, _plan_request(request))
    config = _shared_settings(planned.config, request, folder)
    write_text(folder.settings, format_plan(config, planned.reasons, planned.header))
    return config


@contextmanager
def _share_of_cores(jobs: int) -> Iterator[None]:
    """Let the block run on the cores that a training has of which several run at the same time."""
    cores = usable_core_numbers()
    share = deal_out(jobs, cores, ())[0].cores
    if not share:
        yield
        return
    run_on_cores(share)
    try:
        with use_threads(len(share)):
            yield
    finally:
        run_on_cores(cores)


def _plan_request(request: CrossValidationConfig) -> PlanRequest:
    if request.budget is None:
        return PlanRequest()
    return PlanRequest(minutes=_PLANNED_SHARE * request.budget * request.at_the_same_time / request.folds)


def _shared_settings(config: RunConfig, request: CrossValidationConfig, folder: StudyFolder) -> RunConfig:
    config = with_absolute_paths(config)
    cache = config.data.cache or folder.cache.absolute()
    changes: dict[str, Any] = {"checkpoint": request.checkpoint}
    if request.budget is not None:
        changes["budget"] = None  # the study divides its budget
    return config.model_copy(
        update={
            "data": config.data.model_copy(update={"cache": cache}),
            "train": config.train.model_copy(update=changes),
        }
    )


def _check_task(request: CrossValidationConfig, config: RunConfig) -> None:
    """Check that held-out cases can be predicted and scored."""
    if config.task.name == "prompts":
        raise ConfigError(
            "task.name=prompts: cross-validation predicts the held-out cases, but this network segments "
            "nothing without prompts",
            hint="Train each fold by itself (data.split={name: folds, fold: 0}); its report has the scores of "
            "simulated users on the held-out cases.",
        )
    if config.task.name == "instances" and request.tta:
        raise ConfigError(
            "--tta: mirrors and scales are chosen by the Dice of classes, but this network tells objects apart",
            hint="Leave it out; networks with a dense decoder can be given mirrors: inference.flips=[0,1].",
        )


def _check_foreign(folder: StudyFolder) -> None:
    """Check that the folder of a new study holds nothing that the study would replace, such as a run."""
    own = {folder.settings, folder.clock, folder.cache, folder.fold(0).root.parent}
    if any(path not in own for path in folder.root.glob("[!.]*")):
        raise ConfigError(
            f"{folder.root}: holds other files and no cross-validation",
            hint="Choose another --output folder.",
            path=folder.root,
        )


def _options(request: CrossValidationConfig) -> dict[str, Any]:
    return {
        "folds": request.folds,
        "checkpoint": request.checkpoint,
        "strata": list(request.strata),
        "tta": request.tta,
    }


def _check_unchanged(request: CrossValidationConfig, config: RunConfig, folder: StudyFolder) -> None:
    try:
        record = json.loads(folder.record.read_text(encoding="utf-8"))
        changed = [
            f"{name}: {record[name]} → {value}"
            for name, value in _options(request).items()
            if record[name] != value
        ]
        if "budget" in record and record["budget"] != request.budget:  # earlier versions did not record it
            changed.append(f"budget: {_minutes(record['budget'])} → {_minutes(request.budget)}")
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{folder.record}: not the record of a cross-validation ({error})",
            hint="Choose another --output folder.",
            path=folder.record,
        ) from error
    changed += setting_differences(load_config(folder.settings), config)
    if changed:
        raise ConfigError(
            f"{folder.root}: the study was started with other settings: {'; '.join(changed)}",
            hint=_OTHER_OUTPUT,
            path=folder.root,
        )


def _minutes(budget: float | None) -> str:
    return "none" if budget is None else f"{budget:g} minutes"
