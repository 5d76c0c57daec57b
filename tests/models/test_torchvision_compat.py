from __future__ import annotations

import subprocess
import sys

import torch
import torchvision

from mammoscope.models import torchvision_compat


def test_installing_again_changes_nothing():
    libraries = list(torchvision_compat._libraries)
    torchvision_compat.install()
    torchvision_compat.install()
    assert sys.modules["torchvision"] is torchvision
    assert torchvision_compat._libraries == libraries


def test_suppression_keeps_the_best_of_boxes_that_overlap():
    boxes = torch.tensor([[0, 0, 10, 10], [1, 1, 11, 11], [20, 20, 30, 30], [0, 0, 10, 5.0]])
    scores = torch.tensor([0.8, 0.9, 0.1, 0.7])
    for nms in (torchvision_compat._nms, torch.ops.torchvision.nms):
        assert nms(boxes, scores, 0.5).tolist() == [1, 3, 2]
        assert nms(boxes, scores, 0.4).tolist() == [1, 3, 2]
        assert nms(boxes, scores, 0.3).tolist() == [1, 2]
        assert nms(boxes[:0], scores[:0], 0.5).tolist() == []


def test_any_module_of_ours_can_be_the_first_that_is_imported():
    code = "import mammoscope.models.registry, sys; assert 'torchvision' in sys.modules"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
