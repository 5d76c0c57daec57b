"""Answers on the model: what it is, how it was trained, what it gives.

Those that read a task's own settings are of classifiers; other tasks have theirs beside.
"""

from __future__ import annotations

from typing import Any

from mammoscope.config import network_of
from mammoscope.evaluation.evidence import Evidence
from mammoscope.pages import written_score
from mammoscope.results import INTENDED_USE

__all__ = [
    "augmentation",
    "calibration",
    "ensemble",
    "goal",
    "imbalance",
    "initial_weights",
    "intended_use",
    "model",
    "model_file",
    "outputs",
    "predictors",
    "record",
    "selection",
    "software",
    "technology",
    "thresholds",
    "training",
]

_POOLS = {
    "avg": "their mean",
    "max": "their maximum",
    "lse": "a log-sum-exp of them",
    "attention": "their mean where a second map says that a lesion is, plus what the whole image "
    "adds",
}


# What the model of each task does, and by which section's network it begins.
_DOES = {
    "classify": "scores mammograms for {label}",
    "detect": "draws boxes with scores around lesions in mammograms",
    "segment": "outlines lesions in mammograms",
    "segment-then-classify": "outlines lesions in mammograms and tells them apart",
    "anomaly": "tells how unlike normal mammograms a mammogram is",
}
_SECTIONS = {"detect": "detect", "segment": "segment", "anomaly": "anomaly"}
# Changes of what is told of several images together.
_OF_EXAMS = ("drop_view", "drop_fact")
# What says how changes are made, and is none itself.
_OF_CHANGES = ("probability", "one_geometry", "hole_size")
# Networks of ours, of which no library has weights.
_OWN = ("baseline_cnn", "residual_cnn", "small", "pyramid_cnn")


def _does(e: Evidence) -> str:
    return _DOES[e["config"]["task"]].format(label=e["report"]["label"])


def technology(e: Evidence) -> str:
    """Kind of model and what it predicts."""
    return f"A deep neural network ({network_of(e['config'])}) that {_does(e)}."


def intended_use(e: Evidence) -> str:
    """The bundle's words, and what was learnt."""
    limit = " Trained on SYNTHETIC images, it is fit for no image of a woman."
    told = f"{INTENDED_USE} It {_does(e)}."
    return told + (limit if e["run"]["synthetic"] else "")


def goal(e: Evidence) -> str:
    """Development, and on what it was measured."""
    validated = "out-of-fold images" if e["run"]["fold"] is None else "the validation fold"
    where = {"test": "a held-out test split", "val": f"{validated} only"}
    kind = "SYNTHETIC images" if e["run"]["synthetic"] else "images"
    return (
        f"Development of a model that {_does(e)}, measured on "
        f"{where[e['report']['measured_on']]} of the same {kind}."
    )


def model(e: Evidence) -> str:
    """Architecture as configured."""
    settings, how = e["config"]["model"], e["run"]["preprocess"]
    head = f" Between them {' and '.join(settings['head'])} layers." if settings["head"] else ""
    # A column that has one value is asked for and not learnt; of all folds its note says so.
    learnt = e["run"].get("auxiliary")
    others = settings["auxiliary"] if learnt is None else [each["name"] for each in learnt]
    told = f" In training, further heads learnt {', '.join(others)}." if others else ""
    level, shrink = settings["level"], settings["shrink"]
    if shrink > 1:
        told += (
            f" That network sees the image at 1/{shrink} of its height and width; a small one "
            "beside it sees all pixels."
        )
    if level != "image":
        told += (
            f" Attention over its views joins what the images of {level}s show, and a correction "
            f"learnt from that is added to the mean of their logits: the logits of {level}s are no "
            "pools of cells."
        )
    if flips := settings.get("test_flips"):
        told += f" It looks at an image as it is and turned ({', '.join(flips)}): means of all."
    if e["run"]["fold"] is None:
        told += " Each fold has such a network; the model's logit is the mean of theirs."
    return (
        f"{settings['backbone']} with one input channel of {how['height']} x {how['width']} "
        "pixels. Each cell of its last map has a logit; that of an image is "
        f"{_POOLS[settings['pool']]}.{head} Dropout {settings['dropout']:g}.{told}"
    )


