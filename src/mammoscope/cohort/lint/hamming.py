"""Pairs of 256-bit hashes that differ in few bits, without comparing all pairs.

Multi-index hashing (Norouzi, Punjani and Fleet, CVPR 2012): of 16 bands of 16 bits at
least one differs in at most one bit where 31 bits differ in all. Every hash is therefore
looked up by each of its bands and by each band with one bit turned: 272 look-ups, whatever
the number of images.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["RADIUS", "Pairs", "near_pairs"]

#: Bits by which two hashes may differ, as the bands guarantee.
RADIUS = 31
_BANDS, _BAND_BITS = 16, 16
# Candidates that are compared at once, which bounds the memory.
_AT_ONCE = 1 << 20

#: (n, 2) indices, the smaller first, in order.
Pairs = NDArray[np.int64]


def near_pairs(hashes: NDArray[np.uint64], variants: Sequence[NDArray[np.uint64]]) -> Pairs:
    """Return all pairs within :data:`RADIUS` bits, one of them changed by a variant or not.

    Args:
        hashes: (N, 4) uint64.
        variants: (4,) uint64 masks; a hash exclusive-or a mask is that of a changed image.
            The first is all zeros.

    Returns:
        (n, 2) indices. Of equal hashes each is paired with the first only.
    """
    unique, first, inverse = np.unique(hashes, axis=0, return_index=True, return_inverse=True)
    inverse = inverse.reshape(-1)
    equal = np.stack([first[inverse], np.arange(len(hashes))], axis=1)
    found = [equal[equal[:, 0] != equal[:, 1]]]
    bands = np.ascontiguousarray(unique).view(np.uint16).astype(np.int64)
    turned = [0, *(1 << bit for bit in range(_BAND_BITS))]
    for band in range(_BANDS):
        keys = bands[:, band]
        order = np.argsort(keys, kind="stable")
        ends = np.cumsum(np.bincount(keys, minlength=1 << _BAND_BITS))
        for variant in variants:
            changed = unique ^ variant
            mask = int(np.ascontiguousarray(variant).view(np.uint16)[band])
            for turn in turned:
                wanted = keys ^ mask ^ turn
                begin = np.where(wanted > 0, ends[wanted - 1], 0)
                pairs = _compare(unique, changed, order, begin, ends[wanted])
                found.append(first[pairs])
    pairs = np.sort(np.concatenate(found), axis=1)
    return np.unique(pairs, axis=0)


def _compare(
    hashes: NDArray[np.uint64],
    changed: NDArray[np.uint64],
    order: NDArray[np.int64],
    begin: NDArray[np.int64],
    end: NDArray[np.int64],
) -> Pairs:
    """Compare each hash with the bucket order[begin:end] that its key names."""
    found = []
    sizes = end - begin
    starts = np.concatenate([[0], np.cumsum(sizes)])
    low = 0
    while low < sizes.size:
        # As many hashes as fill one round; at least one.
        high = int(np.searchsorted(starts, starts[low] + _AT_ONCE, side="right")) - 1
        high = min(max(high, low + 1), sizes.size)
        span = sizes[low:high]
        left = np.repeat(np.arange(low, high), span)
        offset = np.arange(left.size) - np.repeat(starts[low:high] - starts[low], span)
        right = order[np.repeat(begin[low:high], span) + offset]
        once = left < right
        left, right = left[once], right[once]
        bits = np.bitwise_count(hashes[left] ^ changed[right]).sum(axis=1)
        near = bits <= RADIUS
        found.append(np.stack([left[near], right[near]], axis=1))
        low = high
    return np.concatenate(found) if found else np.empty((0, 2), np.int64)
