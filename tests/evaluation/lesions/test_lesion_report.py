import json
import re

import numpy as np
import polars as pl
import pytest

from fixtures.lesion_runs import (
    FakePictures,
    candidates,
    findings,
    write_lesion_run,
)
from fixtures.runs import predictions
from mammoscope.artefacts import read_json, sha256_file, write_json
from mammoscope.config import EvaluationConfig
from mammoscope.errors import RunError
from mammoscope.evaluation import evaluate_run, read_report, run_evaluation_config, summary_rows
from mammoscope.evaluation.attributes import read_cohort_table
from mammoscope.evaluation.lesions import gallery as drawing
from mammoscope.evaluation.lesions import report as lesion_report
from mammoscope.evaluation.lesions.figures import _steps
from mammoscope.evaluation.lesions.found import find
from mammoscope.evaluation.lesions.gallery import gallery
from mammoscope.evaluation.lesions.outlined import Masks
from mammoscope.evaluation.lesions.tables import read_candidates, read_findings, scene_of
from mammoscope.evaluation.run_folder import frozen_points, read_run
from mammoscope.evaluation.tables import read_predictions
from mammoscope.masks import encode
from mammoscope.types import Box

QUICK = EvaluationConfig(bootstrap=20)


@pytest.fixture(autouse=True)
def _no_figures(request, monkeypatch):
    """Leave figures, which take most of the time, to the runs that tests share."""
    if "figures" not in request.fixturenames:
        monkeypatch.setattr(lesion_report, "draw_lesion_figures", lambda *_: {})
        monkeypatch.setattr(
            lesion_report,
            "write_score_figures",
            lambda folder, *_: (folder / "figures").mkdir() or {},
        )


@pytest.fixture
def figures():
    """Draw figures."""


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    run = write_lesion_run(tmp_path_factory.mktemp("lesions") / "run", kinds=True)
    names = predictions()["image_id"]
    return run, evaluate_run(run, pictures=FakePictures(names))


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    run = write_lesion_run(tmp_path_factory.mktemp("lesions") / "run", task="segment")
    return run, evaluate_run(run)


def test_a_detector_is_measured_by_lesion_image_breast_and_exam(detector):
    made = detector[1].report
    found = made["detection"]
    assert found["counts"]["images"] == 80
    assert list(found["froc"]) == ["lesion", "image", "breast", "exam"]
    lesion = found["froc"]["lesion"]
    assert lesion["n"] == found["counts"]["lesions"]
    rates = [lesion[f"sensitivity_at_{rate}"]["value"] for rate in ("0.25", "0.5", "1", "2")]
    assert rates == sorted(rates)
    assert lesion["mean_sensitivity"]["value"] == pytest.approx(np.mean(rates))
    # A breast is found where one of its views is, so never less often than an image.
    at = [found["froc"][unit]["sensitivity_at_0.25"]["value"] for unit in ("image", "breast")]
    assert at[0] <= at[1]
    precision = found["average_precision"]
    kinds = precision["kinds"]
    assert set(kinds) == {"mass", "calcification"}
    for name in ("ap50", "ap"):
        mean = np.mean([values[name]["value"] for values in kinds.values()])
        assert precision["mean"][name]["value"] == pytest.approx(mean)
    assert read_report(detector[0]).report == made


def test_images_breasts_and_exams_keep_the_measures_that_a_classifier_has(detector):
    made = detector[1].report
    assert list(made["levels"]) == ["image", "breast", "exam"]
    assert made["levels"]["image"]["metrics"]["auroc"]["value"] > 0.8
    points = frozen_points(detector[0])[0]
    assert list(points["points"]) == ["image", "breast", "exam"]
    assert points["candidates"]["threshold"] == made["detection"]["cut_off"]["threshold"]


