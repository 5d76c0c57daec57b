"""Answers on the data: where they come from, who is in, how they were dealt out."""

from __future__ import annotations

from typing import Any

from mammoscope.evaluation.evidence import Evidence, kind

__all__ = [
    "acquisition",
    "characteristics",
    "difference",
    "disjoint",
    "eligibility",
    "external",
    "included",
    "missing",
    "no_person",
    "partition",
    "parts_used",
    "preparation",
    "reference",
    "refused",
    "sources",
    "study_kind",
]

_PARTS = {"train": "training", "val": "validation", "test": "test"}
_MOST = 8


def study_kind(e: Evidence) -> str | None:
    """Generated images are neither prospective nor retrospective; of others a run knows not."""
    return _synthetic(e, "Neither: the images are SYNTHETIC, generated for the purpose.")


def no_person(e: Evidence) -> str | None:
    """Generated images show nobody; of others a run does not know how names were removed."""
    return _synthetic(e, "The images are SYNTHETIC: they show no person.")


def sources(e: Evidence) -> str | None:
    """Sources of the cohort, with the hash of its manifest."""
    cohort = e["cohort"]
    if cohort is None:
        return None
    names = sorted(cohort["source_roots"] or {cohort["source"]: ""})
    what = "SYNTHETIC images" if e["run"]["synthetic"] else "Images"
    digest = e["run"]["cohort"]["manifest_sha256"][:16]
    return (
        f"{what} read in the layout of {', '.join(names)}: {cohort['images']:,} images of "
        f"{cohort['patients']:,} patients (manifest sha256 {digest}…)."
    )


def eligibility(e: Evidence) -> str | None:
    """The rules that refuse, and which were changed."""
    rules = e["eligibility"]
    if rules is None:
        return None
    changed = ", ".join(f"{key}={value}" for key, value in rules["changed"].items()) or "none"
    return (
        f"{len(rules['refuse'])} rules refuse an image by its header or pixels: "
        f"{', '.join(rules['refuse'])}. Changed from the defaults: {changed}. The bundle keeps "
        "them, so they hold in use as well."
    )


def refused(e: Evidence) -> str | None:
    """Files that ingestion refused and images that preparation did, by reason."""
    if e["cohort"] is None or e["cohort"]["rejects"] is None:
        return None
    files = _counted(e["cohort"]["rejects"], "file")
    return f"Ingestion refused {files}. Preparation refused {_counted(e['refused'], 'image')}."


def included(e: Evidence) -> str | None:
    """Images, patients and positives of each part."""
    if e["parts"] is None:
        return None
    label = e["report"]["label"]
    told = [
        f"{_PARTS[name]}: {part['images']:,} images of {part['patients']:,} patients, "
        f"{part['positives']:,} with {label}"
        for name, part in e["parts"].items()
    ]
    return f"{kind(e)}{'; '.join(told)}."


def parts_used(e: Evidence) -> str | None:
    """How many of the cohort's images took part."""
    if e["cohort"] is None:
        return None
    counts = dict(e["run"]["counts"])
    if e["run"]["fold"] is None:
        # Those that validate are those that were trained on.
        del counts["val"]
    used = sum(counts.values())
    return f"{used:,} of the cohort's {e['cohort']['images']:,} images were trained on or measured."


def preparation(e: Evidence) -> str | None:
    """Steps from stored values to the network's input."""
    how = e["run"]["preprocess"]
    steps = [
        f"VOI {how['voi']}",
        f"grey values from the {how['normalise']}",
        *(name for name in ("crop", "mask", "orient") if how[name]),
    ]
    return (
        f"Prepared at {how['height']} x {how['width']} pixels with {how['bits']} bits: "
        f"{', '.join(steps)}. The whole configuration is stored with the model and used in service."
    )


def missing(e: Evidence) -> str | None:
    """Labels and ages that are not known."""
    if e["parts"] is None:
        return None
    label, parts = e["report"]["label"], e["parts"].values()
    unlabelled = sum(part["unlabelled"] for part in parts)
    ages = sum(part["age_unknown"] for part in parts)
    return (
        f"{unlabelled:,} images have no known {label} and are left out of loss and measures; "
        f"{ages:,} have no known age. Unknown is never taken for 0."
    )


