"""Comparison of runs, predictions or tables of scores."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from medseg.data.labels.schema import LabelSchema
from medseg.errors import ConfigError
from medseg.evaluation import EvaluationOptions
from medseg.evaluation.comparison import (
    Comparison,
    ComparisonOptions,
    MethodScores,
    check_output,
    compare_scores,
    name_methods,
    read_groups,
    read_method,
    write_comparison,
)
from medseg.evaluation.labels import read_labels
from medseg.files import check_exists
from medseg.inference.model.model_file import read_header_fields
from medseg.metrics import metric_info
from medseg.progress import ConsoleProgress

OBSERVER = "second observer"
LABELS_FILE = "medseg.json"
_FOLDER = "methods"


@dataclass(frozen=True)
class ComparisonInputs:
    """What methods are compared with.

    Attributes:
        reference: folder of label maps that predictions are compared with. Runs have their own.
        observer: a second observer: a folder of label maps, or a table or folder of ``medseg evaluate``.
        observer_suffix: suffix that names of the observer's label maps add to names of cases, such as
            ``_2ndHO``.
        groups: CSV table with a column ``case`` and one column per grouping, such as site.
        images: folder of the images, which the report shows below the label maps. Runs have their own.
    """

    reference: Path | str | None = None
    observer: Path | str | None = None
    observer_suffix: str | None = None
    groups: Path | str | None = None
    images: Path | str | None = None


def compare_runs(
    methods: Mapping[str, Path | str] | Sequence[Path | str],
    output: Path | str | None = None,
    options: ComparisonOptions | None = None,
    inputs: ComparisonInputs | None = None,
) -> Comparison:
    """Compare methods on the same cases, paired by case.

    Each method is a run folder, a folder of predicted label maps, a folder that ``medseg evaluate`` wrote, or a
    CSV table with one row per case and label. Test cases of runs are predicted and evaluated first; only cases
    that are test cases of every run are compared.

    Args:
        methods: name → path, or paths that may have the form ``NAME=PATH``; at least two.
        output: folder for the tables, see ``write_comparison``, and for predictions of runs. If None, no file
            is written.
        options: metric, missing results, baseline, margin, level.
        inputs: references, second observer and groups of cases.

    Raises:
        ConfigError: if there are fewer than two methods, or predictions without references.
        DataError: if a path does not exist or has no scores, or the methods have nothing in common.

    Example:
        >>> comparison = compare_runs(["runs/a", "runs/b"], "comparison")  # doctest: +SKIP
        >>> print("\\n".join(comparison.verdict))  # doctest: +SKIP
    """
    options, inputs = options or ComparisonOptions(), inputs or ComparisonInputs()
    if not isinstance(methods, Mapping):
        methods = name_methods(list(methods))
    paths = {name: Path(path) for name, path in methods.items()}
    for path in paths.values():
        check_exists(path)
        if is_run(path):
            _check_predicts_classes(path)
    if output is not None:
        check_output(Path(output))
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary) if output is None else Path(output)
        reader = _MethodReader(root / _FOLDER, options, inputs)
        reader.find_labels(paths.values())
        scores = [reader.read(name, path) for name, path in paths.items()]
        observer = reader.read_observer()
    groups = read_groups(Path(inputs.groups)) if inputs.groups is not None else None
    comparison = compare_scores(scores, options, groups=groups, observer=observer)
    if output is not None:
        write_comparison(output, comparison)
    return comparison


@dataclass
class _MethodReader:
    """Reads the scores of methods; the first run or folder with labels provides what later ones lack."""

    folder: Path
    options: ComparisonOptions
    inputs: ComparisonInputs
    reference: Path | None = None
    labels: LabelSchema | None = None

    def __post_init__(self) -> None:
        given = self.inputs.reference
        self.reference = None if given is None else Path(given)
        self.labels = self.options.evaluation.labels
        evaluation = with_groups(self.options)
        if self.inputs.images is not None:
            evaluation = replace(evaluation, images=Path(self.inputs.images))
        self.options = replace(self.options, evaluation=evaluation)

    def find_labels(self, paths: Iterable[Path]) -> None:
        """Use the first ``medseg.json`` in folders of predictions, unless labels were given."""
        files = (path / LABELS_FILE for path in paths)
        file = next((file for file in files if file.is_file()), None)
        if self.labels is None and file is not None:
            self.labels = read_labels(file)

    def read(self, name: str, path: Path) -> MethodScores:
        if not is_run(path):
            return read_method(name, path, self.reference, self._evaluation(path))
        from medseg.study.run_scores import score_run

        folder = self.folder / name.replace("/", "_")
        with ConsoleProgress() as progress:
            scores = score_run(name, path, folder, self.options.part, self.options.evaluation, progress)
        self.reference = self.reference or folder / "references"
        self.find_labels([folder / "predictions"])
        return scores

    def read_observer(self) -> MethodScores | None:
        given = self.inputs.observer
        if given is None:
            return None
        evaluation = replace(self._evaluation(Path(given)), prediction_suffix=self.inputs.observer_suffix)
        return read_method(OBSERVER, Path(given), self.reference, evaluation)

    def _evaluation(self, path: Path) -> EvaluationOptions:
        """Return the options for a folder of predictions: its own labels, else those of another method."""
        given = self.options.evaluation
        return given if (path / LABELS_FILE).is_file() else replace(given, labels=given.labels or self.labels)


def _check_predicts_classes(run: Path) -> None:
    """Raise ConfigError if the model of a run does not predict a map of classes."""
    header = read_header_fields(run / "model.safetensors")
    for key, results, hint in (
        (
            "instances",
            "numbers objects",
            "Compare folders that medseg evaluate --objects wrote, by --metric pq.",
        ),
        ("prompts", "answers prompts", "Measure both with medseg evaluate --interactive."),
    ):
        if header.get(key) is not None:
            raise ConfigError(f"{run}: the model {results}; expected one that predicts classes", hint=hint)


def with_groups(options: ComparisonOptions) -> EvaluationOptions:
    """Return the options of evaluations, with the groups that the compared metrics belong to."""
    groups = dict.fromkeys(options.evaluation.metrics)
    for name in (options.metric, *options.also):
        with suppress(KeyError):
            groups[metric_info(name).group or "overlap"] = None
    return replace(options.evaluation, metrics=tuple(groups))


def is_run(path: Path) -> bool:
    """Return whether a path is the folder of a finished training."""
    return (path / "cases.json").is_file() and (path / "model.safetensors").is_file()
