"""Answers of runs of two stages, outline and then tell apart, where they differ."""

from __future__ import annotations

from typing import Any

from mammoscope.evaluation.checklists import about_model
from mammoscope.evaluation.evidence import Evidence, kind, measured_split
from mammoscope.evaluation.measures import estimated

__all__ = [
    "diagnostic",
    "failures",
    "imbalance",
    "internal",
    "measures",
    "missing",
    "model",
    "model_file",
    "outputs",
    "performance",
    "reference",
    "thresholds",
]


def model(e: Evidence) -> str:
    """Both networks as configured."""
    settings, first = e["config"]["stages"], e["run"].get("first_stage", {})
    digest = first.get("model_sha256", "unknown")[:16]
    return (
        f"The first stage outlines (a run of task segment, model sha256 {digest}…). The second, "
        f"{e['config']['model']['backbone']}, sees each outlined part with "
        f"{settings['margin']:.0%} of its longer side on every side, scaled to "
        f"{settings['cutout_px']} pixels, and tells apart {_listed(e)}. It "
        f"learnt from {settings['learn_from']} masks."
    )


def outputs(e: Evidence) -> str:
    """Parts and scores of classes."""
    return (
        "Outlined parts of an image, each with a score for each of the classes "
        f"{_listed(e)}. Scores rank; they are no probabilities."
    )


def thresholds(e: Evidence) -> str:
    """None is chosen."""
    return (
        f"No threshold is chosen: a part is called {_listed(e, 'or')}, whichever has the highest "
        "score."
    )


def model_file(e: Evidence) -> str:
    """Both exported graphs."""
    digest = e["run"]["hashes"].get("segmenter.onnx", "unknown")[:16]
    return f"{about_model.model_file(e)} segmenter.onnx, the first stage, sha256 {digest}…."


def imbalance(e: Evidence) -> str:
    """How many cut-outs of each class were learnt from."""
    counts = e["run"].get("cutouts", {})
    told = ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()))
    return f"Classes count alike in the loss; training cut-outs: {told or 'not counted'}."


def reference(e: Evidence) -> str:
    """The findings that are told apart."""
    kinds = ", ".join(e["config"]["lesions"]["kinds"]) or "all kinds"
    return (
        f"Outlines of findings.parquet, {kinds}, and its column 'malignant'; "
        f"{_listed(e)} are told apart."
    )


def missing(e: Evidence) -> str:
    """What is left out."""
    return (
        "Lesions of which nobody says whether they are malignant are neither learnt from nor "
        f"among the {e['report']['first_stage']['lesions']:,} measured."
    )


def measures(e: Evidence) -> str:
    """Names of what is measured."""
    return (
        "Lesions found, Dice and false parts per image of the first stage; balanced accuracy, "
        f"accuracy (classes {_listed(e)}) and AUROC (malignant against benign) of the second, on "
        "true and on predicted masks; lesions found and called right."
    )


def performance(e: Evidence) -> str:
    """Both stages together, and each."""
    report = e["report"]
    first = report["first_stage"]
    return (
        f"{measured_split(e)}, {first['lesions']:,} lesions on {first['images']:,} images: found "
        f"and called right {estimated('together', report['together'])}; the first stage finds "
        f"{estimated('found', first['found'])}, Dice {estimated('dice', first['dice'])}, "
        f"{estimated('false_parts', first['false_parts'])} false parts per image."
    )


def diagnostic(e: Evidence) -> str:
    """The second stage on true and on predicted masks."""
    report = e["report"]
    return (
        f"{kind(e)}Second stage on true masks: {_second(report['true'])}; on predicted masks of "
        f"lesions that are found: {_second(report['same_predicted'])}."
    )


def internal(e: Evidence) -> str:
    """Validation figure of the second stage."""
    value = next(value for name, value in e["run"]["best"].items() if name != "epoch")
    title = e["run"].get("measure", {"title": "figure"})["title"]
    return (
        f"{kind(e)}Validation fold {e['run']['fold']}: {title} {value:.3f} of the second stage, "
        "which also chose the epoch."
    )


def failures(e: Evidence) -> str:
    """What each stage loses."""
    report = e["report"]
    lesions, found = report["first_stage"]["lesions"], report["same_predicted"]["n"]
    right = sum(
        counts[number] for number, counts in enumerate(report["same_predicted"]["confusion"])
    )
    return (
        f"{kind(e)}Of {lesions:,} lesions the first stage misses {lesions - found:,}; of those "
        f"found the second calls {found - right:,} wrong."
    )


def _listed(e: Evidence, word: str = "and") -> str:
    """Return the classes as a sentence lists them."""
    *others, last = e["report"]["classes"]
    return f"{', '.join(others)} {word} {last}"


def _second(made: dict[str, Any]) -> str:
    told = {name: estimated(name, made[name]) for name in ("balanced_accuracy", "malignant_auroc")}
    return (
        f"balanced accuracy {told['balanced_accuracy']} on {made['n']:,}, AUROC of malignant "
        f"against benign {told['malignant_auroc']}"
    )
