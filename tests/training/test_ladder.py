from __future__ import annotations

import importlib
import io
import json
import shutil
from pathlib import Path

import polars as pl
import pytest
import torch
import yaml
from rich.console import Console
from safetensors.torch import load_file, save_file

from mammoscope import ablation
from mammoscope.ablation import climb, ladder_tables
from mammoscope.artefacts import write_json
from mammoscope.cli import console
from mammoscope.cohort.findings import write_findings
from mammoscope.cohort.store import PreparedStore
from mammoscope.config import PreprocessConfig, load_ladder, rung_settings
from mammoscope.errors import CohortError, ConfigError, RunError

# The package offers the function under the module's name.
fit_module = importlib.import_module("mammoscope.training.fit")

RECIPE = {
    "model": {"backbone": "baseline_cnn", "pretrained": False},
    "train": {"epochs": 1, "batch_size": 4, "patience": 0, "lr": 1e-3},
    "evaluation": {"bootstrap": 20},
}
RUNGS = [
    {
        "name": "resized",
        "says": "resized original",
        "prepare": {"crop": False},
        "settings": {"evaluation": {"operating_points": ["threshold=0.5"]}},
        "published": {"evaluation_f1": 0.047, "test_f1": 0.027},
    },
    {"name": "crop", "prepare": {"crop": True}},
    {"name": "threshold", "settings": {"evaluation": {"operating_points": ["best_f1"]}}},
]


def written(folder: Path, **changes) -> Path:
    values = {"title": "A ladder", "source": "a paper", "recipe": "recipe.yaml", "rungs": RUNGS}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    (folder / "ladder.yaml").write_text(yaml.safe_dump({**values, **changes}))
    return folder / "ladder.yaml"


@pytest.fixture
def prepared_otherwise(monkeypatch: pytest.MonkeyPatch, cohort: Path):
    """Stand in for prepare, whose sources these cohorts of blobs do not have."""
    calls = []

    def prepare(folder: Path, config: PreprocessConfig, *, workers: int) -> None:
        calls.append((folder, config, workers))
        shutil.copytree(cohort / "images", folder / "images", dirs_exist_ok=True)
        write_json(
            folder / "images" / "prepare.json", {"preprocess": config.model_dump(mode="json")}
        )

    monkeypatch.setattr(ablation, "prepare", prepare)
    return calls


def test_a_ladder_is_climbed_once_and_measured_rung_by_rung(
    cohort, tmp_path, prepared_otherwise, monkeypatch
):
    ladder, out, said = load_ladder(written(tmp_path)), tmp_path / "out", []
    record = climb(cohort, out, ladder, told=said.append, workers=1)
    assert record == json.loads((out / "ladder.json").read_text())
    assert [(rung["arm"], rung["name"]) for rung in record["rungs"]] == [
        ("all", "resized"), ("all", "crop"), ("all", "threshold"),
    ]  # fmt: skip
    assert record["synthetic"] is True
    assert said[0] == "prepare images for rung resized of all"
    # Only the first rung's images are prepared otherwise, in a cohort of their own.
    [(folder, config, workers)] = prepared_otherwise
    assert (folder, config.crop, workers) == (out / "cohorts" / "resized", False, 1)
    runs = [Path(rung["run"]) for rung in record["rungs"]]
    facts = [json.loads((run / "run.json").read_text()) for run in runs]
    assert [fact["preprocess"]["crop"] for fact in facts] == [False, True, True]
    # A threshold needs no training: the same weights, measured at another one.
    ours, theirs = (load_file(run / "weights.safetensors") for run in runs[1:])
    assert all((ours[key] == theirs[key]).all() for key in ours)
    assert record["rungs"][2]["copied_from"] == str(runs[1])
    assert [rung["threshold"] for rung in record["rungs"][:2]] == [0.5, 0.5]
    assert record["rungs"][2]["threshold"] != 0.5
    assert facts[2]["config"]["evaluation"]["operating_points"] == ["best_f1"]
    for rung, run in zip(record["rungs"], runs, strict=True):
        report = json.loads((run / "report" / "report.json").read_text())
        assert rung["measured"]["test_f1"] == report["levels"]["image"]["metrics"]["f1"]
        assert rung["measured"]["evaluation_f1"] == report["validation"]["image"]["metrics"]["f1"]

    # A rerun goes on with what is left: here one rung's report.
    shutil.rmtree(runs[2])
    monkeypatch.setattr(fit_module, "run_trainer", lambda *_, **__: pytest.fail("again"))
    assert climb(cohort, out, ladder, workers=1) == record
    with pytest.raises(RunError, match=r"train\.lr differ"):
        climb(cohort, out, ladder, ["train.lr=5e-3"], workers=1)


