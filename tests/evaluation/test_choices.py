from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from mammoscope.config import EvaluationConfig
from mammoscope.errors import RunError
from mammoscope.evaluation import bootstrap, operating_points
from mammoscope.evaluation.bootstrap import intervals
from mammoscope.evaluation.measures import measures_at, measures_of_ranks
from mammoscope.evaluation.metrics import best_f1, pf1
from mammoscope.evaluation.operating_points import choose, choose_threshold, point_measures
from mammoscope.evaluation.overfitting import (
    broken_promises,
    calling_all_warnings,
    few_warnings,
    fitted_warnings,
)
from mammoscope.evaluation.tables import Scored

KEPT = ("sensitivity", "specificity")


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
    # All replicates agree, which claims a certainty that two patients do not give.
    assert (found.value, found.low, found.high) == (1.0, None, None)
    # Both patients drawn has chance 1/2.
    assert 60 < found.undefined < 140
    assert found.as_dict()["undefined"] == found.undefined


def test_a_specificity_without_exception_has_an_interval_by_patients():
    """None of 40 negatives of 10 patients is called: 0.025^(1/10) = 0.6915, not 1."""
    score = np.repeat([0.9, 0.1], 40)
    scored = Scored(score, score > 0.5, np.repeat(np.arange(20), 4))
    found = intervals(scored, measures_at(0.5), replicates=50, confidence=0.95, seed=0)
    assert found["specificity"].low == pytest.approx(0.025 ** (1 / 10))
    assert (found["specificity"].value, found["specificity"].high) == (1.0, 1.0)
    alone = intervals(scored, measures_at(0.5), replicates=0, confidence=0.95, seed=0)
    assert alone["specificity"].low is None


def test_shares_of_the_called_and_of_all_without_exception_have_exact_intervals():
    """Eight images of two patients are called, all rightly; at 0.95 nobody of 20 patients is."""
    score = np.concatenate([np.repeat([0.9, 0.1], [8, 32]), np.full(40, 0.1)])
    scored = Scored(score, np.arange(80) < 40, np.repeat(np.arange(20), 4))

    def at(threshold):
        found = intervals(
            scored,
            point_measures(threshold),
            replicates=50,
            confidence=0.95,
            seed=0,
            threshold=threshold,
        )
        return {name: (one.value, one.low, one.high) for name, one in found.items()}

    assert at(0.5)["precision"] == (1.0, pytest.approx(0.025 ** (1 / 2)), 1.0)
    nobody = at(0.95)
    assert nobody["precision"][0] is None
    upper = 1 - 0.025 ** (1 / 20)
    assert nobody["recall_rate"] == (0.0, 0.0, pytest.approx(upper))
    assert nobody["recalls_per_1000"] == (0.0, 0.0, pytest.approx(1000 * upper))
    # Measures without such a bound claim nothing.
    assert nobody["f1"] == (0.0, None, None)
    rare = replace(scored, prevalence=0.01)
    found = intervals(
        rare, point_measures(0.5), replicates=50, confidence=0.95, seed=0, threshold=0.5
    )
    assert (found["precision"].value, found["precision"].low) == (1.0, None)


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
    # Any other but that which calls everyone.
    others = [*np.unique(score)[1:], 2.0]
    best = max(f1_score(label, score >= t, zero_division=0) for t in others)
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


def test_a_recall_rate_is_kept_and_no_looser_threshold_would_do():
    scored = data()
    threshold = choose_threshold(scored, "recall_rate=0.1")
    assert (scored.score >= threshold).mean() <= 0.1
    assert (scored.score >= scored.score[scored.score < threshold].max()).mean() > 0.1


def test_a_recall_rate_can_be_that_of_another_prevalence():
    """At 0.5 % hardly anyone has cancer, so the recall rate is all but 1 - specificity."""
    scored = data(patients=400)
    rare = replace(scored, prevalence=0.005)
    threshold = choose_threshold(rare, "recall_rate=0.1")
    called = scored.score >= threshold
    sick = scored.label
    rate = 0.005 * called[sick].mean() + 0.995 * called[~sick].mean()
    assert 0.09 < rate <= 0.1
    assert threshold < choose_threshold(scored, "recall_rate=0.1")
    config = EvaluationConfig(bootstrap=50, operating_points=("recall_rate=0.1",))
    point = choose(rare, config)[0]
    assert point["threshold"] == threshold
    assert point["recall_rate"]["value"] == pytest.approx(rate)
    assert point["recall_rate"]["low"] < rate < point["recall_rate"]["high"]