def test_the_cut_off_keeps_its_rate_on_validation_and_is_applied_to_test_as_it_is(tmp_path):
    run = write_lesion_run(tmp_path / "run")
    config = run_evaluation_config(run, ["evaluation.candidate_false_positives=0.5"])
    made = evaluate_run(run, config).report["detection"]["cut_off"]
    assert 0 < made["threshold"] < 1
    before = made["chosen_on_validation"]["false_positives_per_image"]
    assert before["value"] == 0.5
    drawn = pl.read_parquet(run / "candidates.parquet").filter(pl.col("split") == "test")
    shown = drawn.filter(pl.col("score") >= made["threshold"]).height
    after = made["measured"]
    found = after["sensitivity"]["lesion"]["value"] * 25
    total = (after["false_positives_per_image"]["value"] or 0) * 80
    total += (after["duplicates_per_image"]["value"] or 0) * 80
    assert shown == pytest.approx(found + total)


def test_thresholds_are_on_disk_before_a_test_row_is_read(tmp_path, monkeypatch):
    run = write_lesion_run(tmp_path / "run")
    seen = []

    original = lesion_report.read_candidates

    def reading(path, split):
        seen.append((split, (run / "operating_points.json").exists()))
        return original(path, split)

    monkeypatch.setattr(lesion_report, "read_candidates", reading)
    evaluate_run(run, QUICK)
    assert seen[0] == ("val", False)
    assert set(seen[1:]) == {("test", True)}


def test_masks_are_measured_in_windows_and_on_whole_images(segmenter):
    made = segmenter[1].report["overlap"]
    assert made["unit"] == "mm"
    assert made["lesions"] == segmenter[1].report["detection"]["counts"]["lesions"]
    window, whole = made["window"]["dice"], made["image"]["dice"]
    assert window["low"] < window["value"] < window["high"]
    # False marks lie outside the windows.
    assert whole["value"] <= window["value"] + 0.05
    assert sum(made["histogram"]) == made["lesions"]
    assert made["window"]["hausdorff_95"]["n"] < made["lesions"]
    assert 0 < made["false_positives_per_image"]["value"] < 1
    assert {group["attribute"] for group in made["groups"]} == {"kind", "size", "nature"}
    names = [row[0] for row in summary_rows(segmenter[1])]
    assert "Dice around the lesion" in names
    told = segmenter[1].report["measures"]["lesion"]
    assert told["dice"]["value"] == window["value"]
    assert {"sensitivity_at_1", "mean_sensitivity", "sensitivity_at_cut_off", "ap50"} <= set(told)


def test_masks_of_images_without_spacing_are_measured_in_pixels(tmp_path):
    run = write_lesion_run(tmp_path / "run", task="segment", spacing=None)
    made = evaluate_run(run, QUICK).report["overlap"]
    assert made["unit"] == "px"
    assert "px" in made["groups"][-3]["group"] or "px" in made["groups"][2]["group"]


def test_the_page_shows_figures_and_pictures_and_says_synthetic(detector, segmenter):
    page = detector[1].path.read_text()
    assert page.count("<figure>") >= 2 + 9
    assert page.count("data:image/jpeg;base64") >= 9
    assert "SYNTHETIC images." in page
    assert not re.search(r"""(src|href)=["'](?!#|data:)""", page)
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    outlines = segmenter[1].path.read_text()
    assert "Dice" in outlines
    assert "data:image" not in outlines
    folder = segmenter[0] / "report" / "figures"
    assert {"froc.svg", "precision.svg", "dice.svg", "image_roc.svg"} <= {
        path.name for path in folder.iterdir()
    }


def test_a_page_says_nothing_of_ranks_that_is_of_chances_and_units_are_told(detector, segmenter):
    pages = [made[1].path.read_text() for made in (detector, segmenter)]
    for page in pages:
        assert "alibration" not in page.partition("How it was made")[0].replace(
            "so that nothing is said of their calibration", ""
        )
        assert ">pF1<" not in page
        assert "Longer side of the box in pixels of the original image, thirds" in page
    assert "in mm, thirds" in pages[1]
    # One kind has no mean over kinds.
    assert "mAP at an overlap of 0.5" in pages[0]
    assert " AP at an overlap of 0.5" in pages[1]
    assert "mAP" not in pages[1].partition("How it was made")[0]


