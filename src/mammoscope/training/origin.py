"""Weights to start from: which images they have learnt from, and how those were prepared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mammoscope.artefacts import read_json, sha256_file
from mammoscope.cohort.store import PreparedStore
from mammoscope.config import Config
from mammoscope.errors import ConfigError, RunError
from mammoscope.training.run_folder import RECORD, differing_keys

__all__ = ["check_origin"]

# A network without a fixed size takes these as they come; grey values and orientation it does not.
_BEARABLE = frozenset({"height", "width", "margin", "resolution"})


def check_origin(config: Config, store: PreparedStore, fold: int) -> list[str]:
    """Compare what the weights to start from have learnt from with what training will see.

    Only the weights of a run say so, by the record beside them.

    Args:
        config: Names the weights, and whether they may come from images prepared otherwise.
        store: The images that training will see.
        fold: The fold that validates.

    Returns:
        Sentences that a user should read: of another preparation, where that is allowed, and of
        images that validate here and have been learnt from.

    Raises:
        ConfigError: If the images were prepared otherwise in more than size; the keys are named.
    """
    weights = config.weights
    if weights is None or not (weights.parent / RECORD).is_file():
        return []
    facts = read_json(weights.parent / RECORD, RunError)
    return [*_prepared(weights, facts, config, store), *_learnt_from(weights, facts, store, fold)]


def _prepared(
    weights: Path, facts: dict[str, Any], config: Config, store: PreparedStore
) -> list[str]:
    """Say how the images were prepared otherwise, or refuse it."""
    learnt = facts.get("preprocess")
    if not isinstance(learnt, dict):
        return []
    ours = store.config.model_dump(mode="json")
    keys = [key.removeprefix("prepare.") for key in differing_keys(learnt, ours, "prepare")]
    if not keys:
        return []
    told = ", ".join(f"prepare.{k} {ours.get(k)!r} (theirs {learnt.get(k)!r})" for k in keys)
    sentence = f"weights {weights} have learnt from images prepared otherwise: {told}"
    if not _BEARABLE.issuperset(keys) and config.model.weights_prepared == "alike":
        raise ConfigError(
            f"{sentence}; prepare the cohort as theirs was, or set model.weights_prepared=any"
        )
    return [sentence]


def _learnt_from(
    weights: Path, facts: dict[str, Any], store: PreparedStore, fold: int
) -> list[str]:
    """Say where weights have learnt from images that are held out here."""
    theirs = facts.get("cohort", {})
    same = {
        name: theirs.get(f"{name}_sha256") == sha256_file(store.cohort / f"{name}.parquet")
        for name in ("manifest", "splits")
    }
    if same["splits"] and facts.get("fold") != fold:
        return [
            f"{weights} has learnt from the images of fold {fold}, which validate here: what is "
            "measured on them, thresholds and calibration included, will look better than it is. "
            f"Validate on its fold, {facts.get('fold')}"
        ]
    if same["manifest"] and not same["splits"]:
        return [
            f"{weights} has learnt from the same images, split otherwise: among them may be some "
            "that are held out here, on which it will look better than it is"
        ]
    return []
