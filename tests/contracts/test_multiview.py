"""The contract of breast and exam models: what holds for every level and backbone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fixtures.engines import by_openvino
from mammoscope.bundle import FACTS
from mammoscope.config import ModelConfig
from mammoscope.evaluation.calibration import Calibration
from mammoscope.export import PARITY_TOLERANCE, export_graph
from mammoscope.graphs import write_calibrated, write_mean
from mammoscope.inference import ExamInput, Scorer
from mammoscope.models import MultiViewClassifier, Views, build_multiview
from mammoscope.models.judges import WIDTH, BreastJudge, ExamJudge, depths

SIZE = (64, 32)
UNKNOWN = float("nan")
# Levels with and without facts, backbones with and without batch normalisation.
MODELS = [("breast", (), "baseline_cnn"), ("exam", FACTS, "baseline_cnn"), ("exam", (), "test_vit")]


@pytest.fixture(scope="module", params=MODELS, ids=["breast", "exam-told", "exam-vit"])
def model(request: pytest.FixtureRequest) -> MultiViewClassifier:
    """Random in all its parts: untrained, its corrections would say nothing."""
    level, facts, backbone = request.param
    torch.manual_seed(0)
    config = ModelConfig(backbone=backbone, pretrained=False, level=level, facts=facts, dropout=0)
    made, _ = build_multiview(config, max_value=255, size=SIZE)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if not name.startswith("classifier."):
                parameter.add_(0.1 * torch.randn(parameter.shape))
    return made.eval()


def draw_views(seed: int = 1) -> Views:
    """Three exams: whole, one breast with three views, one image."""
    generator = torch.Generator().manual_seed(seed)
    views = torch.rand(3, 5, 1, *SIZE, generator=generator) * 255
    there = [5, 3, 1]
    mask = torch.arange(5)[None] < torch.tensor(there)[:, None]
    side = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0]])
    projection = torch.tensor([[0, 1, 0, 1, 1], [0, 0, 2, 0, 0], [1, 0, 0, 0, 0]])
    facts = torch.tensor([[50.0, 2.0, 0.0], [UNKNOWN, 1.0, UNKNOWN], [UNKNOWN] * 3])
    return Views(views, mask, projection, side, facts)


def close(ours: Tensor, theirs: Tensor) -> bool:
    return torch.allclose(ours, theirs, atol=1e-4)


@torch.no_grad()
def test_every_level_has_a_finite_logit_and_every_view_a_heatmap(model):
    given = draw_views()
    made = model(given)
    assert made.image_logit.shape == (3, 5)
    assert made.breast_logit.shape == (3, 2)
    assert made.exam_logit.shape == (3,)
    assert made.heatmap.shape[:2] == (3, 5)
    for value in made:
        assert value.dtype == torch.float32
        assert torch.isfinite(value).all()
    assert made.heatmap.min() >= 0
    assert made.heatmap.max() <= 1


def test_every_weight_gets_a_finite_gradient(model):
    model.train()
    model.zero_grad()
    made = model(draw_views())
    sum(nn.functional.softplus(logit).sum() for logit in made[:3]).backward()
    model.eval()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@torch.no_grad()
def test_the_order_of_the_images_does_not_matter(model):
    given = draw_views()
    order = torch.tensor([3, 0, 4, 2, 1])
    shuffled = Views(*(value[:, order] for value in given[:4]), given.facts)
    ours, theirs = model(given), model(shuffled)
    assert close(ours.image_logit[:, order], theirs.image_logit)
    assert close(ours.heatmap[:, order], theirs.heatmap)
    assert close(ours.breast_logit, theirs.breast_logit)
    assert close(ours.exam_logit, theirs.exam_logit)


@pytest.mark.parametrize("training", [False, True])
@torch.no_grad()
def test_what_lies_where_no_image_is_changes_nothing(model, training):
    """Neither its scores nor, in training, the statistics of batch normalisation."""
    given = draw_views()
    hidden = ~given.mask
    other = given._replace(
        views=torch.where(hidden[:, :, None, None, None], 255.0, given.views),
        projection=torch.where(hidden, 2, given.projection),
        side=torch.where(hidden, 1 - given.side, given.side),
    )
    wider = Views(
        *(torch.cat([value, value[:, :2]], dim=1) for value in given[:4]), given.facts
    )._replace(mask=nn.functional.pad(given.mask, (0, 2)))
    model.train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    ours = model(given)
    for changed in (other, wider):
        model.load_state_dict(before)
        theirs = model(changed)
        assert close(ours.image_logit, theirs.image_logit[:, :5])
        assert close(ours.breast_logit, theirs.breast_logit)
        assert close(ours.exam_logit, theirs.exam_logit)
    model.load_state_dict(before)
    model.eval()


@torch.no_grad()
def test_an_exam_scores_alike_alone_and_in_a_batch(model):
    given = draw_views()
    together = model(given)
    for row in range(3):
        there = int(given.mask[row].sum())
        alone = model(
            Views(
                *(value[row : row + 1, :there] for value in given[:4]), given.facts[row : row + 1]
            )
        )
        assert close(together.breast_logit[row], alone.breast_logit[0])
        assert close(together.exam_logit[row], alone.exam_logit[0])


@torch.no_grad()
def test_left_and_right_are_treated_alike(model):
    given = draw_views()
    ours, theirs = model(given), model(given._replace(side=1 - given.side))
    assert close(ours.breast_logit.flip(1), theirs.breast_logit)
    assert close(ours.exam_logit, theirs.exam_logit)


@torch.no_grad()
def test_only_an_exam_model_looks_at_the_other_breast_and_at_facts_that_it_uses(model):
    given = draw_views()
    left = given.side == 1
    brighter = given._replace(
        views=torch.where(left[:, :, None, None, None], 255 - given.views, given.views)
    )
    right = model(brighter).breast_logit[0, 0] - model(given).breast_logit[0, 0]
    assert (abs(float(right)) > 1e-4) == (model.level == "exam")
    older = given._replace(facts=given.facts + torch.tensor([20.0, 0.0, 0.0]))
    change = model(older).breast_logit - model(given).breast_logit
    assert (abs(float(change[0, 0])) > 1e-4) == ("age" in model.facts)
    # Where the age is unknown, nothing was added to it.
    assert torch.equal(change[1:], torch.zeros(2, 2))


@torch.no_grad()
def test_an_exam_is_at_least_as_suspicious_as_its_breasts(model):
    given = draw_views()
    made = model(given)
    bias = 0.0 if model.exam is None else float(model.exam.bias)
    highest = torch.stack([made.breast_logit[0].max(), made.breast_logit[1, 1]])
    assert (made.exam_logit[:2] - bias >= highest - 1e-5).all()
    assert float(made.exam_logit[2] - bias) == pytest.approx(float(made.breast_logit[2, 0]))


@torch.no_grad()
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_the_exported_graph_gives_the_same_numbers_for_any_number_of_views(
    model, engine, tmp_path: Path
):
    export_graph(model, SIZE, tmp_path / "model.onnx")
    if engine == "openvino":
        by_openvino(tmp_path / "model.onnx")
    scorer = Scorer(tmp_path / "model.onnx", threads=1)
    assert scorer.level == model.level
    given = draw_views()
    given = given._replace(views=given.views.round())
    expected = model(given)
    for row in range(3):
        there = given.mask[row]
        images = given.views[row, there, 0].numpy().astype(np.uint8)
        exam = ExamInput(
            list(images),
            ["RL"[side] for side in given.side[row, there]],
            [("CC", "MLO", None)[place] for place in given.projection[row, there]],
            tuple(given.facts[row].tolist()),
        )
        made = scorer.exam(exam)
        np.testing.assert_allclose(
            made.images.logit, expected.image_logit[row, there], atol=PARITY_TOLERANCE
        )
        np.testing.assert_allclose(
            made.images.heatmap, expected.heatmap[row, there], atol=PARITY_TOLERANCE
        )
        assert len(made.breasts) == len(set(exam.lateralities))
        for side, (logit, score) in made.breasts.items():
            ours = float(expected.breast_logit[row, "RL".index(side)])
            assert logit == pytest.approx(ours, abs=PARITY_TOLERANCE)
            assert score == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-5)
        if model.level == "exam":
            ours = float(expected.exam_logit[row])
            assert made.exam[0] == pytest.approx(ours, abs=PARITY_TOLERANCE)
        else:
            assert made.exam is None
    assert_averaged_and_calibrated(tmp_path / "model.onnx", exam)


def assert_averaged_and_calibrated(path: Path, exam: ExamInput) -> None:
    """A mean of twice the graph gives its logits; each level has a calibration of its own."""
    single = Scorer(path, threads=1).exam(exam)
    write_mean([path, path], path.with_name("mean.onnx"))
    own = {"breast": Calibration("platt", 2.0, 1.0), "exam": Calibration("platt", 3.0, -1.0)}
    write_calibrated(path.with_name("mean.onnx"), path, Calibration("platt", 0.5, 0.0), own)
    made = Scorer(path, threads=1).exam(exam)
    np.testing.assert_allclose(made.images.logit, single.images.logit, atol=1e-5)
    np.testing.assert_allclose(made.images.heatmap, single.images.heatmap, atol=1e-4)
    expected = 1 / (1 + np.exp(-0.5 * single.images.logit))
    np.testing.assert_allclose(made.images.score, expected, atol=1e-5)
    for side, (logit, score) in made.breasts.items():
        assert logit == pytest.approx(single.breasts[side][0], abs=1e-5)
        assert score == pytest.approx(1 / (1 + np.exp(-2 * logit - 1)), abs=1e-5)
    if made.exam is not None:
        assert made.exam[1] == pytest.approx(1 / (1 + np.exp(-3 * made.exam[0] + 1)), abs=1e-5)


@torch.no_grad()
def test_untrained_it_is_the_mean_logit_of_its_image_classifier():
    torch.manual_seed(0)
    config = ModelConfig(backbone="baseline_cnn", level="exam", dropout=0)
    model, _ = build_multiview(config, max_value=255, size=SIZE)
    given = draw_views()
    made = model.eval()(given)
    logits = model.classifier(given.views[0]).logit
    assert close(made.image_logit[0], logits)
    assert close(made.breast_logit[0, 0], logits[:2].mean())
    p = torch.sigmoid(made.breast_logit[0])
    assert close(torch.sigmoid(made.exam_logit[0]), 1 - (1 - p[0]) * (1 - p[1]))


@torch.no_grad()
def test_an_exam_model_weighs_the_other_breast_and_facts_each_by_a_number_of_its_own():
    torch.manual_seed(0)
    judge = ExamJudge(0.0)
    torch.nn.init.normal_(judge.known.weight)
    shown, there = torch.zeros(1, 2, WIDTH), torch.ones(1, 2, dtype=torch.bool)
    known = torch.tensor([[True, True, False]])

    def judged(right, left, age=60.0):
        facts = torch.tensor([[age, 2.0, 0.0]])
        return judge(torch.tensor([[right, left]]), shown, there, facts, known)[0][0]

    # The same step for every ten years, for both breasts.
    younger, older, oldest = (judged(1.0, -2.0, age) for age in (50.0, 60.0, 70.0))
    assert (older - younger).abs().min() > 0.1
    assert close(older - younger, oldest - older)
    assert close((older - younger)[0], (older - younger)[1])
    # What suspects one breast more suspects the other as much less.
    same, more = judged(1.0, 1.0), judged(1.0, -2.0)
    assert close((more - same)[0], -((more - same)[1] + 3.0))
    assert (more - same)[0].abs() > 0.1
    # Of one breast alone nothing is compared.
    facts = torch.tensor([[60.0, 2.0, 0.0]])
    alone = torch.tensor([[True, False]])
    one, other = (
        judge(torch.tensor([[1.0, value]]), shown, alone, facts, known)[0][0, 0]
        for value in (0.0, 9.0)
    )
    assert close(one, other)


def at_depth(column: int, width: int = 8) -> Tensor:
    """A map (4, width) that is hot in one column."""
    local = torch.full((4, width), -4.0)
    local[1, column] = 6.0
    return local


def test_depth_is_told_in_the_breasts_own_depth():
    images = torch.zeros(2, 1, 16, 32)
    images[0, 0, :, :32] = 0.5
    images[1, 0, 4:12, :16] = 0.5  # Half as deep, as another crop or another scale shows it.
    found = depths(torch.stack([at_depth(4), at_depth(2)]), images)
    assert found.tolist() == pytest.approx([4.5 / 8, 2.5 / 4], abs=0.01)
    # All is air: nothing is divided by nothing.
    assert torch.isfinite(depths(at_depth(3)[None], torch.zeros(1, 1, 16, 32))).all()


def test_a_breast_model_hears_whether_two_projections_are_hot_at_one_depth():
    torch.manual_seed(0)
    judge = BreastJudge(0.0)
    torch.nn.init.normal_(judge.correction[-1].weight)
    logits, tokens = torch.tensor([[1.0, 2.0, 1.5]]), torch.zeros(1, 3, WIDTH)
    own = torch.tensor([[[True, True, False], [False, False, False]]])

    def judged(depth, projection=(0, 1, 1)):
        return judge(logits, tokens, torch.tensor([depth]), torch.tensor([projection]), own)[0][0]

    alike, apart = judged((0.4, 0.41, 0.0)), judged((0.4, 0.7, 0.0))
    assert (alike - apart)[0].abs() > 1e-3
    assert torch.equal(alike[1], apart[1])
    # An image that is not of the breast does not count, nor do two of one projection.
    assert torch.equal(judged((0.4, 0.41, 0.9)), alike)
    assert torch.equal(judged((0.4, 0.41, 0.0), (1, 1, 0)), judged((0.4, 0.7, 0.0), (1, 1, 0)))
