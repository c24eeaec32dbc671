"""Contract of the losses: what every member of the union must do."""

import warnings
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from medseg.errors import ConfigError
from medseg.losses import (
    BoundaryConfig,
    ClDiceConfig,
    CrossEntropyConfig,
    DiceConfig,
    FocalConfig,
    FocalTverskyConfig,
    LossConfig,
    LovaszConfig,
    PlainLossConfig,
    SumConfig,
    TopKCrossEntropyConfig,
    TverskyConfig,
    WeightedTerm,
    default_loss,
)
from medseg.task import IGNORE_INDEX, Task

DEFAULTS = [member() for member in get_args(get_args(PlainLossConfig)[0])]  # every loss with its defaults
CONFIGS = [
    *DEFAULTS,
    CrossEntropyConfig(label_smoothing=0.1, class_weights=(1.0, 2.0, 0.5)),
    DiceConfig(denominator="squared", per="sample", absent="count", include_background=True),
    DiceConfig(per="sample", class_weights=(1.0, 2.0, 0.5)),
    FocalConfig(gamma=0.5, alpha=0.25, class_weights="sqrt"),
    FocalConfig(alpha=(0.1, 0.4, 0.5)),
    TopKCrossEntropyConfig(fraction=0.5, class_weights=(1.0, 2.0, 0.5)),
    TverskyConfig(per="sample", class_weights="inverse", include_background=True),
    FocalTverskyConfig(absent="count", gamma=2.0),
    LovaszConfig(per="sample", include_background=False),
    BoundaryConfig(per="sample", absent="count", class_weights=(1.0, 2.0, 0.5)),
    ClDiceConfig(per="sample", absent="count", iterations=1),
    default_loss(),
    SumConfig(
        terms=(
            WeightedTerm(loss=DiceConfig()),
            WeightedTerm(weight=0.01, loss=BoundaryConfig()),
            WeightedTerm(weight=0.5, loss=ClDiceConfig()),
        )
    ),
]
COUNTS = (900, 90, 10)

configs = pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.name}{CONFIGS.index(c)}")
activations = pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
dims = pytest.mark.parametrize("spatial_dims", [2, 3])


def build(config, activation, spatial_dims=2):
    return config.build(Task(spatial_dims, 1, 3, activation), COUNTS)


def batch(activation, spatial_dims=2, *, side=4, dtype=torch.float32, ignored=0.0):
    generator = torch.Generator().manual_seed(7)
    shape = (2, 3, *(side,) * spatial_dims)
    logits = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    if activation == "softmax":
        target = torch.randint(0, 3, (2, 1, *shape[2:]), generator=generator)
    else:
        target = torch.randint(0, 2, shape, generator=generator).float()
    target[torch.rand(target.shape, generator=generator) < ignored] = IGNORE_INDEX
    return logits, target


@configs
@activations
@dims
def test_a_loss_is_a_finite_scalar_with_finite_gradients(config, activation, spatial_dims):
    logits, target = batch(activation, spatial_dims, ignored=0.3)
    logits.requires_grad_()
    loss = build(config, activation, spatial_dims)(logits, target)
    loss.backward()
    assert loss.shape == ()
    assert loss.dtype == torch.float32
    assert loss > 0
    assert logits.grad.isfinite().all()
    assert logits.grad.abs().sum() > 0


@configs
@activations
def test_gradients_are_those_of_the_value(config, activation):
    logits, target = batch(activation, side=2, dtype=torch.float64, ignored=0.2)
    assert torch.autograd.gradcheck(lambda x: build(config, activation)(x, target), logits.requires_grad_())


@configs
@activations
def test_ignored_voxels_have_no_influence(config, activation):
    logits, target = batch(activation, ignored=0.3)
    loss = build(config, activation)
    changed = logits.clone()
    ignored = (target == IGNORE_INDEX).expand_as(logits)
    changed[ignored] += torch.randn(int(ignored.sum())) * 5
    torch.testing.assert_close(loss(changed, target), loss(logits, target))


@configs
@activations
def test_ignoring_voxels_equals_deleting_them(config, activation):
    logits, target = batch(activation)
    loss = build(config, activation)
    kept = loss(logits[..., :2], target[..., :2])
    target[..., 2:] = IGNORE_INDEX
    torch.testing.assert_close(loss(logits, target), kept)


