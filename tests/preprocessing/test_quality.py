import cv2
import numpy as np
import pytest

from mammoscope.preprocessing.quality import borders_touched, kept_share, mask_quality
from mammoscope.types import Laterality

FREE = np.zeros((400, 300), np.uint8)


def half_ellipse(reach=180, half=150):
    mask = FREE.copy()
    cv2.ellipse(mask, (0, 200), (reach, half), 0, 0, 360, 1, -1)
    return mask


def score(mask, *, kept=1.0, contrast=100.0, wall=Laterality.L):
    return mask_quality(mask, borders_touched(mask, FREE), wall, kept, contrast)


def test_a_plain_mask_scores_one():
    assert score(half_ellipse()) == 1.0


@pytest.mark.parametrize(
    "worse",
    [
        score(half_ellipse(60, 40)),
        score(np.ones_like(FREE)),
        score(half_ellipse(380)),
        score(half_ellipse(), contrast=15),
        score(half_ellipse(), kept=0.6),
        score(half_ellipse(), wall=Laterality.R),
        score(half_ellipse() & np.random.default_rng(0).integers(0, 2, (100, 75), np.uint8).repeat(
            4, axis=0
        ).repeat(4, axis=1)),
    ],
    ids=["tiny", "huge", "nipple side", "faint", "cut", "wrong wall", "ragged"],
)  # fmt: skip
def test_each_fault_lowers_the_score(worse):
    assert 0 <= worse < 0.7


def test_a_border_of_the_film_counts_as_the_image_border_does():
    frame = FREE.copy()
    frame[:, :20] = 1
    mask = half_ellipse()
    mask[:, :21] = 0
    assert borders_touched(mask, FREE) == {}
    touched = borders_touched(mask, frame)
    assert list(touched) == ["left"]
    assert 0.6 < touched["left"] < 0.8


def test_kept_is_the_share_of_what_hangs_together():
    bright = half_ellipse()
    mask = bright.copy()
    mask[200:] = 0
    label = bright.copy()
    label[20:40, 250:290] = 1
    assert kept_share(mask, bright) == pytest.approx(0.5, abs=0.01)
    assert kept_share(mask, label) == kept_share(mask, bright)
    assert kept_share(FREE, bright) == 0
