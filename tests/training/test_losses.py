from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from mammoscope.training.losses import UNKNOWN_LESIONS, lesion_bce, masked_bce

NAN = float("nan")


def test_unknown_labels_neither_count_nor_pull():
    logits = torch.tensor([1.0, -2.0, 5.0], requires_grad=True)
    loss = masked_bce(logits, torch.tensor([1.0, 0.0, NAN]), 3.0)
    known = functional.binary_cross_entropy_with_logits(
        logits[:2], torch.tensor([1.0, 0.0]), pos_weight=torch.tensor(3.0)
    )
    assert torch.allclose(loss, known)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[2] == 0
    assert logits.grad[0] != 0


def test_a_batch_without_a_known_label_gives_nothing_to_learn():
    logits = torch.tensor([1.0, 2.0], requires_grad=True)
    loss = masked_bce(logits, torch.tensor([NAN, NAN]))
    loss.backward()
    assert loss == 0
    assert torch.equal(logits.grad, torch.zeros(2))


def test_a_balanced_weight_pulls_neither_way():
    labels = torch.tensor([0.0, 0.0, 0.0, 1.0])
    logits = torch.zeros(4, requires_grad=True)
    masked_bce(logits, labels, 3.0).backward()
    assert logits.grad.sum() == pytest.approx(0, abs=1e-7)


def test_the_focal_loss_is_its_formula():
    """Lin et al. 2017, equation 4: -(1 - p_t)^gamma log(p_t)."""
    logits = torch.tensor([2.0, -1.0, 0.3])
    labels = torch.tensor([1.0, 0.0, 0.0])
    p = torch.sigmoid(logits)
    true = torch.where(labels == 1, p, 1 - p)
    due = (-((1 - true) ** 2) * torch.log(true)).mean()
    assert torch.allclose(masked_bce(logits, labels, focal_gamma=2.0), due)
    assert torch.allclose(
        masked_bce(logits, labels, focal_gamma=0.0),
        functional.binary_cross_entropy_with_logits(logits, labels),
    )


def test_a_soft_positive_is_right_below_one():
    logits = torch.linspace(-3, 6, 901)
    losses = [float(masked_bce(x[None], torch.ones(1), soft_positive=0.9)) for x in logits]
    assert torch.sigmoid(logits[int(torch.tensor(losses).argmin())]) == pytest.approx(0.9, abs=0.01)
    # Negatives are as sure as ever.
    zero = torch.zeros(1)
    assert masked_bce(zero - 4, zero, soft_positive=0.9) == masked_bce(zero - 4, zero)


def test_known_lesions_teach_where_to_look_and_unknown_ones_nothing():
    masks = torch.zeros(3, 8, 8, dtype=torch.uint8)
    masks[0, :4, :4] = 1
    masks[2] = UNKNOWN_LESIONS
    logits = torch.zeros(3, 2, 2, requires_grad=True)
    loss = lesion_bce(logits, masks)
    # One cell of the first image is lesion, and weighs three times; all cells stand at log 2.
    each = math.log(2)
    assert float(loss.detach()) == pytest.approx(((3 * each + 3 * each) / 4 + each) / 2)
    loss.backward()
    assert logits.grad[0, 0, 0] < 0
    assert (logits.grad[0, 1] > 0).all()
    assert (logits.grad[1] > 0).all()
    assert not logits.grad[2].any()
    nobody = torch.full_like(masks, UNKNOWN_LESIONS)
    assert not lesion_bce(logits, nobody).detach()
