"""Cases of an evaluation that were not compared: which of them count in the means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def split_by_rule(coverage: Mapping[str, Any], kind: str) -> tuple[list[str], list[str]]:
    """Divide the missing or failed cases into those that count with the worst scores and those left out.

    With the policy ``worst``, a case without a readable reference has no scores, and no mean includes it.

    Args:
        coverage: ``coverage`` of a summary.
        kind: ``missing`` or ``failed``.

    Returns:
        Cases that count with the worst scores, and cases that are left out of the means.

    Example:
        >>> coverage = {"missing_policy": "worst", "missing": {"a": "", "b": ""}, "unscored": ["b"]}
        >>> split_by_rule(coverage, "missing")
        (['a'], ['b'])
    """
    cases: list[str] = list(coverage.get(kind) or ())
    if coverage.get("missing_policy") != "worst":
        counted: list[str] = []
        return counted, cases
    unscored = {*coverage.get("unscored", ())}
    return [case for case in cases if case not in unscored], [case for case in cases if case in unscored]