def test_every_fold_of_a_rung_is_trained_and_their_mean_measured(
    cohort, tmp_path, prepared_otherwise, monkeypatch
):
    ladder, out = load_ladder(written(tmp_path)), tmp_path / "out"
    record = climb(cohort, out, ladder, fold=None, workers=1)
    assert record["fold"] == "all"
    folds = sorted(set(pl.read_parquet(cohort / "splits.parquet")["fold"].drop_nulls()))
    for rung in record["rungs"]:
        run = Path(rung["run"])
        facts = json.loads((run / "run.json").read_text())
        assert facts["folds"] == folds
        # What is chosen on validation is chosen on every image that is not held out.
        assert facts["predicted"]["val"] == facts["counts"]["val"]
        report = json.loads((run / "report" / "report.json").read_text())
        assert rung["measured"]["evaluation_f1"] == report["validation"]["image"]["metrics"]["f1"]
    twin = Path(record["rungs"][2]["run"])
    assert record["rungs"][2]["copied_from"] == record["rungs"][1]["run"]
    for each in (twin, *(twin / f"fold-{fold}" for fold in folds)):
        facts = json.loads((each / "run.json").read_text())
        assert facts["config"]["evaluation"]["operating_points"] == ["best_f1"]

    shutil.rmtree(twin)
    monkeypatch.setattr(fit_module, "run_trainer", lambda *_, **__: pytest.fail("again"))
    assert climb(cohort, out, ladder, fold=None, workers=1) == record
    with pytest.raises(RunError, match="fold differ"):
        climb(cohort, out, ladder, workers=1)


@pytest.fixture
def climbed(monkeypatch: pytest.MonkeyPatch):
    """Rungs that train nothing: which were climbed, and one to stop at."""
    stop, done = set(), []

    def climb_one(step, made, cohort, fold, level):
        if step.rung.name in stop:
            raise KeyboardInterrupt
        done.append((step.arm, step.rung.name))
        return {"arm": step.arm, "name": step.rung.name, "run": str(step.run)}

    monkeypatch.setattr(ablation, "_climbed", climb_one)
    return stop, done


ARMS = {"cnn": {}, "deep": {"train": {"lr": 0.1}}}


def names(record):
    return [(rung["arm"], rung["name"]) for rung in record["rungs"]]


def test_what_is_climbed_stays_in_the_record_of_a_ladder(
    cohort, tmp_path, prepared_otherwise, climbed
):
    out, (stop, done) = tmp_path / "out", climbed
    ladder = load_ladder(written(tmp_path, arms=ARMS))
    climb(cohort, out, ladder, arms=["deep"])
    stop.add("crop")
    with pytest.raises(KeyboardInterrupt):
        climb(cohort, out, ladder, arms=["cnn"])
    # One arm's climb, or its stop, costs the other's rows nothing; they stand in their order.
    left = json.loads((out / "ladder.json").read_text())
    deep = [("deep", "resized"), ("deep", "crop"), ("deep", "threshold")]
    assert names(left) == [("cnn", "resized"), *deep]
    stop.clear()
    assert names(climb(cohort, out, ladder, arms=["cnn"]))[3:] == deep
    assert len(done) == 3 + 1 + 3
    # A rung may be added at the top, and an arm.
    taller = written(tmp_path, arms={**ARMS, "new": {}}, rungs=[*RUNGS, {"name": "more"}])
    assert len(names(climb(cohort, out, load_ladder(taller), arms=["new"]))) == 10


