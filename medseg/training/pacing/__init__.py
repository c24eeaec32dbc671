"""How long a training lasts, and where in its learning-rate schedule it is.

Modules:
    pace: ``Pace``, what the training loop asks; ``fixed_epochs``, the usual one.
    budget_clock: ``TimeBudget``, the time that a command may take, and how much is used.
    end_within_budget: ``BudgetPace``, as many updates as the budget allows.
    segments: the decisions under a budget, recorded in checkpoints.
    budget_setup: a training loop with a time budget.
"""
