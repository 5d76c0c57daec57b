"""Answers on results: performance, groups, failures, limits."""

from __future__ import annotations

from typing import Any

from mammoscope.config import EvaluationConfig
from mammoscope.evaluation.evidence import Evidence, kind, measured_split
from mammoscope.evaluation.folds import OF_SINGLE_FOLDS
from mammoscope.evaluation.measures import estimated, shown
from mammoscope.pages import written_score

__all__ = [
    "diagnostic",
    "explanation",
    "failures",
    "heterogeneity",
    "internal",
    "limitations",
    "measures",
    "performance",
    "pixels_add",
    "uncertainty",
]

_DIAGNOSTIC = ("sensitivity", "specificity", "precision")
# Positives below which an interval is too wide to rest anything on.
_FEW = 100
# Share of positives above which a cohort is no screening population.
_ENRICHED = 0.02


def measures(e: Evidence) -> str:
    """Names of what is measured."""
    config = EvaluationConfig.model_validate(e["report"]["evaluation"])
    return f"{', '.join(shown(config).values())}; by {' and by '.join(e['report']['levels'])}."


def uncertainty(e: Evidence) -> str:
    """How intervals are made."""
    how = e["report"]["evaluation"]
    told = (
        f"{how['confidence']:.0%} percentile intervals from {how['bootstrap']:,} bootstrap "
        f"replicates that draw patients with all their images, seed {how['seed']}. Shares without "
        "exception have the exact interval of Clopper and Pearson, by patients"
    )
    if e["config"]["task"] == "classify" and e["report"]["calibration"]["levels"]:
        told += (
            "; calibration slope and intercept that of the sandwich over patients, the calibration "
            "error one whose lower end allows for what noise adds to it"
        )
    return f"{told}."


def performance(e: Evidence) -> str:
    """AUROC by level."""
    told = "; ".join(
        f"AUROC by {level} {estimated('auroc', values['metrics']['auroc'])} on {values['n']:,} "
        f"{level}s, {values['positives']:,} positive"
        for level, values in e["report"]["levels"].items()
    )
    return f"{measured_split(e)}: {told}."


def diagnostic(e: Evidence) -> str:
    """Sensitivity and its like at the frozen threshold."""
    told = []
    for level, values in e["report"]["levels"].items():
        figures = ", ".join(
            f"{name} {estimated(name, values['metrics'][name])}" for name in _DIAGNOSTIC
        )
        told.append(f"by {level} at {written_score(values['threshold'], 4)}: {figures}")
    return f"{kind(e)}At the frozen point {e['report']['primary']}, {'; '.join(told)}."


def internal(e: Evidence) -> str:
    """Validation figures."""
    values, fold = e["report"]["validation"]["image"], e["run"]["fold"]
    where = "Out of fold" if fold is None else f"Validation fold {fold}"
    area = estimated("auroc", values["metrics"]["auroc"])
    return (
        f"{kind(e)}{where}: AUROC by image {area} on {values['n']:,} images, which also chose "
        "the epoch and the thresholds."
    )


def heterogeneity(e: Evidence) -> str | None:
    """The largest gap between groups."""
    found = e["report"]["subgroups"].get("image")
    if found is None or not found["groups"]:
        return None
    names = sorted({str(group["attribute"]) for group in found["groups"]})
    return f"{kind(e)}Measured by {', '.join(names)}. {found['gap']['sentence']}"


def pixels_add(e: Evidence) -> str | None:
    """The model beside age and machine alone."""
    made = e["report"]["baseline"]
    if made is None or not made["levels"]:
        return None
    return kind(e) + " ".join(values["sentence"] for values in made["levels"].values())


def explanation(e: Evidence) -> str | None:
    """The pointing game and the occlusion check, where they were played."""
    level = e["config"]["model"]["level"]
    of = "the logits that the score is pooled from"
    if level != "image":
        of = f"the logits of each image, which those of {level}s correct"
    if e["run"]["fold"] is None:
        of = "the mean of the folds' maps of logits"
    told = [f"The heatmap is an output of the model: {of}."]
    game = e["report"]["pointing"]
    if game["groups"]:
        told.append(game["sentence"])
    hidden = (e["explanation"] or {}).get("occlusion", {"images": 0})
    if hidden["images"]:
        told.append(
            "Hiding the hottest region lowers the score more than hiding any of "
            f"{hidden['other_patches']} others in {hidden['hottest_is_largest']['value']:.0%} of "
            f"{hidden['images']} positive images."
        )
    # Without a measurement there is nothing but a claim.
    return f"{kind(e)}{' '.join(told)}" if len(told) > 1 else None


def failures(e: Evidence) -> str:
    """Errors at the frozen threshold, and where the heat lay in missed ones."""
    told = [
        f"by {level} {values['confusion']['fn']:,} positives missed and "
        f"{values['confusion']['fp']:,} negatives called"
        for level, values in e["report"]["levels"].items()
    ]
    missed = [g for g in e["report"]["pointing"]["groups"] if g["group"] == "missed"]
    if missed and not missed[0]["suppressed"]:
        share = missed[0]["exact"]["hit"]["value"]
        told.append(
            "of the missed images with a known lesion the heatmap still points at one in "
            f"{share:.0%}"
        )
    return f"{kind(e)}At the frozen threshold {'; '.join(told)}."


def limitations(e: Evidence) -> str | None:
    """What the run itself shows; each is looked for, none is a phrase."""
    report = e["report"]
    found = [
        (e["run"]["synthetic"], "The images are SYNTHETIC: nothing here says how it does on women"),
        (report["measured_on"] == "val", "There is no test split: figures flatter the model"),
        (e["run"]["fold"] is None, OF_SINGLE_FOLDS.rstrip(".")),
        *_of_images(report),
        (e["shared_patients"], "Patients are in more than one part"),
        (
            e["parts"] is not None and len(_sources(e)) == 1,
            f"All images are of one source ({', '.join(_sources(e))}): no other was tried",
        ),
        # What a lesion's report warns of is how few it rests on, and broken promises.
        *((e["config"]["task"] != "classify", text.rstrip(".")) for text in report["warnings"]),
    ]
    told = [sentence for true, sentence in found if true]
    return f"{'. '.join(told)}." if told else None


def _of_images(report: dict[str, Any]) -> list[tuple[bool, str]]:
    """Return what may speak against the figures of images, where images are measured."""
    image, groups = report["levels"].get("image"), report["subgroups"].get("image")
    found = []
    if image is not None:
        share = image["positives"] / image["n"]
        few = f"Only {image['positives']} positive images are measured: intervals are wide"
        enriched = (
            f"{share:.0%} of the images are positive, far more than in screening: precision, F1 "
            "and rates per 1,000 do not carry over"
        )
        pointed = bool(report["pointing"]["groups"]) or "detection" in report
        found = [
            (image["positives"] < _FEW, few),
            (share > _ENRICHED and image["prevalence"] is None, enriched),
            (not pointed, "Where the heatmap points was not measured"),
        ]
    if groups is not None:
        absent = ", ".join(groups["absent"])
        found.append((bool(absent), f"Not known of the images: {absent}"))
    return found


def _sources(e: Evidence) -> list[str]:
    parts = e["parts"] or {}
    return sorted({name for part in parts.values() for name in part["source"]})
