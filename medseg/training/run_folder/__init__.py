"""The run folder: everything that a training writes, and that a resumed training reads.

Modules:
    layout: ``RunFolder``, the names of the files.
    case_record: the cases of a run, and what changed since it was started.
    state: ``TrainState``, everything that changes during a training.
    checkpoint: writing and reading checkpoints.
    resume: what is recorded at the start of a run, and restored.
    result: the model file, and what ``fit`` returns.
    log: logs as JSON lines, TensorBoard curves and text.
"""
