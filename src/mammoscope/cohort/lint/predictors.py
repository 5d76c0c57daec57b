"""Columns that alone predict the label: shortcuts that a network will take.

Each column is turned into categories (numbers into tenths, missing being one of its own),
and each category into the share of positives among *other* patients' images with it:
target encoding out of fold, which no single image can fit. Its AUROC is measured within each
fold and averaged over pairs, as the mean of a fold's complement is itself a weak, inverted
predictor of the fold. The interval is a bootstrap over patients, wide enough (99 %) that a
dozen columns of a small cohort do not shout by chance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mammoscope.cohort.lint.evidence import Evidence
from mammoscope.cohort.lint.findings import Answer, Finding, Severity, Skipped, some
from mammoscope.types import Floats, Ints

__all__ = ["column_predicts_label", "out_of_fold_auroc"]

_FOLDS = 5
_REPLICATES = 200
_CONFIDENCE = 0.99
# Weight, in images, of the overall share of positives in that of a category.
_SMOOTHING = 10.0
# A number of more values than this is cut into tenths.
_MOST_CATEGORIES = 20
_LEAST_PATIENTS = 10
#: AUROC from which on it is an error, a warning, information; its interval's lower end has to
#: reach half the way there from 0.5.
_SEVERITIES = ((0.9, Severity.ERROR), (0.75, Severity.WARNING), (0.6, Severity.INFO))
# Women differ in these, so a model may use them; they are never more than information.
_MEDICAL = frozenset({"age", "density"})


@dataclass(frozen=True, slots=True)
class _Auroc:
    value: float
    low: float
    high: float


def column_predicts_label(evidence: Evidence) -> Answer:
    """A column of the manifest, not of the image, by which the label can be told.

    Looks at site, machine, source, split, view, laterality, folder, number in line, size,
    shape, compression, photometric interpretation, images of the breast, age, density,
    implant, and at whether such values are missing.
    """
    label = evidence.label
    known = evidence.manifest.filter(pl.col(label).is_not_null())
    # By patient, so that what is drawn does not depend on the order of rows.
    known = known.sort("patient_id", "image_id")
    by_patient = known.group_by("patient_id").agg(pl.col(label).max())[label]
    sick, well = int((by_patient == 1).sum()), int((by_patient == 0).sum())
    if min(sick, well) < _LEAST_PATIENTS:
        return Skipped(
            f"{sick} patients have {label} and {well} have not; "
            f"{_LEAST_PATIENTS} of each are needed"
        )
    positive = (known[label] == 1).to_numpy()
    patients = known["patient_id"].rank("dense").cast(pl.Int64).to_numpy() - 1
    findings = []
    for name, column in _columns(known).items():
        codes = _categories(column)
        if codes is None:
            continue
        measured = out_of_fold_auroc(codes, positive, patients, evidence.seed)
        severity = _severity(name, measured)
        if severity is not None:
            findings.append(_finding(name, severity, measured, known, codes, positive, label))
    return findings


def _columns(frame: pl.DataFrame) -> dict[str, pl.Series]:
    """Return what is looked at, by name."""
    pixels = pl.col("rows") * pl.col("columns")
    breast = ("patient_id", "exam_id", "laterality")
    # Classes are often folders, at the top or below a folder of the whole.
    folder = pl.col("path").str.split("/")
    # Numbers in names: data sets are often numbered class by class.
    number = pl.col("patient_id").str.extract(r"(\d+)\D*$", 1).cast(pl.Float64, strict=False)
    plain = (
        "site_id", "machine_id", "source", "split", "view", "laterality", "rows", "columns",
        "photometric_interpretation", "transfer_syntax_uid", "pixel_aspect", "age", "density",
        "implant",
    )  # fmt: skip
    missing = ("age", "density", "birads", "implant", "site_id", "machine_id", "mask")
    return frame.select(
        *plain,
        (pl.col("rows") / pl.col("columns")).round(3).alias("rows / columns"),
        (pl.col("file_bytes") / pixels).alias("file bytes per pixel"),
        pl.when(folder.list.len() > 1).then(folder.list.first()).alias("first folder"),
        pl.when(folder.list.len() > 2)
        .then(folder.list.get(1, null_on_oob=True))
        .alias("second folder"),
        number.alias("number in patient_id"),
        pl.len().over(breast).alias("images of the breast"),
        *(pl.col(name).is_null().cast(pl.Int8).alias(f"{name} is missing") for name in missing),
    ).to_dict()


def _categories(column: pl.Series) -> Ints | None:
    """Return a code for each image, missing being one; ``None`` where there is one value."""
    values = column.n_unique()
    if values < 2:
        return None
    if values > _MOST_CATEGORIES:
        if not column.dtype.is_numeric():
            # Sites, machines and folders may be many; names of single images tell nothing.
            return _codes(column) if values * 5 <= column.len() else None
        rank = column.rank("average") / (column.count() + 1)
        column = (rank * 10).floor()
    return _codes(column)


def _codes(column: pl.Series) -> Ints:
    text = column.cast(pl.String()).fill_null("")
    return (text.rank("dense").cast(pl.Int64) - 1).to_numpy()


def out_of_fold_auroc(
    codes: Ints, positive: NDArray[np.bool_], patients: Ints, seed: int
) -> _Auroc:
    """Measure how well categories predict a label in patients that they were not learned from.

    Args:
        codes: (N,) category of each image, from 0.
        positive: (N,) its label.
        patients: (N,) its patient, from 0.
        seed: Of folds and bootstrap.

    Returns:
        AUROC with its 99 % interval, patients drawn with replacement.
    """
    rng = np.random.default_rng(seed)
    count = int(patients.max()) + 1
    folds = _stratified_folds(positive, patients, count, rng)[patients]
    cell = codes * _FOLDS + folds
    cells = (int(codes.max()) + 1) * _FOLDS
    ones, zeros = _cell_counts(cell, cells, positive, np.ones(codes.size))
    encoded = _encode(ones, zeros)
    value = _within_folds(encoded, ones, zeros)
    samples = []
    for _ in range(_REPLICATES):
        times = np.bincount(rng.integers(0, count, count), minlength=count).astype(float)
        samples.append(
            _within_folds(encoded, *_cell_counts(cell, cells, positive, times[patients]))
        )
    tail = (1 - _CONFIDENCE) / 2
    low, high = (float(q) for q in np.quantile(samples, [tail, 1 - tail]))
    return _Auroc(value, low, high)


def _stratified_folds(
    positive: NDArray[np.bool_], patients: Ints, count: int, rng: np.random.Generator
) -> Ints:
    """Deal patients to folds, those with and without a positive image separately."""
    sick = np.bincount(patients, weights=positive, minlength=count) > 0
    folds = np.empty(count, np.int64)
    for stratum in (sick, ~sick):
        folds[stratum] = rng.permutation(int(stratum.sum())) % _FOLDS
    return folds


def _cell_counts(
    cell: Ints, cells: int, positive: NDArray[np.bool_], weight: Floats
) -> tuple[Floats, Floats]:
    """Return weighted positives and negatives as (category, fold)."""
    ones = np.bincount(cell, weights=weight * positive, minlength=cells)
    every = np.bincount(cell, weights=weight, minlength=cells)
    zeros: Floats = np.asarray(every - ones, np.float64).reshape(-1, _FOLDS)
    return np.asarray(ones, np.float64).reshape(-1, _FOLDS), zeros


def _encode(ones: Floats, zeros: Floats) -> Floats:
    """Return (category, fold): smoothed share of positives in the other folds."""
    others_one = ones.sum(axis=1, keepdims=True) - ones
    others = others_one + zeros.sum(axis=1, keepdims=True) - zeros
    prior = others_one.sum(axis=0) / np.maximum(others.sum(axis=0), 1)
    return np.asarray((others_one + _SMOOTHING * prior) / (others + _SMOOTHING), np.float64)


def _within_folds(encoded: Floats, ones: Floats, zeros: Floats) -> float:
    """Return the AUROC over pairs of one fold, ties half; 0.5 where there is no pair."""
    better = pairs = 0.0
    for fold in range(_FOLDS):
        order = np.argsort(encoded[:, fold], kind="stable")
        score, one, zero = encoded[order, fold], ones[order, fold], zeros[order, fold]
        group = np.cumsum(np.append(False, np.diff(score) > 1e-12))
        one, zero = np.bincount(group, weights=one), np.bincount(group, weights=zero)
        below = np.cumsum(zero) - zero
        better += float((one * (below + zero / 2)).sum())
        pairs += float(one.sum() * zero.sum())
    return better / pairs if pairs > 0 else 0.5


def _severity(name: str, measured: _Auroc) -> Severity | None:
    for least, severity in _SEVERITIES:
        if measured.value >= least and measured.low >= (least + 0.5) / 2:
            return Severity.INFO if name in _MEDICAL else severity
    return None


def _finding(
    name: str,
    severity: Severity,
    measured: _Auroc,
    known: pl.DataFrame,
    codes: Ints,
    positive: NDArray[np.bool_],
    label: str,
) -> Finding:
    """Describe one column; the examples are positives of its most telling category."""
    share = np.bincount(codes, weights=positive) / np.maximum(np.bincount(codes), 1)
    telling = known.filter(pl.Series((codes == int(share.argmax())) & positive))
    what = (
        f"{name} alone predicts {label}: AUROC {measured.value:.2f} "
        f"({measured.low:.2f} to {measured.high:.2f}, 99 %, by patient)."
    )
    todo = (
        "Expect it, and report results by it; it is a fact of the woman."
        if name in _MEDICAL
        else "Balance the classes over it, or measure within its values; a network that sees it "
        "in the pixels scores well for the wrong reason."
    )
    return Finding(
        "column_predicts_label",
        severity,
        name,
        known.height,
        known.height,
        "images",
        what,
        todo,
        some(telling["image_id"]),
    )
