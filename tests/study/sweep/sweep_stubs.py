"""Sweeps with stubs in place of trainings."""

import math
from functools import cache
from pathlib import Path

from conftest import ball_settings

from medseg.config.schema import load_config
from medseg.progress import QuietProgress
from medseg.study.sweep import read_sweep
from medseg.study.sweep.results import summarize
from medseg.study.sweep.search_space.space_check import build_space
from medseg.study.sweep.shared_study import SharedStudy
from medseg.study.sweep.study_folder import SweepFolder
from medseg.study.sweep.sweep import SweepWorker

SPACE = {"train.optimizer.lr": {"low": 1e-5, "high": 1e-1, "log": True}, "model.channels": [[4, 8], [8, 16]]}


def score_of(config):
    """A score with its maximum 0.9 at a learning rate of 0.001 and the wider network."""
    distance = abs(math.log10(config.train.optimizer.lr) + 3)
    return 0.9 - 0.2 * distance - (0.3 if config.model.channels == (4, 8) else 0.0)


def run_stub(job, progress):
    """Validate three times instead of a training; the score grows to its final value."""
    final = score_of(job.config)
    for step in (1, 2, 3):
        if job.pruner is not None and job.pruner.is_worse(step, final - 0.1 * (3 - step), final=step == 3):
            return (math.nan,) * len(job.objectives)
    width = sum(job.config.model.channels)
    return tuple(width / 10 if one == "seconds_per_case" else final for one in job.objectives)


@cache
def search_space():
    """The validated search space."""
    return build_space(
        read_sweep({"space": SPACE}).space, load_config(ball_settings("DATA")).model_dump(mode="json")
    )


class QuietWorker(SweepWorker):
    """Writes no files."""

    def report(self, *, every=0.0):
        """Return the result so far."""
        return summarize(self.folder, self.shared.records(), self.shared.space, self.shared.sweep)


def open_worker(folder, trials=6, execute=run_stub, files=False, **entries):
    """Open the sweep in a folder as a new process would."""
    sweep = read_sweep({"space": SPACE, **entries})
    root = SweepFolder(Path(folder))
    shared = SharedStudy(root.root, sweep, search_space())
    return (SweepWorker if files else QuietWorker)(root, shared, QuietProgress(), trials, execute)
