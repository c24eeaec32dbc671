"""Coded terms: looked up by a label's name, or declared."""

import pytest
from pydantic import ValidationError

from medseg.config.schema import load_config
from medseg.data.labels.names.terminology import _SYNONYMS, TerminologyCode, _terms, lookup_terminology
from medseg.data.labels.schema import LabelSchema


@pytest.mark.parametrize(
    ("name", "value", "category", "side"),
    [
        ("Liver", "10200004", "anatomical structure", None),
        ("kidney_right", "64033007", "anatomical structure", "right"),
        ("Left-Lung", "39607008", "anatomical structure", "left"),
        ("spleen", "78961009", "anatomical structure", None),
        ("heart", "80891009", "anatomical structure", None),
        ("brain", "12738006", "anatomical structure", None),
        ("hippocampus", "5366008", "anatomical structure", None),
        ("spinal cord", "2748008", "anatomical structure", None),
        ("prostate", "41216001", "anatomical structure", None),
        ("vessels", "59820001", "anatomical structure", None),
        ("left ventricle", "87878005", "anatomical structure", None),  # of the heart; a term of its own
        ("tumours", "108369006", "abnormality", None),
        ("lesion", "52988006", "abnormality", None),
        ("oedema", "79654002", "abnormality", None),
        ("fat", "55603005", "tissue", None),
        ("whatever", "85756007", "tissue", None),
    ],
)
def test_terms_are_looked_up_by_label_name(name, value, category, side):
    code = lookup_terminology(name)
    assert (code.value, code.scheme, code.category, code.side) == (value, "SCT", category, side)


def test_every_synonym_leads_to_a_term():
    assert set(_SYNONYMS.values()) <= set(_terms())


def test_declared_codes_stay_with_the_labels(tmp_path):
    settings = {
        "data": {
            "labels": {
                "names": {"background": 0, "node": 1},
                "terminology": {"node": {"value": 59441001, "meaning": "Lymph Node", "category": "tissue"}},
            }
        }
    }
    labels = load_config(settings).data.labels.declared_schema()
    assert labels is not None
    assert labels.terminology == {
        "node": TerminologyCode(value="59441001", meaning="Lymph Node", category="tissue")
    }
    assert LabelSchema.model_validate_json(labels.model_dump_json()) == labels
    other = TerminologyCode(value="1", scheme="99MINE", meaning="Mine")
    assert labels.with_terminology({"node": other, "unknown": other}).terminology == {"node": other}


def test_codes_of_unknown_labels_and_long_codes_raise():
    with pytest.raises(ValidationError, match=r"terminology of \['liver'\], which are not labels"):
        LabelSchema(names={"a": (0,), "b": (1,)}, terminology={"liver": lookup_terminology("liver")})
    with pytest.raises(ValidationError, match="at most 16"):
        TerminologyCode(value="12345678901234567", meaning="long")
