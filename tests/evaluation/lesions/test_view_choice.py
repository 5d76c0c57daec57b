"""How views are matched, chosen on validation images."""

import numpy as np
import pytest

from mammoscope.config import EvaluationConfig, MatchingConfig, ViewMatching
from mammoscope.export.view_matching import choose_matching
from mammoscope.inference.fusion import Boxes
from mammoscope.inference.matching import ViewCandidates

DEPTH = 100.0
EVALUATION = EvaluationConfig(froc_false_positives=(0.5,))


def box(depth, side=10.0):
    return [depth * DEPTH - side / 2, 20.0, depth * DEPTH + side / 2, 20.0 + side]


def view(name, projection, depths, scores):
    boxes = Boxes(
        np.array([box(depth) for depth in depths]),
        np.array(scores, dtype=np.float64),
        np.zeros(len(depths), int),
    )
    return ViewCandidates(name, projection, boxes, DEPTH)


def breasts(agree):
    """Twenty breasts whose lesion scores below a shadow that one view shows alone, if they agree.

    If they do not, shadows agree and lesions lie at other depths in MLO.
    """
    made, lesions = [], {}
    for number in range(20):
        cc, mlo = f"cc{number}", f"mlo{number}"
        deep = 0.5 if agree else 0.9
        shadow = 0.1 if agree else 0.3
        made.append(
            [
                view(cc, "CC", (0.5, 0.3), (0.5, 0.55)),
                view(mlo, "MLO", (deep, shadow), (0.5, 0.55)),
            ]
        )
        lesions |= {cc: np.array([box(0.5)]), mlo: np.array([box(deep)])}
    return made, lesions


def test_where_lesions_agree_scores_rise():
    made, lesions = breasts(agree=True)
    chosen = choose_matching(made, lesions, MatchingConfig(), EVALUATION)
    assert chosen.matching.rise > 0
    assert chosen.alone < chosen.sensitivity == pytest.approx(1.0)
    assert chosen.lesions == 40
    assert "chosen on 40 validation lesions" in chosen.sentence


def test_where_shadows_agree_and_lesions_do_not_no_score_moves():
    made, lesions = breasts(agree=False)
    chosen = choose_matching(made, lesions, MatchingConfig(), EVALUATION)
    assert chosen.matching.rise == 0
    assert "moves no score" in chosen.sentence


def test_what_is_told_is_kept():
    made, lesions = breasts(agree=False)
    told = MatchingConfig(rise=3.0, depth_tolerance=0.07)
    chosen = choose_matching(made, lesions, told, EVALUATION)
    assert chosen.matching == ViewMatching(rise=3.0, depth_tolerance=0.07)


def test_images_with_a_lesion_somewhere_do_not_judge():
    made, lesions = breasts(agree=True)
    some = {name: boxes for name, boxes in lesions.items() if name.startswith("cc")}
    assert choose_matching(made, some, MatchingConfig(), EVALUATION).lesions == 20


def test_without_lesions_nothing_is_chosen():
    made, lesions = breasts(agree=True)
    none = {name: np.zeros((0, 4)) for name in lesions}
    chosen = choose_matching(made, none, MatchingConfig(), EVALUATION)
    assert (chosen.lesions, chosen.matching.rise) == (0, 0)
