"""From logits to scores that can be read as chances: fitted on validation, part of the graph.

A network trained with a weighted loss on an enriched cohort gives logits in the right order and
on a scale of its own. A calibration is a map of one logit that never falls, fitted on images
that its network did not learn from, so that ranks stay. It is arithmetic of a few numbers,
which :mod:`mammoscope.graphs` writes into the exported graph.

Sources: Platt, Advances in Large Margin Classifiers, 1999 (two parameters, targets drawn in);
Guo et al., ICML 2017 (temperature); Zadrozny and Elkan, KDD 2002 (isotonic); Niculescu-Mizil and
Caruana, ICML 2005 (how many images each needs); Saerens, Latinne and Decaestecker, Neural
Computation 14, 2002 (another prevalence).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from mammoscope.config import EvaluationConfig
from mammoscope.evaluation.metrics import auroc
from mammoscope.types import Bools, Floats

__all__ = ["IDENTITY", "Calibration", "Method", "fit_calibration"]

Method = Literal["none", "temperature", "platt", "isotonic"]

#: Fewest positives, and negatives, that a calibration is fitted on.
LEAST = 5
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
        fitted_prevalence: Share of positives among the images it was fitted on.
        prevalence: Share of positives that scores are corrected to; ``None`` for the fitted one.
        images: How many images it was fitted on.
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
        p, q = self.fitted_prevalence, self.prevalence
        return q * (1 - p) / (p * (1 - q))

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

    @property
    def sentence(self) -> str:
        """Say what was done, for people."""
        if self.method == "none":
            return "Scores are the plain sigmoid of the logit: read them as ranks."
        how = {
            "temperature": f"temperature {1 / self.slope:.3g}",
            "platt": f"Platt's method, slope {self.slope:.3g}, intercept {self.intercept:+.3g}",
            "isotonic": f"isotonic regression, {len(set(self.levels))} different scores",
        }[self.method]
        fitted = f"{self.images} images, {self.fitted_prevalence:.1%} of them positive"
        text = f"Scores are calibrated by {how}, fitted on {fitted}"
        if self.prevalence is not None:
            text += f", and corrected to a share of positive images of {self.prevalence:.2%}"
        return f"{text}."


IDENTITY = Calibration()


def fit_calibration(
    logit: Floats, label: Bools, config: EvaluationConfig
) -> tuple[Calibration, list[str]]:
    """Fit the configured calibration.

    Args:
        logit: (N,) of images that their network has not learnt from.
        label: (N,).
        config: Which method, and the prevalence to correct to.

    Returns:
        The calibration and sentences that a user should read. Where there are fewer than five
        images of a class, or scores rank the wrong way, it is the plain sigmoid and a sentence
        says so: a calibration must keep ranks.
    """
    method = config.calibration
    left = "" if config.prevalence is None else ", nor corrected to another prevalence"
    if method == "none":
        return IDENTITY, []
    positives = int(label.sum())
    if min(positives, label.size - positives) < LEAST:
        return IDENTITY, [
            f"Scores are not calibrated{left}: {positives} positive and {label.size - positives} "
            f"negative images with a label are too few, at least {LEAST} of each are needed."
        ]
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
    share = positives / label.size
    made = Calibration(
        method=method,
        fitted_prevalence=share,
        prevalence=config.prevalence,
        images=int(label.size),
        positives=positives,
        **fitted,
    )
    return made, []


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
