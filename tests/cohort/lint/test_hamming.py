"""The bucketed search finds what comparing all pairs finds."""

from __future__ import annotations

import numpy as np
import pytest

from fixtures.lint import copied, film
from mammoscope.cohort.lint import hamming
from mammoscope.cohort.lint.duplicates import (
    VARIANTS,
    find_clusters,
    near_duplicates_across_patients,
    near_duplicates_within_patient,
    perceptual_hash,
)
from mammoscope.cohort.lint.findings import Severity
from mammoscope.cohort.lint.hamming import RADIUS, near_pairs


def all_pairs(hashes, variants):
    found = set()
    for left in range(len(hashes)):
        for right in range(left + 1, len(hashes)):
            for variant in variants:
                if np.bitwise_count(hashes[left] ^ hashes[right] ^ variant).sum() <= RADIUS:
                    found.add((left, right))
    return found


def with_bits_turned(rng, hashes, counts):
    """Copies that differ from their original in as many bits as counts say."""
    bits = np.unpackbits(hashes.view(np.uint8), axis=1)
    for row, count in zip(bits, counts, strict=True):
        row[rng.choice(256, count, replace=False)] ^= 1
    return np.packbits(bits, axis=1).view(np.uint64)


@pytest.mark.parametrize("seed", range(3))
def test_no_pair_within_the_radius_is_missed_and_none_beyond_is_found(seed):
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 2**63, (60, 4), dtype=np.uint64)
    copies = with_bits_turned(rng, first, rng.integers(1, 45, 60))
    copies[::2] ^= VARIANTS[seed + 3]
    hashes = np.concatenate([first, copies])
    pairs = {(int(a), int(b)) for a, b in near_pairs(hashes, VARIANTS)}
    expected = all_pairs(hashes, VARIANTS)
    assert pairs == expected
    assert 20 < len(expected) < 60


def test_a_pair_at_the_radius_is_found_wherever_its_bits_lie():
    # 31 bits spread so that as many bands as can be differ in two bits.
    first = np.zeros((1, 4), np.uint64)
    bits = np.zeros((1, 256), np.uint8)
    bits[0, [*range(0, 256, 16), *range(5, 256 - 16, 16)]] = 1
    assert bits.sum() == RADIUS
    hashes = np.concatenate([first, np.packbits(bits, axis=1).view(np.uint64)])
    assert near_pairs(hashes, VARIANTS[:1]).tolist() == [[0, 1]]


def test_memory_is_bounded_without_changing_the_result(monkeypatch):
    rng = np.random.default_rng(0)
    first = rng.integers(0, 2**63, (50, 4), dtype=np.uint64)
    hashes = np.concatenate([first, with_bits_turned(rng, first, [9] * 50)])
    expected = near_pairs(hashes, VARIANTS)
    monkeypatch.setattr(hamming, "_AT_ONCE", 3)
    assert np.array_equal(near_pairs(hashes, VARIANTS), expected)


def test_many_equal_hashes_are_one_cluster_in_linear_time():
    hashes = np.zeros((30_000, 4), np.uint64)
    names = [f"i{n:05}" for n in range(30_000)]
    (cluster,) = find_clusters(names, hashes)
    assert cluster == names


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p[:, ::-1],
        lambda p: p[::-1],
        lambda p: p[::-1, ::-1],
        lambda p: 1 - p,
        lambda p: (np.rint(p * 255) / 255).astype(np.float32),
        lambda p: np.repeat(np.repeat(p, 2, axis=0), 2, axis=1),
    ],
    ids=["mirrored", "upside down", "turned", "inverted", "8 bits", "enlarged"],
)
def test_a_changed_copy_is_near_and_another_woman_is_not(change):
    pixels = film(0)
    near = perceptual_hash(np.ascontiguousarray(change(pixels)))
    hashes = np.stack([perceptual_hash(pixels), near, perceptual_hash(film(1))])
    assert near_pairs(hashes, VARIANTS).tolist() == [[0, 1]]


def test_one_exposure_named_left_and_right_is_an_error():
    (finding,) = near_duplicates_within_patient(copied("00RCC"))
    assert (finding.severity, finding.subject) == (Severity.ERROR, "both breasts")
    assert finding.examples == ("00LCC", "00RCC")
    assert near_duplicates_across_patients(copied("00RCC")) == []
