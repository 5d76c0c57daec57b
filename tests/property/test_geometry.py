import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammoscope.preprocessing import Geometry
from mammoscope.types import Box


@st.composite
def geometries(draw):
    height, width = draw(st.integers(20, 3000)), draw(st.integers(20, 3000))
    x_min, y_min = draw(st.integers(0, width - 11)), draw(st.integers(0, height - 11))
    crop = (
        x_min,
        y_min,
        draw(st.integers(x_min + 10, width)),
        draw(st.integers(y_min + 10, height)),
    )
    # Half pixels, as the crop of an image that was halved while it was decoded.
    crop = tuple(edge - draw(st.sampled_from([0.0, 0.5, 1.5])) for edge in crop)
    size = (draw(st.integers(32, 2048)), draw(st.integers(32, 2048)))
    aspect = draw(st.floats(0.3, 3))
    return Geometry.fit(
        (height, width), crop, size, mirrored=draw(st.booleans()), pixel_aspect=aspect
    )


@given(
    geometry=geometries(), corners=st.tuples(*[st.floats(0, 0.9)] * 2, *[st.floats(0.01, 0.1)] * 2)
)
def test_boxes_come_back_to_where_they_were(geometry, corners):
    x, y, w, h = corners
    width, height = geometry.original_width, geometry.original_height
    box = Box(x * width, y * height, (x + w) * width, (y + h) * height)
    back = geometry.to_original(geometry.to_network(box))
    for name in ("x_min", "y_min", "x_max", "y_max"):
        assert getattr(back, name) == pytest.approx(getattr(box, name), abs=1e-6 * (width + height))


@given(geometry=geometries())
def test_the_crop_fills_the_canvas_in_one_direction_and_fits_in_both(geometry):
    assert geometry.fitted_height <= geometry.height
    assert geometry.fitted_width <= geometry.width
    assert geometry.fitted_height == geometry.height or geometry.fitted_width == geometry.width
    x_min, y_min, x_max, y_max = geometry.crop
    crop = Box(x_min, y_min, x_max, y_max)
    if geometry.mirrored:
        crop = Box(geometry.original_width - x_max, y_min, geometry.original_width - x_min, y_max)
    there = geometry.to_network(crop)
    assert there.x_min == pytest.approx(0, abs=1e-6)
    assert there.x_max == pytest.approx(geometry.fitted_width)
    assert there.y_max - there.y_min == pytest.approx(geometry.fitted_height)


@given(geometry=geometries())
def test_its_plain_form_rebuilds_it(geometry):
    assert Geometry.from_dict(geometry.as_dict()) == geometry


@settings(max_examples=25, deadline=None)
@given(mirrored=st.booleans(), x=st.integers(0, 150), y=st.integers(0, 250))
def test_a_hot_cell_is_spread_back_over_the_pixels_it_came_from(mirrored, x, y):
    crop = (20, 10, 220, 310)
    geometry = Geometry.fit((330, 240), crop, (256, 128), mirrored=mirrored)
    heat = np.zeros((64, 32), np.float32)
    column = int(x / 200 * geometry.fitted_width / 4)
    row = int((geometry.top + y / 300 * geometry.fitted_height) / 4)
    heat[row, column] = 1.0
    spread = geometry.map_to_original(heat)
    peak_y, peak_x = np.unravel_index(spread.argmax(), spread.shape)
    cell = geometry.to_original(Box(column * 4, row * 4, column * 4 + 4, row * 4 + 4))
    assert spread.shape == (330, 240)
    assert cell.x_min - 3 <= peak_x <= cell.x_max + 3
    assert cell.y_min - 3 <= peak_y <= cell.y_max + 3


@settings(max_examples=40, deadline=None)
@given(geometry=geometries(), x=st.floats(0.1, 0.9), y=st.floats(0.1, 0.9))
def test_a_mask_over_the_original_lies_where_boxes_say(geometry, x, y):
    """An edge of a coarse mask maps to the network's grid as the edge of a box does."""
    grid = np.zeros((200, 160), np.float32)
    column, row = round(160 * x), round(200 * y)
    grid[row:, column:] = 1
    edge = Box(
        column * geometry.original_width / 160,
        row * geometry.original_height / 200,
        geometry.original_width,
        geometry.original_height,
    )
    there = geometry.to_network(edge)
    right, left = max(there.x_min, there.x_max), min(there.x_min, there.x_max)
    mapped = geometry.apply_to_grid(grid)
    across, down = geometry.fitted_width, geometry.top + geometry.fitted_height
    # Well inside the box and well outside it, a cell of the mask from its edges.
    cell_x = 2 + geometry.fitted_width / (geometry.crop[2] - geometry.crop[0]) * (
        geometry.original_width / 160
    )
    cell_y = 2 + geometry.fitted_height / (geometry.crop[3] - geometry.crop[1]) * (
        geometry.original_height / 200
    )
    rows = np.arange(geometry.top, down) + 0.5
    columns = np.arange(0, across) + 0.5
    deep_y, deep_x = (
        rows > there.y_min + cell_y,
        (columns > left + cell_x) & (columns < right - cell_x),
    )
    part = mapped[geometry.top : down, :across]
    assert (part[np.ix_(deep_y, deep_x)] > 0.99).all()
    assert (part[rows < there.y_min - cell_y] < 0.01).all()


@given(geometry=geometries(), x=st.floats(0, 1), y=st.floats(0, 1))
def test_a_contour_goes_where_boxes_go(geometry, x, y):
    x, y = x * geometry.original_width, y * geometry.original_height
    there = geometry.to_network(Box(x, y, x + 5, y + 7))
    mapped = geometry.contour_to_network([x, y, x + 5, y + 7])
    assert sorted(mapped[::2]) == pytest.approx([there.x_min, there.x_max])
    assert mapped[1::2] == pytest.approx([there.y_min, there.y_max])
