"""``task: {name: prompts}``: a network that answers prompts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from medseg.config.base import Spec

Objects = Literal["auto", "classes", "components", "instances"]
Share = Annotated[float, Field(ge=0, le=1)]


class PromptTask(Spec):
    """Segment the object that a user points at, and correct it prompt by prompt.

    The network receives the image, its previous mask and the prompts as channels ("early fusion", Isensee et
    al. 2025, arXiv:2503.08373) and predicts one object.

    Attributes:
        objects: what is an object in the training: ``classes``, all voxels of a class or region;
            ``components``, one connected component of a class; ``instances``, those of ``data.instances``;
            ``auto``: instances if that is set, otherwise classes.
        users: names of the simulated users that are trained with (``medseg.prompts.users``) and how often each
            of them makes a prompt.
        interactions: largest number of earlier prompts in a training sample, each of which corrects what the
            network predicted before it.
        first_only: share of the training samples with a single prompt. The others have n earlier prompts with
            a probability proportional to 1 / n, because each costs a prediction.
        start_mask: share of the training samples that start with a faulty mask, as the result of another model
            may be, in place of an empty one.
        regions: share of the training samples whose object is a region of similar intensity instead of a label,
            so that the network also segments what no label shows.
    """

    name: Literal["prompts"] = "prompts"
    objects: Objects = "auto"
    users: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default={
            "clicks": 4.0,
            "random-clicks": 1.0,
            "box": 0.5,
            "slice-box": 0.5,
            "lines": 0.5,
            "zigzags": 0.5,
            "skeletons": 0.5,
            "contours": 0.5,
            "lasso": 0.5,
        },
        min_length=1,
    )
    interactions: int = Field(default=4, ge=0, le=32)
    first_only: Share = 0.4
    start_mask: Share = 0.1
    regions: Share = 0.0
