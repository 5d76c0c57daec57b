import numpy as np
import polars as pl
import pytest

from mammoscope.config import EvaluationConfig
from mammoscope.evaluation.attributes import CohortTable
from mammoscope.evaluation.baseline import baseline
from mammoscope.evaluation.metrics import auroc

CONFIG = EvaluationConfig(bootstrap=100)
FACTS = {"fold": 0, "config": {"train": {"label": "cancer"}}}


def cohort(seed=0, patients=300, **columns):
    """Older women on machine 7 have more cancers; a third each trains, validates, is tested."""
    rng = np.random.default_rng(seed)
    age = rng.uniform(40, 80, patients)
    machine = np.where(rng.random(patients) < 0.5, "7", "8")
    chance = 1 / (1 + np.exp(-((age - 65) / 6 + 1.5 * (machine == "7"))))
    frame = pl.DataFrame(
        {
            "image_id": [str(n) for n in range(patients)],
            "patient_id": [str(n) for n in range(patients)],
            "exam_id": "1",
            "laterality": "L",
            "age": age,
            "machine_id": machine,
            "cancer": (rng.random(patients) < chance).astype(int),
            "split": [("train", "train", "test")[n % 3] for n in range(patients)],
            "fold": [(1, 0, None)[n % 3] for n in range(patients)],
            "score": rng.random(patients),
        }
    )
    return frame.with_columns(**columns)


def measured(frame, train=None):
    table = CohortTable(frame if train is None else train)
    test = frame.filter(pl.col("split") == "test")
    return baseline(test, table, FACTS, CONFIG, ("image", "breast"))


def test_classes_that_a_line_parts_still_have_a_baseline():
    frame = cohort().with_columns(cancer=(pl.col("age") > 60).cast(int))
    made = measured(frame)
    assert made["levels"]["image"]["baseline"]["value"] == 1.0


def test_age_and_machine_are_found_and_the_blind_score_is_measured_beside_the_models():
    frame = cohort()
    made = measured(frame)
    assert made["sees"] == ["age", "machine"]
    assert made["training_images"] == 100
    test = frame.filter(pl.col("split") == "test")
    label = test["cancer"].to_numpy() == 1
    found = made["levels"]["image"]
    # The score is drawn at random: only the baseline knows anything.
    assert found["model"]["value"] == pytest.approx(auroc(test["score"].to_numpy(), label))
    assert found["baseline"]["value"] > 0.75
    assert found["difference"]["value"] == pytest.approx(
        found["model"]["value"] - found["baseline"]["value"]
    )
    assert found["difference"]["delong"]["high"] < 0
    assert found["difference"]["bootstrap"]["high"] < 0
    assert "the model does worse than they do" in found["sentence"]


def test_a_model_that_knows_more_is_said_to_add():
    frame = cohort(score=0.8 * pl.col("cancer") + 0.2 * pl.col("score"))
    sentence = measured(frame)["levels"]["breast"]["sentence"]
    assert sentence.startswith("By breast, age and machine alone reach an AUROC of 0.")
    assert sentence.endswith("pixels add to what age and machine tell.")


def test_only_training_patients_are_seen():
    """Labels of the validation fold and of the test split do not move the fit."""
    frame = cohort()
    trained = (pl.col("split") == "train") & (pl.col("fold") == 1)
    flipped = frame.with_columns(
        cancer=pl.when(trained).then("cancer").otherwise(1 - pl.col("cancer"))
    )
    assert measured(frame, train=flipped) == measured(frame)
    # A test split that was given folds is still the test split.
    numbered = flipped.with_columns(fold=pl.col("fold").fill_null(1))
    assert measured(frame, train=numbered) == measured(frame)
    other = frame.with_columns(
        cancer=pl.when(trained).then(1 - pl.col("cancer")).otherwise("cancer")
    )
    assert measured(frame, train=other) != measured(frame)


def test_what_is_absent_is_said():
    ageless = measured(cohort(age=pl.lit(None, pl.Float64)))
    assert ageless["sees"] == ["machine"]
    assert ageless["notes"] == ["Age is left out: no training image has an age."]
    assert "machine alone reaches" in ageless["levels"]["image"]["sentence"]
    single = measured(cohort(machine_id=pl.lit("7")))
    assert single["sees"] == ["age"]
    assert "all training images are of machine 7" in single["notes"][0]
    neither = measured(cohort(age=pl.lit(50.0), machine_id=pl.lit(None, pl.String)))
    assert (neither["sees"], neither["levels"]) == ([], {})
    assert neither["notes"][-1] == "There is nothing to fit, so there is no baseline."


def test_ages_that_are_missing_here_and_there_are_counted():
    some = pl.when(pl.col("image_id").cast(int) % 4 == 0).then(None).otherwise("age")
    made = measured(cohort(age=some))
    assert made["notes"] == ["Age is unknown in 25.0% of training images; that too is seen."]
    assert made["levels"]["image"]["baseline"]["value"] > 0.6


def test_without_a_cohort_there_is_no_baseline():
    test = cohort().filter(pl.col("split") == "test")
    assert baseline(test, CohortTable(None, "gone"), FACTS, CONFIG, ("image",)) is None
