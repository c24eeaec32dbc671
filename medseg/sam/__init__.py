"""Segment Anything models (SAM, SAM 2.1, MedSAM) through the extra ``sam`` (transformers).

Modules:
    loading: networks from a file, a folder or a published name.
    published: the names.
    official_keys: keys and architecture of files in the official layouts.
    network: image encoder and decoder of prompts.
    pictures: preprocessing, positions and masks in the network's frame.
    slicing: slices of volumes, and prompts on them.
    slice_predictor: masks of slices, and propagation to the next.
    session: ``Sam``, which answers prompts on pictures and volumes.
    automatic: masks without prompts, as instances.
    embeddings: embeddings in memory and on disk, both bounded.
    options: settings of all of these.
    finetuning: training of the mask decoder on your own labels.

The names below are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.system.lazy_imports import lazy_names

if TYPE_CHECKING:
    from medseg.sam.automatic import automatic_masks
    from medseg.sam.embeddings import EmbeddingStore
    from medseg.sam.loading import is_sam, load_network, load_sam
    from medseg.sam.options import AutomaticOptions, PropagationOptions, SamOptions
    from medseg.sam.session import Sam, SamSession

__all__ = [
    "AutomaticOptions",
    "EmbeddingStore",
    "PropagationOptions",
    "Sam",
    "SamOptions",
    "SamSession",
    "automatic_masks",
    "is_sam",
    "load_network",
    "load_sam",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "medseg.sam.automatic": ("automatic_masks",),
        "medseg.sam.embeddings": ("EmbeddingStore",),
        "medseg.sam.loading": ("is_sam", "load_network", "load_sam"),
        "medseg.sam.options": ("AutomaticOptions", "PropagationOptions", "SamOptions"),
        "medseg.sam.session": ("Sam", "SamSession"),
    },
)
