"""The command line: verbs with examples, exit codes, and sentences instead of tracebacks."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

import pytest

from mammoscope import __version__
from mammoscope.artefacts import write_json
from mammoscope.bundle import Companion
from mammoscope.cli import main
from mammoscope.cli.bundle import _print_result
from mammoscope.cli.cohort import parse_size
from mammoscope.cli.info import _companion
from mammoscope.config import Config, PreprocessConfig
from mammoscope.errors import ConfigError
from mammoscope.types import (
    Anomaly,
    Box,
    BreastResult,
    ExamResult,
    Finding,
    ImageResult,
    Laterality,
    View,
)

VERBS = (
    "synth",
    "ingest",
    "merge",
    "prepare",
    "split",
    "explore",
    "deidentify",
    "lint",
    "train",
    "tune",
    "calibrate",
    "evaluate",
    "explain",
    "export",
    "predict",
    "serve",
    "info",
    "demo",
)


@pytest.fixture(autouse=True)
def _quiet_again():
    """Take back what ``--debug`` switches on: the log is the whole process's."""
    logger = logging.getLogger("mammoscope")
    handlers, level = list(logger.handlers), logger.level
    yield
    logger.handlers, logger.level = handlers, level


def unwrapped(text):
    """What a box of 80 columns says, on one line."""
    return " ".join(text.replace("│", " ").split())


