"""How long a training lasts, and where in its learning-rate schedule it is.

Modules:
    pace: ``Pace``, what the training loop asks; ``EpochPace``, a fixed number of epochs.
    time_budget: ``TimeBudget``, the time that a command may take.
    segments: the decisions under a budget, recorded in checkpoints.
    timed_pace: ``TimedPace``, as many updates as the budget allows.
    loop_budget: a training loop with a time budget.
"""
