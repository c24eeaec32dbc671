"""Training: from settings and a dataset to a model file.

Modules:
    fit: ``fit``, which trains a network, or resumes a run.
    options: the settings ``train``.
    dataset: the prepared dataset, and its checks against the settings.
    model: network, loss and gradient steps on one device.
    device_augmentation: intensity transforms of whole batches on the device.
    cascade: the first stage of a cascade.
    extensions: network, loss, transforms and callbacks of the user's own.
    network_options: gradient checkpointing, compilation, frozen statistics.
    unlabeled: unlabeled images, and the loss of a mean teacher.
    patch_loader: batches of patches.
    loop: the training loop.
    pacing: the length of the training and the position in the schedule.
    validation: scores of whole cases, and their selection.
    run_folder: the files of a run: records, logs, checkpoints, state.
"""
