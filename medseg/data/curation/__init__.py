"""Curation of datasets: measure, check, summarize, repair, convert and split them.

Modules:
    case_statistics: ``CaseStatistics``, the measurements of each case, cached by the contents of its files.
    check: ``check_dataset``, which reports the problems in ``findings`` and ``label_findings``.
    summary: ``summarize_dataset``, grids, intensities and frequencies of labels.
    repair: ``repair``, which writes a repaired copy.
    convert: ``convert_dataset``, which writes a dataset in another layout.
    splits: assignment of cases to training, validation and test; ``stratification`` distributes rare labels.
    duplicates: cases with the same image.
"""