def test_an_arm_may_have_images_of_its_own_in_the_same_command(
    cohort, tmp_path, prepared_otherwise, monkeypatch
):
    trained = []

    def climb_one(step, made, where, fold, level):
        trained.append((step.arm, step.rung.name, where, step.preprocess.height))
        return {"arm": step.arm, "name": step.rung.name, "run": str(step.run)}

    monkeypatch.setattr(ablation, "_climbed", climb_one)
    arms = {"cnn": {}, "vit": {"train": {"lr": 0.1}, "prepare": {"height": 48, "width": 32}}}
    out, said = tmp_path / "out", []
    ladder = load_ladder(written(tmp_path, arms=arms))
    tall = PreparedStore(cohort).config.height
    assert tall != 48
    climb(cohort, out, ladder, told=said.append)
    own = out / "cohorts"
    assert trained == [
        ("cnn", "resized", own / "resized", tall),
        ("cnn", "crop", cohort, tall),
        ("cnn", "threshold", cohort, tall),
        ("vit", "resized", own / "vit.resized", 48),
        ("vit", "crop", own / "vit.crop", 48),
        ("vit", "threshold", own / "vit.crop", 48),
    ]
    assert "prepare images for rung resized of vit" in said
    made = {folder.name: config for folder, config, _ in prepared_otherwise}
    assert {name: (c.height, c.crop) for name, c in made.items()} == {
        "resized": (tall, False), "vit.resized": (48, False), "vit.crop": (48, True),
    }  # fmt: skip
    # One arm alone finds its images in the same places.
    trained.clear()
    climb(cohort, out, ladder, arms=["vit"])
    assert [where for _, _, where, _ in trained] == [
        own / "vit.resized", own / "vit.crop", own / "vit.crop",
    ]  # fmt: skip
    assert rung_settings(ladder, "vit", 1)[1] == {"height": 48, "width": 32, "crop": True}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arms": {"cnn": {}, "deep": {"train": {"lr": 0.2}}}}, r"ladder\.arms\.deep\.train\.lr"),
        ({"rungs": [RUNGS[0], {"name": "crop", "prepare": {"crop": False}}, RUNGS[2]]},
         r"ladder\.rungs\.crop\.prepare\.crop differ"),
        ({"rungs": RUNGS[:2]}, r"ladder\.rungs\.threshold differ"),
        ({"level": "breast"}, "level differ"),
    ],
)  # fmt: skip
def test_another_ladder_in_its_folder_is_refused(
    cohort, make_cohort, tmp_path, prepared_otherwise, climbed, changes, words
):
    out = tmp_path / "out"
    climb(cohort, out, load_ladder(written(tmp_path, arms=ARMS)))
    before = (out / "ladder.json").read_bytes()
    with pytest.raises(RunError, match=words):
        climb(cohort, out, load_ladder(written(tmp_path, **{"arms": ARMS, **changes})))
    same = load_ladder(written(tmp_path, arms=ARMS))
    with pytest.raises(RunError, match="fold differ"):
        climb(cohort, out, same, fold=1)
    with pytest.raises(RunError, match=r"cohort\.manifest_sha256"):
        climb(make_cohort(20), out, same)
    assert (out / "ladder.json").read_bytes() == before


def test_a_rung_that_is_calibrated_otherwise_is_no_copy(tmp_path):
    rungs = [
        {"name": "plain"},
        {"name": "seed", "settings": {"evaluation": {"seed": 4}}},
        {"name": "rare", "settings": {"evaluation": {"prevalence": 0.01}}},
        {"name": "isotonic", "settings": {"evaluation": {"calibration": "isotonic"}}},
    ]
    ladder = load_ladder(written(tmp_path, rungs=rungs))
    plain, *others = ablation._steps(tmp_path, ladder, PreprocessConfig(), [], [])
    assert [ablation._trains_alike(step, plain) for step in others] == [True, False, False]


