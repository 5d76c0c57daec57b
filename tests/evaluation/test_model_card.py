"""Card and checklists say what the run says, and nothing else."""

from __future__ import annotations

import copy
import json
from collections import Counter
from contextlib import contextmanager
from html import escape
from pathlib import Path

import polars as pl
import pytest

from fixtures.anomaly_runs import anomaly_run
from fixtures.lesion_runs import no_score_figures, write_lesion_run
from fixtures.runs import predictions, write_cohort, write_run
from fixtures.stage_runs import write_stages_run
from mammoscope.artefacts import sha256_file, write_json
from mammoscope.evaluation import evaluate_run
from mammoscope.evaluation.attributes import read_cohort_table
from mammoscope.evaluation.checklists import CARD, CHECKLISTS, filled, read_list
from mammoscope.evaluation.checklists.answers import answers_of
from mammoscope.evaluation.evidence import gather
from mammoscope.evaluation.folds import OF_SINGLE_FOLDS
from mammoscope.evaluation.lesions import report as lesion_report
from mammoscope.evaluation.measures import estimated
from mammoscope.results import RESEARCH_NOTICE

LISTS = (CARD, *CHECKLISTS)
ANSWERS = answers_of("classify")
OTHER_TASKS = ("detect", "segment", "segment-then-classify", "anomaly")
DOES = {
    "detect": "draws boxes with scores around lesions in mammograms",
    "segment": "outlines lesions in mammograms",
    "segment-then-classify": "outlines lesions in mammograms and tells them apart",
    "anomaly": "tells how unlike normal mammograms a mammogram is",
}
FIGURE = {
    "detect": lambda report: report["detection"]["froc"]["lesion"]["mean_sensitivity"],
    "segment": lambda report: report["overlap"]["window"]["dice"],
    "segment-then-classify": lambda report: report["together"],
    "anomaly": lambda report: report["levels"]["image"]["metrics"]["auroc"],
}
TRIPOD = (
    "1 2 3a 3b 3c 4 5a 5b 6a 6b 6c 7 8a 8b 8c 9a 9b 9c 10 11 12a 12b 12c 12d 12e 12f 12g 13 14 15 "
    "16 17 18a 18b 18c 18d 18e 18f 19 20a 20b 20c 21 22 23a 23b 24 25 26 27a 27b 27c"
)
NUMBERS = {
    "claim_2024": [str(number) for number in range(1, 45)],
    "tripod_ai_2024": TRIPOD.split(),
}


def with_heat(frame):
    return frame.with_columns(
        heat_x=150.0,
        heat_y=150.0,
        crop_x_min=0.0,
        crop_y_min=0.0,
        crop_x_max=1000.0,
        crop_y_max=2000.0,
        breast_px=1_000_000.0,
    )


def make(folder, *, synthetic=True):
    frame = with_heat(predictions())
    cohort = write_cohort(folder / "cohort", frame)
    sides = {"x_min": 100.0, "y_min": 100.0, "x_max": 200.0, "y_max": 200.0}
    frame.select(
        "image_id",
        kind=pl.lit("mass"),
        malignant=pl.lit(1, pl.Int8),
        **{name: pl.lit(side) for name, side in sides.items()},
    ).write_parquet(cohort / "findings.parquet")
    write_json(
        cohort / "cohort.json",
        {
            "source": "rsna",
            "source_roots": {"rsna": "x"},
            "images": 400,
            "patients": 90,
            "positives": 40,
            "findings": 320,
            "rejects": {"no_breast": 3, "duplicate": 2},
            "hashes": {"manifest.parquet": sha256_file(cohort / "manifest.parquet")},
        },
    )
    run = write_run(folder / "run", frame, cohort=cohort, synthetic=synthetic)
    facts = json.loads((run / "run.json").read_text())
    facts |= {
        "platform": {"python": "3.11", "torch": "2"},
        "eligibility": {"implant": "refuse", "biopsy": "refuse"},
    }
    write_json(run / "run.json", facts)
    return run, cohort


@pytest.fixture(scope="module")
def evidence(tmp_path_factory):
    run, cohort = make(tmp_path_factory.mktemp("card"))
    report = evaluate_run(run).report
    facts = json.loads((run / "run.json").read_text())
    made = gather(run, facts, report, read_cohort_table(facts), cohort)
    made["explanation"] = {
        "occlusion": {"images": 9, "other_patches": 8, "hottest_is_largest": {"value": 0.5}}
    }
    made["report"]["calibration"] = calibrated("platt")
    # What one cohort cannot show: a source that only the test split has.
    made["parts"]["test"]["source"]["inbreast"] = 4
    made["parts"]["train"]["view"] = {"CC": 80, "MLO": 80}
    return made


