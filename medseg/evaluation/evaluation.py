"""Result of an evaluation, and its forms for further work: data frames and tables for papers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.data.labels.schema import LabelSchema
from medseg.metrics import latex_table, long_rows, markdown_table, to_json

if TYPE_CHECKING:
    import pandas as pd  # pyright: ignore[reportMissingTypeStubs]


@dataclass(frozen=True)
class CaseFiles:
    """Files of one case.

    Attributes:
        reference: label map that the prediction is compared with.
        prediction: predicted label map; None if the case is missing.
        image: the image; None if it is not known.
    """

    reference: Path
    prediction: Path | None = None
    image: Path | None = None


@dataclass(frozen=True)
class Evaluation:
    """The metrics of a set of predictions.

    Attributes:
        rows: one dict per case and label, as in ``cases.csv``; scores of cases left out are nan.
        summary: content of ``summary.json``.
        labels: names and values that the cases were compared with.
        files: files of each case.
    """

    rows: list[dict[str, Any]]
    summary: dict[str, Any]
    labels: LabelSchema | None = None
    files: dict[str, CaseFiles] = field(default_factory=dict[str, CaseFiles])

    @property
    def missing(self) -> dict[str, str]:
        """Cases with a reference and without a prediction, with the reason."""
        return self.summary["coverage"]["missing"]

    @property
    def failed(self) -> dict[str, str]:
        """Cases that could not be compared, with the reason."""
        return self.summary["coverage"]["failed"]

    @property
    def unit(self) -> str:
        """Unit of distances: mm, or px for pictures without spacing."""
        return self.summary["definitions"]["unit"]

    def to_frame(self) -> pd.DataFrame:
        """Return a pandas data frame with one row per case and label, as ``cases.csv``.

        Its ``attrs`` contain the definitions, the coverage and the versions, which ``to_parquet`` keeps.
        """
        return self._frame(self.rows)

    def to_long_frame(self) -> pd.DataFrame:
        """Return a pandas data frame with one row per case, label and metric, as ``scores.csv``."""
        return self._frame(long_rows(self.rows, self.unit))

    def to_markdown(self, columns: Sequence[str] | None = None) -> str:
        """Return a table with mean, interval and n per label as Markdown.

        Args:
            columns: metrics, in order. If None, the most common ones.
        """
        return markdown_table(self.summary, columns)

    def to_latex(self, columns: Sequence[str] | None = None) -> str:
        """Return a table with mean, interval and n per label as LaTeX.

        Args:
            columns: metrics, in order. If None, the most common ones.
        """
        return latex_table(self.summary, columns)

    def _frame(self, rows: list[dict[str, Any]]) -> pd.DataFrame:
        import pandas as pd  # pyright: ignore[reportMissingTypeStubs]

        frame = pd.DataFrame(rows)
        kept = ("definitions", "coverage", "provenance")
        frame.attrs.update({key: to_json(self.summary[key]) for key in kept if key in self.summary})
        return frame
