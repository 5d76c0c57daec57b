import numpy as np
import polars as pl
import pytest

from mammoscope.config import EvaluationConfig
from mammoscope.evaluation.attributes import CohortTable, with_attributes
from mammoscope.evaluation.metrics import auroc
from mammoscope.evaluation.subgroups import ATTRIBUTES, subgroups

CONFIG = EvaluationConfig(bootstrap=200)


def rows(seed=0, patients=120, *, gap=0.0):
    """Two images of each breast; cancers on machine 9 are ``gap`` easier to see."""
    rng = np.random.default_rng(seed)
    made = []
    for patient in range(patients):
        machine = ("9", "10", "2")[patient % 12 // 4 if patient % 12 < 8 else 2]
        for side in "LR":
            cancer = int(patient % 4 == 0 and side == "L")
            easier = gap * cancer * (machine == "9")
            for view in ("CC", "MLO"):
                logit = rng.normal(1.2 * cancer + easier, 1)
                made.append(
                    {
                        "image_id": f"{patient}-{side}-{view}",
                        "patient_id": str(patient),
                        "exam_id": str(patient),
                        "laterality": side,
                        "view": view,
                        "site_id": "1",
                        "score": 1 / (1 + np.exp(-logit)),
                        "cancer": cancer,
                        "machine_id": machine,
                        "age_band": "50 to 59" if patient % 2 else "60 to 69",
                        "density": None if patient < 60 else "B",
                        "implant": 0,
                        "invasive": int(cancer and patient % 8 == 0),
                        "difficult_negative_case": int(not cancer and patient % 5 == 0),
                        "source": "rsna",
                    }
                )
    return pl.DataFrame(made, schema_overrides={"density": pl.String})


def group(found, attribute, name):
    (one,) = [g for g in found["groups"] if (g["attribute"], g["group"]) == (attribute, name)]
    return one


def test_every_group_is_measured_on_its_own_images():
    frame = rows()
    found = subgroups(frame, "image", 0.5, CONFIG)
    one = group(found, "machine_id", "9")
    part = frame.filter(pl.col("machine_id") == "9")
    score, label = part["score"].to_numpy(), part["cancer"].to_numpy() == 1
    assert (one["n"], one["positives"], one["patients"]) == (part.height, label.sum(), 40)
    assert one["auroc"]["value"] == pytest.approx(auroc(score, label))
    assert one["sensitivity"]["value"] == pytest.approx((score[label] >= 0.5).mean())
    assert one["specificity"]["value"] == pytest.approx((score[~label] < 0.5).mean())
    for name in ("auroc", "sensitivity", "specificity"):
        assert one[name]["low"] <= one[name]["value"] <= one[name]["high"]
        assert one[name]["low"] < one[name]["high"]
    assert [g["group"] for g in found["groups"] if g["attribute"] == "machine_id"] == [
        "2", "9", "10",
    ]  # fmt: skip


def test_kinds_of_cancer_meet_all_negatives_and_difficult_negatives_all_cancers():
    frame = rows()
    found = subgroups(frame, "image", 0.5, CONFIG)
    invasive, other = (group(found, "invasive", name) for name in ("yes", "no"))
    assert invasive["positives"] + other["positives"] == 60
    assert invasive["negatives"] == other["negatives"] == 420
    hard, easy = (group(found, "difficult_negative_case", name) for name in ("yes", "no"))
    assert hard["negatives"] + easy["negatives"] == 420
    assert hard["positives"] == easy["positives"] == 60
    kept = frame.filter((pl.col("cancer") == 1) | (pl.col("difficult_negative_case") == 1))
    expected = auroc(kept["score"].to_numpy(), kept["cancer"].to_numpy() == 1)
    assert hard["auroc"]["value"] == pytest.approx(expected)


@pytest.mark.parametrize(("positives", "suppressed"), [(9, True), (10, False)])
def test_small_groups_are_counted_and_their_figures_kept_back(positives, suppressed):
    frame = rows(patients=160).with_columns(density=pl.lit("B"))
    cancers = frame.filter(pl.col("cancer") == 1)["image_id"].head(positives)
    healthy = frame.filter(pl.col("cancer") == 0)["image_id"].head(40)
    few = pl.col("image_id").is_in([*cancers, *healthy])
    frame = frame.with_columns(density=pl.when(few).then(pl.lit("D")).otherwise("density"))
    one = group(subgroups(frame, "image", 0.5, CONFIG), "density", "D")
    assert (one["positives"], one["negatives"], one["suppressed"]) == (positives, 40, suppressed)
    assert (one["auroc"] is None) == suppressed
    assert (one["sensitivity"] is None) == suppressed


def test_unknown_is_a_group_that_is_shown_and_never_compared():
    found = subgroups(rows(), "image", 0.5, CONFIG)
    assert [g["group"] for g in found["groups"] if g["attribute"] == "density"] == ["B", "unknown"]
    # Machines 3, views 1, sides 0 (cancers are left), ages 0 (cancers are of the one), and
    # one each of invasive and difficult negatives.
    assert found["gap"]["compared"] == 6
    nothing = rows().with_columns(density=pl.lit(None, pl.String))
    assert subgroups(nothing, "image", 0.5, CONFIG)["absent"] == ["density"]


def test_a_gap_that_was_made_is_found_and_named():
    gap = subgroups(rows(gap=3.0), "image", 0.5, CONFIG)["gap"]
    assert (gap["attribute"], gap["groups"][0]) == ("machine_id", "9")
    assert gap["more_than_chance"] is True
    assert gap["low"] > 0
    assert "between machine 9 (" in gap["sentence"]
    assert gap["sentence"].endswith("That is more than chance explains.")


def test_the_largest_of_gaps_by_chance_is_rarely_called_more():
    """60 cohorts without any gap; an interval of one pair alone would cry wolf more often."""
    config = EvaluationConfig(bootstrap=100)
    cried, naive = 0, 0
    for seed in range(60):
        gap = subgroups(rows(seed, 96), "image", 0.5, config)["gap"]
        cried += gap["more_than_chance"]
        # Six gaps at once need wider intervals than one: about 2.6 standard errors for 1.96.
        naive += gap["value"] > (gap["high"] - gap["value"]) * 1.96 / 2.6
    assert cried <= 9
    assert naive > cried


def test_breasts_have_no_view_and_an_attribute_only_where_their_images_agree():
    frame = rows()
    first = frame["image_id"][0]
    frame = frame.with_columns(
        machine_id=pl.when(pl.col("image_id") == first).then(pl.lit("10")).otherwise("machine_id")
    )
    found = subgroups(frame, "breast", 0.5, CONFIG)
    assert {g["attribute"] for g in found["groups"]} == set(ATTRIBUTES) - {"view"}
    assert found["absent"] == []
    assert group(found, "machine_id", "unknown")["n"] == 1
    assert group(found, "machine_id", "9")["n"] == 79


def test_without_replicates_chance_is_not_judged():
    gap = subgroups(rows(), "image", 0.5, EvaluationConfig(bootstrap=0))["gap"]
    assert gap["more_than_chance"] is None
    assert gap["sentence"].endswith("chance is not judged.")


def test_a_share_without_exception_has_an_interval_by_patients():
    """All 60 positives of 30 patients are called: (0.025)^(1/30) = 0.8843."""
    found = subgroups(rows(), "image", 0.0, CONFIG)
    whole = group(found, "site_id", "1")
    assert whole["sensitivity"]["value"] == 1.0
    assert whole["sensitivity"]["low"] == pytest.approx(0.025 ** (1 / 30))
    assert whole["specificity"]["high"] == pytest.approx(1 - 0.025 ** (1 / 120))


def test_ages_become_bands_of_ten_years_and_unknown_stays_unknown():
    frame = pl.DataFrame({"image_id": ["a", "b", "c", "d"]})
    cohort = pl.DataFrame(
        {
            "image_id": ["a", "b", "c"],
            "age": [49.9, 50.0, None],
            "machine_id": "1", "density": "A", "implant": 0, "invasive": 0,
            "difficult_negative_case": 0, "source": "rsna",
        }
    )  # fmt: skip
    bands = with_attributes(frame, CohortTable(cohort))["age_band"].to_list()
    assert bands == ["40 to 49", "50 to 59", None, None]
    assert with_attributes(frame, CohortTable(None, "gone"))["age_band"].to_list() == [None] * 4
