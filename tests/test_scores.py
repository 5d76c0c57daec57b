import polars as pl
import pytest

from fixtures.runs import predictions
from mammoscope.config import EvaluationConfig
from mammoscope.scores import _fitted


def test_breasts_and_exams_are_corrected_by_the_odds_of_images():
    """A share is given of images; a third of exams is positive, a sixth of images."""
    exam = ("patient_id", "exam_id")
    rows = predictions(patients=240).filter(pl.col("split") == "val")
    rows = rows.with_columns(
        breast_logit=pl.col("logit").mean().over(*exam, "laterality"),
        exam_logit=pl.col("logit").max().over(exam),
    )
    image, joined, notes = _fitted(rows, EvaluationConfig(prevalence=0.005))
    assert notes == []
    assert image.prevalence == 0.005
    assert set(joined) == {"breast", "exam"}
    for made in joined.values():
        assert made.odds_ratio == pytest.approx(image.odds_ratio)
    assert joined["exam"].prevalence == pytest.approx(0.0125, rel=0.05)
