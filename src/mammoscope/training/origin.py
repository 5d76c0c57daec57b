"""Weights to start from: which images they have learnt from, and how those were prepared.

A run writes this into its weights themselves: a file is soon copied to where no ``run.json`` lies
beside it, and would then be taken for one that has seen nothing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from mammoscope.artefacts import canonical_json, read_json, sha256_file
from mammoscope.cohort.store import PreparedStore
from mammoscope.config import Config
from mammoscope.errors import ConfigError, RunError
from mammoscope.training.run_folder import RECORD, WEIGHTS, differing_keys, fold_folder, read_run

__all__ = ["check_origin", "learnt_before", "origin_metadata", "with_weights_of_fold"]

# The key of safetensors' metadata.
_KEY = "mammoscope"
# A network without a fixed size takes these as they come; grey values and orientation it does not.
_BEARABLE = frozenset({"height", "width", "margin", "resolution"})
_FLATTERS = (
    "what is measured on them, thresholds and calibration included, will look better than it is"
)

#: Hashes of a manifest and its splits, and the fold of them that was held out.
Place = dict[str, Any]


def origin_metadata(facts: dict[str, Any]) -> dict[str, str]:
    """Return what the weights of a run say of themselves, as metadata of safetensors.

    Args:
        facts: The run's record.
    """
    told = {
        "task": facts["config"]["task"],
        "preprocess": facts["preprocess"],
        # Its folder is left out: the same run in another place gives the same bytes.
        "cohort": {k: v for k, v in facts["cohort"].items() if k.endswith("_sha256")},
        "fold": facts["fold"],
        "learnt_before": facts["learnt_before"],
    }
    # One key: safetensors writes several in an order of its own, and equal runs are to give
    # equal bytes.
    return {_KEY: canonical_json(told)}


def with_weights_of_fold(config: Config, store: PreparedStore, fold: int) -> Config:
    """Name the weights of one fold where a configuration names the run of all folds.

    Args:
        config: What is to be trained.
        store: The images that training will see.
        fold: The fold that validates.

    Raises:
        ConfigError: If the folder is no run of all folds, or one of other splits or folds.
        RunError: If its record is of another format, or that fold is not finished.
    """
    folder = config.weights
    if folder is None or not folder.is_dir():
        return config
    named = f"{config.weights_key}={folder}"
    if not (folder / RECORD).is_file():
        raise ConfigError(
            f"{named} is a folder without {RECORD}: name a safetensors file, or the folder of a "
            "run of all folds (mammoscope train --folds all)"
        )
    facts = read_run(folder)
    if "folds" not in facts:
        raise ConfigError(
            f"{named} is a run of fold {facts.get('fold')} alone: name {folder / WEIGHTS}, or the "
            "folder of a run of all folds (mammoscope train --folds all)"
        )
    if facts["cohort"].get("splits_sha256") != sha256_file(store.cohort / "splits.parquet"):
        raise ConfigError(
            f"{named} was trained on other splits than those of {store.cohort}, so that its folds "
            f"are others: name the {WEIGHTS} of one of them"
        )
    if fold not in facts["folds"]:
        raise ConfigError(f"{named} has the folds {facts['folds']}, and not fold {fold}")
    section = config.weights_key.partition(".")[0]
    model = getattr(config, section).model_copy(
        update={"weights": _finished_weights(fold_folder(folder, fold))}
    )
    return config.model_copy(update={section: model})


def _finished_weights(run: Path) -> Path:
    """Return the weights of a fold of a run, whole and of the epoch that was kept in the end."""
    status = read_run(run).get("status")
    if status not in ("trained", "finished"):
        raise RunError(f"{run} is {status}, not finished: go on with its run of all folds first")
    try:
        # The whole of a file is as long as its head says; every fold's is looked at before any
        # fold is trained.
        with safe_open(run / WEIGHTS, framework="numpy"):
            return run / WEIGHTS
    except (OSError, SafetensorError) as error:
        raise RunError(f"weights {run / WEIGHTS} cannot be read as safetensors: {error}") from error


def check_origin(config: Config, store: PreparedStore, fold: int) -> list[str]:
    """Compare what the weights to start from have learnt from with what training will see.

    Weights of a run say so themselves; of earlier versions the record beside them does.

    Args:
        config: Names the file of weights, whether they may come from images prepared otherwise,
            and whether they may have learnt from what is held out.
        store: The images that training will see.
        fold: The fold that validates.

    Returns:
        Sentences that a user should read: of another preparation, and of held-out images that
        have been learnt from, where that is allowed.

    Raises:
        ConfigError: If the images were prepared otherwise in more than size, the keys are named;
            or some that are held out here have been learnt from.
        RunError: If what the weights say of themselves cannot be read.
    """
    weights = config.weights
    told = None if weights is None else _told_by(weights)
    if weights is None or told is None:
        return []
    return [
        *_prepared(weights, told, config, store),
        *_held_out(weights, told, config, store, fold),
    ]


def learnt_before(config: Config) -> list[Place]:
    """Return where the weights to start from have learnt, and those that they started from.

    Weights that went from one cohort to another and back have not forgotten the first.

    Raises:
        RunError: If what they say of themselves cannot be read.
    """
    told = None if config.weights is None else _told_by(config.weights)
    return [] if told is None else _places(told)


def _told_by(weights: Path) -> dict[str, Any] | None:
    """Return what weights say of themselves, or the record beside them, or nothing."""
    try:
        with safe_open(weights, framework="numpy") as opened:
            text = (opened.metadata() or {}).get(_KEY)
    except (OSError, SafetensorError):
        # What cannot be read is refused where it is loaded, in the words of that network.
        text = None
    if text is None:
        record = weights.parent / RECORD
        return read_json(record, RunError) if record.is_file() else None
    try:
        told = json.loads(text)
    except json.JSONDecodeError as error:
        raise RunError(f"weights {weights}: their metadata cannot be read as JSON") from error
    if not isinstance(told, dict):
        raise RunError(f"weights {weights}: their metadata holds no JSON object")
    return told


def _places(told: dict[str, Any]) -> list[Place]:
    """Return where weights have learnt, the last place first, each once."""
    cohort = told.get("cohort", {})
    own = {name: cohort.get(name) for name in ("manifest_sha256", "splits_sha256")}
    own["fold"] = told.get("fold")
    before = [place for place in told.get("learnt_before", []) if place != own]
    return [own, *before]


def _prepared(
    weights: Path, told: dict[str, Any], config: Config, store: PreparedStore
) -> list[str]:
    """Say how the images were prepared otherwise, or refuse it."""
    learnt = told.get("preprocess")
    if not isinstance(learnt, dict):
        return []
    ours = store.config.model_dump(mode="json")
    keys = [key.removeprefix("prepare.") for key in differing_keys(learnt, ours, "prepare")]
    if not keys:
        return []
    listed = ", ".join(f"prepare.{k} {ours.get(k)!r} (theirs {learnt.get(k)!r})" for k in keys)
    sentence = f"weights {weights} have learnt from images prepared otherwise: {listed}"
    if not _BEARABLE.issuperset(keys) and config.model.weights_prepared == "alike":
        raise ConfigError(
            f"{sentence}; prepare the cohort as theirs was, or set model.weights_prepared=any"
        )
    return [sentence]


def _held_out(
    weights: Path, told: dict[str, Any], config: Config, store: PreparedStore, fold: int
) -> list[str]:
    """Say where weights have learnt from images that are held out here, or refuse it."""
    ours = {
        f"{name}_sha256": sha256_file(store.cohort / f"{name}.parquet")
        for name in ("manifest", "splits")
    }
    for place in _places(told):
        if place["splits_sha256"] == ours["splits_sha256"]:
            # With the same splits the test images are held out there too.
            if place["fold"] == fold:
                continue
            seen = (
                f"weights {weights} are of a run that held out fold {place['fold']} and has learnt "
                f"from the images of fold {fold}, which validate here: {_FLATTERS}"
            )
            way_out = f"validate on their fold (--fold {place['fold']})"
            if config.task == "classify":
                way_out += (
                    ", or train that run with --folds all too and name its folder, so that each "
                    "fold starts from its own"
                )
        elif place["manifest_sha256"] == ours["manifest_sha256"]:
            seen = (
                f"weights {weights} have learnt from the same images, split otherwise: among them "
                f"may be some that validate here or are of the test split; {_FLATTERS}"
            )
            way_out = "train them anew on these splits"
        else:
            continue
        if config.model.weights_held_out == "unseen":
            raise ConfigError(f"{seen}; {way_out}, or set model.weights_held_out=any to go on")
        return [f"{seen}. To measure fairly, {way_out}"]
    return []
