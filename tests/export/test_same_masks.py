"""Whether two masks of one image are the same, rounding aside."""

from __future__ import annotations

import numpy as np
import pytest

from mammoscope.export.segmentation import differing_pixels


def mask(*parts):
    made = np.zeros((12, 12), bool)
    for rows, columns in parts:
        made[rows, columns] = True
    return made


FIRST = (slice(1, 4), slice(1, 4))
SECOND = (slice(7, 10), slice(7, 10))
CORNER = (slice(3, 4), slice(3, 4))


@pytest.mark.parametrize(
    ("made", "near", "wrong"),
    [
        (mask(FIRST, SECOND), mask(), 0),
        # Nothing lies at the threshold.
        (mask(SECOND), mask(), 9),
        # A pixel of the part does, and the part may be too small without it.
        (mask(SECOND), mask(CORNER), 0),
        # It excuses its own part, not another.
        (mask(FIRST), mask(CORNER), 9),
        # What lies at the threshold may be in one mask alone.
        (mask(FIRST, SECOND, (slice(4, 5), slice(4, 5))), mask((slice(4, 5), slice(4, 5))), 0),
    ],
)
def test_parts_without_a_pixel_at_the_threshold_are_alike(made, near, wrong):
    assert differing_pixels(made, mask(FIRST, SECOND), near) == wrong
