"""Coded terms of labels in DICOM objects: declared, or looked up in the standard by the name of a label."""

from __future__ import annotations

import re
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from medseg.config.base import Spec

Category = Literal[
    "anatomical structure", "tissue", "abnormality", "physical object", "body substance", "substance",
    "function", "concept",
]  # fmt: skip
Side = Literal["left", "right"]

CATEGORIES: dict[Category, tuple[str, str]] = {
    "anatomical structure": ("91723000", "Anatomical Structure"),
    "tissue": ("85756007", "Tissue"),
    "abnormality": ("49755003", "Morphologically Abnormal Structure"),
    "physical object": ("260787004", "Physical object"),
    "body substance": ("91720002", "Body Substance"),
    "substance": ("105590001", "Substance"),
    "function": ("246464006", "Function"),
    "concept": ("309825002", "Spatial and Relational Concept"),
}
"""SNOMED CT codes of the categories (PS3.16, CID 7150)."""

SIDES: dict[Side, tuple[str, str]] = {"left": ("7771000", "Left"), "right": ("24028007", "Right")}
"""SNOMED CT codes of the sides (PS3.16, CID 244)."""

_GROUPS: dict[str, Category] = {
    "cid7192": "anatomical structure",
    "cid7191": "tissue",
    "cid7194": "abnormality",
    "cid7193": "physical object",
    "cid7197": "body substance",
}
"""Context groups in which terms are looked up, in order, with their category."""

_SYNONYMS = {
    "adrenal": "adrenalgland",
    "bleeding": "hemorrhage",
    "bone": "bonetissue",
    "caudate": "caudatenucleus",
    "cerebralventricle": "brainventricle",
    "csf": "cerebrospinalfluid",
    "enhancingtumor": "enhancinglesion",
    "fat": "adiposetissue",
    "greymatter": "graymatter",
    "haemorrhage": "hemorrhage",
    "lymphnodes": "lymphnode",
    "metastasis": "neoplasmsecondary",
    "muscle": "muscletissue",
    "oedema": "edema",
    "oesophagus": "esophagus",
    "pallidum": "globuspallidus",
    "primarytumor": "neoplasmprimary",
    "tumor": "neoplasm",
    "urinarybladder": "bladder",
    "vertebrae": "vertebra",
    "vessel": "bloodvessel",
}  # fmt: skip


class TerminologyCode(Spec):
    """Coded term of a label.

    Attributes:
        value, scheme, meaning: code, designator of its scheme (``SCT`` is SNOMED CT), and text.
        category: kind of object.
        side: side of the body.
    """

    value: Annotated[str, BeforeValidator(lambda given: str(given) if isinstance(given, int) else given)] = (
        Field(min_length=1, max_length=16)
    )
    scheme: str = Field(default="SCT", min_length=1, max_length=16)
    meaning: str = Field(min_length=1, max_length=64)
    category: Category = "anatomical structure"
    side: Side | None = None


def lookup_terminology(name: str) -> TerminologyCode:
    """Look up the name of a label in the context groups of DICOM (PS3.16); unknown names give "Tissue".

    Case, punctuation, a plural s and British spelling are ignored; the words left and right set the side.

    Example:
        >>> lookup_terminology("kidney_right").meaning
        'Kidney'
    """
    words = [word for word in re.split(r"[^a-z0-9]+", name.lower().replace("tumour", "tumor")) if word]
    side: Side | None = "left" if "left" in words else "right" if "right" in words else None
    whole, rest = "".join(words), "".join(word for word in words if word not in ("left", "right"))
    for key, key_side in ((whole, None), (rest, side)):  # "left ventricle" is itself a term
        for spelling in (key, key.removesuffix("s")):
            term = _terms().get(_SYNONYMS.get(spelling, spelling))
            if term is not None:
                return term.model_copy(update={"side": key_side})
    value, meaning = CATEGORIES["tissue"]
    return TerminologyCode(value=value, meaning=meaning, category="tissue", side=side)


@cache
def _terms() -> dict[str, TerminologyCode]:
    """Return keyword in lower case → term for all groups, from the tables of the standard in pydicom."""
    from pydicom.sr.codedict import codes

    terms: dict[str, TerminologyCode] = {}
    for group, category in _GROUPS.items():
        concepts: Any = getattr(codes, group).concepts
        for keyword, code in concepts.items():
            if len(code.meaning) <= 64:
                term = TerminologyCode(
                    value=code.value, scheme=code.scheme_designator, meaning=code.meaning, category=category
                )
                terms.setdefault(keyword.lower(), term)
    return terms
