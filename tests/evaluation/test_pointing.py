"""The pointing game, worked out by hand and beside a loop of its own."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from fixtures.runs import predictions, write_cohort, write_run
from mammoscope.config import EvaluationConfig
from mammoscope.errors import RunError
from mammoscope.evaluation import evaluate_run
from mammoscope.evaluation.attributes import CohortTable
from mammoscope.evaluation.pointing import HEAT_COLUMNS, mean_over_patients, play, read_lesions

SIZE = (100, 50)


def rows(*points, crop=(0.0, 0.0, 500.0, 1000.0), breast_px=250_000.0):
    return pl.DataFrame(
        [
            {
                "image_id": f"i{number}",
                "patient_id": str(number // 2),
                **dict(zip(HEAT_COLUMNS, (*point, *crop, breast_px), strict=True)),
            }
            for number, point in enumerate(points)
        ]
    )


def boxes(*sides, image="i0"):
    names = ("x_min", "y_min", "x_max", "y_max")
    return pl.DataFrame(
        [{"image_id": image, **dict(zip(names, box, strict=True))} for box in sides]
    )


def test_a_point_in_any_of_the_boxes_is_a_hit_and_one_beside_them_is_near():
    lesions = pl.concat(
        [
            boxes((100.0, 100.0, 200.0, 200.0), (300.0, 300.0, 350.0, 350.0), image=f"i{number}")
            for number in range(4)
        ]
    )
    played = play(
        rows((320.0, 310.0), (150.0, 150.0), (240.0, 150.0), (260.0, 150.0)), lesions, SIZE, 5.0
    )
    assert played.hit.tolist() == [True, True, False, False]
    # A pixel of the input is ten of the original, so five of them reach fifty.
    assert played.near.tolist() == [True, True, True, False]
    assert played.patient.tolist() == [0, 0, 1, 1]


def test_the_tolerance_is_round_at_corners():
    played = play(
        rows((230.0, 230.0), (240.0, 240.0)),
        pl.concat([boxes((100.0, 100.0, 200.0, 200.0), image=f"i{n}") for n in (0, 1)]),
        SIZE,
        5.0,
    )
    assert played.near.tolist() == [True, False]


def test_chance_is_the_boxes_share_of_the_breast():
    played = play(rows((0.0, 0.0)), boxes((100.0, 100.0, 200.0, 200.0)), SIZE, 0.0)
    assert played.chance[0] == pytest.approx(10_000 / 250_000, rel=0.1)
    assert played.chance_near[0] == played.chance[0]
    whole = play(rows((0.0, 0.0)), boxes((0.0, 0.0, 500.0, 1000.0)), SIZE, 0.0)
    assert whole.chance[0] == 1.0


def test_overlapping_boxes_are_not_counted_twice():
    one = play(rows((0.0, 0.0)), boxes((100.0, 100.0, 300.0, 300.0)), SIZE, 0.0)
    two = play(rows((0.0, 0.0)), boxes(*[(100.0, 100.0, 300.0, 300.0)] * 2), SIZE, 0.0)
    assert one.chance[0] == two.chance[0]


def test_intervals_draw_patients_not_images():
    config = EvaluationConfig(bootstrap=2000)
    values = np.repeat([1.0, 0.0], 50)
    of_one_each = mean_over_patients(values, np.arange(100), config)
    # The same images in twenty patients of five alike: a fifth of the witnesses.
    of_twenty = mean_over_patients(values, np.arange(100) // 5, config)
    widths = [found.high - found.low for found in (of_one_each, of_twenty)]
    assert widths[1] / widths[0] == pytest.approx(np.sqrt(5), rel=0.15)
    every = mean_over_patients(np.ones(40), np.arange(40) // 2, config, share=True)
    assert (every.value, every.high) == (1.0, 1.0)
    assert every.low == pytest.approx(0.025 ** (1 / 20))


def with_heat(frame, on):
    """Predictions that point at (150, 150) where ``on`` says so, else at (900, 900)."""
    return frame.with_columns(
        heat_x=pl.when(on).then(150.0).otherwise(900.0),
        heat_y=pl.when(on).then(150.0).otherwise(900.0),
        crop_x_min=0.0,
        crop_y_min=0.0,
        crop_x_max=1000.0,
        crop_y_max=2000.0,
        breast_px=1_000_000.0,
    )


def findings(frame, malignant=1, kind="mass"):
    return frame.select(
        "image_id",
        kind=pl.lit(kind),
        malignant=pl.lit(malignant, pl.Int8),
        x_min=100.0,
        y_min=100.0,
        x_max=200.0,
        y_max=200.0,
    )


@pytest.fixture
def evaluated(tmp_path):
    def make(frame, found=None):
        cohort = write_cohort(tmp_path / "cohort", frame)
        if found is not None:
            found.write_parquet(cohort / "findings.parquet")
        return evaluate_run(write_run(tmp_path / "run", frame, cohort=cohort))

    return make


def test_a_run_reports_how_often_it_points_at_a_lesion(evaluated):
    frame = with_heat(predictions(), pl.col("view") == "CC")
    made = evaluated(frame, findings(frame))
    game = made.report["pointing"]
    everyone = game["groups"][0]
    positives = frame.filter((pl.col("split") == "test") & (pl.col("cancer") == 1)).height
    assert (everyone["group"], everyone["n"]) == ("all", positives)
    assert everyone["exact"]["hit"]["value"] == 0.5
    # Half of each patient's images point at the lesion, so that replicates tell nothing.
    assert (everyone["exact"]["hit"]["low"], everyone["exact"]["hit"]["high"]) == (None, None)
    assert everyone["exact"]["chance"]["value"] == pytest.approx(0.01, rel=0.15)
    assert everyone["tolerant"]["chance"]["value"] > everyone["exact"]["chance"]["value"]
    called = [group["n"] for group in game["groups"] if group["attribute"] == "call"]
    assert sum(called) == positives
    page = made.path.read_text()
    assert "hottest point lies on a lesion in 50%" in page
    assert "Zhang et al. 2016" in page


def test_lesions_known_to_be_benign_are_no_target_where_cancer_was_learnt(evaluated):
    frame = with_heat(predictions(), pl.lit(value=True))
    game = evaluated(frame, findings(frame, malignant=0)).report["pointing"]
    assert game["groups"] == []
    assert "none of the" in game["note"]


def test_lesions_of_which_nobody_says_what_they_are_count(evaluated):
    frame = with_heat(predictions(), pl.lit(value=True))
    game = evaluated(frame, findings(frame, malignant=None)).report["pointing"]
    assert game["groups"][0]["exact"]["hit"]["value"] == 1.0
    assert game["groups"][0]["exact"]["hit"]["low"] < 1.0


@pytest.mark.parametrize(
    ("columns", "found", "words"),
    [
        (True, False, "the cohort has no findings.parquet"),
        (False, True, "the predictions lack the columns heat_x"),
    ],
)
def test_a_game_that_cannot_be_played_says_why(evaluated, columns, found, words):
    frame = predictions()
    if columns:
        frame = with_heat(frame, pl.lit(value=True))
    made = evaluated(frame, findings(frame) if found else None)
    assert words in made.report["pointing"]["note"]
    assert words in made.path.read_text()


def test_a_damaged_table_of_findings_is_an_error(tmp_path):
    (tmp_path / "findings.parquet").write_bytes(b"not a table")
    with pytest.raises(RunError, match="cannot be read as Parquet"):
        read_lesions(tmp_path, CohortTable(pl.DataFrame()))


def test_findings_without_a_place_are_no_boxes(evaluated):
    frame = with_heat(predictions(), pl.lit(value=True))
    nowhere = findings(frame).with_columns(x_min=pl.lit(None, pl.Float64))
    assert (
        "no finding of the cohort has a box" in evaluated(frame, nowhere).report["pointing"]["note"]
    )
