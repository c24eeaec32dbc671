"""Train the mask decoder of a SAM; the image encoder and the embeddings of pictures stay as they are."""

from __future__ import annotations

import json
import logging
import math
import pickle
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn import functional

from medseg.errors import ConfigError, ModelFileError, TrainingError
from medseg.files import sha256_json, write_atomic, write_json
from medseg.progress import QUIET, Progress, stage
from medseg.sam.finetuning.options import FinetuneOptions
from medseg.sam.finetuning.samples import LabeledSlice, LabeledSlices, draw_prompts
from medseg.sam.loading import RECORD
from medseg.sam.network import EncodedPrompts, MaskLogits, SamNetwork
from medseg.sam.session import Sam
from medseg.sam.slice_predictor import encode_prompts
from medseg.system.locks import lock_folder

_LOGGER = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"
HISTORY = "history.json"

Sample = tuple[LabeledSlice, int]
"""A slice and the number of an object on it."""


@dataclass(frozen=True)
class Epoch:
    """Results of an epoch; epoch 0 is the network before training.

    Attributes:
        epoch: its number.
        loss: mean training loss; None before training.
        box: mean Dice of the validation objects prompted with their box.
        point: the same, prompted with one point.
    """

    epoch: int
    loss: float | None
    box: float
    point: float

    def score(self, prompts: str) -> float:
        """Return what is monitored: Dice of the prompts that are trained."""
        return {"box": self.box, "point": self.point}.get(prompts, (self.box + self.point) / 2)


@dataclass(frozen=True)
class FinetuneResult:
    """Result of a training.

    Attributes:
        folder: folder of the model, which ``load_sam`` loads.
        epochs: results of all epochs, epoch 0 first.
        best: the epoch whose weights are in the model.
    """

    folder: Path
    epochs: tuple[Epoch, ...]
    best: Epoch


def finetune(
    sam: Sam,
    data: Path,
    output: Path,
    options: FinetuneOptions | None = None,
    *,
    progress: Progress = QUIET,
) -> FinetuneResult:
    """Train the mask decoder of a SAM on labeled slices.

    The image encoder is not changed, so the embedding of each slice is computed once and kept in ``sam.store``.
    After each epoch a checkpoint is written; the same call continues an interrupted training, with the same
    result as without the interruption.

    Loss: Dice and cross-entropy of the masks (Ma et al. 2024, doi:10.1038/s41467-024-44824-z), for one point
    that of the best of three masks, and the squared error of the predicted intersection over union (Kirillov et
    al. 2023, arXiv:2304.02643).

    Args:
        sam: the model; its network is trained in place.
        data: dataset folder or manifest.
        output: folder of the model, in Hugging Face's layout.
        options: settings.
        progress: receives the stages.

    Raises:
        ConfigError: ``output`` holds another training or is not empty, or another process trains there.
        DataError: the dataset cannot be used.

    Example:
        >>> result = finetune(load_sam("sam_vit_b"), Path("data"), Path("tuned"))  # doctest: +SKIP
        >>> sam = load_sam("tuned")  # doctest: +SKIP
    """
    options = options or FinetuneOptions()
    if not isinstance(sam.network, SamNetwork):
        raise ConfigError(f"{sam.name}: only SAM, MedSAM and SAM 2.1 can be trained")
    with lock_folder(output, "Wait until it has ended, or choose another folder."):
        training = _Training(sam, sam.network, LabeledSlices(data, sam, options), output, options)
        training.resume()
        training.run(progress)
        return training.write_model()


