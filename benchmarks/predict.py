"""Predicting a four-view exam: the exported bundle against the same network in torch eager.

    python benchmarks/predict.py --backbone resnet18 --repeats 10

Both read the same DICOM files with the same preprocessor, on the same threads. Also the floor:
the two engines alone on prepared images. Weights are untrained: time does not depend on them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from mammoscope.bundle import MODEL_FILE, write_bundle
from mammoscope.cohort.synthetic import write_exam
from mammoscope.config import ModelConfig, PreprocessConfig
from mammoscope.export import export_graph
from mammoscope.inference import Scorer, load_bundle
from mammoscope.models import build_classifier
from mammoscope.preprocessing import Preprocessor, read_pixels
from measure import Spread, in_turn, leave

CONFIG = PreprocessConfig(height=1024, width=512)
NOTHING = {"value": None, "low": None, "high": None}
POINT = {
    "name": "best_f1",
    "target": "best_f1",
    "threshold": 0.5,
    "confidence": 0.95,
    **dict.fromkeys(("sensitivity", "specificity", "precision", "f1"), NOTHING),
}


def compare(backbone: str, repeats: int, scale: float, home: Path) -> list[dict[str, object]]:
    """Time exams and engines; a row each."""
    network = ModelConfig(backbone=backbone, pretrained=False)
    size = (CONFIG.height, CONFIG.width)
    classifier, _ = build_classifier(network, max_value=CONFIG.max_value, size=size)
    classifier.eval()
    export_graph(classifier, size, home / "graph.onnx")
    write_bundle(
        home / "bundle",
        {MODEL_FILE: home / "graph.onnx"},
        name="untrained",
        package_version="0",
        synthetic=True,
        intended_use="Timing only.",
        input={"preprocess": CONFIG.model_dump()},
        eligibility={},
        operating_points={"primary": "best_f1", "image": [POINT], "breast": [POINT]},
    )
    write_exam(home / "exam", seed=1, cancer=True, scale=scale)
    threads = torch.get_num_threads()
    predictor = load_bundle(home / "bundle", threads=threads)
    scorer = Scorer(home / "graph.onnx", threads)
    preprocessor = Preprocessor(CONFIG)

    def in_torch(pixels: np.ndarray) -> None:
        with torch.inference_mode():
            classifier(torch.from_numpy(pixels[None, None].astype(np.float32)))

    def ours() -> None:
        predictor(predictor.read(home / "exam"))

    def eager() -> None:
        for image in predictor.read(home / "exam").images:
            source = read_pixels(image.path)
            in_torch(preprocessor(source.pixels, image.laterality).pixels)

    exam = predictor.read(home / "exam")
    prepared = [
        preprocessor(read_pixels(image.path).pixels, image.laterality).pixels
        for image in exam.images
    ]
    whole = in_turn({"ours": ours, "eager": eager}, repeats)
    engine = in_turn(
        {
            "ours": lambda: [scorer([pixels]) for pixels in prepared],
            "eager": lambda: [in_torch(pixels) for pixels in prepared],
        },
        repeats,
    )
    return [
        {
            "what": what,
            "ours, ms": Spread.of(times["ours"]),
            "torch eager, ms": Spread.of(times["eager"]),
            "eager / ours": Spread.of(
                [b / a for a, b in zip(times["ours"], times["eager"], strict=True)]
            ),
        }
        for what, times in (("exam, files to result", whole), ("floor: engine alone", engine))
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the detector's size")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        rows = compare(options.backbone, options.repeats, options.scale, Path(temporary))
    title = f"Four views, {options.backbone}, {CONFIG.height} x {CONFIG.width}, SYNTHETIC exam"
    leave("predict", title, rows, options.out)


if __name__ == "__main__":
    sys.exit(main())
