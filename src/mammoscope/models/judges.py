"""How views are judged together: those of a breast, and the two breasts of an exam."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mammoscope.bundle import FACTS

__all__ = ["NOTHING", "WIDTH", "BreastJudge", "ExamJudge", "depths"]

#: Numbers that describe a view.
WIDTH = 64
#: What stands for minus infinity: its exponential is 0, its gradient finite.
NOTHING = -1e4
# Scalars move by about the learning rate in a step, which is little for a sharpness.
_SCALE = 10.0
# Mean and spread of what an exam model may be told, in the order of FACTS.
_FACT_CENTRE = (60.0, 1.5, 0.0)
_FACT_SPREAD = (12.0, 1.0, 1.0)
# How much hotter than the rest of a map the place is whose depth counts.
_HOTTER = 3.0
# Grey, as a share of white, above which a pixel is tissue.
_TISSUE = 0.02
# Difference of two depths at which their agreement has fallen to 1/e.
_DEPTH_SPREAD = 0.08
# What pairs of projections tell.
_MATCHED = 4


def depths(local: Tensor, images: Tensor) -> Tensor:
    """Return how deep in the breast the hottest place lies: 0 at the chest wall, 1 at the nipple.

    Prepared images have their chest wall on the left. The unit is the breast's own depth in that
    image, as two views of a breast are not prepared to one scale.

    Args:
        local: (N, h, w) local logits.
        images: (N, 1, H, W) in [0, 1].

    Returns:
        (N,)
    """
    heat = torch.softmax(_HOTTER * local.flatten(1), dim=1).reshape(local.shape)
    cells, columns = local.shape[2], images.shape[3]
    centres = (torch.arange(cells, device=local.device) + 0.5) / cells
    edges = torch.arange(1, columns + 1, device=local.device) / columns
    tissue = images.amax(dim=(1, 2)) > _TISSUE  # (N, W)
    deepest = (tissue * edges).amax(dim=1).clamp(min=1 / columns)
    hottest: Tensor = (heat.sum(dim=1) * centres).sum(dim=1)
    return hottest / deepest


class BreastJudge(nn.Module):
    """The views of a breast see each other, and then their logits are weighed.

    A lesion lies as deep in one projection as in the other; what is hot by chance does not. So
    pairs of projections tell how well their hottest places agree in depth.
    """

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.mixed = _silent(nn.Linear(WIDTH, WIDTH))
        self.weight = _silent(nn.Linear(WIDTH, 1, bias=False))
        # 0 weighs all views alike, infinity takes the most suspicious. It begins at 0: of an image
        # model's logits the plain mean ranked breasts best (docs/experiments.md).
        self.sharpness = nn.Parameter(torch.zeros(()))
        self.correction = _correction(WIDTH + _MATCHED, dropout)

    def forward(
        self, logits: Tensor, tokens: Tensor, depth: Tensor, projection: Tensor, own: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Judge breasts.

        Args:
            logits: (B, V) of the images.
            tokens: (B, V, D).
            depth: (B, V), see :func:`depths`.
            projection: (B, V), place in ``PROJECTIONS``, or ``OTHER_PROJECTION``.
            own: (B, 2, V), which images are of which breast.

        Returns:
            Logits (B, 2) and what the breasts show (B, 2, D).
        """
        together = (own[:, :, :, None] & own[:, :, None, :]).any(dim=1)  # (B, V, V)
        likeness = self.query(tokens) @ self.key(tokens).transpose(1, 2) / WIDTH**0.5
        seen = _softmax(likeness, together) @ self.value(tokens)  # (B, V, D)
        tokens = tokens + self.mixed(seen)
        say = self.weight(tokens).squeeze(2) + _SCALE * self.sharpness * logits  # (B, V)
        share = _softmax(say[:, None].expand(own.shape), own)  # (B, 2, V)
        shown = share @ tokens  # (B, 2, D)
        mean = (share * logits[:, None]).sum(dim=2)  # (B, 2)
        told = torch.cat([shown, _matched(logits, depth, projection, own)], dim=2)
        return mean + self.correction(told).squeeze(2), shown


