import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from mammoscope.config import EvaluationConfig
from mammoscope.errors import RunError
from mammoscope.evaluation import bootstrap
from mammoscope.evaluation.bootstrap import intervals
from mammoscope.evaluation.measures import measures_at, measures_of_ranks
from mammoscope.evaluation.operating_points import choose, choose_threshold
from mammoscope.evaluation.tables import Scored


def data(seed=0, patients=60, images=4):
    rng = np.random.default_rng(seed)
    sick = rng.random(patients) < 0.4
    of_patient = rng.normal(sick * 1.2, 1.0)
    patient = np.repeat(np.arange(patients), images)
    raw = of_patient[patient] + rng.normal(0, 0.2, patients * images)
    return Scored(1 / (1 + np.exp(-raw)), sick[patient], patient)


def measured(scored, **options):
    settings = {"replicates": 400, "confidence": 0.95, "seed": 0} | options
    return intervals(scored, {"auroc": lambda d: d.steps.auroc()}, **settings)["auroc"]


def test_an_interval_holds_its_value_and_is_the_same_for_the_same_seed():
    found = measured(data())
    assert found.low < found.value < found.high
    assert measured(data()) == found
    assert measured(data(), seed=1) != found


def test_drawing_patients_gives_wider_intervals_than_drawing_images():
    clustered = data()
    naive = Scored(clustered.score, clustered.label, np.arange(clustered.score.size))
    by_patient, by_image = measured(clustered), measured(naive)
    assert by_patient.high - by_patient.low > 1.4 * (by_image.high - by_image.low)


def test_a_patients_images_are_drawn_together():
    """With one patient of each class every replicate has both or is undefined."""
    scored = Scored(
        np.array([0.9, 0.8, 0.1, 0.2]), np.array([1, 1, 0, 0], bool), np.array([0, 0, 1, 1])
    )
    found = measured(scored, replicates=200)
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)
    # Both patients drawn has chance 1/2.
    assert 60 < found.undefined < 140


def test_a_specificity_without_exception_has_an_interval_by_patients():
    """None of 40 negatives of 10 patients is called: 0.025^(1/10) = 0.6915, not 1."""
    score = np.repeat([0.9, 0.1], 40)
    scored = Scored(score, score > 0.5, np.repeat(np.arange(20), 4))
    found = intervals(scored, measures_at(0.5), replicates=50, confidence=0.95, seed=0)
    assert found["specificity"].low == pytest.approx(0.025 ** (1 / 10))
    assert (found["specificity"].value, found["specificity"].high) == (1.0, 1.0)
    alone = intervals(scored, measures_at(0.5), replicates=0, confidence=0.95, seed=0)
    assert alone["specificity"].low is None


def test_no_replicates_give_a_value_without_an_interval():
    found = measured(data(), replicates=0)
    assert found.value is not None
    assert found.low is None


@pytest.mark.parametrize("images", [1, 3])
def test_blocks_of_replicates_give_what_each_replicate_gives_alone(images, monkeypatch):
    """Every measure of every replicate, against the same formula on repeated rows."""
    clustered = data(patients=25, images=images)
    # Scores in tenths, so that many tie.
    scored = Scored(np.round(clustered.score, 1), clustered.label, clustered.patient)
    monkeypatch.setattr(bootstrap, "_CELLS", 7 * scored.score.size)
    draws = bootstrap.draw(25, 30, seed=3)
    assert (draws.sum(axis=1) == 25).all()
    config = EvaluationConfig()
    named = {**measures_of_ranks(config), **measures_at(0.5)}
    found = bootstrap.samples(scored, named, draws)
    for replicate, times in enumerate(draws):
        rows = np.repeat(np.arange(scored.score.size), times[scored.patient])
        again = Scored(scored.score[rows], scored.label[rows], np.arange(rows.size))
        for name, expected in bootstrap.values(again, named).items():
            value = found[name][replicate]
            assert (expected is None) == np.isnan(value)
            assert expected is None or value == pytest.approx(expected), name


def test_a_part_of_the_patients_is_measured_on_the_draws_of_all():
    whole = data()
    draws = bootstrap.draw(60, 50, seed=0)
    named = {"auroc": lambda d: d.steps.auroc()}
    kept = whole.patient % 2 == 1
    part = Scored(whole.score[kept], whole.label[kept], whole.patient[kept])
    other = Scored(part.score, part.label, (part.patient - 1) // 2)
    found = bootstrap.samples(part, named, draws)["auroc"]
    assert found == pytest.approx(bootstrap.samples(other, named, draws[:, 1::2])["auroc"])


@given(seed=st.integers(0, 10_000))
def test_best_f1_is_not_beaten_by_any_other_threshold(seed):
    rng = np.random.default_rng(seed)
    score, label = rng.choice(np.linspace(0, 1, 12), 40), rng.random(40) < 0.4
    label[:2] = True, False
    chosen = choose_threshold(Scored(score, label, np.arange(40)), "best_f1")
    best = max(f1_score(label, score >= t, zero_division=0) for t in [*np.unique(score), 2.0])
    assert f1_score(label, score >= chosen, zero_division=0) == pytest.approx(best)


@pytest.mark.parametrize("target", [0.5, 0.9, 0.99])
def test_targets_are_met_and_no_looser_threshold_would_do(target):
    scored = data()
    for name, side in (("specificity", ~scored.label), ("sensitivity", scored.label)):
        threshold = choose_threshold(scored, f"{name}={target}")

        def share(at, side=side, name=name):
            called = scored.score[side] >= at
            return called.mean() if name == "sensitivity" else (~called).mean()

        assert share(threshold) >= target
        lower, higher = (
            scored.score[scored.score < threshold],
            scored.score[scored.score >= threshold],
        )
        if name == "specificity":
            assert share(lower.max()) < target
        else:
            assert share(np.nextafter(higher.min(), 2)) < target


def test_every_configured_point_comes_with_its_intervals():
    points = choose(data(), EvaluationConfig(bootstrap=50))
    assert [point["name"] for point in points] == ["best_f1", "specificity=0.9"]
    assert points[1]["specificity"]["value"] >= 0.9
    assert points[0]["f1"]["low"] <= points[0]["f1"]["value"] <= points[0]["f1"]["high"]


def test_one_class_alone_cannot_choose():
    scored = Scored(np.array([0.1, 0.2]), np.array([False, False]), np.arange(2))
    with pytest.raises(RunError, match="with and without cancer"):
        choose_threshold(scored, "best_f1")
