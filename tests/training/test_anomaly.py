from __future__ import annotations

import json

import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from mammoscope.cohort.store import PreparedStore
from mammoscope.config import Config
from mammoscope.errors import CohortError, ConfigError, RunError
from mammoscope.evaluation import evaluate_run
from mammoscope.export import finish_run
from mammoscope.scores import calibrate_run
from mammoscope.training import fit, load_network
from mammoscope.training.anomaly import PLAN, condition_codes

SMALL = {"width": 4, "latent_width": 3, "bank_size": 20, "bank_candidates": 200, "edge_px": 1}


def settings(anomaly=None, **train):
    values = {"epochs": 2, "batch_size": 4, "lr": 1e-3, "patience": 0, "seed": 3, **train}
    return Config.model_validate(
        {"task": "anomaly", "anomaly": SMALL | (anomaly or {}), "train": values}
    )


def checked(cohort, config, fold=0):
    store = PreparedStore(cohort)
    return PLAN.check(store, store.rows(), fold, config)


def test_only_normal_images_train_and_validate(cohort):
    parts = checked(cohort, settings())
    assert set(parts["train"]["cancer"]) == set(parts["val"]["cancer"]) == {0}
    assert parts["train"].height == parts["val"].height == 5
    assert set(parts["test"]["cancer"]) == {0, 1}
    assert set(parts["train"]["patient_id"]).isdisjoint(parts["val"]["patient_id"])


def test_a_cancer_among_training_images_is_counted_named_and_refused_if_asked(cohort):
    with pytest.raises(CohortError, match=r"5 with cancer=1 \(such as i003, i007, i011\)"):
        checked(cohort, settings({"cancers": "refuse"}))


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_part_without_a_normal_image_is_refused(cohort, split):
    store = PreparedStore(cohort)
    inside = (pl.col("fold") == 0) == (split == "val")
    rows = store.rows().with_columns(
        cancer=pl.when(inside & (pl.col("cancer") == 0)).then(None).otherwise(pl.col("cancer"))
    )
    with pytest.raises(CohortError, match=r"none of the 10 .* is normal .* 5 whose cancer is unkn"):
        PLAN.check(store, rows, 0, settings())


def test_an_image_of_unknown_label_teaches_nothing_and_is_told(make_cohort):
    cohort = make_cohort(cancer=lambda number: None if number % 6 == 0 else number // 2 % 2)
    parts = checked(cohort, settings())
    assert parts["train"]["cancer"].null_count() == 0
    store = PreparedStore(cohort)
    made = PLAN.make(store, parts, settings(), fresh=True)
    assert made.facts["left_out"]["val"] == {"cancer": 3, "unlabelled": 4}
    assert any("unknown" in note for note in made.notes)


def test_a_condition_that_is_unknown_of_all_is_refused(cohort):
    with pytest.raises(CohortError, match="density, which is unknown of all 5 normal training"):
        checked(cohort, settings({"conditions": ["density"]}))
    assert checked(cohort, settings({"conditions": ["view"]}))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"train": {"label": "cancr"}}, "accepted: cancer"),
        ({"model": {"level": "breast"}}, r"model\.level=breast: task=anomaly cannot"),
        ({"anomaly": {"method": "patchcore"}, "train": {"devices": 2}}, "one process"),
        ({"anomaly": {"method": "patchcore", "backbone": "resnet_18"}}, "unknown backbone"),
        ({"train": {"batch_size": 1}, "anomaly": {"shrink": 2}}, "one latent cell"),
        ({"anomaly": {"shrink": 3}}, "multiples of 12"),
    ],
)
def test_what_an_anomaly_model_cannot_obey_is_refused_before_work(cohort, values, message):
    with pytest.raises(ConfigError, match=message):
        checked(cohort, Config.model_validate({"task": "anomaly", **values}))


def test_codes_tell_the_unknown_from_a():
    rows = pl.DataFrame({"view": ["CC", "MLO", "ML", None], "density": ["A", "D", None, "C"]})
    codes = condition_codes(rows, ("view", "density"))
    assert codes.tolist() == [[0, 0], [1, 3], [2, 4], [2, 2]]
    assert condition_codes(rows, ()).shape == (4, 0)


@pytest.fixture(scope="module")
def vae_run(make_exams, tmp_path_factory):
    """Exams of which every other has cancer in one breast, an autoencoder told view and density."""
    cohort = make_exams(patients=16, test=4)
    run = tmp_path_factory.mktemp("runs") / "vae"
    config = settings({"conditions": ["view", "density"]}, ema=0.5)
    fit(cohort, run, config, 0, bar=False)
    finish_run(run, cohort)
    return run, cohort


def test_an_autoencoder_is_trained_exported_scored_and_measured(vae_run):
    run, cohort = vae_run
    facts = json.loads((run / "run.json").read_text())
    history = pl.read_csv(run / "history.csv")
    assert history["val_psnr"].is_finite().all()
    assert history["train_kl"].is_finite().all()
    assert facts["best"]["psnr"] == pytest.approx(history["val_psnr"].max(), rel=1e-5)
    predictions = pl.read_parquet(run / "predictions.parquet")
    # The cancers of the fold are scored too, for the report.
    assert set(predictions.filter(pl.col("split") == "val")["cancer"]) == {0, 1}
    normal = predictions.filter((pl.col("split") == "val") & (pl.col("cancer") == 0))
    assert normal["logit"].mean() == pytest.approx(0.0, abs=1e-3)
    assert normal["logit"].std() == pytest.approx(1.0, abs=1e-3)
    assert facts["normal"]["images"] == normal.height
    assert predictions["anomaly"].min() > 0
    maps = pl.read_parquet(run / "anomaly_maps.parquet")
    assert maps["image_id"].to_list() == predictions["image_id"].to_list()
    assert maps["original"].is_not_null().any()
    report = evaluate_run(run, cohort=cohort).report
    assert set(report["levels"]) == {"image", "breast", "exam"}
    assert 0 <= report["levels"]["image"]["metrics"]["auroc"]["value"] <= 1
    assert report["levels"]["image"]["operating_points"][0]["name"] == "specificity=0.95"