def test_measures_of_another_prevalence_are_those_of_as_many_more_negatives():
    """Positives at 50 %, meant at 20 %: as if every negative stood there four times."""
    rng = np.random.default_rng(1)
    label = np.arange(200) < 100
    half = Scored(np.round(rng.random(200) * 0.6 + 0.3 * label, 2), label, np.arange(200))
    rows = np.concatenate([np.arange(100), np.tile(np.arange(100, 200), 4)])
    whole = Scored(half.score[rows], label[rows], half.patient[rows])
    rare = replace(half, prevalence=0.2)
    for target in ("best_f1", "recall_rate=0.1", "specificity=0.9"):
        assert choose_threshold(rare, target) == choose_threshold(whole, target)
    assert choose_threshold(rare, "best_f1") != choose_threshold(half, "best_f1")
    named = {**measures_of_ranks(EvaluationConfig()), **point_measures(0.5)}
    found, expected = bootstrap.values(rare, named), bootstrap.values(whole, named)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value), name
    # The share is a given, so that replicates do not vary it: without positives nothing is known.
    drawn = bootstrap.samples(rare, named, np.array([[0] * 100 + [1] * 100], np.uint16))
    assert np.isnan(drawn["precision"]).all()


@given(seed=st.integers(0, 10_000))
def test_pf1_of_scores_is_never_above_the_best_f1_of_calls(seed):
    """Why best_pf1 and best_f1 are one threshold: pF1 is a mean of F1 over thresholds."""
    rng = np.random.default_rng(seed)
    score, label = rng.random(30) ** rng.integers(1, 5), rng.random(30) < 0.3
    label[:2] = True, False
    assert pf1(score, label) <= best_f1(score, label) + 1e-12
    scored = Scored(score, label, np.arange(30))
    chosen = choose_threshold(scored, "best_pf1")
    assert chosen == choose_threshold(scored, "best_f1")
    sent = (score >= chosen).astype(np.float64)
    assert pf1(sent, label) == pytest.approx(
        max(f1_score(label, score >= t) for t in np.unique(score)[1:])
    )


@pytest.mark.parametrize(
    "target", ["best_f1", "specificity=0.8", "sensitivity=0.8", "recall_rate=0.3"]
)
def test_a_choice_under_weights_is_the_choice_on_repeated_rows(target):
    scored = data(patients=20, images=2)
    draws = bootstrap.draw(20, 40, seed=0)
    curve = operating_points._Curve(scored)
    index, _ = curve.picked(target, draws[:, curve.patient].astype(float))
    for times, threshold in zip(draws, curve.candidates[index], strict=True):
        rows = np.repeat(np.arange(scored.score.size), times[scored.patient])
        again = Scored(scored.score[rows], scored.label[rows], scored.patient[rows])
        expected = choose_threshold(again, target)
        # Midway between drawn scores is not midway between all: who is called is the same.
        np.testing.assert_array_equal(again.score >= threshold, again.score >= expected)
    choice = choose(scored, EvaluationConfig(bootstrap=40, operating_points=(target,)))[0]["choice"]
    assert choice["replicates"] == 40
    assert (choice["low"], choice["high"]) == pytest.approx(
        np.quantile(curve.candidates[index], [0.025, 0.975])
    )


def test_a_choice_flatters_itself_more_on_few_patients():
    """Scores without meaning: F1 is overfitted, the more so the fewer choose."""
    rng = np.random.default_rng(0)

    def optimism(patients):
        scored = Scored(rng.random(patients), rng.random(patients) < 0.2, np.arange(patients))
        return choose(scored, EvaluationConfig(bootstrap=200))[0]["choice"]["optimism"]

    assert optimism(40) > 0.05
    assert optimism(40) > 3 * abs(optimism(4000))


def point(value, half, target="best_f1", optimism=0.0):
    estimate = {"value": value, "low": value - half, "high": value + half}
    names = ("f1", "sensitivity", "specificity", "recall_rate")
    return {
        "name": target,
        "target": target,
        "threshold": 0.5,
        "confidence": 0.95,
        **dict.fromkeys(names, estimate),
        "choice": {"low": 0.2, "high": 0.7, "optimism": optimism, "replicates": 100},
    }


@pytest.mark.parametrize(
    ("target", "measured", "words"),
    [
        ("best_f1", 0.55, []),
        ("best_f1", 0.20, ["F1 is 0.200", "sensitivity is 0.200", "specificity is 0.200"]),
        ("best_f1", 0.90, []),
        ("recall_rate=0.1", 0.90, ["recall rate is 0.900 on test and was 0.600"]),
        ("recall_rate=0.1", 0.62, []),
    ],
)
def test_a_threshold_that_does_not_hold_its_promise_is_told(target, measured, words):
    # 0.6 ± 0.1 promised: a difference of sqrt(2) * 0.1 = 0.14 or less is chance.
    found = {name: point(measured, 0.1)[name] for name in ("f1", *KEPT, "recall_rate")}
    promised = point(0.6, 0.1, target)
    assert fitted_warnings(promised, "image") == []
    said = broken_promises([(promised, found, "image")])
    assert len(said) == len(words)
    assert all(word in sentence for word, sentence in zip(words, said, strict=True))


