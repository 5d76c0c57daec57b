"""A convolutional variational autoencoder that may be told view and density.

Trained on normal images it rebuilds what it knows; where the image is otherwise, the error is
large.

Sources: Kingma and Welling, Auto-Encoding Variational Bayes, ICLR 2014; Sohn et al., Learning
Structured Output Representation using Deep Conditional Generative Models, NeurIPS 2015 (conditions
told to encoder and decoder); He et al., Identity Mappings in Deep Residual Networks, ECCV 2016
(pre-activation).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from mammoscope.models.anomaly.breast import breast_of, mean_in_cells, top_mean
from mammoscope.models.anomaly.contract import AnomalyModel, AnomalyOutput
from mammoscope.models.anomaly.error_maps import squared_error, structural_error
from mammoscope.models.anomaly.features import FeatureMaps

__all__ = ["CELL", "CODES", "ConvVae", "Rebuilt", "TermWeights"]

#: How many codes each condition has, that of unknown included.
CODES = {"projection": 3, "density": 5}
# Numbers that a code is told as.
_TOLD = 4
# Each of five layers halves or doubles the grid.
_LAYERS = 5
_FACTOR = 2**_LAYERS
#: Side of a cell of the map, in pixels of the image as the network sees it.
CELL = 4
# Bounds of the latent logarithm of variance: beyond them its exponential runs away.
_LOG_VARIANCE = (-12.0, 8.0)


class TermWeights(NamedTuple):
    """What each term counts in the map, all told in units of normal images."""

    l2: float = 1.0
    ssim: float = 1.0
    perceptual: float = 0.0
    kl: float = 0.0


class Rebuilt(NamedTuple):
    """What the network makes of a batch.

    Attributes:
        grey: (B, 1, h, w) what it was shown, in [0, 1].
        image: (B, 1, h, w) what it made of it, in [0, 1].
        kl: (B, h / 32, w / 32) nats of each latent cell.
    """

    grey: Tensor
    image: Tensor
    kl: Tensor


class PreActivationBlock(nn.Module):
    """Norm, activation, convolution, twice, beside a shortcut; halves the grid.

    The shortcut starts after the first activation where width or grid change, as in the paper's
    code.
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first_norm = nn.BatchNorm2d(before)
        # An even kernel: one of 3 would move the grid by half a cell at each halving.
        self.first = nn.Conv2d(before, after, 4, 2, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(after)
        self.second = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(before, after, 1, bias=False))

    def forward(self, features: Tensor) -> Tensor:
        """(B, before, H, W) to (B, after, H / 2, W / 2)."""
        ready = torch.relu(self.first_norm(features))
        body = self.second(torch.relu(self.second_norm(self.first(ready))))
        return body + self.shortcut(ready)  # type: ignore[no-any-return]