def test_a_curve_ends_at_the_rate_where_its_axis_does(tmp_path):
    run = write_lesion_run(tmp_path / "run")
    facts = read_run(run)
    there = read_findings(tmp_path / "run-cohort", read_cohort_table(facts), facts)
    rows = read_predictions(run / "predictions.parquet", "test")
    found = find(
        scene_of(rows, read_candidates(run / "candidates.parquet", "test"), there, QUICK), QUICK
    )
    whole, part = (_steps(found, "lesion", most) for most in (9.0, 0.5))
    assert part[0].max() == 0.5
    assert part[1][-1] == part[1][-2] < whole[1][-1]


def test_pictures_of_false_marks_show_one(tmp_path):
    run = write_lesion_run(tmp_path / "run")
    facts = read_run(run)
    there = read_findings(tmp_path / "run-cohort", read_cohort_table(facts), facts)
    rows = read_predictions(run / "predictions.parquet", "test")
    drawn = read_candidates(run / "candidates.parquet", "test")
    found = find(scene_of(rows, drawn, there, QUICK), QUICK)
    pictures = FakePictures(rows["image_id"])
    wrong = [one.words for one in gallery(found, 0.6, None, pictures)[8:]]
    assert len(wrong) == 4
    assert all("false mark" in words for words in wrong)
    # Nothing reaches 1, so that nothing is marked and no image is shown for its marks.
    assert len(gallery(found, 1.0, None, pictures)) == 8


def test_pictures_dim_the_parts_of_a_mask_that_the_cut_off_leaves_out():
    mask = np.zeros((40, 30), bool)
    mask[5:10, 4:12] = mask[20:24, 20:24] = True
    rows = {"image_id": ["a"], "height": [40], "width": [30], "predicted": [encode(mask)]}
    lesions = {"image_id": [], "target": [], "truth": []}
    names = {"image_id": pl.String}
    masks = Masks(pl.DataFrame(rows), pl.DataFrame(lesions, schema_overrides=names))

    def drawn(*shown):
        picture = np.zeros((400, 300, 3), np.uint8)
        drawing._outlines(picture, "a", masks, shown)
        # Smooth lines have less than the whole colour.
        greens = (int(part[..., 1].max()) for part in (picture[:150], picture[150:]))
        return ["bright" if green > 150 else "dim" if green > 50 else "none" for green in greens]

    # A candidate reaches further than the part of the mask in it.
    assert drawn(Box(3, 4, 14, 11)) == ["bright", "dim"]
    assert drawn(Box(3, 4, 14, 11), Box(20, 20, 24, 24)) == ["bright", "bright"]
    assert drawn() == drawn(Box(0, 0, 30, 8)) == ["dim", "dim"]


def test_lesions_that_are_no_targets_are_neither_found_nor_false(tmp_path):
    frame = predictions()
    found = findings(frame)
    benign = found.filter(pl.col("malignant") == 0)
    drawn = candidates(frame, found)
    every = evaluate_run(write_lesion_run(tmp_path / "all"), QUICK).report["detection"]
    run = write_lesion_run(tmp_path / "some", drawn=drawn, lesions={"malignant_only": True})
    some = evaluate_run(run, QUICK).report["detection"]
    test = frame.filter(pl.col("split") == "test")["image_id"].to_list()
    others = benign.filter(pl.col("image_id").is_in(test)).height
    assert some["counts"]["other_findings"] == others
    assert some["counts"]["lesions"] == every["counts"]["lesions"] - others
    assert some["counts"]["false_positives"] == every["counts"]["false_positives"]