def predictors(e: Evidence) -> str:
    """What enters the network."""
    how, settings = e["run"]["preprocess"], e["config"]["model"]
    given = f"{how['height']} x {how['width']}, {how['bits']} bits"
    level = settings.get("level", "image")
    if level == "image":
        return f"The pixels of a mammogram, {given}."
    facts = "".join(f", {name}" for name in settings.get("facts", ()))
    return f"The pixels of all mammograms of a {level}, {given} each, side and view{facts}."


def outputs(e: Evidence) -> str:
    """Score and heatmap."""
    levels = " and ".join(e["report"]["levels"])
    plain = [k for k, v in e["report"]["calibration"]["levels"].items() if v["method"] == "none"]
    where = f" by {' and '.join(plain)}" if calibration(e) else ""
    ranks = f" The score{where} ranks; it is no probability." if plain else ""
    return f"A score from 0 to 1 for each {levels}, and a heatmap.{ranks}"


def calibration(e: Evidence) -> str | None:
    """How scores were made chances, where they were."""
    found = e["report"]["calibration"]
    fitted = any(values["method"] != "none" for values in found["levels"].values())
    return str(found["sentence"]) if fitted else None


def thresholds(e: Evidence) -> str:
    """Operating points as frozen."""
    points = e["report"]["levels"]["image"]["operating_points"]
    told = ", ".join(f"{p['name']} at {written_score(p['threshold'], 4)}" for p in points)
    scores = "out-of-fold" if e["run"]["fold"] is None else "validation"
    return (
        f"Chosen on {scores} scores and written down before this evaluation read test scores: "
        f"{told}. Whether an earlier evaluation was looked at, no file says."
    )


def software(e: Evidence) -> str:
    """Versions."""
    platform = e["run"].get("platform", {})
    others = "".join(f", {name} {version}" for name, version in platform.items())
    return (
        f"mammoscope {e['run']['package_version']} (code "
        f"{e['run'].get('code_version') or 'installed'}, Apache-2.0){others}."
    )


def model_file(e: Evidence) -> str:
    """The exported graph."""
    digest = e["run"]["hashes"]["model.onnx"][:16]
    told = (
        "all figures come from predictions of this exported graph, the same that a bundle deploys"
    )
    if e["run"]["fold"] is None:
        told = "the mean of all folds in one graph, the same that a bundle deploys. "
        if e["report"]["measured_on"] == "test":
            told += "Test figures come from its predictions, validation figures, thresholds and "
            told += "calibration from those of single folds"
        else:
            told += "No figure comes from its predictions: all are of single folds"
    return f"model.onnx, sha256 {digest}…: {told}."


def record(e: Evidence) -> str:
    """Where every setting stands."""
    hashes = e["run"]["hashes"]
    tables = ", ".join(
        f"{name} (sha256 {digest[:16]}…)"
        for name, digest in hashes.items()
        if name.endswith(".parquet")
    )
    return (
        f"run.json holds every setting, seed {e['run']['seed']} and all hashes; report.json holds "
        f"every figure, from {tables}."
    )


def initial_weights(e: Evidence) -> str:
    """Where training began."""
    settings = e["config"][_SECTIONS.get(e["config"]["task"], "model")]
    notes = [note for note in e["run"].get("notes", []) if "weights" in note]
    network = settings.get("encoder") or settings.get("backbone")
    if settings["weights"]:
        begun = "from a local file of weights"
    elif settings["pretrained"] and not notes and network not in _OWN:
        begun = "from weights of the library, which saw other pictures"
    else:
        begun = "from random weights"
    told = f"Training began {begun}, with seed {e['run']['seed']}."
    return " ".join([told, *(f"{note}." for note in notes)])


