"""What a report measures: each measure's formula, its name for people, and how it is written."""

from __future__ import annotations

from collections.abc import Callable

from mammoscope.config import EvaluationConfig
from mammoscope.evaluation.bootstrap import Measure
from mammoscope.evaluation.metrics import mcclish, pf1_of
from mammoscope.evaluation.weighted import Calls
from mammoscope.types import Floats

__all__ = [
    "ANOMALY_MEASURES",
    "CALIBRATION_MEASURES",
    "estimated",
    "measures_at",
    "measures_of_ranks",
    "shown",
    "written",
    "written_p",
]

#: Names for people of what :mod:`mammoscope.evaluation.reliability` measures.
CALIBRATION_MEASURES = {
    "brier": "Brier score",
    "ece": "Expected calibration error",
    "intercept": "Calibration intercept (0 is right)",
    "slope": "Calibration slope (1 is right)",
}
#: Those of images that a report on an anomaly model shows, in order.
ANOMALY_MEASURES = {
    "auroc": "AUROC",
    "average_precision": "Average precision",
    "f1": "F1",
    "accuracy": "Accuracy",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "precision": "Precision (PPV)",
    "best_f1": "F1 at the best threshold of these data",
}
# In screening these are a few thousandths.
_SMALL = frozenset({"brier", "ece", "mean_score", "share"})


def measures_at(threshold: float) -> dict[str, Measure]:
    """Return the measures that need a threshold."""

    def measure(read: Callable[[Calls], Floats]) -> Measure:
        return lambda data: read(data.calls(threshold))

    return {
        "sensitivity": measure(lambda c: c.sensitivity),
        "specificity": measure(lambda c: c.specificity),
        "precision": measure(lambda c: c.precision),
        "accuracy": measure(lambda c: c.accuracy),
        "f1": measure(lambda c: c.f1),
        "detections_per_1000": measure(lambda c: c.detections_per_1000),
        "recalls_per_1000": measure(lambda c: c.recalls_per_1000),
    }


def measures_of_ranks(config: EvaluationConfig) -> dict[str, Measure]:
    """Return the measures that need no frozen threshold, by the names of ``report.json``."""
    low, high = config.partial_specificity

    def sensitivity_at(specificity: float) -> Measure:
        return lambda data: data.steps.sensitivity_at(specificity)

    return {
        "auroc": lambda data: data.steps.auroc(),
        "partial_auroc": lambda data: data.steps.partial_auroc(low, high),
        "partial_auroc_standardised": lambda data: mcclish(
            data.steps.partial_auroc(low, high), low, high
        ),
        **{f"sensitivity_at_specificity_{s:g}": sensitivity_at(s) for s in config.specificities},
        "average_precision": lambda data: data.steps.average_precision(),
        "pf1": pf1_of,
        "best_f1": lambda data: data.steps.best_f1(),
    }


def shown(config: EvaluationConfig) -> dict[str, str]:
    """Return the measures' names for people, in order."""
    low, high = config.partial_specificity
    return {
        "auroc": "AUROC",
        "partial_auroc": f"Partial AUROC, specificity {low:g} to {high:g}",
        "partial_auroc_standardised": "The same, standardised (McClish)",
        **{
            f"sensitivity_at_specificity_{s:g}": f"Sensitivity at specificity {s:g}"
            for s in config.specificities
        },
        "average_precision": "Average precision",
        "pf1": "pF1",
        "best_f1": "F1 at the best threshold of these data",
        "f1": "F1",
        "sensitivity": "Sensitivity",
        "specificity": "Specificity",
        "precision": "Precision (PPV)",
        "accuracy": "Accuracy",
        "detections_per_1000": "Cancer detection rate per 1,000",
        "recalls_per_1000": "Recall rate per 1,000",
    }


def written(name: str, value: float | None) -> str:
    """Write a value: rates per thousand with one digit, shares with three, small ones with four."""
    if value is None:
        return "undefined"
    if name.endswith("_per_1000"):
        return f"{value:.1f}"
    return f"{value:.4f}" if name in _SMALL else f"{value:.3f}"


def estimated(name: str, metric: dict[str, float | None]) -> str:
    """Write a value with its interval, where it has one."""
    value, low, high = (written(name, metric[key]) for key in ("value", "low", "high"))
    return value if metric["low"] is None else f"{value} ({low} to {high})"


def written_p(p: float | None) -> str:
    """Write a p value; below a thousandth its digits are not to be trusted."""
    if p is None:
        return "undefined"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