def test_false_positives_on_normal_images_alone(tmp_path):
    run = write_lesion_run(tmp_path / "run")
    config = run_evaluation_config(run, ["evaluation.false_positives_on=normal"])
    made = evaluate_run(run, config).report["detection"]["counts"]
    frame = predictions().filter(pl.col("split") == "test")
    marked = set(findings(predictions())["image_id"])
    normal = [r for r in frame.iter_rows(named=True) if not r["cancer"]]
    normal = [row for row in normal if row["image_id"] not in marked]
    assert made["counted_images"] == len(normal)
    # A cohort of lesions alone has none.
    one = predictions().with_columns(cancer=pl.lit(1, pl.Int8))
    other = write_lesion_run(tmp_path / "sick", frame=one)
    with pytest.raises(RunError, match="false_positives_on to all"):
        evaluate_run(other, config)


def test_images_of_one_class_have_no_measures_of_their_own_and_a_note_says_why(tmp_path):
    one = predictions().with_columns(cancer=pl.lit(1, pl.Int8))
    run = write_lesion_run(tmp_path / "run", frame=one)
    made = evaluate_run(run, QUICK).report
    assert made["levels"] == {}
    assert any("all of one class" in note for note in made["notes"])
    assert frozen_points(run)[0]["points"] == {}
    assert "AUROC" not in json.dumps(summary_rows(read_report(run)))


def test_on_an_image_whose_lesion_nobody_placed_no_mark_is_false(tmp_path):
    frame = predictions()
    found = findings(frame)
    sick = frame.filter((pl.col("cancer") == 1) & (pl.col("split") == "test"))["image_id"]
    unplaced = found.filter(pl.col("image_id") != sick[0]).with_columns(
        x_min=pl.when(pl.col("image_id") == sick[1]).then(None).otherwise("x_min")
    )
    run = write_lesion_run(tmp_path / "run", found=unplaced, drawn=candidates(frame, found))
    made = evaluate_run(run, QUICK).report
    assert made["detection"]["counts"]["uncertain_images"] == 2
    assert made["detection"]["counts"]["counted_images"] == 78
    assert any("2 test images hold a lesion of which nobody says" in n for n in made["notes"])


def test_a_benign_finding_does_not_say_where_the_cancer_of_its_image_is(tmp_path):
    frame = predictions()
    found = findings(frame)
    sick = frame.filter((pl.col("cancer") == 1) & (pl.col("split") == "test"))["image_id"]
    here = pl.col("image_id") == sick[0]
    counted = []
    for nature in (1, None, 0):
        rows = found.with_columns(malignant=pl.when(here).then(nature).otherwise("malignant"))
        run = write_lesion_run(tmp_path / f"run{nature}", found=rows)
        told = evaluate_run(run, QUICK).report["detection"]["counts"]
        counted.append((told["uncertain_images"], told["counted_images"], told["lesions"]))
    lesions = counted[0][2]
    # One of unknown nature may be the cancer; a benign one is a lesion all the same.
    assert counted == [(0, 80, lesions), (0, 80, lesions), (1, 79, lesions)]


def test_what_training_dropped_is_no_lesion_here_either_and_is_counted(tmp_path):
    frame = predictions()
    found = findings(frame)
    run = write_lesion_run(tmp_path / "run", lesions={"faults": "drop"})
    every = evaluate_run(run, QUICK).report["detection"]["counts"]
    tested = frame.filter((pl.col("cancer") == 1) & (pl.col("split") == "test"))["image_id"]
    gone = found.filter(pl.col("image_id").is_in(tested[:3].to_list()))["finding_id"].to_list()
    facts = read_json(run / "run.json", RunError)
    facts["lesions"] = {"dropped": gone}
    write_json(run / "run.json", facts)
    made = evaluate_run(run, QUICK, overwrite=True).report
    assert made["detection"]["counts"]["lesions"] == every["lesions"] - len(gone)
    assert made["detection"]["counts"]["uncertain_images"] == every["uncertain_images"] + 3
    told = f"{len(gone)} that training dropped as wrong (lesions.faults=drop)"
    assert any(told in note for note in made["notes"])