class _Training:
    """A training and its state."""

    def __init__(
        self, sam: Sam, network: SamNetwork, slices: LabeledSlices, output: Path, options: FinetuneOptions
    ) -> None:
        self.sam, self.network, self.slices, self.output, self.options = sam, network, slices, output, options
        self.decoder: torch.nn.Module = network.model.get_submodule("mask_decoder")
        network.model.requires_grad_(False)
        self.decoder.requires_grad_(True)
        self.optimizer = torch.optim.AdamW(
            self.decoder.parameters(), lr=options.lr, weight_decay=options.weight_decay
        )
        self.epochs: list[Epoch] = []
        self.best = {key: tensor.clone() for key, tensor in self.decoder.state_dict().items()}
        self.identity = sha256_json(
            {
                "options": options.model_dump(mode="json"),
                "sam": sam.options.model_dump(mode="json"),
                "encoder": network.encoder_digest,
                "decoder": [float(tensor.double().sum()) for tensor in self.best.values()],
                "train": slices.train,
                "val": slices.val,
            }
        )

    def resume(self) -> None:
        """Continue from the checkpoint, if there is one.

        Raises:
            ConfigError: the folder holds another training or other files.
            ModelFileError: the checkpoint is damaged.
        """
        path = self.output / CHECKPOINT
        if not path.is_file():
            if any(not file.name.startswith(".") for file in self.output.iterdir()):
                raise ConfigError(
                    f"{self.output}: not empty, and not a training of a SAM", hint="Choose another folder."
                )
            return
        try:
            state: Any = torch.load(path, map_location="cpu", weights_only=True)
            same = state["identity"] == self.identity
            if same:
                self.decoder.load_state_dict(state["decoder"])
                self.optimizer.load_state_dict(state["optimizer"])
                self.best = state["best"]
                self.epochs = [Epoch(**epoch) for epoch in state["epochs"]]
        except (RuntimeError, OSError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
            raise ModelFileError(
                f"{path}: damaged ({error})", hint="Choose another folder to train anew.", path=path
            ) from error
        if not same:
            raise ConfigError(
                f"{self.output}: holds the training of another model, dataset or settings",
                hint="Repeat the command with the same arguments, or choose another folder.",
            )

    def run(self, progress: Progress) -> None:
        """Train until the last epoch."""
        if len(self.epochs) > self.options.epochs:
            return
        train = self._samples(self.slices.train, progress)
        val = self._samples(self.slices.val, progress)
        if not train or not val:
            raise TrainingError(
                f"{len(train)} objects to train and {len(val)} to validate on, expected at least one each",
                hint="Set min_pixels lower, or label more cases.",
            )
        slices = {labeled.key for labeled, _ in (*train, *val)}
        if not self.sam.store.holds(len(slices), self.slices.embedding(train[0][0])):
            _LOGGER.warning(
                "the embeddings of %d slices do not fit into the cache: many are computed again in each epoch; "
                "raise --cache-gb or lower --slices", len(slices),
            )  # fmt: skip
        if not self.epochs:
            self._add(Epoch(0, None, *self._validate(val)))
        done = len(self.epochs) - 1
        with stage(progress, self.options.epochs, "training the decoder", unit="epochs", completed=done):
            for epoch in range(len(self.epochs), self.options.epochs + 1):
                loss = self._train(epoch, train)
                self._add(Epoch(epoch, loss, *self._validate(val)))
                progress.advance(f"loss {loss:.4f}, Dice {self.epochs[-1].score(self.options.prompts):.4f}")

    def write_model(self) -> FinetuneResult:
        """Write the model with the weights of the best epoch."""
        self.decoder.load_state_dict(self.best)
        model: Any = self.network.model
        settings: dict[str, Any] = json.loads(model.config.to_json_string(use_diff=False))
        tensors = {key: tensor.detach().cpu().clone() for key, tensor in model.state_dict().items()}
        with write_atomic(self.output / "model.safetensors") as temporary:
            save_file(tensors, temporary)
        write_json(self.output / RECORD, {"preprocessing": self.network.preprocessing, "base": self.sam.name})
        write_json(self.output / "config.json", settings)
        return FinetuneResult(self.output, tuple(self.epochs), self._best_epoch())

    def _best_epoch(self) -> Epoch:
        return max(self.epochs, key=lambda epoch: epoch.score(self.options.prompts))

    def _samples(self, names: Sequence[str], progress: Progress) -> list[Sample]:
        """List the objects of cases; their embeddings are computed."""
        samples: list[Sample] = []
        with stage(progress, len(names), "embedding slices"):
            for name in names:
                for labeled in self.slices.of_case(name):
                    samples += [(labeled, number + 1) for number in range(labeled.count)]
                progress.advance()
        return samples

    def _train(self, epoch: int, samples: Sequence[Sample]) -> float:
        """Train for an epoch and return the mean loss."""
        rng = np.random.default_rng((self.options.seed, epoch))
        chosen = _choose(samples, self.options.per_slice, rng)
        batches = [chosen[i : i + self.options.batch] for i in range(0, len(chosen), self.options.batch)]
        self.decoder.train()
        losses: list[float] = []
        for place, batch in enumerate(batches):
            done = (epoch - 1 + place / len(batches)) / self.options.epochs
            for group in self.optimizer.param_groups:
                group["lr"] = self.options.lr * 0.5 * (1 + math.cos(math.pi * done))
            kind = (
                self.options.prompts if self.options.prompts != "mixed" else str(rng.choice(["box", "point"]))
            )
            loss = self._loss(batch, kind, rng)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
        self.decoder.eval()
        return float(np.mean(losses))

    def _loss(self, batch: Sequence[Sample], kind: str, rng: np.random.Generator) -> torch.Tensor:
        embeddings = [self.slices.embedding(labeled) for labeled, _ in batch]
        stacked = tuple(torch.cat(parts) for parts in zip(*embeddings, strict=True))
        masks = [labeled.mask(number) for labeled, number in batch]
        drawn = [draw_prompts(mask, kind, rng, self.options.jitter or 1e-6) for mask in masks]
        frames = [labeled.frame for labeled, _ in batch]
        prompts = EncodedPrompts.join([encode_prompts(p, f) for p, f in zip(drawn, frames, strict=True)])
        result = self.network.decode(stacked, prompts, multimask=kind == "point")
        side = result.logits.shape[-1]
        targets = torch.stack([_target(f.mask_prompt(m), side) for f, m in zip(frames, masks, strict=True)])
        ignored = [f.mask_prompt(labeled.ignored()) for f, (labeled, _) in zip(frames, batch, strict=True)]
        valid = 1 - torch.stack([_target(one, side) for one in ignored])
        return mask_loss(result, targets.to(result.logits.device), valid.to(result.logits.device))

    @torch.no_grad()
    def _validate(self, samples: Sequence[Sample]) -> tuple[float, float]:
        """Return the mean Dice of objects prompted with their box, and with one point."""
        rng = np.random.default_rng(self.options.seed)
        scores: dict[str, list[float]] = {"box": [], "point": []}
        for labeled, number in samples:
            mask, embedding = labeled.mask(number), self.slices.embedding(labeled)
            counted = ~labeled.ignored()
            for kind, found in scores.items():
                encoded = encode_prompts(draw_prompts(mask, kind, rng), labeled.frame)
                best = self.network.decode(embedding, encoded, multimask=kind == "point").best()
                predicted = labeled.frame.to_picture(best.logits.cpu())[0, 0].numpy() > 0
                predicted &= counted
                found.append(2 * float((predicted & mask).sum()) / float(predicted.sum() + mask.sum()))
        return float(np.mean(scores["box"])), float(np.mean(scores["point"]))

    def _add(self, epoch: Epoch) -> None:
        """Record an epoch, and write the checkpoint and the history."""
        self.epochs.append(epoch)
        if self._best_epoch() is epoch:
            self.best = {
                key: tensor.detach().cpu().clone() for key, tensor in self.decoder.state_dict().items()
            }
        state = {
            "identity": self.identity,
            "decoder": self.decoder.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best": self.best,
            "epochs": [asdict(one) for one in self.epochs],
        }
        with write_atomic(self.output / CHECKPOINT) as temporary:
            torch.save(state, temporary)
        write_json(self.output / HISTORY, [asdict(one) for one in self.epochs])


def mask_loss(result: MaskLogits, targets: torch.Tensor, valid: torch.Tensor | None = None) -> torch.Tensor:
    """Return Dice and cross-entropy of the best of each object's masks, and the error of the predicted values.

    Args:
        result: masks (B, K, M, M) and predicted values.
        targets: (B, M, M), 0 to 1.
        valid: (B, M, M), 1 for pixels that count and 0 for others; None: all count.
    """
    wanted = targets[:, None].expand_as(result.logits)
    counted = torch.ones_like(wanted) if valid is None else valid[:, None].expand_as(wanted)
    probabilities = result.logits.sigmoid() * counted
    shared = (probabilities * wanted).sum(dim=(-2, -1))
    total = probabilities.sum(dim=(-2, -1)) + wanted.sum(dim=(-2, -1))
    dice = 1 - (2 * shared + 1) / (total + 1)
    entropy = functional.binary_cross_entropy_with_logits(result.logits, wanted, counted, reduction="none")
    entropy = entropy.sum(dim=(-2, -1)) / counted.sum(dim=(-2, -1)).clamp(min=1)
    least = (dice + entropy).min(dim=1).values.mean()
    predicted, real = (result.logits.detach() > 0) & (counted > 0), wanted > 0.5
    union = (predicted | real).sum(dim=(-2, -1)).clamp(min=1)
    iou = (predicted & real).sum(dim=(-2, -1)) / union
    return least + functional.mse_loss(result.iou, iou)


def _target(logits: torch.Tensor, side: int) -> torch.Tensor:
    """Return a mask in the frame of the network's masks, (side, side), from a mask prompt (1, M, M)."""
    values = (logits > 0).float()
    if values.shape[-1] != side:
        values = functional.interpolate(values[None], (side, side), mode="nearest")[0]
    return values[0]


def _choose(samples: Sequence[Sample], per_slice: int, rng: np.random.Generator) -> list[Sample]:
    """Return the objects of an epoch in random order, not more than ``per_slice`` of a slice."""
    counts: dict[str, int] = {}
    chosen: list[Sample] = []
    for index in rng.permutation(len(samples)).tolist():
        key = samples[index][0].key
        if counts.get(key, 0) < per_slice:
            counts[key] = counts.get(key, 0) + 1
            chosen.append(samples[index])
    return chosen
