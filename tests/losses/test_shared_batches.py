"""Losses of a batch that two processes share."""

import numpy as np
import pytest
import torch
from rank_work import run_ranks, share_losses
from test_losses_contract import CONFIGS, batch, build


@pytest.mark.slow
def test_losses_of_shared_batches_are_those_of_the_whole_batch():
    cases = []
    for config in CONFIGS:
        for activation in ("softmax", "sigmoid"):
            logits, target = batch(activation, side=6, ignored=0.3)
            more, others = batch(activation, side=6, ignored=0.1)
            logits, target = torch.cat([logits, more[:1]]), torch.cat([target, others[:1]])
            cases.append((build(config, activation), logits, target))
    results = run_ranks(share_losses, cases, [slice(0, 1), slice(1, 3)])  # one sample and two
    for (loss, logits, target), *shares in zip(cases, *results, strict=True):
        whole = logits.clone().requires_grad_()
        value = loss(whole, target)
        value.backward()
        for own, _ in shares:
            assert own == pytest.approx(value.item(), abs=1e-6), loss
        gradient = np.concatenate([gradient for _, gradient in shares])
        np.testing.assert_allclose(gradient, whole.grad.numpy(), atol=1e-6, err_msg=str(loss))
