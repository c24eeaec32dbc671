"""Thresholds of decoding objects, chosen on the validation cases at the end of a training."""

from __future__ import annotations

import copy
import logging
import math
from typing import Any

import numpy as np
import torch

from medseg.inference.backends import BackendSetup, TorchBackend
from medseg.inference.options import InferenceConfig
from medseg.instances.decoding_search import ValidationOutput, best_cut, tune_decoding
from medseg.instances.matching import match_objects
from medseg.instances.options import InstanceTask
from medseg.models.detection import Detector
from medseg.training.loop import TrainingLoop
from medseg.training.validation.validator import Validator

_LOGGER = logging.getLogger(__name__)

_MOST_VALUES = 2**28
"""Values of the outputs of all cases together that are held in memory."""


def tune_instances(loop: TrainingLoop, task: InstanceTask, weights: dict[str, Any]) -> InferenceConfig:
    """Return the inference settings with the thresholds that suit the validation cases best.

    The cases are those of the validations of the training, as many as fit into memory. Without cases the
    settings stay as they are.

    Args:
        loop: the training.
        task: how objects are separated.
        weights: of the network in the model file.
    """
    validator, settings = loop.validator, loop.validator.inference
    if not validator.cases:
        return settings
    network = copy.deepcopy(loop.last_network or loop.state.evaluated)  # the whole one, also with FSDP
    network.load_state_dict(weights)
    if isinstance(network, Detector):
        return _tune_detector(validator, network)
    head = validator.head
    assert head is not None
    predict = TorchBackend(network.eval(), BackendSetup(validator.device, validator.dtype)).predict
    outputs: list[ValidationOutput] = []
    left = _MOST_VALUES
    for case in validator.cases:
        left -= math.prod(case.shape) * (head.channels + validator.labels.num_classes)
        if left < 0 and outputs:
            break
        with torch.no_grad():
            output = validator.dense_output(predict, case)
        outputs.append(ValidationOutput(output, np.asarray(case.objects), np.asarray(case.label) == 0))
    tuned = tune_decoding(head, outputs, task.decoder, settings.instances)
    _LOGGER.info(
        "objects of %d validation cases: TP/(TP+FP+FN) %.4f at an IoU of 0.5, %.4f over 0.5:0.95, with %s",
        len(outputs), tuned.score, tuned.mean_score, tuned.options,
    )  # fmt: skip
    return settings.model_copy(update={"instances": tuned.options})


def _tune_detector(validator: Validator, network: Detector) -> InferenceConfig:
    """Return the inference settings with the score below which dropping objects suits the cases best.

    They stay as they are if no object is found.
    """
    scores, matched, reference = [np.zeros(0)], [np.zeros(0, bool)], 0
    for case in validator.cases:
        found = validator.detected(network, case, 0.0)
        matches = match_objects(case.objects, found.label_map(), np.asarray(case.label) == 0)
        counted, hits = matches.scored(found.scores)
        scores.append(counted)
        matched.append(hits)
        reference += matches.reference
    hits = np.concatenate(matched)
    if not hits.any():
        return validator.inference
    lowest = best_cut(np.concatenate(scores), hits, reference)
    _LOGGER.info("objects of %d validation cases: those with a score below %.2f are dropped",
                 len(validator.cases), lowest)  # fmt: skip
    settings = validator.inference
    objects = settings.instances.model_copy(update={"score": lowest})
    return settings.model_copy(update={"instances": objects})
