"""Published networks, ready to use: their weights with labels and preprocessing, as a model in memory."""

from __future__ import annotations

from pathlib import Path

from medseg.data.labels.tables import label_table
from medseg.data.preprocessing.normalization import ImageNet
from medseg.data.preprocessing.pipeline import PreprocessConfig
from medseg.errors import ConfigError, ModelFileError
from medseg.files import sha256_file
from medseg.inference.model.model_file import LoadedModel, ModelHeader
from medseg.inference.options import InferenceConfig
from medseg.inference.sliding_window.tta import TrainedAugmentation
from medseg.models.pretrained.loading import load_pretrained, read_state
from medseg.models.pretrained.weight_registry import PUBLISHED_WEIGHTS, lookup_weights

_TORCHVISION = TrainedAugmentation(mirror_axes=(1,), scale=(0.5, 2.0))
"""Of torchvision's segmentation trainings (references/segmentation/presets.py): columns mirrored, the shorter
side resized to 0.5 to 2 times the base size."""


def published_model(name: str, weights: Path | None = None) -> LoadedModel:
    """A published segmentation network by name, from ``weights`` or from where they were fetched to.

    Pictures go through it whole, at their own size.
    Raises: ConfigError if the name is not known or is a backbone's; ModelFileError if the weights are not
    there or not what they should be.
    """
    entry = lookup_weights(name)
    if entry.network is None:
        networks = ", ".join(n for n, e in PUBLISHED_WEIGHTS.items() if e.network is not None)
        raise ConfigError(f"{name} are a backbone's weights, which segment nothing; networks: {networks}")
    path = weights or entry.path()
    if not path.is_file():
        raise ModelFileError(
            f"{path}: the weights of {name} are not there. Fetch them with: medseg weights get {name}, or give "
            "the file: --weights FILE"
        )
    header = ModelHeader(
        spatial_dims=2,
        channels=3,
        labels=label_table("voc").schema(ignore_value=255),
        preprocess=PreprocessConfig(normalize=ImageNet()),
        inference=InferenceConfig(),
        model=entry.network,
        augmentation=_TORCHVISION,
        training={"published": entry.file, "data": entry.about},
    )
    network = entry.network.build(header.task)
    report = load_pretrained(network, read_state(path), keys=entry.keys)
    if report.new:
        raise ModelFileError(f"{path}: lacks {len(report.new)} tensors of {name}: {report.new[:3]}, …")
    return LoadedModel(header, dict(network.state_dict()), sha256_file(path))


def model_source(model: Path, weights: Path | None = None) -> Path | LoadedModel:
    """What a ``Predictor`` takes: a run folder or model file as it is, a published network by its name."""
    if weights is None and (model.exists() or model.name not in PUBLISHED_WEIGHTS):
        return model
    return published_model(model.name, weights)
