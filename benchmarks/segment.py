"""Lesions of a four-view exam outlined: the exported segmenter against torch eager.

    python benchmarks/segment.py --repeats 8
    python benchmarks/segment.py --size 1024x512 --window 128
    python benchmarks/segment.py --engine openvino --precision bfloat16

The bundle as ``mammoscope predict`` runs it, torch eager after our own reader, and torch eager
after a public notebook's reader, on the same threads and the same windows; all make masks of what
they see by the same code. Also the floor: the two engines alone on prepared images. Weights are
untrained: time hardly depends on them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from exams import ExamTimes, add_engine, engine_of, untrained
from mammoscope.config import PreprocessConfig, SegmentConfig
from mammoscope.export.segmentation import export_segmenter
from mammoscope.inference import Outliner, Segmenter
from mammoscope.models import build_segmenter
from mammoscope.types import FloatImage, GreyImage
from measure import leave


def _segmenters(
    options: argparse.Namespace, size: tuple[int, int], max_value: int, model: Path
) -> tuple[Outliner, Segmenter]:
    """Return one segmenter twice: in torch, and exported."""
    segment = SegmentConfig(encoder=options.encoder, pretrained=False)
    seen = (options.window, options.window) if options.window else size
    network, _ = build_segmenter(segment, max_value=max_value, size=seen)
    network.eval()
    export_segmenter(network, segment, seen, model)
    exported = Segmenter(model, threads=torch.get_num_threads())

    @torch.inference_mode()
    def look(images: Sequence[GreyImage]) -> FloatImage:
        batch = torch.from_numpy(np.stack(list(images))[:, None].astype(np.float32))
        logits: FloatImage = network(batch)[:, 0].numpy()
        return logits

    return Outliner(look, seen, exported.settings), exported


def compare(options: argparse.Namespace, home: Path) -> list[dict[str, object]]:
    """Time exams and engines; a row each."""
    height, width = (int(side) for side in options.size.split("x"))
    config = PreprocessConfig(height=height, width=width)
    model = home / "model.onnx"
    eager, exported = _segmenters(options, (height, width), config.max_value, model)
    how = engine_of(options, model)
    ours = untrained(home, model, "segment", config)
    times = ExamTimes(home, ours, eager, how, options.scale)
    pixels = times.prepared()[0].pixels
    expected, made = eager(pixels), exported([pixels])[0]
    if np.abs(expected.logits - made.logits).max() > 1e-3:
        sys.exit("the two segmenters do not outline alike")
    engine = Segmenter(model, threads=torch.get_num_threads())
    return times.rows(lambda image: engine([image]), options.repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--encoder", default="small")
    parser.add_argument("--size", default="512x256", help="of the prepared image")
    parser.add_argument(
        "--window", type=int, default=0, help="side of windows; 0 sees whole images"
    )
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the detector's size")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    add_engine(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        rows = compare(options, Path(temporary))
    windows = f", windows of {options.window}" if options.window else ""
    title = f"Four views, {options.encoder} segmenter, {options.size}{windows}, SYNTHETIC exam"
    title += f", {options.engine} {options.precision}"
    leave(f"segment-{options.encoder}", title, rows, options.out)


if __name__ == "__main__":
    sys.exit(main())