def test_on_an_image_with_a_finding_that_ingest_refused_no_mark_is_false(tmp_path):
    frame = predictions()
    tested = frame.filter((pl.col("cancer") == 0) & (pl.col("split") == "test"))["image_id"]
    run = write_lesion_run(tmp_path / "run")
    before = evaluate_run(run, QUICK).report["detection"]["counts"]
    cohort = tmp_path / "run-cohort"
    healthy = sorted(set(tested) - set(pl.read_parquet(cohort / "findings.parquet")["image_id"]))
    (cohort / "rejects.csv").write_text(
        "stage,path,image_id,reason,message\n"
        f"ingest,roi.csv,{healthy[0]},invalid_finding,row 3 of roi.csv: no box\n"
        f"ingest,copy.dcm,{healthy[1]},duplicate,copy.dcm has the same pixels as a.dcm\n"
    )
    after = evaluate_run(run, QUICK, overwrite=True).report["detection"]["counts"]
    assert after["uncertain_images"] == before["uncertain_images"] + 1
    normal = EvaluationConfig(bootstrap=20, false_positives_on="normal")
    made = evaluate_run(run, normal, overwrite=True).report["detection"]["counts"]
    (cohort / "rejects.csv").unlink()
    told = evaluate_run(run, normal, overwrite=True).report["detection"]["counts"]
    assert made["counted_images"] == told["counted_images"] - 1


def test_without_candidates_nothing_is_found_and_nothing_breaks(tmp_path, figures):
    frame = predictions()
    none = candidates(frame, findings(frame)).head(0)
    run = write_lesion_run(tmp_path / "run", drawn=none, task="segment")
    made = evaluate_run(run, QUICK).report
    assert made["detection"]["froc"]["lesion"]["sensitivity_at_2"]["value"] == 0
    precision = made["detection"]["average_precision"]["all"]["ap50"]
    assert precision["value"] == 0
    # All replicates repeat it: of how sure that is nothing is known.
    assert (precision["low"], precision["high"]) == (None, None)
    assert made["overlap"]["window"]["dice"]["value"] == 0
    assert made["overlap"]["window"]["hausdorff_95"]["value"] is None
    page = (run / "report" / "index.html").read_text()
    assert "0.000 false positives per image at the frozen cut-off" in page
    assert "()" not in page


def test_a_test_split_without_a_lesion_leaves_sensitivity_undefined(tmp_path, figures):
    frame = predictions()
    found = findings(frame)
    trained = frame.filter(pl.col("split") == "val")["image_id"].to_list()
    healthy = frame.with_columns(
        cancer=pl.when(pl.col("split") == "test").then(0).otherwise("cancer").cast(pl.Int8)
    )
    some = found.filter(pl.col("image_id").is_in(trained))
    run = write_lesion_run(tmp_path / "run", frame=healthy, found=some, task="segment")
    made = evaluate_run(run, QUICK).report
    assert made["detection"]["froc"]["lesion"]["mean_sensitivity"]["value"] is None
    assert made["detection"]["average_precision"]["all"]["ap50"]["value"] is None
    assert any("No test image holds a lesion" in note for note in made["notes"])
    # What has no interval has no brackets, nor a place for one.
    page = (run / "report" / "index.html").read_text()
    headlines = re.findall(r'class="headline">.*?</p>', page, re.DOTALL)
    assert len(headlines) == 3
    assert not any(re.search(r"\(\)|<span>(;|</span>)", line) for line in headlines)


def test_one_patient_is_enough_to_be_told(tmp_path):
    frame = predictions().filter(pl.col("patient_id").is_in(["0", "21"]))
    run = write_lesion_run(tmp_path / "run", frame=frame, found=findings(frame))
    made = evaluate_run(run, QUICK).report
    assert made["detection"]["counts"]["patients"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": 1.5}, "no score in"),
        ({"x_max": 0.0, "x_min": 1.0}, "no box with an area"),
        ({"image_id": "stranger"}, "images without a prediction, such as stranger"),
    ],
)
def test_damaged_candidates_are_refused(tmp_path, change, message):
    frame = predictions()
    drawn = candidates(frame, findings(frame)).with_row_index("n")
    for name, value in change.items():
        drawn = drawn.with_columns(
            pl.when(pl.col("n") == 3).then(pl.lit(value)).otherwise(pl.col(name)).alias(name)
        )
    run = write_lesion_run(tmp_path / "run", drawn=drawn.drop("n"))
    with pytest.raises(RunError, match=message):
        evaluate_run(run, QUICK)


