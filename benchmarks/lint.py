"""How well lint's pixel checks find faults, on real films that are damaged on purpose.

    python benchmarks/lint.py COHORT --films 100

COHORT is an ingested cohort of films that are as they should be, such as CBIS-DDSM. Measured:
how often each kind of damaged copy is flagged, and the films as they are; how far the hashes
of copies and of different women lie apart; how often a machine's worth of stretched films is
told from films that are not; and how long the search for near-duplicates takes as it grows.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl

from mammoscope.cohort.lint.aspect import stretched_images
from mammoscope.cohort.lint.duplicates import VARIANTS, perceptual_hash
from mammoscope.cohort.lint.evidence import Duplicates, Evidence
from mammoscope.cohort.lint.facts import ImageFacts
from mammoscope.cohort.lint.findings import Skipped
from mammoscope.cohort.lint.hamming import RADIUS, near_pairs
from mammoscope.cohort.lint.inversion import inverted_images
from mammoscope.cohort.lint.measure import hash_filled_part, hash_prepared, measure_pixels
from mammoscope.cohort.lint.upsampling import upsampled_images
from mammoscope.cohort.manifest import read_manifest, source_roots
from mammoscope.config import PreprocessConfig
from mammoscope.errors import IneligibleImageError
from mammoscope.preprocessing import Preprocessor, read_pixels
from mammoscope.types import FloatImage
from measure import leave

Change = Callable[[FloatImage], FloatImage]


def eight_bits(pixels: FloatImage) -> FloatImage:
    """Round as an 8-bit file does."""
    return np.asarray(np.rint(np.clip(pixels, 0, 1) * 255) / 255, dtype=np.float32)


def jpeg(quality: int) -> Change:
    """Save as JPEG and read back."""

    def change(pixels: FloatImage) -> FloatImage:
        grey = np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
        _, data = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, quality])
        return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE) / 255, dtype=np.float32)

    return change


def scaled(factor: float, interpolation: int) -> Change:
    """Scale both sides and save with 8 bits."""
    return lambda p: eight_bits(
        cv2.resize(p, None, fx=factor, fy=factor, interpolation=interpolation)
    )


#: Damaged copies, with the checks that are to flag them (none: neither may).
DAMAGE: dict[str, tuple[Change, str]] = {
    "as it is": (lambda p: p, ""),
    "inverted": (lambda p: 1 - p, "inverted"),
    "enlarged 2, nearest": (scaled(2, cv2.INTER_NEAREST), "upsampled"),
    "enlarged 2, bilinear": (scaled(2, cv2.INTER_LINEAR), "upsampled"),
    "enlarged 2, cubic": (scaled(2, cv2.INTER_CUBIC), "upsampled"),
    "enlarged 2, Lanczos": (scaled(2, cv2.INTER_LANCZOS4), "upsampled"),
    "enlarged 1.5, cubic": (scaled(1.5, cv2.INTER_CUBIC), "upsampled"),
    "enlarged 3, bilinear": (scaled(3, cv2.INTER_LINEAR), "upsampled"),
    "enlarged 1.37, bilinear": (scaled(1.37, cv2.INTER_LINEAR), "upsampled"),
    "enlarged 2, cubic, JPEG 90": (
        lambda p: jpeg(90)(cv2.resize(p, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)),
        "upsampled",
    ),
    "reduced to 0.6, area": (scaled(0.6, cv2.INTER_AREA), ""),
    "JPEG 60": (jpeg(60), ""),
    "blurred, sigma 1": (lambda p: eight_bits(cv2.GaussianBlur(p, (0, 0), 1)), ""),
}
#: Copies that are to be taken for the same exposure.
COPIES: dict[str, Change] = {
    "mirrored": lambda p: np.ascontiguousarray(p[:, ::-1]),
    "turned by half": lambda p: np.ascontiguousarray(p[::-1, ::-1]),
    "inverted": lambda p: 1 - p,
    "scaled 0.37": scaled(0.37, cv2.INTER_AREA),
    "scaled 1.7": scaled(1.7, cv2.INTER_CUBIC),
    "6 bits": lambda p: np.asarray(np.rint(p * 63) / 63, dtype=np.float32),
    "JPEG 60": jpeg(60),
    "noise 0.02": lambda p: np.clip(
        p + np.random.default_rng(0).normal(0, 0.02, p.shape).astype(np.float32), 0, 1
    ),
    "window 0.05 to 0.85": lambda p: np.clip((p - 0.05) / 0.8, 0, 1),
    "gamma 0.7": lambda p: p**0.7,
    "1 % cut off each side": lambda p: p[8:-8, 8:-8],
}


def evidence(manifest: pl.DataFrame, images: list[ImageFacts]) -> Evidence:
    """Return what the pixel checks need."""
    absent = Skipped("not measured here")
    return Evidence(manifest, absent, images, Duplicates(0, ()), (), "cancer", 0)


def flagged(manifest: pl.DataFrame, check: Any, images: list[ImageFacts]) -> int:
    """Count the images of a check's warnings and errors."""
    answer = check(evidence(manifest, images))
    return (
        0
        if isinstance(answer, Skipped)
        else sum(finding.count for finding in answer if finding.severity != "info")
    )