@configs
@activations
def test_ignoring_a_whole_sample_equals_deleting_it(config, activation):
    logits, target = batch(activation)
    loss = build(config, activation)
    kept = loss(logits[:1], target[:1])
    target[1] = IGNORE_INDEX
    torch.testing.assert_close(loss(logits, target), kept)


@configs
@activations
def test_a_batch_with_everything_ignored_costs_exactly_nothing(config, activation):
    logits, target = batch(activation)
    logits.requires_grad_()
    loss = build(config, activation)(logits, torch.full_like(target, IGNORE_INDEX))
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()


@configs
@activations
@dims
def test_targets_without_foreground_have_finite_gradients(config, activation, spatial_dims):
    logits, target = batch(activation, spatial_dims, ignored=0.2)
    logits.requires_grad_()
    loss = build(config, activation, spatial_dims)(logits, target.clamp(max=0))
    loss.backward()
    assert loss.isfinite()
    assert loss >= 0
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("config", DEFAULTS, ids=lambda config: config.name)
@activations
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**16), scale=st.sampled_from([0.5, 3.0, 30.0]))
def test_the_correct_answer_costs_nothing_and_no_answer_costs_less(config, activation, seed, scale):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(2, 3, 5, 4, generator=generator)
    if activation == "softmax":
        target = torch.randint(-1, 3, (2, 1, 5, 4), generator=generator)
        correct = torch.zeros_like(logits).scatter(1, target.clamp(min=0), 1.0)
    else:
        target = torch.randint(-1, 2, logits.shape, generator=generator).float()
        correct = target.clamp(min=0)
    loss = build(config, activation)
    assert loss(80 * correct - 40, target).item() == pytest.approx(0, abs=1e-6)
    assert loss(logits, target) >= 0


@configs
@activations
def test_with_all_channels_annotated_nothing_changes(config, activation):
    logits, target = batch(activation, ignored=0.2)
    loss = build(config, activation)
    annotated = torch.ones(2, 3, dtype=torch.bool)
    torch.testing.assert_close(loss(logits, target, annotated), loss(logits, target))


@configs
def test_channels_that_were_not_annotated_have_no_influence(config):
    logits, target = batch("sigmoid")
    annotated = torch.tensor([[True, False, True], [True, True, True]])
    loss = build(config, "sigmoid")
    other = target.clone()
    other[0, 1] = 1 - other[0, 1]
    torch.testing.assert_close(loss(logits, other, annotated), loss(logits, target, annotated))


@configs
@activations
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_logits_are_computed_in_float32(config, activation, dtype):
    logits, target = batch(activation, side=16, dtype=dtype)
    loss = build(config, activation)
    value = loss(logits, target)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(logits.float(), target))
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(loss(logits, target), value)


@configs
@activations
@pytest.mark.parametrize("size", [60.0, 1000.0])
def test_certain_logits_stay_finite(config, activation, size):
    logits, target = batch(activation)
    sure = (logits.sign() * size).requires_grad_()
    loss = build(config, activation)(sure, target)
    loss.backward()
    assert loss.isfinite()
    assert sure.grad.isfinite().all()


@configs
@activations
def test_order_of_samples_and_of_voxels_does_not_matter(config, activation):
    logits, target = batch(activation, ignored=0.2)
    loss = build(config, activation)
    torch.testing.assert_close(loss(logits.flip(0, 2), target.flip(0, 2)), loss(logits, target))


@configs
@activations
def test_settings_survive_yaml_and_weights_stay_out_of_checkpoints(config, activation):
    adapter = TypeAdapter(LossConfig)
    assert adapter.validate_python(adapter.dump_python(config, mode="json")) == config
    assert not build(config, activation).state_dict()


@configs
def test_targets_of_any_integer_type(config):
    logits, target = batch("softmax")
    loss = build(config, "softmax")
    for dtype in (torch.uint8, torch.int8, torch.int16, torch.int32):
        torch.testing.assert_close(loss(logits, target.to(dtype)), loss(logits, target))
    masks = batch("sigmoid")[1]
    regions = build(config, "sigmoid")
    for dtype in (torch.bool, torch.uint8, torch.int16, torch.float16):
        torch.testing.assert_close(regions(logits, masks.to(dtype)), regions(logits, masks))


