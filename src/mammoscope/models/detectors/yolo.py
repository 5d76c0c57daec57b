"""YOLOv8 and YOLOv5u of ultralytics, an optional extra under the AGPL-3.0, on one grey channel.

Nothing of mammoscope imports this module or that library unless ``detect.name`` asks for it.

Source: Jocher et al., Ultralytics YOLO, 2023, https://github.com/ultralytics/ultralytics.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mammoscope.errors import ConfigError
from mammoscope.models.detectors.contract import DenseDetector, Detector, DetectorSpec, Truth

__all__ = ["YoloDetector", "build_yolo"]

# Plans of the smallest networks, which the library ships; weights it would fetch as pickles.
_PLANS = {"yolov8": "yolov8n.yaml", "yolov5u": "yolov5n.yaml"}
_COARSEST = 32


class YoloDetector(DenseDetector):
    """One of ultralytics' detection networks.

    Args:
        net: The library's network, of one input channel.
        spec: What it is built for.
    """

    def __init__(self, net: Any, spec: DetectorSpec) -> None:
        super().__init__(spec)
        self.net = net

    def losses(self, images: Tensor, truths: Sequence[Truth]) -> dict[str, Tensor]:
        """Return its losses ``box``, ``kind`` and ``edges``, each per image of the batch."""
        height, width = self.size
        sides = images.new_tensor([width, height, width, height])
        boxes = torch.cat([truth.boxes for truth in truths])
        low, high = boxes[:, :2], boxes[:, 2:]
        owner = [len(truth.boxes) for truth in truths]
        asked = {
            "img": images / self.max_value,
            "cls": torch.cat([truth.kinds for truth in truths])[:, None].float(),
            "bboxes": torch.cat([(low + high) / 2, high - low], dim=1) / sides,
            "batch_idx": torch.arange(len(truths)).repeat_interleave(torch.tensor(owner)),
        }
        # The library multiplies by the number of images.
        parts = self.net.loss(asked)[0] / len(images)
        return dict(zip(("box", "kind", "edges"), parts, strict=True))

    def dense(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return boxes (B, A, 4) and scores (B, A, kinds) of all places."""
        made = self.net(images / self.max_value)
        flat = (made[0] if isinstance(made, tuple) else made).transpose(1, 2)  # (B, A, 4 + kinds)
        middle, sides = flat[..., :2], flat[..., 2:4]
        return torch.cat([middle - sides / 2, middle + sides / 2], dim=2), flat[..., 4:]


def build_yolo(spec: DetectorSpec) -> tuple[Detector, list[str]]:
    """Build the smallest network of the family that ``detect.name`` names, from scratch.

    Raises:
        ConfigError: If the image cannot be halved five times.
    """
    from ultralytics.cfg import get_cfg
    from ultralytics.nn.tasks import DetectionModel

    config, size = spec.config, spec.size
    if size[0] % _COARSEST or size[1] % _COARSEST:
        raise ConfigError(
            f"detect: {config.name} takes images whose sides are multiples of {_COARSEST}, not "
            f"{size[0]}x{size[1]}"
        )
    notes = [
        f"detect.name={config.name} uses ultralytics, which is licensed under the AGPL-3.0: a "
        "product or service with it has to give its source under that licence"
    ]
    if config.pretrained:
        notes.append(
            "ultralytics publishes its weights as pickles, which are never loaded here; training "
            "starts from random weights. Convert them to safetensors and set detect.weights"
        )
    net = DetectionModel(_PLANS[config.name], ch=1, nc=spec.kinds, verbose=False)
    # Weights of its losses: the library reads them off the network.
    net.args = get_cfg()
    return YoloDetector(net, spec), notes
