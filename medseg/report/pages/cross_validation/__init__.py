"""Reports of cross-validations.

Modules:
    label_maps: of classes, scored by Dice.
    objects: of numbered objects.
    parts: what both show.
"""

from medseg.report.pages.cross_validation.label_maps import (
    CrossValidationPage,
    unbiased_dice,
    write_cross_validation_page,
)
from medseg.report.pages.cross_validation.objects import ObjectFoldsPage

__all__ = ["CrossValidationPage", "ObjectFoldsPage", "unbiased_dice", "write_cross_validation_page"]
