"""Lesions of a four-view exam: the exported detector against the same network in torch eager.

    python benchmarks/detect.py --repeats 8
    python benchmarks/detect.py --contrast 25 65
    python benchmarks/detect.py --detector faster_rcnn --size 512x256
    python benchmarks/detect.py --size 2048x1024 --tile 512
    python benchmarks/detect.py --engine openvino --precision bfloat16

The bundle as ``mammoscope predict`` runs it, torch eager after our own reader, and torch eager
after a public notebook's reader, on the same threads and the same tiles; neither of these matches
views or maps boxes back. Also the floor: the two engines alone on prepared images. Weights are
untrained: time does not depend on them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from exams import ExamTimes, add_engine, engine_of, untrained
from mammoscope.config import DetectionConfig, PreprocessConfig
from mammoscope.export.detection import check_boxes, export_detector
from mammoscope.inference.detector import Detector, DetectorContract
from mammoscope.inference.tiles import cut, tile_corners
from mammoscope.models.detectors import Detector as Network
from mammoscope.models.detectors import build_detector
from mammoscope.types import GreyImage
from measure import leave


def _detectors(
    options: argparse.Namespace, config: PreprocessConfig, model: Path
) -> tuple[Network, Detector]:
    """Return one detector twice: in torch, and exported."""
    settings = DetectionConfig.model_validate(
        {
            "name": options.detector,
            "backbone": options.backbone,
            "contrast_px": options.contrast,
            "tiles": {"size_px": options.tile},
        }
    )
    side = options.tile
    seen = (side, side) if side else (config.height, config.width)
    network, _ = build_detector(settings, kinds=1, size=seen, max_value=config.max_value)
    network.eval()
    overlap, most = settings.tiles.overlap, settings.most_candidates
    contract = DetectorContract((), *seen, side, overlap, settings.fusion_iou, most)
    export_detector(network, contract, model)
    return network, Detector(model, threads=torch.get_num_threads())


def compare(options: argparse.Namespace, home: Path) -> list[dict[str, object]]:
    """Time exams and engines; a row each."""
    height, width = (int(side) for side in options.size.split("x"))
    config = PreprocessConfig(height=height, width=width)
    model = home / "model.onnx"
    network, detector = _detectors(options, config, model)
    overlap = detector.contract.overlap

    @torch.inference_mode()
    def in_torch(pixels: GreyImage) -> None:
        parts = [pixels]
        if options.tile:
            corners = tile_corners(pixels.shape, options.tile, overlap)
            tiles = (cut(pixels, corner, options.tile) for corner in corners)
            parts = [tile for tile in tiles if tile.any()]
        for part in parts:
            network(torch.from_numpy(part[None, None].astype(np.float32)))

    how = engine_of(options, model)
    ours = untrained(home, model, "detect", config)
    times = ExamTimes(home, ours, in_torch, how, options.scale)
    if not options.tile:
        check_boxes(network, detector, [times.prepared()[0].pixels])
    return times.rows(Detector(model, threads=torch.get_num_threads()), options.repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--detector", default="centre")
    parser.add_argument("--backbone", default="pyramid_cnn")
    parser.add_argument("--contrast", type=int, nargs="*", default=[], help="detect.contrast_px")
    parser.add_argument("--size", default="1024x512", help="of the prepared image")
    parser.add_argument("--tile", type=int, default=0, help="side of tiles; 0 sees whole images")
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the detector's size")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    add_engine(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        rows = compare(options, Path(temporary))
    tiles = f", tiles of {options.tile}" if options.tile else ""
    title = f"Four views, {options.detector}, {options.size}{tiles}, SYNTHETIC exam"
    title += f", {options.engine} {options.precision}"
    leave(f"detect-{options.detector}", title, rows, options.out)


if __name__ == "__main__":
    sys.exit(main())