def test_a_ladder_is_not_tracked_and_uses_one_device(cohort, tmp_path):
    ladder = load_ladder(written(tmp_path))
    for setting, words in (
        ("tracking.enabled=true", "tracking is of single runs: ablate without it"),
        ("train.devices=2", r"ablate uses one device: set train\.devices=1"),
    ):
        with pytest.raises(ConfigError, match=words):
            climb(cohort, tmp_path / "out", ladder, [setting])


def test_rungs_pile_up_on_the_recipe_and_the_arm_with_overrides_last(tmp_path):
    arms = {"cnn": {}, "deep": {"model": {"backbone": "resnet18"}, "train": {"lr": 0.1}}}
    ladder = load_ladder(written(tmp_path, arms=arms))
    config, prepare = rung_settings(ladder, "deep", 1, ["train.epochs=7", "cnn:train.lr=9"])
    assert (config.model.backbone, config.train.lr, config.train.epochs) == ("resnet18", 0.1, 7)
    assert config.evaluation.operating_points == ("threshold=0.5",)
    assert config.evaluation.bootstrap == 20
    assert prepare == {"crop": True}
    assert rung_settings(ladder, "cnn", 2, ["cnn:train.lr=9"])[0].train.lr == 9


def test_a_rung_with_a_recipe_of_its_own_starts_anew(tmp_path):
    (tmp_path / "other.yaml").write_text("train: {lr: 0.5}")
    arms = {"deep": {"model": {"backbone": "resnet18"}, "prepare": {"margin": 0.1}}}
    rungs = [*RUNGS, {"name": "other", "recipe": "other.yaml"}]
    ladder = load_ladder(written(tmp_path, arms=arms, rungs=rungs))
    config, prepare = rung_settings(ladder, "deep", 3)
    assert (config.model.backbone, config.train.lr, config.train.epochs) == ("resnet18", 0.5, 30)
    assert prepare == {"margin": 0.1}


@pytest.mark.parametrize(
    ("changes", "overrides", "message"),
    [
        ({"rungs": [*RUNGS, {"name": "crop"}]}, [], "rungs share the name crop"),
        ({"rungs": []}, [], "rungs"),
        ({"rungs": [{"name": "Über"}]}, [], "name"),
        ({"rungs": [{"name": "a", "settings": {"train": {"lrr": 1}}}]}, [],
         r"rung a of all: unknown key train\.lrr; did you mean lr"),
        ({"rungs": [{"name": "a", "prepare": {"crops": True}}]}, [],
         r"rung a of all, prepare: unknown key crops; did you mean crop"),
        ({"arms": {"vit": {"prepare": {"heigth": 32}}}}, [],
         r"rung resized of vit, prepare: unknown key heigth; did you mean height"),
        ({"arms": {"vit": {"prepare": 384}}}, [],
         "prepare of vit is no mapping of preprocessing settings"),
        ({"rungs": [{"name": "a", "settings": {"model": {"backbone": "resnet81"}}}]}, [],
         "unknown backbone 'resnet81'"),
        ({}, ["vit:train.lr=1"], "vit is not one of the arms all"),
        ({"recipe": "absent.yaml"}, [], "cannot read"),
    ],
)  # fmt: skip
def test_faults_of_a_ladder_are_found_before_anything_is_written(
    cohort, tmp_path, changes, overrides, message
):
    with pytest.raises(ConfigError, match=message):
        climb(cohort, tmp_path / "out", load_ladder(written(tmp_path, **changes)), overrides)
    with pytest.raises(ConfigError, match="--arm deep is not one of all"):
        climb(cohort, tmp_path / "out", load_ladder(written(tmp_path)), arms=["deep"])
    assert not (tmp_path / "out").exists()


