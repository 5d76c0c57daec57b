"""Weights to start from, and whether their images were prepared like those that are to come."""

from __future__ import annotations

from pathlib import Path

from mammoscope.artefacts import read_json
from mammoscope.config import ModelConfig, PreprocessConfig
from mammoscope.errors import ConfigError, RunError
from mammoscope.training.run_folder import RECORD, differing_keys

__all__ = ["check_origin"]

# A network without a fixed size takes these as they come; grey values and orientation it does not.
_BEARABLE = frozenset({"height", "width", "margin", "resolution"})


def check_origin(model: ModelConfig, preprocess: PreprocessConfig) -> list[str]:
    """Compare how images were prepared that ``model.weights`` have learnt from.

    Only the weights of a run say so, by the record beside them.

    Args:
        model: Names the weights, and whether they may come from other images.
        preprocess: How the images are prepared that training will see.

    Returns:
        A sentence that a user should read where they differ and may.

    Raises:
        ConfigError: If they differ in more than size; the keys are named.
    """
    if model.weights is None or not (Path(model.weights).parent / RECORD).is_file():
        return []
    learnt = read_json(Path(model.weights).parent / RECORD, RunError).get("preprocess")
    if not isinstance(learnt, dict):
        return []
    ours = preprocess.model_dump(mode="json")
    keys = differing_keys(learnt, ours, "prepare")
    told = ", ".join(
        f"{key} {ours.get(name)!r} (theirs {learnt.get(name)!r})"
        for key in keys
        for name in [key.removeprefix("prepare.")]
    )
    if not keys:
        return []
    strange = {key.removeprefix("prepare.") for key in keys} - _BEARABLE
    if strange and model.weights_prepared == "alike":
        raise ConfigError(
            f"weights {model.weights} have learnt from images prepared otherwise: {told}; prepare "
            "the cohort as theirs was, or set model.weights_prepared=any"
        )
    return [f"weights {model.weights} have learnt from images prepared otherwise: {told}"]
