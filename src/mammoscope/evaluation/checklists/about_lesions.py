"""Answers of runs that find or outline lesions, where they differ from a classifier's."""

from __future__ import annotations

from mammoscope.evaluation.checklists import about_results
from mammoscope.evaluation.evidence import Evidence, kind, measured_split
from mammoscope.evaluation.lesions.summary import ap_name, froc_titles
from mammoscope.evaluation.measures import estimated
from mammoscope.pages import written_score

__all__ = [
    "diagnostic",
    "failures",
    "heterogeneity",
    "imbalance",
    "internal",
    "measures",
    "missing",
    "model",
    "outputs",
    "performance",
    "reference",
    "thresholds",
]

_OUTLINED = {
    "dice": "Dice",
    "iou": "IoU",
    "covered": "share covered",
    "hausdorff_95": "Hausdorff 95",
}


#: What a segmenter's candidate scores; runs of earlier versions do not say by what.
_RATED = {
    "highest": "what its highest pixel does",
    "whole": "by how far the logits of all its pixels lie above that threshold's, over the root of "
    "their number",
}


def _mask_threshold(e: Evidence) -> str:
    """The threshold of masks, which validation lesions may have chosen."""
    settled = e["run"].get("mask_threshold", e["config"]["segment"]["threshold"])
    if settled == "validation":
        return "the threshold that validation lesions chose"
    chosen = e["config"]["segment"]["threshold"] == "validation"
    how = " (chosen on validation lesions)" if chosen else ""
    return f"{float(settled):g}{how}"


def model(e: Evidence) -> str:
    """Network as configured."""
    how = e["run"]["preprocess"]
    seen = f"{how['height']} x {how['width']} pixels"
    if e["config"]["task"] == "segment":
        settings = e["config"]["segment"]
        windows = (
            settings["infer_on"] or {"whole": "whole", "patches": "windows"}[settings["train_on"]]
        )
        looks = f"images of {seen}, whole"
        if windows == "windows":
            looks = f"images of {seen} in windows of {settings['patch_px']} pixels"
        return (
            f"Decoder {settings['decoder']} on encoder {settings['encoder']}: a score for each "
            f"pixel. It looks at {looks}. Pixels from {_mask_threshold(e)} on are the mask; those "
            f"from {settings['candidate_threshold']:g} on, or from the mask's threshold if that is "
            f"lower, that hang together, at least {settings['min_area_px']} of them, are a "
            f"candidate, which scores {_RATED[e['run'].get('candidate_score', 'highest')]}."
        )
    settings = e["config"]["detect"]
    tiles, kinds = settings["tiles"]["size_px"], e["config"]["lesions"]["kinds"]
    looks = f"in tiles of {tiles} pixels" if tiles else "whole"
    told = f" It tells {', '.join(kinds)} apart." if settings["tell_kinds"] else ""
    views = " Candidates of two views of a breast are matched." * settings["matching"]["enabled"]
    return (
        f"{settings['name']} on {settings['backbone']}, which looks at images of {seen} {looks} "
        f"and draws at most {settings['most_candidates']} boxes.{told}{views}"
    )


def outputs(e: Evidence) -> str:
    """Boxes or masks, and scores."""
    drawn = {"segment": "A mask and boxes"}.get(e["config"]["task"], "Boxes")
    levels = " and ".join(e["report"]["levels"])
    scores = f", and a score from 0 to 1 for each {levels}" if levels else ""
    plain = all(v["method"] == "none" for v in e["report"]["calibration"]["levels"].values())
    ranks = " Scores rank; they are no probabilities." if plain else ""
    return f"{drawn} with scores from 0 to 1 for each image{scores}.{ranks}"


def thresholds(e: Evidence) -> str:
    """The cut-off on candidates, and operating points of images, as frozen."""
    cut_off = e["report"]["detection"]["cut_off"]
    told = [f"candidates from {written_score(cut_off['threshold'], 4)} on, for {cut_off['target']}"]
    image = e["report"]["levels"].get("image", {"operating_points": []})
    told += [
        f"images {p['name']} at {written_score(p['threshold'], 4)}"
        for p in image["operating_points"]
    ]
    return (
        "Chosen on validation images and written down before this evaluation read a test row: "
        f"{'; '.join(told)}. Whether an earlier evaluation was looked at, no file says."
    )


def imbalance(e: Evidence) -> str:
    """How often training shows a lesion."""
    segment, detect = e["config"]["segment"], e["config"]["detect"]
    sampling = e["config"]["train"]["sampling"]
    if e["config"]["task"] == "segment" and segment["train_on"] == "patches":
        return f"{segment['lesion_share']:.0%} of the training patches hold a lesion."
    told = f"Images with and without a lesion are drawn by train.sampling={sampling}"
    if e["config"]["task"] == "detect" and detect["tiles"]["size_px"]:
        share = detect["tiles"]["lesion_share"]
        return f"{told}; {share:.0%} of the tiles of the former hold one."
    return f"{told}."


