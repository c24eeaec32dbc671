"""The folder of a sweep: its files, the record of what is searched, and the processes that work on it."""

from __future__ import annotations

from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from ruamel.yaml import YAML

from medseg.config.schema import RunConfig, load_config, to_yaml, with_absolute_paths
from medseg.errors import ConfigError
from medseg.files import write_text
from medseg.study.cells import settings_digest
from medseg.study.sweep.claims import wait_for_lock
from medseg.study.sweep.search_space.options import SweepConfig, read_sweep
from medseg.study.sweep.search_space.space import SearchSpace
from medseg.study.sweep.search_space.space_check import build_space, resolve_space

_OTHER = "Choose another --output folder."


@dataclass(frozen=True)
class SweepFolder:
    """The files of a sweep."""

    root: Path

    @property
    def config(self) -> Path:
        """The settings that are varied, complete."""
        return self.root / "config.yaml"

    @property
    def sweep(self) -> Path:
        """The search space and the objectives."""
        return self.root / "sweep.yaml"

    @property
    def references(self) -> Path:
        """The reference label maps of the validation cases."""
        return self.root / "references"

    @property
    def table(self) -> Path:
        """One row per trial."""
        return self.root / "trials.csv"

    @property
    def best(self) -> Path:
        """The best settings, complete, for ``medseg train``."""
        return self.root / "best.yaml"

    @property
    def pareto(self) -> Path:
        """The settings of the Pareto front of several objectives."""
        return self.root / "pareto"

    @property
    def report(self) -> Path:
        """The report."""
        return self.root / "report.html"

    def start(self, config: RunConfig, sweep: SweepConfig) -> SearchSpace:
        """Validate the space, and record what is searched, or check that it is what the folder records.

        Raises:
            ConfigError: if the space is invalid, or the folder contains another study or other files.
        """
        config = with_absolute_paths(config)
        space = build_space(sweep.space, config.model_dump(mode="json"))
        with wait_for_lock(self.root / ".start.lock"):
            if self.config.exists() and self.sweep.exists():
                self._check(config, sweep)
            else:
                self._check_foreign()
                write_text(self.sweep, _to_yaml(sweep))
                write_text(self.config, to_yaml(config))
        return space

    def load(self) -> tuple[SweepConfig, SearchSpace]:
        """Return what the folder records: the description of the sweep, and its search space."""
        sweep = read_sweep(self.sweep)
        return sweep, resolve_space(sweep.space, load_config(self.config).model_dump(mode="json"))

    def trial_config(self, config: RunConfig) -> RunConfig:
        """Return the settings of a trial, which shares the preprocessed cases of the sweep."""
        data = config.data.model_copy(update={"cache": config.data.cache or self.root.absolute() / "cache"})
        return config.model_copy(update={"data": data})

    def _check_foreign(self) -> None:
        others = [path for path in self.root.glob("[!.]*") if path != self.sweep]
        if others:
            raise ConfigError(f"{self.root}: holds other files and no sweep", hint=_OTHER, path=self.root)

    def _check(self, config: RunConfig, sweep: SweepConfig) -> None:
        earlier = load_config(self.config)
        if settings_digest(earlier) != settings_digest(config) or earlier.seed != config.seed:
            raise ConfigError(
                f"{self.root}: the sweep was started with other settings ({self.config.name})",
                hint=f"{_OTHER[:-1]}, or continue it with medseg study sweep {self.config} {self.sweep}.",
                path=self.root,
            )
        if read_sweep(self.sweep) != sweep:
            raise ConfigError(
                f"{self.root}: the sweep was started with another search space ({self.sweep.name})",
                hint=_OTHER,
                path=self.root,
            )


def _to_yaml(sweep: SweepConfig) -> str:
    yaml = YAML()
    yaml.default_flow_style = None
    yaml.width = 110
    stream = StringIO()
    content = sweep.model_dump(mode="json", exclude_defaults=True)
    yaml.dump({"space": content.pop("space"), **content}, stream)  # pyright: ignore[reportUnknownMemberType]
    return stream.getvalue()