def test_what_one_test_in_twenty_shows_is_no_news_among_twenty():
    """A fall by 2.2 standard errors: p = 0.028 alone, and one of many by chance."""
    names = ("f1", *KEPT)
    promised = point(0.6, 0.1)
    half = 0.1 * np.sqrt(2)
    fallen = {name: point(0.6 - 2.2 / 1.96 * half, 0.1)[name] for name in names}
    kept = {name: point(0.6, 0.1)[name] for name in names}
    alone = broken_promises([(promised, {**kept, "f1": fallen["f1"]}, "image")])
    assert alone == []
    given = point(0.6, 0.1, "specificity=0.9")
    only = {"sensitivity": {**given["sensitivity"], "low": None, "high": None}}
    one = broken_promises([(given, {**only, "specificity": fallen["specificity"]}, "image")])
    assert "is more than chance explains." in one[0]
    worse = {name: point(0.6 - 4 / 1.96 * half, 0.1)[name] for name in names}
    (said,) = broken_promises([(promised, {**kept, "f1": worse["f1"]}, "image")])
    assert "3 such comparisons adjusted for" in said


WEAK = Scored(
    # The highest score is of a healthy one, the lowest of a sick one: only calling all finds both.
    np.array([0.9, 0.6, 0.5, 0.4, 0.1]),
    np.array([0, 1, 0, 1, 1], bool),
    np.arange(5),
)


BEST_F1 = EvaluationConfig(operating_points=("best_f1",), bootstrap=40)


def test_best_f1_calls_not_everyone_and_a_score_that_is_no_better_than_that_is_told():
    (found,) = choose(WEAK, BEST_F1)
    # Calling all five has an F1 of 3 * 2 / (5 + 3) = 0.75, the first four 2 * 2 / (4 + 3).
    assert found["threshold"] == pytest.approx(0.25)
    assert found["f1"]["value"] == pytest.approx(4 / 7)
    (said,) = calling_all_warnings(found, WEAK, "image", BEST_F1)
    assert "best_f1 by image: the F1 of this threshold, which calls 80%, is 0.571" in said
    assert "that of calling every validation image 0.750" in said
    strong = data()
    (found,) = choose(strong, BEST_F1)
    assert calling_all_warnings(found, strong, "image", BEST_F1) == []
    # Noise of many: some threshold looks better than calling all, and by chance.
    rng = np.random.default_rng(3)
    noise = Scored(rng.random(400), rng.random(400) < 0.3, np.arange(400))
    (found,) = choose(noise, BEST_F1)
    assert calling_all_warnings(found, noise, "image", BEST_F1)


def test_best_f1_is_held_against_calling_everyone_at_the_prevalence_that_is_meant():
    rare = replace(WEAK, prevalence=0.01)
    (found,) = choose(rare, BEST_F1)
    (said,) = calling_all_warnings(found, rare, "image", BEST_F1)
    assert f"that of calling every validation image {0.02 / 1.01:.3f}" in said


def test_a_threshold_that_calls_everyone_is_told():
    config = EvaluationConfig(operating_points=("sensitivity=0.9", "specificity=0.5"), bootstrap=20)
    every, some = choose(WEAK, config)
    (said,) = calling_all_warnings(every, WEAK, "breast", config)
    assert "sensitivity=0.9 by breast: the threshold, 0.0000, calls every validation breast" in said
    assert calling_all_warnings(some, WEAK, "breast", config) == []


def test_a_threshold_that_calls_nobody_is_told():
    """The highest scores tie, and more of them than 1 - 0.9 of the negatives."""
    score = np.repeat([0.2, 1.0], [80, 60])
    scored = Scored(score, np.arange(140) >= 120, np.arange(140))
    config = EvaluationConfig(bootstrap=0, operating_points=("specificity=0.9",))
    (made,) = choose(scored, config)
    assert made["threshold"] > 1
    assert "calls none of the validation positives" in fitted_warnings(made, "image")[0]


def test_a_threshold_that_is_given_is_taken_as_it_is_and_measured():
    scored = data()
    (point,) = choose(scored, EvaluationConfig(bootstrap=30, operating_points=("threshold=0.4",)))
    assert point["threshold"] == 0.4
    assert point["choice"] == {"replicates": 0, "low": None, "high": None, "optimism": None}
    measured = {name: point[name] for name in KEPT}
    assert fitted_warnings(point, "image") == broken_promises([(point, measured, "image")]) == []


def test_a_threshold_that_rests_on_few_or_fits_them_is_told():
    assert "chosen on 12 positive breasts only" in few_warnings(12, "breast")[0]
    assert few_warnings(30, "breast") == []
    (said,) = fitted_warnings(point(0.6, 0.1, optimism=0.08), "breast")
    assert "choose from 0.200 to 0.700" in said
    assert "0.080 better" in said
    recalled = point(0.1, 0.02, "recall_rate=0.1", optimism=-0.06)
    assert "0.060 better" in fitted_warnings(recalled, "image")[0]


def test_one_class_alone_cannot_choose():
    scored = Scored(np.array([0.1, 0.2]), np.array([False, False]), np.arange(2))
    with pytest.raises(RunError, match="with and without cancer"):
        choose_threshold(scored, "best_f1")