def training(e: Evidence) -> str:
    """Optimisation as configured."""
    how, loss = e["config"]["train"], _loss(e["config"])
    epochs = f"{e['run']['epochs']} of at most {how['epochs']} epochs"
    if e["run"]["fold"] is None:
        folds = e["run"]["ensemble"]["folds"]
        epochs = f"{e['run']['epochs']} epochs in {folds} folds, at most {how['epochs']} in each"
    averaged = f"averaged weights {how['ema']:g}" if how["ema"] else "weights not averaged"
    if frozen := how.get("frozen_epochs"):
        which = "all" if frozen == "all" else f"the first {frozen}"
        part = "image model" if how.get("frozen_part") == "image_model" else "backbone"
        averaged += f", {part} frozen in {which} epochs"
    return (
        f"{epochs}, batches of {how['batch_size']}, "
        f"{how['optimizer']} at {how['lr']:g} with weight decay {how['weight_decay']:g} and "
        f"{how['warmup']:.0%} warm-up, loss {loss}, {averaged}, {how['precision']}; "
        f"{e['run']['timings_s'].get('train', 0):.0f} s."
    )


def _loss(config: dict[str, Any]) -> str:
    how, task = config["train"], config["task"]
    if task == "detect":
        return "the sum of the detector's own"
    if task == "segment":
        return " + ".join(
            f"{weight:g} {name}" for name, weight in config["segment"]["losses"].items()
        )
    if task == "segment-then-classify":
        return "cross-entropy in which rare classes weigh more"
    if task == "anomaly":
        weight = config["anomaly"]["kl_weight"]
        return f"squared error within the breast and {weight:g} times the KL term"
    return f"focal (gamma {how['focal_gamma']:g})" if how["loss"] == "focal" else str(how["loss"])


def augmentation(e: Evidence) -> str:
    """Random changes that are on."""
    changes = e["config"]["augment"]
    classifies = e["config"].get("task", "classify") == "classify"
    several = classifies and e["config"]["model"].get("level", "image") != "image"
    told = ", ".join(
        name.replace("_", " ") if value is True else f"{name.replace('_', ' ')} {value}"
        for name, value in changes.items()
        if value and name not in _OF_CHANGES and (several or name not in _OF_EXAMS)
    )
    if not told:
        return "Training images are not changed at random."
    share = changes.get("probability", 1.0)
    each = "" if share == 1 else f", each made to {share:.0%} of them, flips to half"
    return f"Random changes of training images: {told}{each}."


def imbalance(e: Evidence) -> str:
    """What is done about few positives."""
    how = e["config"]["train"]
    drawn = ""
    if how["sampling"] != "all":
        drawn = f" to {how['negatives_per_positive']:g} negatives per positive"
    if how.get("keep_negatives") is not None:
        drawn = f" to {how['keep_negatives']:g} of the negatives"
    told = [f"weight of a positive {how['positive_weight']}", f"sampling {how['sampling']}{drawn}"]
    if how["positives_per_batch"]:
        told.append(f"at least {how['positives_per_batch']} positives in each batch")
    left = "" if calibration(e) else " Scores are not corrected for it."
    return f"{', '.join(told).capitalize()}.{left}"


def selection(e: Evidence) -> str:
    """Which epoch was kept."""
    best = e["run"]["best"]
    title = e["run"].get("measure", {"title": "AUROC"})["title"]
    value = next(value for name, value in best.items() if name != "epoch")
    if e["run"]["fold"] is None:
        return (
            f"In each fold the weights of the epoch with the highest validation {title} were kept; "
            f"out of fold the {title} is {value:.3f}."
        )
    return (
        f"The weights of epoch {best['epoch'] + 1} of {e['run']['epochs']} were kept: the highest "
        f"validation {title}, {value:.3f}."
    )


def ensemble(e: Evidence) -> str:
    """One network, or more."""
    made = e["run"].get("ensemble")
    if made is not None:
        return f"{made['folds']} networks, one for each fold, in one graph: {made['combines']}."
    return f"No ensemble: one network, validated on fold {e['run']['fold']}."