class ExamJudge(nn.Module):
    """Each breast is held against the other; the exam is positive where either is."""

    centre: Tensor
    spread: Tensor

    def __init__(self, dropout: float) -> None:
        super().__init__()
        # By how much more it is suspected than the other, whether there is another, and facts with
        # their being known: few numbers, each with a weight of its own. A network of them and of
        # what breasts show learns training exams by heart instead (docs/experiments.md).
        self.known = _silent(nn.Linear(2 + 2 * len(FACTS), 1, bias=False))
        # What it shows, and what it shows more than the other.
        self.correction = _correction(2 * WIDTH, dropout)
        self.bias = nn.Parameter(torch.zeros(()))
        self.register_buffer("centre", torch.tensor(_FACT_CENTRE), persistent=False)
        self.register_buffer("spread", torch.tensor(_FACT_SPREAD), persistent=False)

    def forward(
        self, breast: Tensor, shown: Tensor, there: Tensor, facts: Tensor, known: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Judge exams.

        Args:
            breast: (B, 2) logits.
            shown: (B, 2, D).
            there: (B, 2), whether a breast has images.
            facts: (B, 3).
            known: (B, 3).

        Returns:
            Logits of the breasts (B, 2) and of the exams (B,).
        """
        both = there.all(dim=1).to(breast.dtype)[:, None]  # (B, 1)
        more = (shown - shown.flip(1)) * both[:, :, None]
        suspected = (breast - breast.flip(1)) * both
        told = torch.where(known, (facts - self.centre) / self.spread, 0.0)
        about = torch.cat([told, known.to(told.dtype)], dim=1)  # (B, 6)
        alike = torch.cat([both, about], dim=1)[:, None].expand(-1, 2, -1)
        given = torch.cat([suspected[:, :, None], alike], dim=2)
        breast = breast + _SCALE * self.known(given).squeeze(2)
        breast = breast + self.correction(torch.cat([shown, more], dim=2)).squeeze(2)
        # 1 - (1 - p)(1 - q) as a logit, with odds o and u: o + u + o u.
        right, left = torch.where(there, breast, NOTHING).unbind(dim=1)
        either = torch.logsumexp(torch.stack([right, left, right + left], dim=1), dim=1)
        return breast, either + self.bias


def _matched(logits: Tensor, depth: Tensor, projection: Tensor, own: Tensor) -> Tensor:
    """Return what pairs of different projections of a breast tell, (B, 2, 4).

    The means over its pairs of how well their depths agree, of the lower logit of the two, and of
    both multiplied; and whether there is a pair.
    """
    differ = projection[:, :, None] != projection[:, None, :]  # (B, V, V)
    pairs = own[:, :, :, None] & own[:, :, None, :] & differ[:, None]  # (B, 2, V, V)
    agree = torch.exp(-(depth[:, :, None] - depth[:, None, :]).abs() / _DEPTH_SPREAD)
    lower = torch.minimum(logits[:, :, None], logits[:, None, :])
    told = torch.stack([agree, lower, agree * lower, torch.ones_like(agree)], dim=-1)
    count = pairs.sum(dim=(2, 3)).clamp(min=1)[:, :, None]  # (B, 2, 1)
    return (told[:, None] * pairs[..., None]).sum(dim=(2, 3)) / count


def _softmax(values: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the last dimension within a mask; all 0 where the mask is empty."""
    return torch.softmax(torch.where(mask, values, NOTHING), dim=-1) * mask


def _correction(width: int, dropout: float) -> nn.Sequential:
    """(…, width) to (…, 1), 0 before training."""
    last = _silent(nn.Linear(WIDTH // 2, 1))
    return nn.Sequential(nn.Linear(width, WIDTH // 2), nn.ReLU(), nn.Dropout(dropout), last)


def _silent(layer: nn.Linear) -> nn.Linear:
    """Have a layer say 0 until it is trained."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
