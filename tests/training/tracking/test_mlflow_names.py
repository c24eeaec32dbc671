"""Names of curves in MLflow."""

from medseg.training.tracking.mlflow_service import _key, _picture_key


def test_labels_in_any_script_keep_curves_of_their_own():
    assert _key("val_dice:左肾") != _key("val_dice:右肾")
    assert _key("val_dice:tumor (core)") == "val_dice:tumor _core_"
    assert _picture_key("val/case_1") == "val/case_1"
    assert _picture_key("val/Fall ä") != _picture_key("val/Fall ö")