def test_no_calibration_is_made_of_a_rank(vae_run):
    run, _ = vae_run
    with pytest.raises(RunError, match="task anomaly: calibration"):
        calibrate_run(run, ["evaluation.calibration=none"])


def test_units_and_weights_of_a_run_are_found_again(vae_run):
    run, _ = vae_run
    model, config, _ = load_network(run)
    assert config.anomaly.conditions == ("view", "density")
    weights = load_file(run / "weights.safetensors")
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_a_memory_is_filled_in_one_pass_from_normal_images_alone(cohort, tmp_path, monkeypatch):
    seen = []
    read = PreparedStore.read
    monkeypatch.setattr(
        PreparedStore, "read", lambda self, name: (seen.append(name), read(self, name))[1]
    )
    made = fit(cohort, tmp_path / "run", settings({"method": "patchcore"}, epochs=5), 0, bar=False)
    assert made.epochs == 1
    assert made.best > 0
    parts = checked(cohort, settings())
    assert sorted(seen) == sorted([*parts["train"]["image_id"], *parts["val"]["image_id"]])
    model, _, _ = load_network(tmp_path / "run")
    assert len(torch.unique(model.bank, dim=0)) == 20
    finish_run(tmp_path / "run", cohort)
    predictions = pl.read_parquet(tmp_path / "run" / "predictions.parquet")
    by_class = predictions.group_by("cancer").agg(pl.col("logit").mean()).sort("cancer")
    # A bright disc is easy to tell from noise.
    assert by_class["logit"][1] > by_class["logit"][0] + 1


def test_a_memory_is_the_same_at_any_precision(cohort, tmp_path):
    banks = []
    for precision in ("32-true", "bf16-mixed"):
        run = tmp_path / precision
        fit(cohort, run, settings({"method": "patchcore"}, precision=precision), 0, bar=False)
        banks.append(load_file(run / "weights.safetensors")["bank"])
    assert banks[1].dtype == torch.float32
    assert torch.equal(*banks)


def test_a_memory_that_was_filled_before_the_run_was_stopped_is_not_filled_again(cohort, tmp_path):
    run, config = tmp_path / "run", settings({"method": "patchcore"}, epochs=5)
    before = fit(cohort, run, config, 0, bar=False)
    bank = load_file(run / "weights.safetensors")["bank"]
    facts = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(facts | {"status": "training"}))
    after = fit(cohort, run, config, 0, bar=False, resume=True)
    assert after.epochs == before.epochs == 1
    assert torch.equal(load_file(run / "weights.safetensors")["bank"], bank)


def test_features_of_a_network_that_may_have_learnt_from_cancers_are_told(cohort, tmp_path, quick):
    classifier = tmp_path / "classifier"
    fit(cohort, classifier, quick(epochs=1), 1, bar=False)
    config = settings({"method": "patchcore", "weights": classifier / "weights.safetensors"})
    notes = PLAN.make(PreparedStore(cohort), checked(cohort, config), config, fresh=True).notes
    assert any("learnt from cancers" in note for note in notes)


def test_two_memories_of_one_seed_are_alike_and_of_two_seeds_are_not(cohort, tmp_path):
    banks = []
    for number, seed in enumerate((3, 3, 4)):
        run = tmp_path / str(number)
        fit(cohort, run, settings({"method": "patchcore"}, seed=seed), 0, bar=False)
        banks.append(load_file(run / "weights.safetensors")["bank"])
    assert torch.equal(banks[0], banks[1])
    assert not torch.equal(banks[0], banks[2])


def test_a_resumed_autoencoder_equals_an_uninterrupted_one(cohort, tmp_path):
    config = settings(epochs=3, ema=0.5)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    fit(cohort, whole, config, 0, bar=False)
    told = []

    def after_the_first(row):
        told.append(row)
        if len(told) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(cohort, stopped, config, 0, bar=False, progress=after_the_first)
    fit(cohort, stopped, config, 0, bar=False, resume=True)
    ours, theirs = (load_file(run / "weights.safetensors") for run in (stopped, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_kl_term_warms_up_over_its_share_of_the_steps(cohort):
    config = settings({"kl_weight": 0.2, "kl_warmup": 0.5})
    store = PreparedStore(cohort)
    task = PLAN.make(store, checked(cohort, config), config, fresh=True).task

    class Trainer:
        estimated_stepping_batches = 40
        global_step = 0

    task._trainer = trainer = Trainer()
    weights = []
    for trainer.global_step in (0, 10, 20, 39):
        weights.append(task.kl_weight())
    assert weights == pytest.approx([0.0, 0.1, 0.2, 0.2])


def test_a_graph_that_differs_from_the_network_is_refused(cohort, tmp_path, monkeypatch):
    from mammoscope.inference import AnomalyScorer

    run = tmp_path / "run"
    fit(cohort, run, settings({"method": "patchcore"}), 0, bar=False)
    plain = AnomalyScorer.__call__

    def moved(self, *given):
        made = plain(self, *given)
        made.heatmap[:, 2, 2] += 5.0
        return made

    monkeypatch.setattr(AnomalyScorer, "__call__", moved)
    with pytest.raises(RunError, match="in the map"):
        finish_run(run, cohort)
    assert json.loads((run / "run.json").read_text())["status"] == "trained"
