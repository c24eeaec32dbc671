"""Studies: several trainings on the same cases, and what differs between them."""

from medseg.study.ablation import AblationConfig, AblationResult, run_ablation
from medseg.study.cell_run import RunOutcome
from medseg.study.cells import Cell, Design, plan_cells

__all__ = [
    "AblationConfig",
    "AblationResult",
    "Cell",
    "Design",
    "RunOutcome",
    "plan_cells",
    "run_ablation",
]
