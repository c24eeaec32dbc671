"""Training: from settings and a dataset to a model file.

Modules:
    fit: ``fit``, which trains a network, or resumes a run.
    dry_run: ``dry_run``, an estimate of time and memory.
    options: the settings ``train``.
    dataset: the prepared dataset; ``dataset_checks`` compares it with the settings.
    model: network, loss and gradient steps on one device.
    loop: the training loop.
    validation: scores of whole cases; ``validation_schedule`` selects the cases.
    run_folder: the files of a run: records, logs, checkpoints, state.
    sampling_stats: how much of each class the drawn patches contain.
    core_usage, signals, threads: use of the CPU, signals to stop, number of threads.
"""