class ConvVae(AnomalyModel):
    """The autoencoder with its error map and score.

    Args:
        max_value: Largest grey value of the input.
        width: Channels of the first block.
        latent_width: Channels of the latent map.
        shrink: How many times smaller it sees the image, each way.
        conditions: Of :data:`CODES`.
        weights: What each term counts in the map.
        features: Network of the perceptual term; needed where that counts.
        edge_px: Rim of the breast that is not judged, in pixels of the input.
        top_share: Share of the breast whose mean is the score.
    """

    units: Tensor

    def __init__(
        self,
        *,
        max_value: int,
        width: int = 8,
        latent_width: int = 32,
        shrink: int = 1,
        conditions: Sequence[str] = (),
        weights: TermWeights = TermWeights(),  # noqa: B008 - it is frozen
        features: FeatureMaps | None = None,
        edge_px: int = 4,
        top_share: float = 0.02,
    ) -> None:
        super().__init__(max_value)
        if weights.perceptual and features is None:
            raise ValueError("the perceptual term needs a feature network")
        self.conditions = tuple(conditions)
        self.shrink, self.weights = shrink, weights
        self.edge_px, self.top_share = edge_px, top_share
        self.features = features if weights.perceptual else None
        widths = [min(width * 2**layer, width * 8) for layer in range(_LAYERS + 1)]
        told = _TOLD * len(self.conditions)
        self.codes = nn.ModuleDict(
            {name: nn.Embedding(CODES[name], _TOLD) for name in self.conditions}
        )
        self.stem = nn.Conv2d(1, widths[0], 3, 1, 1)
        self.encoder = nn.Sequential(
            *(PreActivationBlock(*pair) for pair in pairwise(widths)),
            nn.BatchNorm2d(widths[-1]),
            nn.ReLU(),
        )
        self.latent = nn.Conv2d(widths[-1] + told, 2 * latent_width, 1)
        self.unfold = nn.Conv2d(latent_width + told, widths[-1], 1)
        self.decoder = _decoder(widths[::-1])
        # What each term is on normal images: L2, SSIM, perceptual, KL.
        self.register_buffer("units", torch.ones(len(TermWeights._fields)))

    def rebuild(self, image: Tensor, *conditions: Tensor, sample: bool = False) -> Rebuilt:
        """Encode and decode.

        Args:
            image: (B, 1, H, W) grey values in [0, max_value].
            conditions: (B,) int64 codes.
            sample: Draw the latent numbers, as training does; else take their means.
        """
        grey = image / self.max_value
        if self.shrink > 1:
            grey = functional.avg_pool2d(grey, self.shrink)
        height, width = grey.shape[-2:]
        # Cells hold 32 pixels: what is lacking is black, as air is.
        padded = functional.pad(grey, (0, -width % _FACTOR, 0, -height % _FACTOR))
        encoded = self.encoder(self.stem(padded))  # (B, C, h / 32, w / 32)
        told = self._told(conditions, encoded)
        mean, log_variance = self.latent(torch.cat([encoded, *told], dim=1)).chunk(2, dim=1)
        log_variance = log_variance.clamp(*_LOG_VARIANCE)
        latent = mean
        if sample:
            latent = mean + torch.randn_like(mean) * torch.exp(log_variance / 2)
        decoded = self.decoder(self.unfold(torch.cat([latent, *told], dim=1)))
        rebuilt = torch.sigmoid(decoded.float())[..., :height, :width]
        # Against a standard normal, summed over channels (Kingma and Welling, appendix B).
        kl = (mean**2 + log_variance.exp() - 1 - log_variance).float().sum(dim=1) / 2
        return Rebuilt(grey, rebuilt, kl)

    def loss_terms(self, image: Tensor, *conditions: Tensor, sample: bool) -> tuple[Tensor, Tensor]:
        """Return the mean squared error within each breast and its latent cells' mean KL, (B,)."""
        made = self.rebuild(image, *conditions, sample=sample)
        breast = _with_rim(made.grey)
        error = squared_error(made.grey, made.image) * breast
        within = breast.flatten(1).sum(dim=1).clamp(min=1.0)
        return error.flatten(1).sum(dim=1) / within, made.kl.flatten(1).mean(dim=1)

    def forward(self, image: Tensor, *conditions: Tensor) -> AnomalyOutput:
        """Judge a batch; see :class:`AnomalyModel`."""
        made = self.rebuild(image, *conditions)
        maps, counts = self._maps(image, made)
        heat = torch.zeros_like(counts)
        for number, found in maps.items():
            heat = heat + self.weights[number] / self.units[number] * found
        # What it makes of air it was never asked for.
        rebuilt = made.image * _with_rim(made.grey) * self.max_value
        return AnomalyOutput(top_mean(heat, counts, self.top_share), heat, rebuilt)

    def terms(self, image: Tensor, *conditions: Tensor) -> Tensor:
        """Return the mean of each term over the breast, (B, 4); 0 for those that do not count."""
        maps, counts = self._maps(image, self.rebuild(image, *conditions))
        cells = counts.flatten(1).sum(dim=1).clamp(min=1.0)
        means = [
            maps[number].flatten(1).sum(dim=1) / cells
            if number in maps
            else torch.zeros_like(cells)
            for number in range(len(self.weights))
        ]
        return torch.stack(means, dim=1)

    def set_units(self, units: Tensor) -> None:
        """Tell each term in units of what it is on normal images, (4,)."""
        # A term that is nought on all of them, as of black images, has no unit.
        self.units = torch.where(units > 0, units, torch.ones_like(units)).to(self.units)

    def _maps(self, image: Tensor, made: Rebuilt) -> tuple[dict[int, Tensor], Tensor]:
        """Return the terms that count, by number, on the grid of cells, and which cells count."""
        breast = breast_of(image, self.edge_px)
        if self.shrink > 1:
            breast = (functional.avg_pool2d(breast, self.shrink) >= 0.5).float()
        found: dict[int, Tensor] = {}
        size = [int(side) for side in made.grey.shape[-2:]]
        if self.weights.l2:
            found[0] = squared_error(made.grey, made.image)
        if self.weights.ssim:
            found[1] = structural_error(made.grey, made.image)
        if self.features is not None:
            apart = self.features(made.grey) - self.features(made.image)
            apart = (apart**2).mean(dim=1, keepdim=True)
            found[2] = functional.interpolate(apart, size=size, mode="bilinear")
        if self.weights.kl:
            cells = functional.interpolate(made.kl[:, None], scale_factor=float(_FACTOR))
            found[3] = cells[..., : size[0], : size[1]]
        counts = mean_in_cells(breast, breast, CELL)[1]
        return {k: mean_in_cells(v, breast, CELL)[0] for k, v in found.items()}, counts

    def _told(self, conditions: Sequence[Tensor], encoded: Tensor) -> list[Tensor]:
        """Spread what is told over the latent grid: a list of (B, 4, h, w)."""
        if len(conditions) != len(self.conditions):
            raise ValueError(f"told {len(conditions)} conditions of {list(self.conditions)}")
        height, width = encoded.shape[-2:]
        return [
            self.codes[name](codes)[:, :, None, None].expand(-1, -1, height, width)
            for name, codes in zip(self.conditions, conditions, strict=True)
        ]


def _with_rim(grey: Tensor) -> Tensor:
    """Return the breast with some air beside it, in which it is to end, (B, 1, h, w) of 0 and 1."""
    return functional.max_pool2d((grey > 0).float(), 2 * CELL + 1, 1, CELL)


def _decoder(widths: Sequence[int]) -> nn.Sequential:
    """Return five transposed convolutions, each of which doubles the grid; the last is grey."""
    layers: list[nn.Module] = []
    for number in range(_LAYERS):
        layers += [nn.BatchNorm2d(widths[number]), nn.ReLU()]
        after = 1 if number == _LAYERS - 1 else widths[number + 1]
        layers.append(nn.ConvTranspose2d(widths[number], after, 4, 2, 1))
    return nn.Sequential(*layers)
