"""Let torchvision import beside a CPU-only torch.

torchvision's wheel links CUDA; beside a CPU build of torch its operator library does not
load and its import fails with *operator torchvision::nms does not exist*. timm and
Lightning import torchvision. The operators are declared here, ``nms`` with a CPU kernel,
only when the import fails in that way.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import torch
from torch import Tensor

__all__ = ["install"]

# A declaration lives as long as its library object.
_libraries: list[Any] = []


def install() -> None:
    """Make ``import torchvision`` work; does nothing where it works already.

    Raises:
        ImportError: If torchvision is not installed.
        RuntimeError: If its import fails in another way.
    """
    if "torchvision" in sys.modules:
        return
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
        for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        _declare_operators()
        importlib.import_module("torchvision")


def _declare_operators() -> None:
    # torch.library's methods carry no types.
    make: Any = torch.library.Library
    library = make("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define(
        "qnms(Tensor dets, Tensor scores, float iou_threshold, int min_size=0) -> Tensor"
    )
    library.impl("nms", _nms, "CPU")
    _libraries.append(library)


def _nms(dets: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Greedy non-maximum suppression of (N, 4) boxes; returns the kept indices, best first."""
    order = scores.argsort(descending=True, stable=True)
    areas = (dets[:, 2] - dets[:, 0]) * (dets[:, 3] - dets[:, 1])
    kept: list[Tensor] = []
    while order.numel():
        best, order = order[0], order[1:]
        kept.append(best)
        overlap_min = torch.maximum(dets[best, :2], dets[order, :2])
        overlap_max = torch.minimum(dets[best, 2:], dets[order, 2:])
        overlap = (overlap_max - overlap_min).clamp(min=0).prod(dim=1)
        order = order[overlap <= iou_threshold * (areas[best] + areas[order] - overlap)]
    return torch.stack(kept) if kept else torch.empty(0, dtype=torch.int64)
