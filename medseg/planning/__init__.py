"""Planning: settings for a dataset, from its measurements, the device and the time.

Modules:
    plan: ``plan_dataset`` and ``plan_config``, the settings with and without their reasons.
    fingerprint: the measurements of a dataset; ``structures`` those of the labels of a case.
    nnunet_rules: nnU-Net's plans; ``topology`` the levels of a U-Net and their cost.
    geometry: the candidate networks of a dataset; ``candidates`` lists them.
    measured: what is measured on the machine: networks, workers, threads; ``dry_run``, ``lr_finder``.
    choices: settings that follow from the fingerprint; ``draft`` collects them with their reasons.
    describe: the reasons in words; ``plan_file`` writes settings and reasons as YAML.
"""
