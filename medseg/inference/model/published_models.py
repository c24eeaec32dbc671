"""Published segmentation networks: weights, labels and preprocessing combined into a model in memory."""

from __future__ import annotations

from pathlib import Path

from medseg.data.labels.names.tables import label_table
from medseg.data.preprocessing.normalization import ImageNet
from medseg.data.preprocessing.pipeline import PreprocessConfig
from medseg.errors import ConfigError, ModelFileError
from medseg.files import sha256_file
from medseg.inference.model.model_file import LoadedModel, ModelHeader
from medseg.inference.options import InferenceConfig
from medseg.inference.sliding_window.tta import TrainedAugmentation
from medseg.instances.options import InstanceDecoding, InstanceTask
from medseg.models.detection.anchors import AnchoredConfig
from medseg.models.pretrained.loading import load_pretrained, read_state
from medseg.models.pretrained.weight_registry import PUBLISHED_WEIGHTS, lookup_weights

_TORCHVISION = TrainedAugmentation(mirror_axes=(1,), scale=(0.5, 2.0))
"""Augmentation of torchvision's segmentation training (references/segmentation/presets.py): columns are
mirrored, and the shorter side is resized to 0.5 to 2 times the base size."""

_DETECTION = TrainedAugmentation(mirror_axes=(1,), scale=(1.0, 1.0))
"""Augmentation of torchvision's training of detectors (references/detection/presets.py): mirrored columns."""


def published_model(name: str, weights: Path | None = None) -> LoadedModel:
    """Load a published network by name.

    The network takes whole images at their original size.

    Args:
        name: name of the weights, as ``medseg weights`` lists them.
        weights: file of the weights. If None, the file that ``medseg weights get`` downloaded.

    Raises:
        ConfigError: the name is unknown, or names the weights of a backbone.
        ModelFileError: the weights are missing or do not match the network.
    """
    entry = lookup_weights(name)
    if entry.network is None:
        networks = ", ".join(n for n, e in PUBLISHED_WEIGHTS.items() if e.network is not None)
        raise ConfigError(f"{name}: weights of a backbone; expected a network, one of {networks}")
    path = weights or entry.path()
    if not path.is_file():
        raise ModelFileError(
            f"{path}: no such file; the weights of {name} have not been downloaded",
            hint=f"Download them with medseg weights get {name}, or give the file with --weights FILE.",
            path=path,
        )
    detector = isinstance(entry.network, AnchoredConfig)
    header = ModelHeader(
        spatial_dims=2,
        channels=3,
        labels=label_table(entry.labels).schema(ignore_value=255),
        preprocess=PreprocessConfig(normalize=ImageNet()),
        instances=InstanceTask(decoder="boxes") if detector else None,
        inference=InferenceConfig(instances=InstanceDecoding(score=0.5 if detector else 0.0)),
        model=entry.network,
        augmentation=_DETECTION if detector else _TORCHVISION,
        training={"published": entry.file, "data": entry.about},
    )
    network = entry.network.build(header.task)
    report = load_pretrained(network, read_state(path), keys=entry.keys)
    if report.new:
        raise ModelFileError(
            f"{path}: {len(report.new)} tensors of {name} are missing: {report.new[:3]}, …", path=path
        )
    return LoadedModel(header, dict(network.state_dict()), sha256_file(path))


def model_source(model: Path, weights: Path | None = None) -> Path | LoadedModel:
    """Resolve a model given by path or by the name of a published network.

    Args:
        model: run folder, model file, or name of a published network.
        weights: file of a published network's weights. Default: None.

    Returns:
        The path, or the published network; both are accepted by ``Predictor``.
    """
    if weights is None and (model.exists() or model.name not in PUBLISHED_WEIGHTS):
        return model
    return published_model(model.name, weights)