def test_what_matched_views_add_is_told_where_candidates_were_matched(tmp_path, detector):
    assert detector[1].report["detection"]["views"] is None
    frame = predictions()
    found = findings(frame)
    drawn = candidates(frame, found, skill=2.0)
    rng = np.random.default_rng(0)
    alone = drawn.with_columns(
        own_score=pl.Series(rng.random(drawn.height)),
        matched=pl.when(pl.col("candidate") == 0).then(pl.lit("other/0")),
    )
    run = write_lesion_run(tmp_path / "run", drawn=alone)
    made = evaluate_run(run, QUICK)
    views, froc = made.report["detection"]["views"], made.report["detection"]["froc"]["lesion"]
    gain = views["gain"]["lesion"]["mean_sensitivity"]
    told = froc["mean_sensitivity"]["value"] - views["alone"]["mean_sensitivity"]["value"]
    assert gain["value"] == pytest.approx(told)
    assert gain["low"] > 0
    assert "each view alone" in made.path.read_text()
    # A match that moves no score adds nothing, and no page says that it did.
    still = alone.with_columns(own_score=pl.col("score") + 1e-15)
    run = write_lesion_run(tmp_path / "still", drawn=still)
    assert evaluate_run(run, QUICK).report["detection"]["views"] is None


def test_edited_tables_and_a_cohort_that_is_not_there_are_refused(tmp_path):
    run = write_lesion_run(tmp_path / "run", task="segment")
    cohort = tmp_path / "run-cohort"
    moved = cohort.rename(tmp_path / "moved")
    with pytest.raises(RunError, match="lesions cannot be judged without the cohort"):
        evaluate_run(run, QUICK)
    assert evaluate_run(run, QUICK, cohort=moved).report["overlap"]["lesions"]
    masks = pl.read_parquet(run / "masks.parquet")
    masks.head(5).write_parquet(run / "masks.parquet")
    with pytest.raises(RunError, match=r"masks\.parquet was edited"):
        evaluate_run(run, QUICK, cohort=moved, overwrite=True)
    (moved / "findings.parquet").unlink()
    (run / "masks.parquet").unlink()
    with pytest.raises(RunError, match=r"masks\.parquet is missing"):
        evaluate_run(run, QUICK, cohort=moved, overwrite=True)


def test_findings_that_changed_since_training_are_refused(tmp_path):
    run = write_lesion_run(tmp_path / "run")
    path = tmp_path / "run-cohort" / "findings.parquet"
    facts = read_json(run / "run.json", RunError)
    facts["cohort"]["findings_sha256"] = sha256_file(path)
    write_json(run / "run.json", facts)
    evaluate_run(run, QUICK)
    pl.read_parquet(path).head(9).write_parquet(path)
    with pytest.raises(RunError, match=r"findings\.parquet is not the one that the run was"):
        evaluate_run(run, QUICK, overwrite=True)


def test_boxes_in_the_wrong_order_or_outside_are_mended_as_for_training(tmp_path):
    frame = predictions()
    found = findings(frame)
    turned = found.with_columns(x_min="x_max", x_max="x_min")
    made = [
        evaluate_run(
            write_lesion_run(tmp_path / name, found=rows, drawn=candidates(frame, found)), QUICK
        ).report["detection"]
        for name, rows in (("straight", found), ("turned", turned))
    ]
    assert made[0]["froc"] == made[1]["froc"]


def test_predictions_are_read_by_split_alone(detector):
    assert read_predictions(detector[0] / "predictions.parquet", "test").height == 80
