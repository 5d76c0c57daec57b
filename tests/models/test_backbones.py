"""What a network of ours sees, and where."""

from __future__ import annotations

import pytest
import torch

from mammoscope.models import BASELINES

#: How many pixels a cell sees at most.
SEEN_PX = {"baseline_cnn": 64, "residual_cnn": 232}


@pytest.mark.parametrize("name", BASELINES)
def test_a_cell_looks_at_its_own_place(name):
    """The centre of what a cell sees is the cell's centre, or heatmaps lie beside the lesion."""
    torch.manual_seed(0)
    network = BASELINES[name]().eval()
    side = 2 * SEEN_PX[name]
    side -= side % 16
    image = torch.rand(1, 1, side, side, requires_grad=True)
    features = network(image)
    rows, columns = features.shape[2:]
    cell = (rows // 2, columns // 2)
    features[0, :, *cell].sum().backward()
    assert image.grad is not None
    seen = image.grad[0, 0].abs().nonzero()
    centre = (seen.min(0).values + seen.max(0).values + 1) / 2
    size = side / rows
    assert centre.tolist() == pytest.approx([(index + 0.5) * size for index in cell], abs=0.51)
    assert int((seen.max(0).values - seen.min(0).values).max()) + 1 <= SEEN_PX[name]