def acquisition(e: Evidence) -> str | None:
    """Machines, sites and views."""
    if e["parts"] is None:
        return None
    every = list(e["parts"].values())
    views = _summed(every, "view")
    told = ", ".join(f"{count:,} {view}" for view, count in views.items())
    return (
        f"{len(_summed(every, 'machine_id')) or 'An unknown number of'} machines at "
        f"{len(_summed(every, 'site_id')) or 'an unknown number of'} sites; views: "
        f"{told or 'unknown'}."
    )


def reference(e: Evidence) -> str | None:
    """The column that was learnt."""
    cohort = e["cohort"]
    whose = "the cohort's tables" if cohort is None else f"the tables of {cohort['source']}"
    return f"Column {e['report']['label']!r} of {whose}, 0 or 1 for each image."


def partition(e: Evidence) -> str | None:
    """Folds and the test split."""
    counts = dict(e["run"]["counts"])
    digest, fold = e["run"]["cohort"]["splits_sha256"][:16], e["run"]["fold"]
    validates = f"fold {fold} validates"
    if fold is None:
        validates = "each fold validates once"
        del counts["val"]
    told = ", ".join(f"{count:,} {_PARTS.get(name, name)}" for name, count in counts.items())
    tested = " and a test split" if counts.get("test") else ", none of them to a test split,"
    return (
        f"Patients were dealt to folds{tested} before training (splits sha256 {digest}…); "
        f"{validates}. Images: {told}."
    )


def disjoint(e: Evidence) -> str | None:
    """Patients that are in two parts, counted."""
    shared = e["shared_patients"]
    if shared is None:
        return None
    part = "fold or part" if e["run"]["fold"] is None else "part"
    return (
        f"The patient: none is in more than one {part}, counted in the table of splits."
        if shared == 0
        else f"NOT kept apart: {shared:,} patients are in more than one {part}."
    )


def characteristics(e: Evidence) -> str | None:
    """Age, density and machines of each part."""
    if e["parts"] is None:
        return None
    told = [f"{_PARTS[name]}: {_described(part)}" for name, part in e["parts"].items()]
    return f"{kind(e)}{'; '.join(told)}."


def difference(e: Evidence) -> str | None:
    """Test images beside training images."""
    if e["parts"] is None or not e["parts"]["test"]["images"]:
        return None
    train, test = e["parts"]["train"], e["parts"]["test"]
    told = [f"share of positives {_share(train)} in training and {_share(test)} in the test split"]
    if train["age_quartiles"] and test["age_quartiles"]:
        ages = [f"{part['age_quartiles'][1]:.0f}" for part in (train, test)]
        told.append(f"median age {' and '.join(ages)}")
    new = sorted(set(test["machine_id"]) - set(train["machine_id"]))
    told.append(f"machines that only the test split has: {', '.join(new) or 'none'}")
    return f"{kind(e)}One cohort was split: {'; '.join(told)}."


def external(e: Evidence) -> str | None:
    """Test images from a source that no training image is of."""
    if e["parts"] is None:
        return None
    learnt = [part for name, part in e["parts"].items() if name != "test"]
    trained = {source for part in learnt for source in part["source"]}
    others = {k: n for k, n in e["parts"]["test"]["source"].items() if k not in trained}
    if not others:
        return None
    told = ", ".join(f"{count:,} of {name}" for name, count in sorted(others.items()))
    return f"{kind(e)}Test images from sources that no training image is of: {told}."


def _synthetic(e: Evidence, sentence: str) -> str | None:
    return sentence if e["run"]["synthetic"] else None


def _counted(reasons: dict[str, int], what: str) -> str:
    if not reasons:
        return f"no {what}"
    told = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    return f"{sum(reasons.values()):,} {what}s: {told}"


def _summed(parts: list[dict[str, Any]], column: str) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in parts:
        for value, count in part[column].items():
            total[value] = total.get(value, 0) + count
    return dict(sorted(total.items()))


def _described(part: dict[str, Any]) -> str:
    ages = part["age_quartiles"]
    told = ["age unknown"]
    if ages is not None:
        told = [f"median age {ages[1]:.0f} (quartiles {ages[0]:.0f} and {ages[2]:.0f})"]
    for column, word in (("density", "density"), ("machine_id", "machine")):
        values = list(part[column].items())
        if values:
            shown = ", ".join(f"{value} ({count:,})" for value, count in values[:_MOST])
            told.append(f"{word} {shown}{' and others' if len(values) > _MOST else ''}")
    return ", ".join(told)


def _share(part: dict[str, Any]) -> str:
    known = part["images"] - part["unlabelled"]
    return f"{part['positives'] / known:.1%}" if known else "unknown"
