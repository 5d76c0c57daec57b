"""From logits to scores that can be read as chances: fitted on validation, part of the graph.

A network trained with a weighted loss on an enriched cohort gives logits in the right order and
on a scale of its own. A calibration is a map of one logit that never falls, fitted on images
that its network did not learn from, so that ranks stay. It is arithmetic of a few numbers,
which :mod:`mammoscope.graphs` writes into the exported graph.

Sources: Platt, Advances in Large Margin Classifiers, 1999 (two parameters, targets drawn in);
Guo et al., ICML 2017 (temperature); Zadrozny and Elkan, KDD 2002 (isotonic); Niculescu-Mizil and
Caruana, ICML 2005 (isotonic regression overfits where Platt's method does not); Vergouwe et al.,
J. Clin. Epidemiol. 58, 2005 (100 events to judge a calibration by); Saerens, Latinne and
Decaestecker, Neural Computation 14, 2002 (another prevalence).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from mammoscope.config import EvaluationConfig
from mammoscope.evaluation.metrics import auroc
from mammoscope.evaluation.tables import Level
from mammoscope.types import Bools, Floats, Ints

__all__ = [
    "IDENTITY",
    "Calibration",
    "Method",
    "calibration_of",
    "fit_calibration",
    "odds_ratio",
    "prevalence_of",
]

Method = Literal["none", "temperature", "platt", "isotonic"]

#: Fewest patients with a positive, and with a negative, that a calibration is fitted on.
LEAST = 5
#: The same for isotonic regression, which follows every bend of the data.
LEAST_ISOTONIC = 100
# AUROC of scores that say nothing.
_CHANCE = 0.5


@dataclass(frozen=True, slots=True)
class Calibration:
    """A map from logits to scores in [0, 1] that never falls.

    Attributes:
        method: What was fitted; ``none`` is the plain sigmoid.
        slope: Of temperature (1 / T) and Platt, above 0.
        intercept: Of Platt.
        knots: Logits, rising, between which an isotonic map is a straight line.
        levels: Its scores at the knots, never falling; beyond the ends it is level.
        fitted_prevalence: Share of positives among what it was fitted on.
        prevalence: Share of positives that scores are corrected to; ``None`` for the fitted one.
        images: How many it was fitted on: images, or breasts or exams that are scored as such.
        positives: How many of them are positive.
    """

    method: Method = "none"
    slope: float = 1.0
    intercept: float = 0.0
    knots: tuple[float, ...] = ()
    levels: tuple[float, ...] = ()
    fitted_prevalence: float | None = None
    prevalence: float | None = None
    images: int = 0
    positives: int = 0

    @property
    def is_identity(self) -> bool:
        """Whether scores are the plain sigmoid of the logit."""
        return self.method == "none"

    @property
    def odds_ratio(self) -> float:
        """What the odds of a score are multiplied by to get to the other prevalence.

        With p the fitted share and q the other one it is q (1 - p) / (p (1 - q)): likelihoods
        stay, the odds before the image change (Saerens et al. 2002, equation 2.4).
        """
        if self.prevalence is None or self.fitted_prevalence is None:
            return 1.0
        return odds_ratio(self.fitted_prevalence, self.prevalence)

    def __call__(self, logit: Floats) -> Floats:
        """Return scores in [0, 1], (N,) float64, of logits (N,)."""
        if self.method == "isotonic":
            chance = np.interp(logit, self.knots, self.levels)
            ratio = self.odds_ratio
            return np.asarray(ratio * chance / (ratio * chance + 1 - chance), np.float64)
        shifted = self.slope * logit + self.intercept + np.log(self.odds_ratio)
        return np.asarray(_sigmoid(shifted), np.float64)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        values = asdict(self)
        return values | {"knots": list(self.knots), "levels": list(self.levels)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Calibration:
        """Read what :meth:`as_dict` wrote, other keys beside it left alone."""
        own = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        own |= {name: tuple(own.get(name, ())) for name in ("knots", "levels")}
        return cls(**own)

    def sentence(self, level: str = "image") -> str:
        """Say what was done, for people; ``level`` is what was fitted on."""
        if self.method == "none":
            return "Scores are the plain sigmoid of the logit: read them as ranks."
        how = {
            "temperature": f"temperature {1 / self.slope:.3g}",
            "platt": f"Platt's method, slope {self.slope:.3g}, intercept {self.intercept:+.3g}",
            "isotonic": f"isotonic regression, {len(set(self.levels))} different scores",
        }[self.method]
        fitted = f"{self.images} {level}s, {self.fitted_prevalence:.1%} of them positive"
        text = f"Scores are calibrated by {how}, fitted on {fitted}"
        if self.prevalence is not None:
            text += f", and corrected to a share of positive {level}s of {self.prevalence:.2%}"
        return f"{text}."


IDENTITY = Calibration()


def calibration_of(record: dict[str, Any], level: Level) -> tuple[Calibration, Level]:
    """Return what calibrated the scores of a level, and the level that it was fitted on.

    Scores of breasts and exams that the model does not give are made of those below them.

    Args:
        record: ``calibration`` of ``run.json``; empty of a run that knows none.
        level: Image, breast or exam.
    """
    joined = record.get("joined", {})
    below: tuple[Level, ...] = ("exam", "breast")
    for own in below[below.index(level) :] if level in below else ():
        if own in joined:
            return Calibration.from_dict(joined[own]), own
    return Calibration.from_dict(record) if record else IDENTITY, "image"


def odds_ratio(share: float, other: float) -> float:
    """Return what odds are multiplied by to get from one share to another."""
    return other * (1 - share) / (share * (1 - other))


def prevalence_of(share: float, image_share: float, prevalence: float | None) -> float | None:
    """Return the prevalence of breasts or exams that goes with one of images.

    Where cancers are rarer by some factor of odds among images, they are rarer by about the
    same among breasts and exams: all of a woman's are drawn together.

    Args:
        share: Of positives among validation breasts or exams.
        image_share: Of positives among validation images.
        prevalence: Of images.
    """
    if prevalence is None or not 0 < share < 1 or not 0 < image_share < 1:
        return None
    ratio = odds_ratio(image_share, prevalence)
    return ratio * share / (ratio * share + 1 - share)


def fit_calibration(
    logit: Floats,
    label: Bools,
    patient: Ints,
    config: EvaluationConfig,
    prevalence: float | None = None,
) -> tuple[Calibration, list[str]]:
    """Fit the configured calibration.

    Args:
        logit: (N,) of images, breasts or exams that their network has not learnt from.
        label: (N,).
        patient: (N,) the same number for the same patient.
        config: Which method.
        prevalence: Share of positives, of their kind, to correct to.

    Returns:
        The calibration and sentences that a user should read. Where there are fewer than five
        patients with a positive or with a negative, or scores rank the wrong way, it is the
        plain sigmoid and a sentence says so: a calibration must keep ranks. Isotonic regression
        needs a hundred, else Platt's method takes its place.
    """
    left = "" if prevalence is None else ", nor corrected to another prevalence"
    method, notes = _affordable(config.calibration, label, patient, left)
    if method == "none":
        return IDENTITY, notes
    fitted: dict[str, Any]
    if method == "isotonic":
        fitted = _isotonic(logit, label)
        rises = (auroc(logit, label) or 0.0) > _CHANCE
    else:
        fitted = _logistic(logit, label, offset=method == "platt")
        rises = fitted["slope"] > 0
    if not rises:
        return IDENTITY, [
            f"Scores are not calibrated{left}: on validation images positives do not score above "
            "negatives, and a calibration that keeps ranks cannot mend that."
        ]
    positives = int(label.sum())
    share = positives / label.size
    made = Calibration(
        method=method,
        fitted_prevalence=share,
        prevalence=prevalence,
        images=int(label.size),
        positives=positives,
        **fitted,
    )
    return made, notes


def _affordable(method: Method, label: Bools, patient: Ints, left: str) -> tuple[Method, list[str]]:
    """Return the method that as many patients allow, and why it is another than was asked for."""
    sick, healthy = (int(np.unique(patient[side]).size) for side in (label, ~label))
    counted = f"{sick} patients with a positive and {healthy} with a negative are too few"
    if method != "none" and min(sick, healthy) < LEAST:
        return "none", [
            f"Scores are not calibrated{left}: {counted}, at least {LEAST} of each are needed."
        ]
    if method == "isotonic" and min(sick, healthy) < LEAST_ISOTONIC:
        return "platt", [
            f"Scores are calibrated by Platt's method instead of isotonic regression: {counted} "
            f"for that, at least {LEAST_ISOTONIC} of each are needed."
        ]
    return method, []


def _logistic(logit: Floats, label: Bools, *, offset: bool) -> dict[str, float]:
    """Fit slope and intercept by maximum likelihood.

    Targets are drawn in: without that, classes that do not overlap have no finite slope.
    """
    low, high = _drawn_in(label)
    target = np.where(label, high, low)
    # scikit-learn takes no targets between 0 and 1: every image stands in both classes,
    # weighted by how much it belongs there.
    twice = np.concatenate([logit, logit])[:, None]
    weight = np.concatenate([target, 1 - target])
    classes = np.repeat([1, 0], label.size)
    regression = LogisticRegression(
        C=np.inf, fit_intercept=offset, solver="newton-cholesky", tol=1e-8
    )
    regression.fit(twice, classes, sample_weight=weight)
    fitted = {"slope": float(regression.coef_[0, 0])}
    return fitted | ({"intercept": float(regression.intercept_[0])} if offset else {})


def _drawn_in(label: Bools) -> tuple[float, float]:
    """Return Platt's targets, 1 / (N + 2) and (P + 1) / (P + 2), in the place of 0 and 1.

    They are the shares after one more image of each class on the other side.
    """
    positives = int(label.sum())
    return 1 / (label.size - positives + 2), (positives + 1) / (positives + 2)


def _isotonic(logit: Floats, label: Bools) -> dict[str, tuple[float, ...]]:
    low, high = _drawn_in(label)
    # No score is certain: the outermost blocks would be 0 and 1.
    regression = IsotonicRegression(y_min=low, y_max=high, out_of_bounds="clip")
    regression.fit(logit, label.astype(np.float64))
    return {
        "knots": tuple(float(x) for x in regression.X_thresholds_),
        "levels": tuple(float(y) for y in regression.y_thresholds_),
    }


def _sigmoid(values: Floats) -> Floats:
    # Written with exp of what is below 0, which cannot overflow.
    small = np.exp(-np.abs(values))
    return np.where(values >= 0, 1 / (1 + small), small / (1 + small))
