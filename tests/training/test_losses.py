from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from mammoscope.training.losses import balanced_weight, masked_bce

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


def test_the_balanced_weight_is_negatives_over_positives():
    assert balanced_weight([0, 0, 0, 1, NAN, NAN]) == 3
    labels = torch.tensor([0.0, 0.0, 0.0, 1.0])
    logits = torch.zeros(4, requires_grad=True)
    masked_bce(logits, labels, balanced_weight(labels.tolist())).backward()
    assert logits.grad.sum() == pytest.approx(0, abs=1e-7)
