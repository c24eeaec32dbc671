"""Detectors: networks that find and outline single objects, in 2D and 3D, in PyTorch alone.

The union ``DetectorConfig`` is the registry. A detector maps images and ``DetectionTargets`` to losses in
training, and images to ``Detections`` in evaluation.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from medseg.models.detection.detections import Detections, Detector
from medseg.models.detection.mask_rcnn import MaskRCNN, MaskRCNNConfig
from medseg.models.detection.retina_unet import RetinaUNet, RetinaUNetConfig
from medseg.models.detection.targets import DetectionTargets, detection_targets

DetectorConfig = Annotated[MaskRCNNConfig | RetinaUNetConfig, Field(discriminator="name")]

__all__ = [
    "DetectionTargets",
    "Detections",
    "Detector",
    "DetectorConfig",
    "MaskRCNN",
    "MaskRCNNConfig",
    "RetinaUNet",
    "RetinaUNetConfig",
    "detection_targets",
]
