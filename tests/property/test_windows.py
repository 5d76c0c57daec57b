"""The window functions against the formulae of PS3.3 C.11.2.1.2 and C.11.2.1.3."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mammoscope.dicom.presentation import apply_window

values = st.floats(-40000, 70000)
centers = st.floats(-5000, 70000)
widths = st.floats(1.0, 70000)
functions = st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"])


def linear(x, center, width):
    if x <= center - 0.5 - (width - 1) / 2:
        return 0.0
    if x > center - 0.5 + (width - 1) / 2:
        return 1.0
    return (x - (center - 0.5)) / (width - 1) + 0.5


def linear_exact(x, center, width):
    if x <= center - width / 2:
        return 0.0
    if x > center + width / 2:
        return 1.0
    return (x - center) / width + 0.5


def sigmoid(x, center, width):
    exponent = -4 * (x - center) / width
    return 0.0 if exponent > 700 else 1 / (1 + math.exp(exponent))


STANDARD = {"LINEAR": linear, "LINEAR_EXACT": linear_exact, "SIGMOID": sigmoid}


@given(values, centers, widths, functions)
def test_a_window_is_the_standards_formula(x, center, width, function):
    found = float(apply_window(np.array([x]), center, width, function)[0])
    assert math.isclose(found, STANDARD[function](x, center, width), abs_tol=1e-9)


@given(st.lists(values, min_size=2, max_size=50), centers, widths, functions)
def test_a_window_never_turns_darker_into_brighter(xs, center, width, function):
    shown = apply_window(np.sort(np.array(xs)), center, width, function)
    assert (np.diff(shown) >= 0).all()
    assert 0 <= shown.min() <= shown.max() <= 1


@given(st.integers(-2000, 6000))
def test_a_linear_window_of_width_one_is_a_step(center):
    shown = apply_window(np.array([center - 1.0, center - 0.5, center + 0.0]), center, 1.0)
    assert shown.tolist() == [0.0, 0.0, 1.0]
