"""What pixel checks decide, and where they say that they cannot."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from fixtures.lint import FILMS, clean, facts, film, in_films, measured, scale, write
from mammoscope.cohort.lint.aspect import stretched_images
from mammoscope.cohort.lint.findings import Severity, Skipped
from mammoscope.cohort.lint.inversion import inverted_images
from mammoscope.cohort.lint.measure import measure_pixels
from mammoscope.cohort.lint.text import burned_in_text
from mammoscope.cohort.lint.upsampling import find_resampling, upsampled_images

WHOLE = (0, 0, 400, 480)


def test_a_machine_that_is_inverted_as_a_whole_is_named():
    (finding,) = inverted_images(in_films(lambda p: 1 - p, *range(FILMS)))
    assert (finding.count, finding.of) == (FILMS, FILMS)
    assert finding.subject == "machine 49, as a whole"
    (finding,) = inverted_images(in_films(lambda p: 1 - p, 3))
    assert finding.subject == "machine 49"


@pytest.mark.parametrize("side", ["L", "R"])
def test_each_image_is_judged_as_prepare_judges_it(side):
    assert measured(0, film(3, side)).inverted is False
    assert measured(0, 1 - film(3, side)).inverted is True


def noisy(number: int) -> np.ndarray:
    """No air is flat: coarse grain lies over the whole film."""
    rng = np.random.default_rng(number)
    grain = cv2.GaussianBlur(rng.normal(0, 1, (480, 400)).astype(np.float32), (0, 0), 3)
    return np.clip(0.1 + 0.8 * film(number) + 0.4 * grain, 0, 1)


def test_without_air_the_other_images_of_the_machine_decide():
    assert not measured(0, 1 - noisy(4)).inverted
    assert inverted_images(in_films(lambda _: noisy(4), 4)) == []
    (finding,) = inverted_images(in_films(lambda _: 1 - noisy(4), 4))
    assert finding.examples == ("04LCC",)


def test_a_white_label_that_looks_like_air_is_outvoted_by_the_machine():
    def label(pixels):
        # Grain everywhere but on a large label in the corner: all that is flat is white.
        labelled = noisy(4)
        labelled[:200, 230:] = 1
        return labelled

    assert measured(0, label(None)).inverted
    assert inverted_images(in_films(label, 4)) == []


def test_of_few_images_each_speaks_for_itself():
    few = dataclasses.replace(clean(), images=[measured(0, film(0)), measured(1, 1 - film(1))])
    (finding,) = inverted_images(few)
    assert finding.examples == ("01LCC",)


@pytest.mark.parametrize(
    ("factor", "how"),
    [
        (2, cv2.INTER_NEAREST),
        (2, cv2.INTER_LINEAR),
        (2, cv2.INTER_CUBIC),
        (3, cv2.INTER_LINEAR),
        (1.5, cv2.INTER_CUBIC),
        (1.25, cv2.INTER_CUBIC),
    ],
)
def test_enlarging_leaves_traces(factor, how):
    (finding,) = upsampled_images(in_films(scale(factor, factor, how), 2, 5))
    assert (finding.severity, finding.count) == (Severity.WARNING, 2)
    assert finding.examples == ("02LCC", "05LCC")


def test_nearest_neighbour_repeats_rows():
    twice = scale(2, 2, cv2.INTER_NEAREST)(film(0))
    assert find_resampling(twice, (0, 0, 800, 960)).repeated == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(
    "change",
    [
        lambda p: cv2.resize(p, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA),
        lambda p: (
            cv2.imdecode(cv2.imencode(".jpg", (p * 255).astype(np.uint8))[1], 0) / 255
        ).astype(np.float32),
    ],
    ids=["reduced", "jpeg"],
)
def test_what_is_not_enlarged_is_not_called_so(change):
    found = upsampled_images(in_films(change, *range(FILMS)))
    assert [finding for finding in found if finding.severity is not Severity.INFO] == []


def test_smoothing_is_information_only():
    found = upsampled_images(in_films(lambda p: cv2.GaussianBlur(p, (0, 0), 1.2), 1, 2))
    assert [(f.severity, f.count) for f in found] == [(Severity.INFO, 2)]


def test_a_breast_too_small_to_judge_is_not_judged():
    assert find_resampling(film(0), (0, 0, 60, 60)) is None
    assert find_resampling(np.full((480, 400), 0.5, np.float32), WHOLE) is None


def stretched(across: float, pixel_aspect: float, count: int = FILMS):
    images = [
        measure_pixels(f"{n:02}LCC", scale(across, 1)(film(n)), pixel_aspect) for n in range(count)
    ]
    return stretched_images(dataclasses.replace(clean(), images=images))


def test_stretching_is_told_unless_pixel_aspect_undoes_it():
    assert stretched(1.0, 1.0) == []
    assert stretched(1.6, 1 / 1.6) == []
    (finding,) = stretched(1.6, 1.0)
    assert finding.count == FILMS
    assert "a pixel's true width is about 0.6" in finding.what
    (finding,) = stretched(1.0, 1.6)
    assert "a pixel's true width is about" in finding.what


def test_few_images_are_too_few_to_call_stretched():
    assert isinstance(stretched(1.6, 1.0, count=9), Skipped)


def test_a_plate_of_text_is_a_warning_and_a_breast_no_text():
    (finding,) = burned_in_text(in_films(write("DOE JANE 1950"), 1))
    assert finding.severity is Severity.WARNING
    assert finding.subject == "machine 49: more than a marker"
    assert all(image.characters == 0 for image in facts())


def test_text_that_was_turned_by_a_quarter_is_found():
    ink = np.rot90(write("L MLO")(np.zeros((400, 480), np.float32)), 3)
    assert measured(0, np.maximum(film(0), ink)).characters >= 3


def test_slanted_text_is_found_and_scattered_dust_is_not():
    turn = cv2.getRotationMatrix2D((340, 60), -40, 1)
    ink = cv2.warpAffine(write("RMLO")(np.zeros((480, 400), np.float32)), turn, (400, 480))
    assert measured(0, np.maximum(film(0), ink)).characters >= 3
    dust = film(0)
    for x, y in ((350, 40), (300, 20), (370, 120), (380, 430), (340, 470)):
        cv2.circle(dust, (x, y), 4, (1.0,), 1)
    assert measured(0, dust).characters == 0


def test_measuring_does_not_change_the_pixels():
    pixels = film(0)
    before = pixels.copy()
    measured(0, pixels)
    assert np.array_equal(pixels, before)
