"""PatchCore: how far each patch of an image lies from the nearest one of normal images.

Source: Roth et al., Towards Total Recall in Industrial Anomaly Detection, CVPR 2022. Two
departures: channels are told in units of their spread, since ours need not be ImageNet's; and the
score is the mean of the highest cells, not the highest one re-weighted by its neighbours.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from mammoscope.models.anomaly.breast import breast_of, top_mean
from mammoscope.models.anomaly.contract import AnomalyModel, AnomalyOutput
from mammoscope.models.anomaly.features import FeatureMaps

__all__ = ["PatchCore", "chosen_patches"]

# Directions that patches are projected on before they are chosen, as in the paper.
_DIRECTIONS = 128


class PatchCore(AnomalyModel):
    """A memory of normal patches, and the distance from it.

    Args:
        features: Gives the patches.
        max_value: Largest grey value of the input.
        bank_size: Patches that are kept.
        edge_px: Rim of the breast that is not judged, in pixels of the input.
        top_share: Share of the breast whose mean is the score.
    """

    bank: Tensor
    offset: Tensor
    scale: Tensor

    def __init__(
        self,
        features: FeatureMaps,
        *,
        max_value: int,
        bank_size: int = 2000,
        edge_px: int = 4,
        top_share: float = 0.02,
    ) -> None:
        super().__init__(max_value)
        self.features = features
        self.edge_px, self.top_share = edge_px, top_share
        channels = sum(features.widths)
        self.register_buffer("bank", torch.zeros(bank_size, channels))
        self.register_buffer("offset", torch.zeros(channels))
        self.register_buffer("scale", torch.ones(channels))

    def patches(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (B, h, w, C) and which cells are of the breast, (B, h, w) of 0 and 1."""
        found = self.features(image / self.max_value)
        breast = breast_of(image, self.edge_px)
        size = (int(found.shape[-2]), int(found.shape[-1]))
        counts = (functional.adaptive_avg_pool2d(breast, size) >= 0.5).float()
        return found.permute(0, 2, 3, 1), counts.squeeze(1)

    def remember(self, candidates: Tensor, generator: torch.Generator) -> float:
        """Fill the memory from patches of normal images.

        Args:
            candidates: (N, C) features.
            generator: Of what is drawn.

        Returns:
            How far the candidate that is farthest from the memory lies from it, as projected.
        """
        spread = candidates.std(dim=0)
        # A channel that never changes tells nothing, and must not divide by 0.
        self.scale = torch.where(spread > 0, spread, torch.ones_like(spread))
        # Near 0, where a difference of two squares keeps its digits.
        self.offset = candidates.mean(dim=0)
        scaled = (candidates - self.offset) / self.scale
        chosen, left = chosen_patches(scaled, len(self.bank), generator)
        kept = scaled[chosen]
        # Of fewer patches than there is room some are there twice, which changes no distance.
        self.bank = kept[torch.arange(len(self.bank)) % len(kept)]
        return left

    def forward(self, image: Tensor, *conditions: Tensor) -> AnomalyOutput:
        """Judge a batch; see :class:`AnomalyModel`."""
        del conditions
        found, counts = self.patches(image)
        heat = self.distance(found) * counts
        return AnomalyOutput(top_mean(heat, counts, self.top_share), heat)

    def distance(self, found: Tensor) -> Tensor:
        """Return how far features (B, h, w, C) lie from the nearest of the memory, (B, h, w)."""
        batch, height, width, channels = found.shape
        scaled = ((found - self.offset) / self.scale).reshape(-1, channels)
        # |f - m|² = |f|² + |m|² - 2 f · m: one product of matrices for all pairs.
        apart = (self.bank**2).sum(dim=1) - 2 * scaled @ self.bank.T  # (B * h * w, M)
        nearest = apart.amin(dim=1) + (scaled**2).sum(dim=1)
        return nearest.clamp(min=0).sqrt().reshape(batch, height, width)


def chosen_patches(patches: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, float]:
    """Choose patches that lie near all others: greedy k-centre, on random projections.

    Args:
        patches: (N, C).
        count: How many to choose at most.
        generator: Of the projection and the first patch.

    Returns:
        Their places, (min(N, count),) int64, in the order in which they were chosen; and how far
        the patch that is farthest from all of them lies from the nearest, as projected.

    Source: Sener and Savarese, Active Learning for Convolutional Neural Networks: A Core-Set
    Approach, ICLR 2018, algorithm 1; Roth et al. 2022, section 3.2.
    """
    total, channels = patches.shape
    if total <= count:
        return torch.arange(total), 0.0
    seen = patches
    if channels > _DIRECTIONS:
        directions = torch.randn(channels, _DIRECTIONS, generator=generator)
        # So scaled that lengths stay what they are, on average.
        seen = patches @ directions.to(patches) / _DIRECTIONS**0.5
    length = (seen**2).sum(dim=1)
    place = int(torch.randint(total, (), generator=generator))
    nearest = torch.full((total,), torch.inf)
    chosen = torch.empty(count, dtype=torch.int64)
    for number in range(count):
        chosen[number] = place
        nearest = torch.minimum(nearest, length + length[place] - 2 * seen @ seen[place])
        nearest[place] = -torch.inf
        place = int(nearest.argmax())
    return chosen, float(nearest.max().clamp(min=0).sqrt())
