"""The contract of every detector: one is tested by being in the registry."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from fixtures.engines import HAS_BFLOAT16, by_openvino
from mammoscope.config import DetectionConfig
from mammoscope.export.detection import check_boxes, export_detector
from mammoscope.inference.detector import Detector as ExportedDetector
from mammoscope.inference.detector import DetectorContract
from mammoscope.models.detectors import DETECTORS, Detector, Truth, build_detector

SIZE = (64, 32)
KINDS = ("mass", "calcification")
# Libraries that are extras: where one is absent, its detectors are left out by name.
EXTRAS = {"rt_detr_v2": "transformers", "yolov8": "ultralytics", "yolov5u": "ultralytics"}


# One that sees local contrast beside the image.
CONTRAST = "centre with contrast"


@pytest.fixture(scope="module", params=[*sorted(DETECTORS), CONTRAST])
def detector(request: pytest.FixtureRequest) -> Detector:
    if request.param == CONTRAST:
        return make("centre", contrast_px=(5, 15))
    library = EXTRAS.get(request.param)
    if library is not None and importlib.util.find_spec(library) is None:
        pytest.skip(f"{library}, an extra, is not installed")
    return make(request.param)


def make(name: str, **settings) -> Detector:
    torch.manual_seed(0)
    config = DetectionConfig.model_validate({"name": name, "score_floor": 0.001, **settings})
    return build_detector(config, kinds=len(KINDS), size=SIZE, max_value=255)[0]


def anew(detector: Detector) -> Detector:
    return make(**detector.config.model_dump())


@pytest.fixture
def images() -> Tensor:
    noise = torch.rand(2, 1, *SIZE, generator=torch.Generator().manual_seed(1)) * 60
    noise[0, 0, 20:36, 8:20] = 220
    noise[1, 0, 40:50, 14:24] = 160
    return noise


TRUTHS = [
    Truth(torch.tensor([[8.0, 20.0, 20.0, 36.0]]), torch.tensor([0])),
    Truth(torch.tensor([[14.0, 40.0, 24.0, 50.0]]), torch.tensor([1])),
]
NOTHING = Truth(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))


def test_candidates_are_boxes_within_the_image_the_best_first(detector, images):
    found = detector.eval()(images)
    count = detector.config.most_candidates
    assert found.boxes.shape == (2, count, 4)
    assert found.scores.shape == found.kinds.shape == (2, count)
    assert found.kinds.dtype == torch.int64
    assert found.kinds.max() < len(KINDS)
    assert torch.isfinite(found.boxes).all()
    assert (found.scores[:, 1:] <= found.scores[:, :-1]).all()
    assert found.scores.min() >= 0
    assert found.scores.max() <= 1
    assert (found.boxes[..., 0::2] <= SIZE[1]).all()
    assert (found.boxes[..., 1::2] <= SIZE[0]).all()
    assert found.boxes.min() >= 0


def test_an_image_gives_alike_alone_and_in_a_batch(detector, images):
    detector.eval()
    with torch.no_grad():
        together = detector(images).scores
        alone = torch.cat([detector(image[None]).scores for image in images])
    assert torch.allclose(together, alone, atol=1e-5)


def test_losses_are_finite_and_move_the_weights(detector, images):
    detector.train().zero_grad()
    losses = detector.losses(images, TRUTHS)
    assert all(torch.isfinite(loss) for loss in losses.values())
    total = torch.stack([*losses.values()]).sum()
    total.backward()
    moved = [p for p in detector.parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    assert all(torch.isfinite(p.grad).all() for p in moved)
    # A few weights are for lesions of sizes that are not here.
    assert len(moved) > 0.8 * len([*detector.parameters()])


def test_images_without_a_lesion_are_learnt_from(detector, images):
    detector.train().zero_grad()
    losses = detector.losses(images, [NOTHING, NOTHING])
    total = torch.stack([*losses.values()]).sum()
    assert torch.isfinite(total)
    total.backward()
    gradients = [p.grad for p in detector.parameters() if p.grad is not None]
    assert sum(float(g.abs().sum()) for g in gradients) > 0
    assert all(torch.isfinite(g).all() for g in gradients)


def test_the_same_seed_gives_the_same_losses(detector, images):
    detector.train()
    made = []
    for _ in range(2):
        torch.manual_seed(3)
        losses = detector.losses(images, TRUTHS)
        made.append({name: float(loss.detach()) for name, loss in losses.items()})
    assert made[0] == made[1]


def test_weights_are_kept_as_safetensors_and_come_back(detector):
    kept = load(save({key: value.contiguous() for key, value in detector.state_dict().items()}))
    other = anew(detector)
    for parameter in other.parameters():
        torch.nn.init.zeros_(parameter)
    other.load_state_dict(kept)
    for key, value in detector.state_dict().items():
        assert torch.equal(other.state_dict()[key], value), key


def test_the_exported_graph_finds_the_same_boxes_at_any_batch_and_by_each_engine(
    detector, images, tmp_path: Path
):
    path = tmp_path / "model.onnx"
    # Untrained scores hardly differ, and which of equals come first is chance; these differ.
    detector = anew(detector).eval()
    # Moved less, RetinaNet gives all places one score, and moved more, all of them 1.
    spread = 0.06 if detector.config.name == "retinanet" else 0.02
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in detector.parameters():
            if parameter.ndim > 1:
                parameter.add_(spread * torch.randn_like(parameter))
    contract = DetectorContract(KINDS, *SIZE, 0, 0.25, 0.4, detector.config.most_candidates)
    export_detector(detector, contract, path)
    exported = ExportedDetector(path, threads=1)
    assert exported.contract == contract
    greys = [image[0].numpy().astype(np.uint8) for image in images]
    check_boxes(detector, exported, greys)
    batch = np.stack(greys)[:, None].astype(np.float32)
    boxes, scores = exported.graph.run(["boxes", "scores"], {"image": batch})
    with torch.no_grad():
        made = detector(torch.from_numpy(batch))
    for number in range(len(batch)):
        own = made.scores[number].numpy()
        # The last may be either of two near equals.
        sure = own > own.min() + 1e-4
        off = np.abs(made.boxes[number].numpy()[:, None] - boxes[number][None]).max(axis=2)
        same = (off < 1e-2) & (np.abs(own[:, None] - scores[number][None]) < 1e-4)
        assert sure.any()
        assert same[sure].any(axis=1).all()
    check_boxes(detector, ExportedDetector(by_openvino(path), threads=1), greys)
    if HAS_BFLOAT16:
        found = ExportedDetector(by_openvino(path, "bfloat16"), threads=1).whole(greys[0])
        assert len(found)
        assert found.score.max() == pytest.approx(made.scores[0].max().item(), abs=0.2)


def test_the_small_detector_overfits_two_images(images):
    detector = make("centre").train()
    optimizer = torch.optim.AdamW(detector.parameters(), 3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        torch.stack([*detector.losses(images, TRUTHS).values()]).sum().backward()
        optimizer.step()
    # Batch statistics of so few steps stay those of training.
    with torch.no_grad():
        found = detector(images)
    for number, truth in enumerate(TRUTHS):
        assert found.scores[number, 0] > 0.5
        assert found.kinds[number, 0] == truth.kinds[0]
        assert (found.boxes[number, 0] - truth.boxes[0]).abs().max() < 2.5
