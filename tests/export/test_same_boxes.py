import numpy as np
import pytest
import torch
from torch import nn

from mammoscope.config import DetectionConfig
from mammoscope.errors import RunError
from mammoscope.export.detection import check_boxes
from mammoscope.inference.fusion import Boxes
from mammoscope.models.detectors import Candidates

PLACES = 4
FLOOR = 0.1
IMAGE = np.ones((64, 64), np.uint8)


class Network(nn.Module):
    """Finds what it is told to."""

    def __init__(self, scores, boxes=None):
        super().__init__()
        self.config = DetectionConfig(score_floor=FLOOR, most_candidates=PLACES)
        self._scores, self._boxes = scores, sides(scores) if boxes is None else boxes

    def forward(self, _):
        boxes, scores = torch.zeros(1, PLACES, 4), torch.zeros(1, PLACES)
        boxes[0, : len(self._scores)] = torch.tensor(self._boxes).reshape(-1, 4)
        scores[0, : len(self._scores)] = torch.tensor(self._scores)
        return Candidates(boxes, scores, torch.zeros(1, PLACES, dtype=torch.int64))


class Exported:
    def __init__(self, scores, boxes=None):
        self._found = Boxes(
            np.array(sides(scores) if boxes is None else boxes).reshape(-1, 4),
            np.array(scores, np.float64),
            np.zeros(len(scores), np.int64),
        )

    def whole(self, _):
        return self._found


def sides(scores):
    """A box for each candidate, apart from all others."""
    return [[10.0 * n, 5.0, 10.0 * n + 8, 15.0] for n in range(len(scores))]


def elsewhere(scores):
    """The same, but the last box lies elsewhere."""
    return [*sides(scores)[:-1], [40.0, 40.0, 50.0, 50.0]]


@pytest.mark.parametrize("scores", [[], [0.5], [0.9, 0.3], [0.9, 0.3, 0.2, 0.15]])
def test_the_same_candidates_pass(scores):
    check_boxes(Network(scores), Exported(scores), [IMAGE])


@pytest.mark.parametrize("scores", [[0.5], [0.9, 0.3]])
def test_the_lowest_candidate_is_compared_where_there_was_room_for_more(scores):
    with pytest.raises(RunError, match=rf"no counterpart.*has {scores[-1]:.3f}"):
        check_boxes(Network(scores), Exported(scores, elsewhere(scores)), [IMAGE])
    with pytest.raises(RunError, match="no counterpart"):
        check_boxes(Network(scores), Exported(scores[:-1]), [IMAGE])
    with pytest.raises(RunError, match="no counterpart"):
        check_boxes(Network(scores[:-1]), Exported(scores), [IMAGE])


def test_the_last_place_may_go_to_either_of_two_near_equals_and_to_nothing_lower():
    ours = [0.9, 0.8, 0.7, 0.5]
    check_boxes(Network(ours), Exported([*ours[:3], 0.5001], elsewhere(ours)), [IMAGE])
    with pytest.raises(RunError, match=r"has 0\.500"):
        check_boxes(Network(ours), Exported([*ours[:3], 0.4], elsewhere(ours)), [IMAGE])


def test_a_candidate_at_the_floor_of_scores_may_be_above_it_in_one_graph_alone():
    check_boxes(Network([0.9, FLOOR + 1e-5]), Exported([0.9]), [IMAGE])
    check_boxes(Network([0.9]), Exported([0.9, FLOOR + 1e-5]), [IMAGE])