def reference(e: Evidence) -> str:
    """The findings that are targets."""
    settings = e["config"]["lesions"]
    kinds = ", ".join(settings["kinds"]) or "all kinds"
    benign = "known benign ones left out" if settings["malignant_only"] else "benign ones too"
    return (
        f"Boxes and outlines of findings.parquet (sha256 {e['report']['findings_sha256'][:16]}…): "
        f"{kinds}, {benign}; for images, breasts and exams the column {e['report']['label']!r}."
    )


def missing(e: Evidence) -> str:
    """Lesions without a place."""
    count = e["report"]["detection"]["counts"]["uncertain_images"]
    if not count:
        return "The place of every lesion on the measured images is known."
    return (
        f"{count:,} measured images hold a lesion of which nobody says where it is: no false "
        "positive is counted on them. Such images are not learnt from."
    )


def measures(e: Evidence) -> str:
    """Names of what is measured."""
    found = e["report"]["detection"]
    own = f"{ap_name(e['report'])} at an overlap of 0.5 and of 0.5 to 0.95"
    told = [*_titles(e).values(), own]
    if e["report"]["overlap"]:
        told.append(f"{', '.join(_OUTLINED.values())} around lesions and on whole images")
    levels = " and by ".join(e["report"]["levels"])
    scores = f"; AUROC and its like by {levels}" if levels else ""
    said = f"{', '.join(told)}; by {', '.join(found['froc'])}{scores}."
    return said[0].upper() + said[1:]


def _titles(e: Evidence) -> dict[str, str]:
    """Return the names of what the FROC curve is read at, as they stand within a sentence."""
    return {k: title[0].lower() + title[1:] for k, title in froc_titles(e["report"]).items()}


def performance(e: Evidence) -> str:
    """FROC, average precision, overlap, and AUROC where it was measured."""
    report = e["report"]
    found, measured = report["detection"], report["measures"]["lesion"]
    titles = _titles(e) | {"ap50": f"{ap_name(report)} at an overlap of 0.5"}
    told = [f"{title} {estimated(name, measured[name])}" for name, title in titles.items()]
    if overlap := report["overlap"]:
        told += [
            f"{title} around lesions {estimated(name, measured[name])}"
            + (f" {overlap['unit']}" if name == "hausdorff_95" else "")
            for name, title in _OUTLINED.items()
        ]
    counts = found["counts"]
    said = (
        f"{measured_split(e)}, {counts['lesions']:,} lesions on {counts['images']:,} images of "
        f"{counts['patients']:,} patients: {'; '.join(told)}."
    )
    return f"{said} {about_results.performance(e)}" if report["levels"] else said


def diagnostic(e: Evidence) -> str:
    """Sensitivity and false positives at the frozen cut-off."""
    cut_off = e["report"]["detection"]["cut_off"]
    made = cut_off["measured"]
    by = ", ".join(
        f"by {unit} {estimated('sensitivity', value)}"
        for unit, value in made["sensitivity"].items()
    )
    rate = estimated("rate", made["false_positives_per_image"])
    return (
        f"{kind(e)}At the frozen cut-off {written_score(cut_off['threshold'], 4)}: sensitivity "
        f"{by}; {rate} false positives per image."
    )


def internal(e: Evidence) -> str:
    """Validation figures."""
    made = e["report"]["detection"]["validation"]
    value = estimated("mean_sensitivity", made["froc"]["lesion"]["mean_sensitivity"])
    return (
        f"{kind(e)}Validation fold {e['run']['fold']}: mean sensitivity (FROC) {value} on "
        f"{made['counts']['lesions']:,} lesions, which also chose the epoch and the cut-off."
    )


def heterogeneity(e: Evidence) -> str | None:
    """Sensitivity of groups of lesions at the frozen cut-off."""
    groups = [group for group in e["report"]["detection"]["groups"] if not group["suppressed"]]
    told = "; ".join(
        f"{group['attribute']} {group['group']} ({group['n']:,}) "
        f"{estimated('sensitivity', group['at_cut_off'])}"
        for group in groups
    )
    lesions = f"{kind(e)}Sensitivity by lesion at the frozen cut-off: {told}."
    said = [lesions if groups else None, about_results.heterogeneity(e)]
    return " ".join(part for part in said if part) or None


def failures(e: Evidence) -> str:
    """Lesions that the frozen cut-off misses."""
    found = e["report"]["detection"]
    lesions, made = found["counts"]["lesions"], found["cut_off"]["measured"]
    share = made["sensitivity"]["lesion"]["value"] or 0.0
    rate = estimated("rate", made["false_positives_per_image"])
    return (
        f"{kind(e)}At the frozen cut-off {lesions - round(share * lesions):,} of {lesions:,} "
        f"lesions are missed and {rate} false positives lie on an image."
    )
