"""``task``: what a network predicts; and the thresholds of decoding objects."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from medseg.config.base import Spec

Decoder = Literal["flows", "distance", "rays", "boxes"]
Share = Annotated[float, Field(ge=0, le=1)]


class SemanticTask(Spec):
    """Predict the class of each voxel."""

    name: Literal["semantic"] = "semantic"


class InstanceTask(Spec):
    """Predict each object on its own, by further maps beside the classes of the voxels.

    Attributes:
        decoder: the maps, and how objects are decoded from them: ``flows``, directions to the center of the
            object (Stringer et al. 2021, doi:10.1038/s41592-020-01018-x); ``distance``, the distance to the
            border of the object, and the border itself, decoded by a watershed; ``rays``, distances to the
            border along fixed directions, for convex objects (Schmidt et al. 2018, arXiv:1806.03535);
            ``boxes``, boxes and masks of a detector (``model.name`` ``maskrcnn`` or ``retina_unet``).
        rays: number of directions; if None, 32 in 2D and 96 in 3D.
        weight: weight of the loss of the maps.
    """

    name: Literal["instances"] = "instances"
    decoder: Decoder = "flows"
    rays: Annotated[int, Field(ge=4, le=512)] | None = None
    weight: float = Field(default=1.0, gt=0)


class InstanceDecoding(Spec):
    """Thresholds of decoding objects; a training chooses some of them on the validation cases.

    Attributes:
        foreground: probability above which a voxel belongs to an object.
        seed: ``rays``: probability above which a voxel is the center of an object.
        rise: ``distance``: height of a core above the saddle to a higher one, as a share of an object's depth,
            below which they are one object.
        border: ``distance``: mean border probability between two parts below which they are one object.
        flow_error: ``flows``: mean squared difference between the predicted directions and those of the decoded
            object, above which the object is dropped.
        overlap: ``rays``: share of an object within more likely objects above which it is dropped.
        smallest: size below which objects are dropped, in mm³ for volumes and pixels for pictures.
        score: score below which objects are dropped.
        calibration: slope and offset of the logit of the score, which make it the probability that the object
            is right.
    """

    foreground: Share = 0.5
    seed: Share = 0.5
    rise: Share = 0.15
    border: Share = 0.2
    flow_error: float = Field(default=0.4, gt=0)
    overlap: Share = 0.4
    smallest: float = Field(default=0.0, ge=0)
    score: Share = 0.0
    calibration: tuple[float, float] = (1.0, 0.0)