@pytest.fixture
def run(capsys):
    """Run a command in this process: (exit status, standard output, standard error)."""

    def call(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exiting:
            main([str(word) for word in words])
        out, err = capsys.readouterr()
        return int(exiting.value.code or 0), out, err

    return call


def test_help_names_every_verb_and_needs_nothing_heavy():
    code = (
        "import sys\n"
        "from mammoscope.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as done: status = done.code\n"
        "heavy = ('torch', 'onnxruntime', 'cv2', 'polars', 'fastapi', 'pydicom', 'matplotlib')\n"
        "print('LOADED', status, [m for m in heavy if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip().endswith("LOADED 0 []")
    for verb in VERBS:
        assert verb in done.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(run, verb):
    status, out, _ = run(verb, "--help")
    assert status == 0
    assert f"mammoscope {verb}" in out.partition("Example")[2]


def test_the_pages_of_tracking_have_help_with_an_example(run):
    status, out, _ = run("track", "ui", "--help")
    assert status == 0
    assert "mammoscope track ui" in out.partition("Example")[2]


def test_the_version_is_printed(run):
    assert run("--version")[:2] == (0, f"mammoscope {__version__}\n")


@pytest.mark.parametrize(
    "words",
    [
        ["paint"],
        ["ingest"],
        ["ingest", "only-one"],
        ["synth", "x", "--patients", "many"],
        ["synth", "x", "--prevalence", "1.5"],
        ["merge", "only-the-output"],
        ["predict", "bundle", "study"],
        ["train", "a", "b", "--no-such-option"],
        ["train", "a", "b", "--folds", "0,1"],
        ["train", "a", "b", "--fold", "1", "--folds", "all"],
        ["calibrate", "run"],
    ],
)
def test_wrong_usage_exits_2_with_usage(run, words):
    status, _, err = run(*words)
    assert status == 2
    assert "Usage: mammoscope" in err
    assert "Traceback" not in err


def test_an_error_is_one_sentence_and_exits_1(run, tmp_path):
    status, out, err = run("ingest", tmp_path / "nowhere", tmp_path / "c")
    assert status == 1
    assert out == ""
    assert err.splitlines()[-1].startswith("error: ")
    assert "is not a folder" in err
    assert "Traceback" not in err


def test_debug_adds_the_traceback_wherever_it_stands(run, tmp_path):
    status, _, err = run("ingest", tmp_path / "nowhere", tmp_path / "c", "--debug")
    assert status == 1
    assert "Traceback" in err
    assert "error: " in err


def test_a_bug_is_a_sentence_too(run, monkeypatch):
    from mammoscope.cli import info

    monkeypatch.setattr(info, "_bundle", None)
    monkeypatch.setattr("pathlib.Path.is_file", lambda self: self.name == "bundle.json")
    status, _, err = run("info", "x")
    assert status == 1
    assert "internal error (TypeError" in err
    assert "--debug" in err


def test_a_missing_extra_is_named_with_its_command(run, monkeypatch):
    def missing(*args, **kwargs):
        raise ModuleNotFoundError("No module named 'fastapi'", name="fastapi")

    monkeypatch.setattr("mammoscope.cohort.splits.split_cohort", missing)
    status, _, err = run("split", "a")
    assert status == 1
    assert err == "error: fastapi is not installed; pip install 'mammoscope[serve]'\n"


def test_ctrl_c_exits_130_without_a_traceback(run, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("mammoscope.cohort.splits.split_cohort", interrupted)
    status, _, err = run("split", "a")
    assert status == 130
    assert (
        err == "stopped: the same command goes on, or says that it needs --resume or --overwrite\n"
    )


@pytest.mark.parametrize("text", ["512", "512x", "x", "512*256", "-5x5", "1.5x2"])
def test_a_size_is_height_times_width(text):
    assert parse_size("1024x512") == (1024, 512)
    with pytest.raises(ConfigError, match="HEIGHTxWIDTH"):
        parse_size(text)


def test_compare_prints_a_table_and_a_sentence_and_leaves_json(run, tmp_path):
    import json

    from fixtures.runs import predictions, write_run

    folders = []
    for name in ("a", "b"):
        folders.append(write_run(tmp_path / name, predictions()))
        assert run("evaluate", folders[-1])[0] == 0
    out = tmp_path / "comparison.json"
    few = ("--set", "evaluation.bootstrap=20")
    status, printed, _ = run("compare", *folders, "--level", "breast", "--json", out, *few)
    assert status == 0
    assert "SYNTHETIC test split: 40 breasts of 20 patients" in printed
    assert "both runs rank alike" in printed
    made = json.loads(out.read_text())
    assert (made["format_version"], made["level"]) == (1, "breast")
    assert made["evaluation"]["bootstrap"] == 20
    status, _, err = run("compare", *folders, "--level", "woman")
    assert (status, "'woman' is not one of 'lesion'" in err) == (2, True)
    status, _, err = run("compare", *folders, "--set", "train.lr=1")
    assert (status, "section evaluation only" in err) == (1, True)


def test_an_unknown_setting_is_refused_before_torch_is_loaded(run, tmp_path):
    status, _, err = run("train", "c", tmp_path / "run", "--set", "train.epoch=3")
    assert status == 1
    assert "unknown key train.epoch; did you mean epochs?" in err
    assert not (tmp_path / "run").exists()


def test_the_data_verbs_work_one_by_one(run, rsna_folder, tmp_path):
    cohort = tmp_path / "cohort"
    (rsna_folder / "train_images" / "0" / "0.dcm").write_bytes(b"")
    status, _, err = run("ingest", rsna_folder, cohort)
    assert status == 0
    assert "35 images of 12 patients accepted from source rsna" in err
    assert "refused: 1 empty_file" in err
    assert run("prepare", cohort, "--size", "64x32", "--workers", "1")[0] == 0
    _, _, err = run("prepare", cohort, "--size", "64x32", "--workers", "1")
    assert "35 were prepared already" in err
    assert run("prepare", cohort, "--size", "64by32")[0] == 1
    assert run("prepare", cohort, "--size", "9x9")[0] == 1
    status, _, err = run("split", cohort, "--folds", "2")
    assert status == 0
    assert "in 2 folds" in err
    status, _, err = run("split", cohort)
    assert (status, "--overwrite" in err) == (1, True)
    status, out, _ = run("info", cohort)
    assert status == 0
    assert "manifest.parquet" in out
    assert "not synthetic" in out


def test_explore_names_its_page_and_replaces_it_only_when_asked(run, rsna_folder, tmp_path):
    cohort = tmp_path / "cohort"
    run("ingest", rsna_folder, cohort)
    status, out, err = run("explore", cohort)
    assert (status, out) == (0, "")
    assert "36 images of 12 patients" in err
    assert f"tests: {cohort / 'explore' / 'index.html'}" in err
    status, _, err = run("explore", cohort, "--sample", 5)
    assert status == 1
    assert "--overwrite" in err
    assert run("explore", cohort, "--overwrite")[0] == 0


@pytest.mark.parametrize("table", ["manifest.parquet", "findings.parquet"])
def test_info_finds_an_edited_table(run, rsna_folder, tmp_path, table):
    run("ingest", rsna_folder, tmp_path / "c")
    with (tmp_path / "c" / table).open("ab") as stream:
        stream.write(b"x")
    status, _, err = run("info", tmp_path / "c")
    assert status == 1
    assert f"{table} was edited: its SHA-256 is" in err


def test_merge_says_what_became_of_the_names(run, build_layout, tmp_path):
    for name in ("cdd-cesm", "mini-mias"):
        status, _, err = run("ingest", build_layout(name), tmp_path / f"c-{name}")
        assert status == 0
        assert f"accepted from source {name}" in err
    parts = (tmp_path / "c-cdd-cesm", tmp_path / "c-mini-mias")
    status, _, err = run("merge", tmp_path / "whole", *parts)
    assert status == 0
    assert "7 images of 5 patients with 7 findings, source cdd-cesm or mini-mias" in err
    status, out, _ = run("info", tmp_path / "whole")
    assert status == 0
    assert "findings.parquet" in out
    status, _, err = run("merge", tmp_path / "whole", *parts)
    assert (status, "--overwrite" in err) == (1, True)
    status, _, err = run("merge", tmp_path / "x", *parts, "--patients", "some")
    assert (status, "'auto', 'same', 'apart'" in unwrapped(err)) == (2, True)


def test_ingest_says_what_became_of_findings_that_are_wrong(run, build_layout, tmp_path):
    root = build_layout("folder")
    values = json.loads((root / "boxes.coco.json").read_text())
    values["annotations"][1]["bbox"] = [35, 150, -30, -30]
    values["annotations"][2]["bbox"] = [10, 100, 20, 0]
    (root / "boxes.coco.json").write_text(json.dumps(values))
    status, _, err = run("ingest", root, tmp_path / "c")
    assert status == 0
    assert "3 findings (repaired: 1 wrong_order); refused: 1 no_area" in err
    status, _, err = run("ingest", root, tmp_path / "d", "--faults", "drop")
    assert status == 0
    assert "2 findings; refused: 1 no_area, 1 wrong_order" in err
    status, _, err = run("ingest", root, tmp_path / "e", "--faults", "refuse")
    assert (status, (tmp_path / "e").exists()) == (1, False)
    assert "2 of 4 findings are wrong (1 no_area, 1 wrong_order), and --faults is refuse" in err
    status, _, err = run("ingest", root, tmp_path / "e", "--set", "faults=perhaps")
    assert (status, "'refuse', 'repair' or 'drop'" in err) == (1, True)


def test_excel_tables_need_an_extra_that_is_named(run, build_layout, tmp_path, monkeypatch):
    root = build_layout("cmmd")
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    status, _, err = run("ingest", root, tmp_path / "c")
    assert status == 1
    assert err == "error: openpyxl is not installed; pip install 'mammoscope[sources]'\n"


def test_info_names_no_threshold_of_a_second_stage_which_has_none():
    told = {"name": "own", "file": "a.onnx", "synthetic": True, "preprocess": PreprocessConfig()}
    stage = Companion(
        task="segment-then-classify", threshold=0.0, target="tells apart a, b", **told
    )
    assert _companion(stage) == "own, tells apart a, b"
    first = Companion(task="segment", threshold=0.5, target="at most 1", **told)
    assert _companion(first) == "own, from 0.5000 on (at most 1)"


@pytest.mark.parametrize(
    ("settings", "told", "untold"),
    [
        ({}, ["network | resnet18", "level | image"], "segmenter"),
        ({"task": "detect"}, ["network | centre on pyramid_cnn"], "resnet18"),
        ({"task": "anomaly"}, ["network | vae"], "level"),
        (
            {"task": "segment-then-classify", "stages": {"segmenter": "first"}},
            ["network | resnet18 on cut-outs", "segmenter | first"],
            "level",
        ),
    ],
)
def test_info_names_the_network_that_a_run_has_trained(run, tmp_path, settings, told, untold):
    config = Config.model_validate({"model": {"backbone": "resnet18"}} | settings)
    facts = {"kind": "run", "status": "finished", "fold": 0, "synthetic": True}
    write_json(tmp_path / "run.json", facts | {"config": config.model_dump(mode="json")})
    status, out, _ = run("info", tmp_path)
    assert status == 0
    lines = [" ".join(line.replace("│", "|").split()).strip("| ") for line in out.splitlines()]
    assert set(told) <= set(lines)
    assert untold not in out


def test_info_refuses_what_it_does_not_know(run, tmp_path, bundle_dir):
    assert run("info", tmp_path)[0] == 1
    status, out, _ = run("info", bundle_dir)
    assert status == 0
    assert "synthetic" in out
    assert "sha256" in out


def test_synth_says_synthetic_and_does_not_overwrite_unasked(run, tmp_path):
    words = ("synth", tmp_path / "s", "--patients", 2, "--scale", "0.08", "--workers", 1)
    status, _, err = run(*words)
    assert status == 0
    assert "synthetic DICOM files of 2 patients" in err
    assert run(*words)[0] == 1
    assert run(*words, "--overwrite")[0] == 0


def test_synth_refuses_a_profile_that_there_is_not(run, tmp_path):
    status, _, err = run("synth", tmp_path / "s", "--profile", "philips")
    assert status == 2
    assert "'rsna', 'clinical'" in unwrapped(err)
    assert not (tmp_path / "s").exists()


def test_both_profiles_of_synth_are_ingested(run, tmp_path):
    for profile in ("rsna", "clinical"):
        words = ("--patients", 2, "--scale", "0.08", "--workers", 1, "--profile", profile)
        assert run("synth", tmp_path / profile, *words)[0] == 0
        status, _, err = run("ingest", tmp_path / profile, tmp_path / f"{profile}-cohort")
        assert status == 0
        assert "refused: none" in " ".join(err.split())


def test_predict_writes_results_and_one_overlay_per_image(run, bundle_dir, exam_folder, tmp_path):
    import json

    import cv2

    out = tmp_path / "results"
    status, stdout, _ = run("predict", bundle_dir, exam_folder, "--out", out)
    assert status == 0
    assert "SYNTHETIC" in stdout
    document = json.loads((out / "results.json").read_text())
    assert len(document["exams"][0]["images"]) == 4
    pictures = sorted(path.name for path in (out / "exam").iterdir())
    assert pictures == ["L_CC.dcm.png", "L_MLO.dcm.png", "R_CC.dcm.png", "R_MLO.dcm.png"]
    # In original pixels.
    assert cv2.imread(str(out / "exam" / pictures[0])).shape == (320, 256, 3)
    status, _, err = run("predict", bundle_dir, exam_folder, "--out", out)
    assert (status, "--overwrite" in err) == (1, True)


def image_of(name, view, *findings, anomaly=None):
    return ImageResult(
        image_id=name,
        laterality=Laterality.L,
        view=view,
        height_px=400,
        width_px=300,
        logit=0.0,
        score=0.9999994,
        suspicious=True,
        findings=findings,
        decoder="native",
        crop_quality=1.0,
        anomaly=anomaly,
    )


def exam_of(*images, anomaly=None):
    names = tuple(image.image_id for image in images)
    breast = BreastResult(Laterality.L, 0.5, suspicious=True, image_ids=names)
    return ExamResult("one", 0.5, True, images, (breast,), anomaly=anomaly)  # noqa: FBT003


def test_predict_tells_kinds_what_is_unusual_and_which_image_in_80_columns(capsys, predictor):
    box = Box(0, 0, 9, 9)
    mass, calcification, untold = (
        Finding(box, 0.5, kind, "detector") for kind in ("mass", "calcification", "suspicious")
    )
    told = Finding(box, 0.5, "malignant", "segmenter", kind_score=0.9)
    unusual, usual = Anomaly(0.99999996, unusual=True), Anomaly(0.25, unusual=False)
    long = "1.2.840.113619.2.66.2158408118.16050010109105933.20000000000001"
    exam = exam_of(
        image_of(long, View.CC, mass, calcification, mass, told, untold, anomaly=unusual),
        image_of("again", View.CC, anomaly=usual),
        image_of("other", View.MLO, anomaly=usual),
        anomaly=unusual,
    )
    _print_result(exam, predictor.bundle)
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    unusual_or_not = [row[4] for row in cells if row[4]]
    assert unusual_or_not == ["> 0.999999", "unusual"] * 2 + ["0.250", "0.250"]
    found = [row[5] for row in cells if row[5]]
    assert found == ["2 mass", "1 calcification", "1 malignant", "1 suspicious", "0", "0"]
    # Two images of one view are told apart by name, one that is alone needs none.
    assert long in "".join(row[1] for row in cells)
    assert [row[1] for row in cells[-3:]] == ["L CC", "again", "L MLO"]


def test_predict_says_nothing_of_what_no_model_has_judged(capsys, predictor):
    _print_result(exam_of(image_of("a", View.CC)), predictor.bundle)
    out = capsys.readouterr().out
    assert "anomaly" not in out
    assert "findings" in out


def test_predict_names_the_exam_that_failed_and_scores_the_others(
    run, bundle_dir, exam_folder, tmp_path
):
    import json

    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.dcm").write_bytes(b"")
    out = tmp_path / "results"
    status, _, err = run("predict", bundle_dir, tmp_path / "bad", exam_folder, "--out", out)
    assert status == 1
    assert "1 of 2 exams not scored" in err
    assert "empty_file" in err
    document = json.loads((out / "results.json").read_text())
    assert [exam["exam_id"] for exam in document["exams"]] == ["exam"]
    assert [exam["exam_id"] for exam in document["failed"]] == ["bad"]


def test_what_is_there_stays_until_all_input_has_been_checked(
    run, bundle_dir, exam_folder, tmp_path
):
    out = tmp_path / "results"
    run("predict", bundle_dir, exam_folder, "--out", out)
    before = (out / "results.json").read_bytes()
    again = ("--out", out, "--overwrite")
    assert run("predict", bundle_dir, exam_folder, tmp_path / "typo", *again)[0] == 1
    assert run("predict", bundle_dir, exam_folder, "--table", tmp_path / "no.csv", *again)[0] == 1
    assert (out / "results.json").read_bytes() == before


def test_an_exam_that_failed_says_of_each_image_why(run, bundle_dir, write_mammogram, tmp_path):
    import json

    import numpy as np

    write_mammogram(tmp_path / "bad" / "x.dcm", np.zeros((128, 128), np.uint16))
    assert run("predict", bundle_dir, tmp_path / "bad", "--out", tmp_path / "r")[0] == 1
    (failed,) = json.loads((tmp_path / "r" / "results.json").read_text())["failed"]
    assert [(part["image_id"], part["reason"]) for part in failed["refused"]] == [
        ("x.dcm", "blank_image")
    ]


def test_predict_refuses_an_edited_bundle_and_a_mixed_output(
    run, bundle_dir, exam_folder, tmp_path
):
    import shutil

    edited = shutil.copytree(bundle_dir, tmp_path / "edited")
    with (edited / "model.onnx").open("ab") as stream:
        stream.write(b" ")
    status, _, err = run("predict", edited, exam_folder, "--out", tmp_path / "r")
    assert status == 1
    assert "model.onnx was edited" in err
    assert not (tmp_path / "r").exists()
    twin = shutil.copytree(exam_folder, tmp_path / "twin" / "exam")
    status, _, err = run("predict", bundle_dir, exam_folder, twin, "--out", tmp_path / "r")
    assert (status, "same folder name" in err) == (1, True)


def test_a_split_that_can_evaluate_nothing_says_so(run, rsna_folder, tmp_path):
    table = rsna_folder / "train.csv"
    head, *rows = table.read_text().splitlines()
    at = head.split(",").index("cancer")
    words = [row.split(",") for row in rows]
    table.write_text("\n".join([head, *(",".join([*w[:at], "0", *w[at + 1 :]]) for w in words)]))
    run("ingest", rsna_folder, tmp_path / "c")
    status, _, err = run("split", tmp_path / "c")
    assert status == 0
    assert "nothing can be evaluated" in err


def test_train_takes_a_file_of_weights(run, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("mammoscope.cli.run._train_fold", lambda *args, **_: seen.append(args[2]))
    path = tmp_path / "a: file # of weights.safetensors"
    status, _, err = run("train", "cohort", tmp_path / "run", "--weights", path)
    assert (status, seen) == (2, [])
    assert "does not exist" in unwrapped(err)
    path.touch()
    assert run("train", "cohort", tmp_path / "run", "--weights", path)[0] == 0
    assert seen[0].model.weights == path
    assert run("train", "cohort", tmp_path / "run", "--weights", tmp_path)[0] == 0
    assert seen.pop().model.weights == tmp_path
    detector = ("--set", "task=detect", "--weights", path)
    assert run("train", "cohort", tmp_path / "run", *detector)[0] == 0
    assert (seen[1].detect.weights, seen[1].model.weights) == (path, None)
