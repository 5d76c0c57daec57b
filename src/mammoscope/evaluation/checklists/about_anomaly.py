"""Answers of runs that tell what is unlike normal images, where they differ from a classifier's."""

from __future__ import annotations

from mammoscope.evaluation.checklists import about_data, about_model, about_results
from mammoscope.evaluation.evidence import Evidence, kind
from mammoscope.evaluation.measures import ANOMALY_MEASURES, estimated

__all__ = [
    "augmentation",
    "diagnostic",
    "explanation",
    "imbalance",
    "included",
    "internal",
    "measures",
    "model",
    "outputs",
    "predictors",
    "selection",
    "thresholds",
    "training",
]


def _remembers(e: Evidence) -> bool:
    return bool(e["config"]["anomaly"]["method"] == "patchcore")


def model(e: Evidence) -> str:
    """Method as configured."""
    settings = e["config"]["anomaly"]
    judged = (
        f"The score is the mean over the most anomalous {settings['top_share']:.0%} of the breast, "
        f"without a rim of {settings['edge_px']} pixels."
    )
    if _remembers(e):
        return (
            f"PatchCore: the distance of patches of {settings['backbone']} features (stages "
            f"{', '.join(map(str, settings['layers']))}) from {settings['bank_size']:,} patches of "
            f"normal images. {judged}"
        )
    size = settings["shrink"]
    shrunk = "images at full size" if size == 1 else f"images shrunk {size} times"
    terms = ", ".join(
        f"{settings[f'score_{term}']:g} x {term}"
        for term in ("l2", "ssim", "perceptual", "kl")
        if settings[f"score_{term}"]
    )
    return (
        f"A convolutional variational autoencoder (width {settings['width']}, "
        f"{settings['latent_width']} latent channels, {shrunk}), "
        f"judged by what it cannot rebuild: {terms}. {judged}"
    )


def predictors(e: Evidence) -> str:
    """What enters the network."""
    told = "".join(f", {name}" for name in e["config"]["anomaly"]["conditions"])
    return about_model.predictors(e).rstrip(".") + f"{told}."


def outputs(e: Evidence) -> str:
    """Score and map."""
    normal = e["run"]["normal"]["images"]
    return (
        f"A score from 0 to 1 for each {' and '.join(e['report']['levels'])}, and a map of the "
        "anomaly by place. The score is the anomaly in spreads from the mean of "
        f"{normal:,} normal validation images: a rank, no probability."
    )


def thresholds(e: Evidence) -> str:
    """Thresholds as frozen."""
    told = about_model.thresholds(e).removeprefix("Chosen on validation scores")
    normal = e["report"]["normal"]["image"]
    return (
        f"Chosen on the scores of {normal['n']:,} normal validation images of "
        f"{normal['patients']:,} patients alone{told}"
    )


def training(e: Evidence) -> str:
    """Optimisation as configured, or the memory that was filled."""
    if not _remembers(e):
        return about_model.training(e)
    settings = e["config"]["anomaly"]
    return (
        f"One pass over {e['run']['counts']['train']:,} normal images drew at most "
        f"{settings['bank_candidates']:,} patches, of which {settings['bank_size']:,} were kept; "
        f"no weight was learnt; {e['run']['timings_s'].get('train', 0):.0f} s."
    )


def selection(e: Evidence) -> str:
    """Which epoch was kept."""
    return "There is one pass: nothing is chosen." if _remembers(e) else about_model.selection(e)


def augmentation(e: Evidence) -> str:
    """Random changes that are on."""
    if _remembers(e):
        return "Training images are not changed: a memory is of images as they are."
    return about_model.augmentation(e)


def imbalance(e: Evidence) -> str:
    """What was learnt from."""
    return (
        f"It learns from {e['run']['counts']['train']:,} normal images alone: there is nothing to "
        "balance."
    )


def included(e: Evidence) -> str | None:
    """Images of each part, and those that are not normal, which teach nothing."""
    told = about_data.included(e)
    left = e["run"].get("left_out", {}).get("train")
    if told is None or left is None:
        return told
    return (
        f"{told} Not learnt from: {left['cancer']:,} training images with cancer and "
        f"{left['unlabelled']:,} of unknown label."
    )


def measures(e: Evidence) -> str:
    """Names of what is measured."""
    return f"{', '.join(ANOMALY_MEASURES.values())}; by {' and by '.join(e['report']['levels'])}."


def diagnostic(e: Evidence) -> str:
    """Sensitivity and its like at the frozen thresholds, and of what results call unusual."""
    unusual = e["report"]["unusual"]
    told = "; ".join(
        f"by {level} sensitivity {estimated('sensitivity', values['sensitivity'])}, false-positive "
        f"rate {estimated('false_positive_rate', values['false_positive_rate'])}"
        for level, values in unusual["levels"].items()
        if level != "image"
    )
    return (
        f"{about_results.diagnostic(e)} Where any image that reaches the images' threshold makes "
        f"its breast and exam unusual, as results say it: {told}."
    )


def internal(e: Evidence) -> str | None:
    """Validation figures, where the fold that validates has positives."""
    values = e["report"]["validation"].get("image")
    if values is None:
        return None
    area = estimated("auroc", values["metrics"]["auroc"])
    return (
        f"{kind(e)}Validation fold {e['run']['fold']}: AUROC by image {area} on "
        f"{values['n']:,} images, of which the normal ones also chose epoch and thresholds."
    )


def explanation(e: Evidence) -> str | None:
    """The pointing game, where it was played."""
    game = e["report"]["pointing"]
    if not game["groups"]:
        return None
    return f"{kind(e)}The map of anomaly by place is an output of the model. {game['sentence']}"
