"""Planning: settings for a dataset, from its measurements, the device and the time.

Modules:
    plan: ``plan_dataset`` and ``plan_config``, the settings with and without their reasons.
    fingerprint: the measurements of a dataset; ``structures`` those of the labels of a case.
    nnunet_rules: nnU-Net's plans; ``topology`` the levels of a U-Net and their cost.
    spacing_and_patch: spacing and largest patch; ``network_candidates`` lists smaller networks and patches.
    measured: what is measured on the machine: ``candidate_choice``, workers, ``dry_run``, ``lr_finder``.
    training_settings: normalization, sampling, loss, augmentation; ``draft`` collects settings and reasons.
    describe: the reasons in words; ``plan_file`` writes settings and reasons as YAML.
"""
