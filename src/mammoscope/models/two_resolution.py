"""Two resolutions: a large network on the shrunk image, a small one on all of its pixels.

A calcification is a few pixels of the full image and nothing after it was shrunk, while most of a
mammogram needs no large network at full size. The large one costs the square of the shrinking less;
the small one's features are pooled by their maximum, so that a single bright speck counts.

Idea: GMIC (Shen et al., Med. Image Anal. 68, 2021) looks at the whole image coarsely and at small
parts of it finely. Here the fine look is everywhere, which leaves one map, one heatmap and a graph
without branches.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from mammoscope.errors import ConfigError
from mammoscope.models.backbones import FineCnn
from mammoscope.models.classifier import FeatureExtractor

__all__ = ["TwoResolutionBackbone"]


class TwoResolutionBackbone(FeatureExtractor):
    """Features of both networks side by side, on the grid that the large one would have unshrunk.

    Args:
        coarse: The large network.
        shrink: How many pixels of the image make one of the large network's, each way.
        size: (H, W) of the image.

    Raises:
        ConfigError: If the image cannot be shrunk evenly, or the small network's grid is no whole
            multiple of the large one's.
    """

    def __init__(self, coarse: FeatureExtractor, shrink: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.coarse = coarse
        self.fine = FineCnn()
        self.shrink = shrink
        self.channels = coarse.channels + self.fine.channels
        with torch.no_grad():
            blank = torch.zeros(1, 1, *size)
            grid, fine = self._coarse_grid(blank, size), self._grid_of(self.fine, blank)
        if fine[0] % grid[0] or fine[1] % grid[1] or fine[0] // grid[0] != fine[1] // grid[1]:
            raise ConfigError(
                f"model.shrink={shrink}: images of {size[0]}x{size[1]} give grids of "
                f"{fine[0]}x{fine[1]} and {grid[0]}x{grid[1]}, which do not cover each other; "
                f"sides that are multiples of {32 * shrink} do"
            )
        self._pool = fine[0] // grid[0]

    def forward(self, image: Tensor) -> Tensor:
        """(B, 1, H, W) to (B, channels, h, w)."""
        coarse = self.coarse(functional.avg_pool2d(image, self.shrink))
        coarse = functional.interpolate(coarse, scale_factor=self.shrink, mode="nearest")
        fine = functional.max_pool2d(self.fine(image), self._pool)
        return torch.cat([coarse, fine], dim=1)

    def depths(self) -> dict[str, int]:
        """Count as the large network does; the small one lies beside its last layers."""
        coarse = {f"coarse.{name}": depth for name, depth in self.coarse.depths().items()}
        last = max(coarse.values())
        return coarse | {f"fine.{name}": last for name, _ in self.fine.named_parameters()}

    def undecayed(self) -> set[str]:
        """What the large network lists."""
        return {f"coarse.{name}" for name in self.coarse.undecayed()}

    def recompute_activations(self) -> bool:
        """Have the large network recompute its own."""
        return self.coarse.recompute_activations()

    def _coarse_grid(self, blank: Tensor, size: tuple[int, int]) -> tuple[int, int]:
        if size[0] % self.shrink or size[1] % self.shrink:
            raise ConfigError(
                f"model.shrink={self.shrink} does not divide images of {size[0]}x{size[1]}"
            )
        rows, columns = self._grid_of(self.coarse, functional.avg_pool2d(blank, self.shrink))
        return rows * self.shrink, columns * self.shrink

    def _grid_of(self, network: FeatureExtractor, blank: Tensor) -> tuple[int, int]:
        training = network.training
        rows, columns = network.eval()(blank).shape[2:]
        network.train(training)
        return rows, columns