def test_a_rung_that_cannot_begin_is_found_before_anything_is_prepared(
    cohort, make_cohort, tmp_path, prepared_otherwise, climbed
):
    path = tmp_path / "other.safetensors"
    save_file({"stem.weight": torch.zeros(1)}, path)
    rungs = [*RUNGS, {"name": "late", "settings": {"model": {"weights": str(path)}}}]
    out = tmp_path / "out"
    with pytest.raises(RunError, match=r"rung late of all: weights .* do not fit the backbone"):
        climb(cohort, out, load_ladder(written(tmp_path, rungs=rungs)))
    small = [
        RUNGS[1],
        {"name": "small", "prepare": {"height": 33}, "settings": {"model": {"shrink": 2}}},
    ]
    with pytest.raises(ConfigError, match=r"rung small of all: .*shrink"):
        climb(cohort, out, load_ladder(written(tmp_path, rungs=small)))
    healthy = make_cohort(cancer=lambda _: 0)
    with pytest.raises(
        CohortError, match=r"^rung resized of all: the training[^;]*; both 0 and 1 are needed[^;]*$"
    ):
        climb(healthy, out, load_ladder(written(tmp_path)))
    assert not out.exists()
    assert (prepared_otherwise, climbed[1]) == ([], [])


def test_a_rung_says_how_often_its_heat_is_on_the_lesion(make_cohort, tmp_path):
    folder = make_cohort()
    sides = {"x_min": 0.0, "y_min": 0.0, "x_max": 32.0, "y_max": 64.0}
    rows = pl.read_parquet(folder / "manifest.parquet").filter(pl.col("cancer") == 1)
    write_findings(
        folder,
        [{"finding_id": n, "image_id": n, "kind": "mass", **sides} for n in rows["image_id"]],
    )
    (rung,) = climb(
        folder, tmp_path / "out", load_ladder(written(tmp_path, rungs=[{"name": "only"}]))
    )["rungs"]
    # A lesion as large as the image cannot be missed.
    assert rung["measured"]["pointing"]["value"] == 1.0
    assert rung["measured"]["pointing"]["high"] == 1.0


def test_published_figures_stand_beside_ours():
    def estimate(value):
        return {"value": value, "low": 0.1, "high": 0.3}

    names = (
        "evaluation_f1", "test_f1", "sensitivity", "precision", "accuracy", "auroc", "pointing",
    )  # fmt: skip
    rung = {
        "arm": "cnn",
        "name": "resized",
        "says": "resized original",
        "measured": {name: estimate(0.2) for name in names} | {"precision": estimate(None)},
        "published": {"test_f1": 0.027},
    }
    (title, (header, row)), (second, (_, further)) = ladder_tables({"rungs": [rung]})
    assert (title, second) == ("cnn", "cnn, with intervals")
    assert header == [
        "rung", "evaluation F1", "test F1", "sensitivity", "precision", "accuracy",
    ]  # fmt: skip
    assert row == ["resized original", "0.200", "0.200 [0.027]", "0.200", "none", "0.200"]
    assert further == ["resized original", *["0.200 (0.100 to 0.300)"] * 3]


def test_every_figure_of_a_ladder_is_whole_in_a_narrow_terminal(monkeypatch):
    names = (
        "evaluation_f1",
        "test_f1",
        "sensitivity",
        "precision",
        "accuracy",
        "auroc",
        "pointing",
    )
    measured = {name: {"value": 0.123, "low": 0.101, "high": 0.456} for name in names}
    rungs = [
        {"arm": arm, "name": "a", "says": says, "measured": measured, "published": published}
        for arm in ("cnn", "vit")
        for says, published in (
            ("resized original", {"evaluation_f1": 0.047, "test_f1": 0.027}),
            ("+ augmentation", {"evaluation_f1": 0.345, "test_f1": 0.314}),
        )
    ]
    shown = Console(width=80, file=io.StringIO(), highlight=False, markup=False)
    monkeypatch.setattr(console, "console", shown)
    for title, rows in ladder_tables({"rungs": rungs}):
        console.print_rows(rows, title)
    text = shown.file.getvalue()
    words = text.replace("│", " ").replace("┃", " ").split()
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "…" not in text
    for figure in ("[0.047]", "[0.027]", "[0.345]", "[0.314]", "(0.101", "0.456)"):
        assert words.count(figure) >= 2
    for head in ("evaluation", "sensitivity", "precision", "accuracy", "AUROC", "augmentation"):
        assert words.count(head) >= 2