def damages(manifest: pl.DataFrame, films: list[tuple[dict[str, Any], FloatImage]]) -> Any:
    """Damage one film at a time; the others of its machine stay as they are."""
    whole = [measure_pixels(row["image_id"], p, row["pixel_aspect"]) for row, p in films]
    rows = []
    for name, (change, expected) in DAMAGE.items():
        alone = {"inverted": 0, "upsampled": 0}
        changed = [
            measure_pixels(row["image_id"], change(p), row["pixel_aspect"]) for row, p in films
        ]
        for at, facts in enumerate(changed):
            mixed = [*whole[:at], facts, *whole[at + 1 :]]
            for kind, check in (("inverted", inverted_images), ("upsampled", upsampled_images)):
                own = flagged(manifest, check, [f for f in whole if f is not whole[at]])
                alone[kind] += flagged(manifest, check, mixed) - own
        together = flagged(manifest, inverted_images, changed)
        rows.append(
            {
                "copy": name,
                "to be flagged as": expected or "nothing",
                "inverted": alone["inverted"],
                "inverted, all films": together,
                "upsampled": alone["upsampled"],
                "films": len(films),
            }
        )
    return rows


def distances(changed: Any, hashes: Any) -> Any:
    """Return (len(changed), len(hashes)): bits between hashes, the nearest of all variants."""
    best = None
    for variant in VARIANTS:
        bits = np.bitwise_count((changed ^ variant)[:, None, :] ^ hashes[None]).sum(axis=2)
        best = bits if best is None else np.minimum(best, bits)
    return best


def copies(
    films: list[tuple[dict[str, Any], FloatImage]], make: Callable[[FloatImage, float], Any]
) -> Any:
    """Measure how many bits copies differ by, hashed as ``make`` does."""
    hashes = [make(pixels, row["pixel_aspect"]) for row, pixels in films]
    rows = []
    for name, change in COPIES.items():
        bits = [
            int(distances(make(change(p), row["pixel_aspect"])[None], own[None])[0, 0])
            for (row, p), own in zip(films, hashes, strict=True)
        ]
        q = np.quantile(bits, [0.5, 0.95, 1])
        found = sum(b <= RADIUS for b in bits)
        rows.append(
            {"copy": name, "median": int(q[0]), "95 %": int(q[1]), "most": int(q[2]),
             f"within {RADIUS} bits": f"{found} of {len(bits)}"}
        )  # fmt: skip
    return rows


def hash_as_prepared(pixels: FloatImage, pixel_aspect: float) -> Any:
    """Hash a film as lint does after prepare; of a negative air is taken for the breast."""
    try:
        made = Preprocessor(PreprocessConfig(height=512, width=256))(pixels, None, pixel_aspect)
    except IneligibleImageError:
        return perceptual_hash(pixels)
    return hash_filled_part(made.pixels, 255)


def strangers(names: list[str], patients: list[str], hashes: Any, what: str) -> Any:
    """Measure how near the hashes of different women come."""
    counts = np.zeros(257, np.int64)
    who = np.array(patients)
    for at in range(len(names) - 1):
        bits = distances(hashes[at : at + 1], hashes[at + 1 :])[0]
        counts += np.bincount(bits[who[at + 1 :] != who[at]], minlength=257)
    below = np.cumsum(counts)
    return {
        "images": what,
        "pairs of women": int(below[-1]),
        **{f"pairs within {bits}": int(below[bits]) for bits in (31, 55, 63, 70, 80, 90)},
        "nearest": int(np.flatnonzero(counts)[0]),
    }


