"""Average precision of a split's candidates: of all, and of each kind that the model names."""

from __future__ import annotations

from typing import Any

import numpy as np

from mammoscope.config import EvaluationConfig
from mammoscope.evaluation.bootstrap import Draws, with_interval
from mammoscope.evaluation.lesions.average_precision import (
    Ranked,
    precision_steps,
    rank_candidates,
    replicates,
)
from mammoscope.evaluation.lesions.found import Found
from mammoscope.evaluation.lesions.matching import Candidates, Lesions
from mammoscope.evaluation.lesions.tables import UNNAMED
from mammoscope.types import Bools, Floats

__all__ = ["average_precisions", "precision_curve"]


def average_precisions(found: Found, config: EvaluationConfig) -> dict[str, Any]:
    """Return average precision at an overlap of 0.5, and over 0.5 to 0.95.

    Images with a lesion that nobody placed are left out, and lesions that are no targets are not
    judged.

    Returns:
        ``all``, whatever kind candidates are said to be of; ``kinds``, where the model names
        some: of each that is to be found, its candidates and lesions alone; and ``mean`` over
        them. Each has ``ap50`` and ``ap`` with intervals, and the number of ``lesions``.
    """
    draws = found.draws(config)
    made: dict[str, Any] = {"all": _told(_judged(found, None), found, draws, config)}
    if found.scene.kind is None:
        return made | {"kinds": {}, "mean": None}
    names = found.scene.findings["kind"].fill_null(UNNAMED).to_numpy()
    kinds = sorted({str(name) for name in names[found.wanted]})
    ranked = {kind: _judged(found, kind) for kind in kinds}
    made["kinds"] = {k: _told(v, found, draws, config) for k, v in ranked.items()}
    made["mean"] = _mean(list(ranked.values()), found, draws, config)
    return made


def precision_curve(found: Found) -> tuple[Floats, Floats]:
    """Return sensitivity and precision at an overlap of 0.5, candidates of any kind, (K,) each."""
    ranked = _judged(found, None)
    return precision_steps(ranked.hit[0], ranked.false[0], ranked.lesions.size)


def _judged(found: Found, kind: str | None) -> Ranked:
    """Judge the candidates of one kind, or of all."""
    scene = found.scene
    drawn = scene.certain[scene.candidates.image]
    there = scene.certain[scene.lesions.image]
    if kind is not None and scene.kind is not None:
        drawn = drawn & (np.array(scene.kind) == kind)
        there = there & (scene.findings["kind"].fill_null(UNNAMED).to_numpy() == kind)
    return rank_candidates(_some(scene.candidates, drawn), _those(scene.lesions, there))


def _told(ranked: Ranked, found: Found, draws: Draws, config: EvaluationConfig) -> dict[str, Any]:
    """Return the measures of one kind with intervals."""
    whole, drawn = _values(ranked, found, draws)
    return {
        "lesions": int(ranked.lesions.size),
        "ap50": with_interval(whole[0, 0], drawn[:, 0], config.confidence),
        "ap": with_interval(whole[0].mean(), drawn.mean(axis=1), config.confidence),
    }


def _mean(
    ranked: list[Ranked], found: Found, draws: Draws, config: EvaluationConfig
) -> dict[str, Any]:
    """Return the mean over kinds; a replicate without a kind leaves it undefined."""
    values = [_values(one, found, draws) for one in ranked]
    whole = np.mean([one for one, _ in values], axis=0)
    drawn = np.mean([sample for _, sample in values], axis=0)
    return {
        "lesions": sum(int(one.lesions.size) for one in ranked),
        "ap50": with_interval(whole[0, 0], drawn[:, 0], config.confidence),
        "ap": with_interval(whole[0].mean(), drawn.mean(axis=1), config.confidence),
    }


def _values(ranked: Ranked, found: Found, draws: Draws) -> tuple[Floats, Floats]:
    """Return average precision at every overlap, (1, T) and in every replicate, (R, T)."""
    once = np.ones((1, draws.shape[1]), np.uint16)
    patient = found.scene.patient
    return replicates(ranked, patient, once), replicates(ranked, patient, draws)


def _some(candidates: Candidates, chosen: Bools) -> Candidates:
    return Candidates(candidates.image[chosen], candidates.box[chosen], candidates.score[chosen])


def _those(lesions: Lesions, chosen: Bools) -> Lesions:
    return Lesions(lesions.image[chosen], lesions.box[chosen], lesions.target[chosen])
