import numpy as np
import pytest

from mammoscope.config import EvaluationConfig
from mammoscope.evaluation.lesions.one_figure import sensitivity_of


def test_the_figure_is_the_mean_over_the_rates_and_the_one_at_the_rate_asked():
    # Two images, each with one lesion and two candidates.
    lesion, other = [0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 60.0, 60.0]
    boxes = np.array([lesion, other])
    found = [(boxes, np.array([0.9, 0.2])), (boxes, np.array([0.3, 0.8]))]
    there = [np.array([lesion]), np.array([lesion])]
    # No false positive finds the first; the second comes with one, half of one an image.
    config = EvaluationConfig(froc_false_positives=(0.25, 0.5), candidate_false_positives=0.5)
    mean, asked = sensitivity_of(found, there, config)
    assert mean == pytest.approx(0.75)
    assert asked == pytest.approx(1.0)
