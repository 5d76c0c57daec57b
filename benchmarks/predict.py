"""Predicting a four-view exam: the exported bundle against the same network in torch eager.

    python benchmarks/predict.py --backbone resnet18 --repeats 10

The bundle as ``mammoscope predict`` runs it, torch eager after our own reader, and torch eager
after a public notebook's reader, on the same threads. Also the floor: the two engines alone on
prepared images. Weights are untrained: time does not depend on them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from exams import ExamTimes, add_engine, engine_of, untrained
from mammoscope.config import ModelConfig, PreprocessConfig
from mammoscope.export import export_graph
from mammoscope.inference import Scorer
from mammoscope.models import build_classifier
from mammoscope.types import GreyImage
from measure import leave

CONFIG = PreprocessConfig(height=1024, width=512)


def compare(options: argparse.Namespace, home: Path) -> list[dict[str, object]]:
    """Time exams and engines; a row each."""
    network = ModelConfig(backbone=options.backbone, pretrained=False)
    size = (CONFIG.height, CONFIG.width)
    classifier, _ = build_classifier(network, max_value=CONFIG.max_value, size=size)
    classifier.eval()
    model = home / "graph.onnx"
    export_graph(classifier, size, model)
    how = engine_of(options, model)
    scorer = Scorer(model, torch.get_num_threads())

    @torch.inference_mode()
    def in_torch(pixels: GreyImage) -> None:
        classifier(torch.from_numpy(pixels[None, None].astype(np.float32)))

    ours = untrained(home, model, "classify", CONFIG)
    times = ExamTimes(home, ours, in_torch, how, options.scale)
    return times.rows(lambda pixels: scorer([pixels]), options.repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the detector's size")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    add_engine(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        rows = compare(options, Path(temporary))
    title = f"Four views, {options.backbone}, {CONFIG.height} x {CONFIG.width}, SYNTHETIC exam"
    title += f", {options.engine} {options.precision}"
    leave("predict", title, rows, options.out)


if __name__ == "__main__":
    sys.exit(main())
