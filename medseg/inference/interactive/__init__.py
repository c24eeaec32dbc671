"""Interactive segmentation: a trained network answers prompts, window by window."""

from medseg.inference.interactive.interactive import Interactive
from medseg.inference.interactive.scan_session import ScanSession

__all__ = ["Interactive", "ScanSession"]