def calibrated(*methods):
    levels = dict(zip(("image", "breast"), methods, strict=False))
    return {
        "sentence": "Scores were calibrated.",
        "levels": {level: {"method": method} for level, method in levels.items()},
    }


def of_all_folds(evidence, *, tested=True):
    """The same evidence as of a run of five folds."""
    made = copy.deepcopy(evidence)
    made["run"] |= {
        "fold": None,
        "best": {"auroc": 0.75},
        "epochs": 87,
        "counts": {"train": 900, "val": 900, "test": 100 if tested else 0},
        "ensemble": {"folds": 5, "combines": "mean of logits"},
    }
    made["report"]["measured_on"] = "test" if tested else "val"
    return made


def places(value):
    """Every place of nested values that can be changed: (its container, its key)."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in list(pairs):
        yield value, key
        if isinstance(part, dict | list):
            yield from places(part)


@contextmanager
def changed(container, key):
    """Change one value, or take one away where it is a container."""
    kept = container[key]
    order = list(container) if isinstance(container, dict) else None
    if isinstance(kept, bool):
        container[key] = not kept
    elif isinstance(kept, int | float):
        container[key] = kept + 1
    elif isinstance(kept, str):
        container[key] = "val" if kept == "test" else f"X{kept}"
    elif isinstance(kept, dict) and order:
        del container[key]
    try:
        yield
    finally:
        container[key] = kept
        if order:
            for name in order:
                container[name] = container.pop(name)


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """Evaluated runs of every other task, with what they testify to."""
    folder = tmp_path_factory.mktemp("others")
    frame = with_heat(predictions())
    cohort = write_cohort(folder / "cohort", frame)
    runs = {
        "detect": write_lesion_run(folder / "detect", kinds=True),
        "segment": write_lesion_run(folder / "segment", task="segment"),
        "segment-then-classify": write_stages_run(folder / "stages", cohort=cohort),
        "anomaly": anomaly_run(folder / "anomaly", frame, cohort),
    }
    found = folder / "detect-cohort" / "findings.parquet"
    (cohort / "findings.parquet").write_bytes(found.read_bytes())
    made = {}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(lesion_report, "draw_lesion_figures", lambda *_: {})
        patched.setattr(lesion_report, "write_score_figures", no_score_figures)
        for task, run in runs.items():
            report = evaluate_run(run).report
            facts = json.loads((run / "run.json").read_text())
            where = Path(facts["cohort"]["path"])
            made[task] = run, gather(run, facts, report, read_cohort_table(facts), where)
    return made


@pytest.mark.parametrize("name", LISTS)
def test_every_answer_of_a_list_exists(name):
    for item in read_list(name)["items"]:
        assert set(item.get("answer", ())) <= set(ANSWERS)
        # What a run cannot answer at all is left to somebody.
        assert item.get("answer") or item["left"]


@pytest.mark.parametrize("name", CHECKLISTS)
def test_a_list_has_the_papers_items(name):
    assert [str(item["number"]) for item in read_list(name)["items"]] == NUMBERS[name]


def test_every_answer_is_used():
    used = {
        a for name in LISTS for item in read_list(name)["items"] for a in item.get("answer", ())
    }
    assert used == set(ANSWERS)


def is_fixed(evidence, answer):
    """Say whether an answer is the same whatever the run is."""
    told = answer(evidence)
    for container, key in places(evidence):
        with changed(container, key):
            try:
                if answer(evidence) != told:
                    return False
            # A value that no run has: the answer read it, at least.
            except (KeyError, ValueError, AttributeError):
                return False
    return True


@pytest.mark.parametrize("name", ANSWERS)
def test_change_the_run_and_the_answer_changes(evidence, name):
    assert ANSWERS[name](evidence)
    assert not is_fixed(evidence, ANSWERS[name])


@pytest.mark.parametrize("task", OTHER_TASKS)
def test_every_task_answers_from_its_run(others, task):
    evidence, answers = others[task][1], answers_of(task)
    assert set(answers) == set(ANSWERS)
    own = [answer for name, answer in answers.items() if answer is not ANSWERS[name]]
    shared = [ANSWERS[name] for name in ("technology", "goal", "training", "limitations")]
    for answer in (*own, *shared):
        told = answer(evidence)
        assert told, answer
        assert "None" not in told
        assert not is_fixed(evidence, answer), answer


@pytest.mark.parametrize("task", OTHER_TASKS)
def test_every_task_writes_card_and_checklists(others, task):
    run, evidence = others[task]
    report = run / "report"
    card = (report / "model_card.md").read_text()
    assert "**SYNTHETIC images.**" in card
    assert "*Not answered.*" in card
    assert (
        f"model that {DOES[task]}, measured on a held-out test split"
        in (report / "checklists.html").read_text()
    )
    lists = json.loads((report / "checklists.json").read_text())["lists"]
    assert list(lists) == list(LISTS)
    statuses = Counter(item["status"] for item in lists["claim_2024"]["items"])
    assert statuses["answered"] > 10
    told = {item["number"]: " ".join(item["answers"]) for item in lists["claim_2024"]["items"]}
    assert "SYNTHETIC images. Test split" in told["37"]
    # A figure with its interval, as the report has it.
    assert estimated("auroc", FIGURE[task](evidence["report"])) in told["37"]


@pytest.mark.parametrize("task", OTHER_TASKS)
def test_every_report_has_the_same_frame(others, task):
    run, evidence = others[task]
    page = (run / "report" / "index.html").read_text()
    assert "<title>SYNTHETIC · mammoscope report</title>" in page
    for part in (
        RESEARCH_NOTICE,
        "<strong>SYNTHETIC images.</strong> Every figure on this page",
        "<h2>How it was made</h2>",
        '<th scope="row">Software</th>',
        "Beside this page lie model_card.html, checklists.html",
        "Full configuration",
        f"task: {task}",
    ):
        assert page.count(part) == 1, part
    for note in evidence["report"]["notes"]:
        assert f'<p class="note">{escape(note)}</p>' in page
    assert "None</h2>" not in page
    card = (run / "report" / "model_card.html").read_text()
    assert "<strong>SYNTHETIC images.</strong> The model was trained" in card


def test_a_memory_is_not_said_to_be_trained(others):
    evidence, answers = copy.deepcopy(others["anomaly"][1]), answers_of("anomaly")
    assert "autoencoder" in answers["model"](evidence)
    evidence["config"]["anomaly"] |= {"method": "patchcore", "conditions": []}
    assert "no weight was learnt" in answers["training"](evidence)
    assert "not changed" in answers["augmentation"](evidence)
    assert answers["selection"](evidence) == "There is one pass: nothing is chosen."
    evidence["run"]["left_out"] = {"train": {"cancer": 7, "unlabelled": 2}}
    assert "7 training images with cancer" in answers["included"](evidence)
    assert answers["internal"](evidence)
    evidence["report"]["validation"] = {}
    assert answers["internal"](evidence) is None


def test_a_detector_whose_images_were_not_measured_claims_nothing_of_them(others):
    evidence, answers = copy.deepcopy(others["detect"][1]), answers_of("detect")
    assert "AUROC by image" in answers["performance"](evidence)
    evidence["report"] |= {"levels": {}, "subgroups": {}}
    for name in ("performance", "measures", "outputs", "thresholds", "limitations"):
        assert "AUROC" not in answers[name](evidence)
        assert "for each" not in answers[name](evidence).replace("for each image", "")


@pytest.mark.parametrize("name", ["sources", "included", "missing", "disjoint", "characteristics"])
def test_without_the_cohorts_tables_nothing_is_said_of_them(evidence, name):
    bare = {**evidence, "cohort": None, "parts": None, "shared_patients": None}
    assert ANSWERS[name](bare) is None
    statuses = {item["status"] for item in filled("claim_2024", bare)["items"]}
    assert statuses == {"answered", "in part", "not answered"}


def test_a_run_of_all_folds_says_so(evidence):
    made = of_all_folds(evidence)
    assert ANSWERS["ensemble"](made).startswith("5 networks")
    assert "each fold validates once" in ANSWERS["partition"](made)
    assert "out of fold the AUROC is 0.750" in ANSWERS["selection"](made)
    assert "Out of fold: AUROC" in ANSWERS["internal"](made)


def test_a_run_of_all_folds_claims_nothing_that_single_folds_gave(evidence):
    made, untested = of_all_folds(evidence), of_all_folds(evidence, tested=False)
    assert "all figures come from" in ANSWERS["model_file"](evidence)
    told = ANSWERS["model_file"](made)
    assert "thresholds and calibration from those of single folds" in told
    assert "No figure comes from its predictions" in ANSWERS["model_file"](untested)
    assert "out-of-fold scores" in ANSWERS["thresholds"](made)
    assert "87 epochs in 5 folds, at most 30 in each" in ANSWERS["training"](made)
    assert "out-of-fold images only" in ANSWERS["goal"](untested)
    assert OF_SINGLE_FOLDS in ANSWERS["limitations"](made)
    assert OF_SINGLE_FOLDS not in ANSWERS["limitations"](evidence)
    assert "the mean of the folds' maps" in ANSWERS["explanation"](made)


def test_images_of_all_folds_are_counted_once(evidence):
    made, untested = of_all_folds(evidence), of_all_folds(evidence, tested=False)
    assert ANSWERS["parts_used"](made).startswith("1,000 of the cohort's")
    assert "Images: 900 training, 100 test." in ANSWERS["partition"](made)
    assert "none of them to a test split" in ANSWERS["partition"](untested)


def test_a_model_of_exams_does_not_say_that_its_score_is_pooled(evidence):
    made = copy.deepcopy(evidence)
    made["config"]["model"]["level"] = "exam"
    assert "that the score is pooled from" in ANSWERS["explanation"](evidence)
    assert "that the score is pooled from" not in ANSWERS["explanation"](made)
    assert "no pools of cells" in ANSWERS["model"](made)
    assert "all pixels" not in ANSWERS["model"](made)
    made["config"]["model"]["shrink"] = 2
    assert "at 1/2 of its height and width" in ANSWERS["model"](made)


def test_plain_sigmoids_are_told_as_ranks_and_are_no_update_of_the_model(evidence):
    made = copy.deepcopy(evidence)
    made["report"]["calibration"] = calibrated("none", "none")
    assert ANSWERS["calibration"](made) is None
    assert "no probability" in ANSWERS["outputs"](made)
    assert "not corrected" in ANSWERS["imbalance"](made)
    by_number = {item["number"]: item for item in filled("tripod_ai_2024", made)["items"]}
    assert by_number["12f"]["status"] == "not answered"
    made["report"]["calibration"] = calibrated("none", "platt")
    assert "The score by image ranks; it is no probability." in ANSWERS["outputs"](made)
    assert "no probability" not in ANSWERS["outputs"](evidence)


def test_what_was_done_in_training_is_told_as_it_was_done(evidence):
    made = copy.deepcopy(evidence)
    how, network = made["config"]["train"], made["config"]["model"]
    how |= {"sampling": "undersample", "keep_negatives": 0.3333, "frozen_epochs": "all"}
    assert "undersample to 0.3333 of the negatives" in ANSWERS["imbalance"](made)
    assert "backbone frozen in all epochs" in ANSWERS["training"](made)
    how["frozen_epochs"] = 2
    assert "backbone frozen in the first 2 epochs" in ANSWERS["training"](made)
    how["frozen_part"] = "image_model"
    assert "image model frozen in the first 2 epochs" in ANSWERS["training"](made)
    assert "frozen" not in ANSWERS["training"](evidence)
    network |= {"test_flips": ["vertical"], "auxiliary": ["view", "density"]}
    made["run"]["auxiliary"] = [{"name": "view"}]
    assert "as it is and turned (vertical)" in ANSWERS["model"](made)
    assert "further heads learnt view." in ANSWERS["model"](made)
    network |= {"backbone": "residual_cnn", "pretrained": True}
    assert "from random weights" in ANSWERS["initial_weights"](made)


def test_only_changes_that_were_made_are_told(evidence):
    made = copy.deepcopy(evidence)
    changes = made["config"]["augment"]
    for name in changes:
        changes[name] = 0.1 if name == "hole_size" else 0
    assert ANSWERS["augmentation"](made) == "Training images are not changed at random."
    changes |= {"blur_px": 1.5, "probability": 0.4}
    told = ANSWERS["augmentation"](made)
    assert told.endswith("images: blur px 1.5, each made to 40% of them, flips to half.")


def test_a_patient_in_two_folds_is_counted_where_each_of_them_validates(tmp_path):
    run, cohort = make(tmp_path)
    report = evaluate_run(run).report
    facts = json.loads((run / "run.json").read_text())
    splits = pl.read_parquet(cohort / "splits.parquet")
    # Patients of fold 1 are named t0, t1 …: one of them is now in fold 2 as well.
    moved = pl.when(pl.col("image_id") == "t0-L-CC").then(2).otherwise("fold")
    splits.with_columns(fold=moved).write_parquet(cohort / "splits.parquet")
    facts["cohort"]["splits_sha256"] = sha256_file(cohort / "splits.parquet")
    table = read_cohort_table(facts)
    assert gather(run, facts, report, table, cohort)["shared_patients"] == 0
    folds = {**facts, "fold": None}
    assert gather(run, folds, report, table, cohort)["shared_patients"] == 1


def test_images_that_prepare_refused_are_told_and_not_counted(tmp_path):
    run, cohort = make(tmp_path)
    rejects = [
        {"stage": stage, "path": "", "image_id": name, "reason": reason, "message": ""}
        for stage, name, reason in (
            ("prepare", "t1-L-CC", "no_breast"),
            ("prepare-png", "t2-L-CC", "no_breast"),
            ("ingest", "", "duplicate"),
        )
    ]
    pl.DataFrame(rejects).write_csv(cohort / "rejects.csv")
    evaluate_run(run)
    lists = json.loads((run / "report" / "checklists.json").read_text())["lists"]
    told = {item["number"]: " ".join(item["answers"]) for item in lists["claim_2024"]["items"]}
    assert "training: 159 images of 40 patients" in told["35"]
    assert "Preparation refused 1 images: 1 no_breast." in told["35"]


def test_names_from_tables_are_not_read_as_markup(tmp_path):
    run, cohort = make(tmp_path)
    manifest = pl.read_parquet(cohort / "manifest.parquet")
    odd = pl.when(pl.col("machine_id") == "1").then(pl.lit("<b>a_b*|`")).otherwise("machine_id")
    manifest.with_columns(machine_id=odd).write_parquet(cohort / "manifest.parquet")
    facts = json.loads((run / "run.json").read_text())
    facts["cohort"]["manifest_sha256"] = sha256_file(cohort / "manifest.parquet")
    write_json(run / "run.json", facts)
    evaluate_run(run)
    card = (run / "report" / "model_card.md").read_text()
    assert r"\<b\>a\_b\*\|\`" in card
    assert "<b>a" not in card


def test_a_patient_in_two_parts_is_told(evidence):
    assert "NOT kept apart: 2 patients" in ANSWERS["disjoint"]({**evidence, "shared_patients": 2})


def test_what_was_not_measured_is_not_claimed(evidence):
    unmeasured = copy.deepcopy(evidence)
    unmeasured["report"]["pointing"]["groups"] = []
    unmeasured["explanation"] = None
    assert ANSWERS["explanation"](unmeasured) is None
    assert "Where the heatmap points was not measured" in ANSWERS["limitations"](unmeasured)
    within = copy.deepcopy(evidence)
    del within["parts"]["test"]["source"]["inbreast"]
    assert ANSWERS["external"](within) is None


def test_a_run_writes_card_and_checklists_that_say_synthetic(tmp_path):
    run, _ = make(tmp_path)
    evaluate_run(run)
    report = run / "report"
    for name in ("model_card.html", "checklists.html", "model_card.md"):
        assert "SYNTHETIC" in (report / name).read_text()
    lists = json.loads((report / "checklists.json").read_text())["lists"]
    assert list(lists) == list(LISTS)
    by_number = {item["number"]: item for item in lists["claim_2024"]["items"]}
    assert by_number["44"]["status"] == "not answered"
    assert by_number["20"]["answers"] == [
        "The patient: none is in more than one part, counted in the table of splits."
    ]
    assert "3 no_breast, 2 duplicate" in " ".join(by_number["35"]["answers"])
    page = (report / "checklists.html").read_text()
    assert "not answered" in page
    assert page.count('scope="row"') == 44 + 52


def test_of_real_images_a_run_does_not_say_what_it_cannot_know(tmp_path):
    run, _ = make(tmp_path, synthetic=False)
    evaluate_run(run)
    lists = json.loads((run / "report" / "checklists.json").read_text())["lists"]
    by_number = {item["number"]: item for item in lists["claim_2024"]["items"]}
    # Prospective or retrospective, and how names were removed.
    assert by_number["5"]["status"] == by_number["11"]["status"] == "not answered"
    assert "synthetic" not in (run / "report" / "model_card.html").read_text().lower()


def test_a_cohort_file_of_another_cohort_is_not_believed(tmp_path):
    run, cohort = make(tmp_path)
    values = json.loads((cohort / "cohort.json").read_text())
    write_json(cohort / "cohort.json", {**values, "hashes": {"manifest.parquet": "0" * 64}})
    evaluate_run(run)
    lists = json.loads((run / "report" / "checklists.json").read_text())["lists"]
    assert "400 images" not in json.dumps(lists)