@configs
def test_an_unsigned_255_is_not_taken_for_the_ignored_minus_one(config):
    logits, target = batch("softmax")
    target = target.to(torch.uint8)
    target[0, 0, 0, 0] = 255
    with pytest.raises((RuntimeError, IndexError), match="out of bounds"):
        build(config, "softmax")(logits, target)


@configs
def test_different_shapes_raise_with_both_shapes(config):
    logits, target = batch("softmax")
    softmax, sigmoid = build(config, "softmax"), build(config, "sigmoid")
    with pytest.raises(ValueError, match=r"\(2, 3, 4, 4\).*\(2, 4, 4\)"):
        softmax(logits, target[:, 0])
    with pytest.raises(ValueError, match=r"\(B, 1, \*S\)"):
        softmax(logits, target[..., :2])
    with pytest.raises(ValueError, match=r"integer labels.*float32"):
        softmax(logits, target.float())
    with pytest.raises(ValueError, match="same shape"):
        sigmoid(logits, target)


def test_derived_weights_need_counts_that_fit():
    task = Task(2, 1, 3)
    for config in map(type, DEFAULTS):
        derived = config(class_weights="inverse")
        with pytest.raises(ConfigError, match="were not counted"):
            derived.build(task)
        with pytest.raises(ConfigError, match="got 2 class counts, expected 3"):
            derived.build(task, (5, 5))
        with pytest.raises(ConfigError, match="above 0"):
            derived.build(task, (0, 0, 0))
        with pytest.raises(ConfigError, match="got 2 class_weights, expected 3"):
            config(class_weights=(1.0, 1.0)).build(task)


def test_derived_weights_follow_the_scheme_and_are_1_for_unseen_classes():
    # 1/100 and 1/25 are as 1 : 4, whose mean is 5/2
    loss = CrossEntropyConfig(class_weights="inverse").build(Task(2, 1, 3), (100, 25, 0))
    assert loss.class_weights.tolist() == pytest.approx([0.4, 1.6, 1.0])


@pytest.mark.parametrize(
    "block",
    [
        {"name": "dyce"},
        {"name": "dice", "smooth": 0},
        {"name": "dice", "smoth": 1},
        {"name": "ce", "class_weights": "inverted"},
        {"name": "ce", "class_weights": [1, -1]},
        {"name": "ce", "class_weights": [0, 0]},
        {"name": "focal", "alpha": 2},
        {"name": "tversky", "beta": 0},
        {"name": "focal_tversky", "gamma": 0.5},
        {"name": "top_k_ce", "fraction": 0},
        {"name": "cldice", "iterations": 0},
        {"name": "boundary", "spacing": [1, 0]},
        {"name": "sum", "terms": []},
        {"name": "sum", "terms": [{"weight": 0, "loss": {"name": "ce"}}]},
    ],
)
def test_bad_settings_are_refused(block):
    with pytest.raises(ValidationError):
        TypeAdapter(LossConfig).validate_python(block)


def test_the_sum_as_yaml_has_it():
    block = {
        "name": "sum",
        "terms": [{"weight": 1.0, "loss": {"name": "dice"}}, {"weight": 1.0, "loss": {"name": "ce"}}],
    }
    assert TypeAdapter(LossConfig).validate_python(block) == default_loss()


def test_a_sum_adds_its_weighted_terms():
    logits, target = batch("softmax", ignored=0.2)
    parts = [build(config, "softmax")(logits, target) for config in (DiceConfig(), FocalConfig())]
    both = SumConfig(
        terms=(WeightedTerm(weight=0.5, loss=DiceConfig()), WeightedTerm(weight=3, loss=FocalConfig()))
    )
    expected = 0.5 * parts[0] + 3 * parts[1]
    torch.testing.assert_close(build(both, "softmax")(logits, target), expected)


def test_no_warning_without_gradients():
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("error")
        assert build(default_loss(), "softmax")(*batch("softmax")).isfinite()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
@configs
@activations
@dims
def test_a_gpu_computes_the_same(config, activation, spatial_dims):
    logits, target = batch(activation, spatial_dims, side=6, ignored=0.2)
    results = []
    for device in ("cpu", "cuda"):
        leaf = logits.clone().to(device).requires_grad_()
        loss = build(config, activation, spatial_dims).to(device)(leaf, target.to(device))
        loss.backward()
        results.append((loss.detach().cpu(), leaf.grad.cpu()))
    torch.testing.assert_close(results[1], results[0])
