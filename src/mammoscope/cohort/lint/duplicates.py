"""Near-duplicates: one exposure stored twice, whatever was done to its file.

The hash keeps the signs of 256 coefficients of the cosine transform of a 64 × 64 copy whose
local contrast was made even (pHash: Zauner, *Implementation and Benchmarking of Perceptual
Image Hash Functions*, 2010). The three lowest frequencies of each axis are left out, as they
say how a breast lies and not whose it is. Mirroring, turning by half a circle and inverting
change known signs, so such copies are found by the same search.

The limit of 31 of 256 bits was chosen on the 1,592 films of CBIS-DDSM by what lies on both
sides of it; docs/reference/lint.md has the figures and the command. Hashes of originals:
copies mirrored, inverted, rescaled by 0.37 to 1.7, saved as JPEG of quality 60 or with 6 bits
differ by at most 5 bits, seen through a narrower window by at most 30; the nearest films of
two women by 63. Prepared images are cropped, and no two crops are quite alike: the same
copies differ by up to 83 (95 % of those scaled by 0.37 by less than 50), women by 55 or more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import polars as pl
from numpy.typing import NDArray

from mammoscope.cohort.lint.evidence import Evidence
from mammoscope.cohort.lint.facts import Hash
from mammoscope.cohort.lint.findings import MOST_EXAMPLES, Answer, Finding, Severity, Skipped
from mammoscope.cohort.lint.hamming import near_pairs
from mammoscope.types import FloatImage

__all__ = [
    "VARIANTS",
    "find_clusters",
    "near_duplicates_across_patients",
    "near_duplicates_across_splits",
    "near_duplicates_within_patient",
    "perceptual_hash",
]

_SIDE, _CONTRAST_PX, _FAINT = 64, 6.0, 0.02
_FIRST, _BITS = 3, 16


def perceptual_hash(pixels: FloatImage) -> Hash:
    """Return the hash of an image.

    Args:
        pixels: (H, W) float32 in [0, 1], at least 8 × 8.

    Returns:
        (4,) uint64: 256 bits.
    """
    small = cv2.resize(pixels, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    detail = small - cv2.GaussianBlur(small, (0, 0), _CONTRAST_PX)
    strength = np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), _CONTRAST_PX)) + _FAINT
    frequencies = cv2.dct(np.asarray(detail / strength, dtype=np.float32))
    last = _FIRST + _BITS
    return _pack(frequencies[_FIRST:last, _FIRST:last] > 0)


def _pack(bits: NDArray[np.bool_]) -> Hash:
    return np.packbits(bits.reshape(-1)).view(np.uint64)


def _variants() -> list[Hash]:
    """Return which bits turn when an image is mirrored, turned upside down, inverted."""
    odd = np.arange(_FIRST, _FIRST + _BITS) % 2 == 1
    mirrored = np.broadcast_to(odd[None, :], (_BITS, _BITS))
    inverted = np.ones((_BITS, _BITS), bool)
    masks = [np.zeros((_BITS, _BITS), bool)]
    for change in (mirrored, mirrored.T, inverted):
        masks += [mask ^ change for mask in masks]
    return [_pack(mask) for mask in masks]


#: Masks of all combinations of mirrored, upside down and inverted.
VARIANTS = _variants()


def near_duplicates_across_patients(evidence: Evidence) -> Answer:
    """Near-duplicate images under two patient ids: one woman under two names."""
    return _clusters_where(
        evidence,
        "near_duplicates_across_patients",
        lambda members: members["patient_id"].n_unique() > 1,
        Severity.ERROR,
        "The same exposure stands under more than one patient_id.",
        "Find out whose it is; give both one patient_id or drop the copies, then split again.",
    )


def near_duplicates_across_splits(evidence: Evidence) -> Answer:
    """Near-duplicate images in two splits or folds: the model is tested on what it has seen."""
    if not isinstance(evidence.splits, Skipped):
        parts = evidence.splits.select(
            "image_id", part=pl.concat_str("split", "fold", ignore_nulls=True)
        )
    elif evidence.manifest["split"].null_count() < evidence.manifest.height:
        parts = evidence.manifest.select("image_id", part=pl.col("split").str.to_lowercase())
    else:
        return Skipped("there is no splits.parquet (run mammoscope split) and no column split")
    dealt = {name: part for name, part in parts.iter_rows() if part is not None}

    def across(members: pl.DataFrame) -> bool:
        return len({dealt[name] for name in members["image_id"] if name in dealt}) > 1

    return _clusters_where(
        evidence,
        "near_duplicates_across_splits",
        across,
        Severity.ERROR,
        "The same exposure lies in more than one split or fold.",
        "Give the images one patient_id or drop the copies, then run mammoscope split --overwrite.",
    )


def near_duplicates_within_patient(evidence: Evidence) -> Answer:
    """Near-duplicate images of one patient: a warning in one breast, an error across both."""
    code = "near_duplicates_within_patient"

    def one_breast(members: pl.DataFrame) -> bool:
        return members["patient_id"].n_unique() == 1 and members["laterality"].n_unique() == 1

    def both_breasts(members: pl.DataFrame) -> bool:
        return members["patient_id"].n_unique() == 1 and members["laterality"].n_unique() > 1

    copies = _clusters_where(
        evidence,
        code,
        one_breast,
        Severity.WARNING,
        "One exposure is kept more than once; it weighs twice in training and in a breast's mean.",
        "Drop the copies.",
        "one breast",
    )
    if isinstance(copies, Skipped):
        return copies
    swapped = _clusters_where(
        evidence,
        code,
        both_breasts,
        Severity.ERROR,
        "The same exposure is named left and right: one of the two is the wrong breast.",
        "Look which laterality is right, and drop the copies of the other.",
        "both breasts",
    )
    return copies + swapped if not isinstance(swapped, Skipped) else swapped


def find_clusters(names: Sequence[str], hashes: NDArray[np.uint64]) -> list[list[str]]:
    """Join near pairs to clusters.

    Args:
        names: An image id for each hash.
        hashes: (N, 4) uint64.

    Returns:
        The clusters of two images or more, each sorted, in order of their first name.
    """
    parent = list(range(len(names)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for left, right in near_pairs(hashes, VARIANTS):
        parent[root(int(right))] = root(int(left))
    members: dict[int, list[str]] = {}
    for index, name in enumerate(names):
        members.setdefault(root(index), []).append(name)
    return sorted(sorted(cluster) for cluster in members.values() if len(cluster) > 1)


def _clusters_where(
    evidence: Evidence,
    code: str,
    wanted: Callable[[pl.DataFrame], bool],
    severity: Severity,
    what: str,
    todo: str,
    subject: str = "",
) -> Answer:
    """Return one finding on the images of all clusters of near-duplicates that are wanted."""
    if isinstance(evidence.duplicates, Skipped):
        return evidence.duplicates
    clusters = evidence.duplicates.clusters
    copied = evidence.manifest.filter(pl.col("image_id").is_in([n for c in clusters for n in c]))
    caught = [
        name
        for cluster in clusters
        if wanted(copied.filter(pl.col("image_id").is_in(cluster)))
        for name in cluster
    ]
    if not caught:
        return []
    # In the order of clusters, so that copies stand beside each other.
    examples = tuple(caught[:MOST_EXAMPLES])
    of = evidence.duplicates.images
    return [Finding(code, severity, subject, len(caught), of, "images", what, todo, examples)]