def stretching(manifest: pl.DataFrame, films: list[tuple[dict[str, Any], FloatImage]]) -> Any:
    """Draw groups of films as one machine's; ask whether it is called stretched."""
    rng = np.random.default_rng(0)
    rows = []
    cases: dict[str, Callable[[float, FloatImage], tuple[FloatImage, float]]] = {
        "stretched, pixel_aspect given": lambda a, p: (p, a),
        "stretched, pixel_aspect dropped": lambda _a, p: (p, 1.0),
        "square pixels": lambda a, p: (cv2.resize(p, None, fx=a, fy=1), 1.0),
        "square pixels, then 1.25 wider": lambda a, p: (
            cv2.resize(p, None, fx=1.25 * a, fy=1), 1.0),
        "square pixels, then 1.5 wider": lambda a, p: (
            cv2.resize(p, None, fx=1.5 * a, fy=1), 1.0),
        "square pixels, then 1.5 higher": lambda a, p: (
            cv2.resize(p, None, fx=a, fy=1.5), 1.0),
    }  # fmt: skip
    for name, case in cases.items():
        facts = []
        for row, pixels in films:
            changed, aspect = case(row["pixel_aspect"], pixels)
            facts.append(measure_pixels(row["image_id"], changed, aspect))
        told = [f for f in facts if f.anisotropy is not None]
        values = np.array([f.anisotropy for f in told])
        line = {"films": name, "mean": f"{values.mean():.3f}", "deviation": f"{values.std():.3f}"}
        for size in (10, 20, 50, 100):
            alarms = 0
            for _ in range(200):
                drawn = rng.choice(len(told), min(size, len(told)), replace=False)
                group = [dataclasses.replace(told[i]) for i in drawn]
                alarms += bool(flagged(manifest, stretched_images, group))
            line[f"alarms of 200, {size} films"] = alarms
        rows.append(line)
    return rows


def search(films: list[tuple[dict[str, Any], FloatImage]], sizes: tuple[int, ...]) -> Any:
    """Time the search over parts of films, cut at random, as many as asked for."""
    rng = np.random.default_rng(0)
    small = [cv2.resize(p, (160, 160), interpolation=cv2.INTER_AREA) for _, p in films]
    hashes = np.empty((max(sizes), 4), np.uint64)
    for at in range(max(sizes)):
        y, x = rng.integers(0, 60, 2)
        side = int(rng.integers(90, 101))
        part = small[at % len(small)][y : y + side, x : x + side]
        hashes[at] = perceptual_hash(np.ascontiguousarray(part))
    rows = []
    for size in sizes:
        begun = time.process_time()
        pairs = near_pairs(hashes[:size], VARIANTS)
        seconds = time.process_time() - begun
        rows.append(
            {"images": size, "seconds": f"{seconds:.1f}", "pairs found": len(pairs),
             "microseconds per image": f"{1e6 * seconds / size:.0f}"}
        )  # fmt: skip
    return rows


def main() -> None:
    """Read the films, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--films", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    words = parser.parse_args()
    cv2.setNumThreads(1)
    (root,) = source_roots(words.cohort).values()
    manifest = read_manifest(words.cohort)
    drawn = manifest.sample(min(words.films, manifest.height), seed=0, shuffle=True)
    films = [(r, read_pixels(root / r["path"]).pixels) for r in drawn.iter_rows(named=True)]
    made = copies(films, lambda pixels, _aspect: perceptual_hash(pixels))
    leave("lint-copies", "Bits by which copies differ, originals", made, words.out)
    made = copies(films, hash_as_prepared)
    leave("lint-copies-prepared", "Bits by which copies differ, prepared", made, words.out)
    told = [(n, p) for n, p in manifest.select("image_id", "patient_id").iter_rows()]
    names, patients = [n for n, _ in told], [p for _, p in told]
    originals = np.stack([perceptual_hash(read_pixels(root / p).pixels) for p in manifest["path"]])
    apart = [strangers(names, patients, originals, "originals")]
    if (words.cohort / "images" / "prepare.json").is_file():
        made = [hash_prepared({"image_id": n, "cohort": str(words.cohort)}) for n in names]
        prepared = [bits for _, bits in filter(None, made)]
        apart.append(strangers(names, patients, np.stack(prepared), "prepared"))
    leave("lint-strangers", "Hashes of different women", apart, words.out)
    leave("lint-search", "Search", search(films, (6838, 13677, 27353, 54706)), words.out)
    leave("lint-stretched", "Stretched films", stretching(drawn, films), words.out)
    leave("lint-damage", "Damaged films", damages(drawn, films), words.out)


if __name__ == "__main__":
    main()
