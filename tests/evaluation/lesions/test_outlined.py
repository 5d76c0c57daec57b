"""Masks of one woman's images, worked by hand."""

import numpy as np
import polars as pl
import pytest

from mammoscope.config import EvaluationConfig
from mammoscope.errors import RunError
from mammoscope.evaluation.bootstrap import draw
from mammoscope.evaluation.lesions.matching import Candidates, Lesions
from mammoscope.evaluation.lesions.outlined import Masks, outlined
from mammoscope.evaluation.lesions.tables import Scene
from mammoscope.masks import encode

SIZE = (40, 40)
CONFIG = EvaluationConfig(bootstrap=10)


def square(x_min, y_min, x_max, y_max):
    mask = np.zeros(SIZE, bool)
    mask[y_min:y_max, x_min:x_max] = True
    return mask


def scene(found, images=2):
    rows = pl.DataFrame({"image_id": [f"i{k}" for k in range(images)]}).with_row_index("image")
    schema = {"finding_id": pl.String, "image": pl.Int64}
    findings = pl.DataFrame(found, schema=schema, orient="row")
    boxes, wanted = np.zeros((len(found), 4)), np.ones(len(found), bool)
    there = Lesions(findings["image"].to_numpy(), boxes, wanted)
    nothing = Candidates(np.empty(0, int), np.empty((0, 4)), np.empty(0))
    every = np.ones(images, bool)
    return Scene(rows, findings, there, nothing, None, np.arange(images), every, every)


def masks(predicted, lesions, spacing=0.5):
    images = pl.DataFrame(
        {
            "image_id": [f"i{k}" for k in range(len(predicted))],
            "height": SIZE[0], "width": SIZE[1],
            "spacing_y_mm": spacing, "spacing_x_mm": spacing,
            "predicted": [encode(mask) for mask in predicted],
        },
        schema_overrides={"spacing_y_mm": pl.Float64, "spacing_x_mm": pl.Float64},
    )  # fmt: skip
    rows = [
        {
            "image_id": image, "finding_id": f"f{k}", "kind": "mass", "malignant": 1,
            **dict(zip(("x_min", "y_min", "x_max", "y_max"), map(float, box), strict=True)),
            "truth": encode(square(*box)), "target": target,
        }
        for k, (image, box, target) in enumerate(lesions)
    ]  # fmt: skip
    return Masks(images, pl.DataFrame(rows, schema_overrides={"malignant": pl.Int8}))


def measured(predicted, lesions, spacing=0.5):
    made = masks(predicted, lesions, spacing)
    known = [(f"f{k}", int(image[1:])) for k, (image, _, _) in enumerate(lesions)]
    return outlined(made, scene([*known]), CONFIG, draw(2, 10, 0))


def test_half_a_lesion_and_a_false_part():
    # Half of 100 pixels, and 16 far away; the window of the other image holds nothing.
    drawn = [square(10, 10, 15, 20) | square(30, 30, 34, 34), np.zeros(SIZE, bool)]
    made = measured(drawn, [("i0", (10, 10, 20, 20), True)])
    assert made["window"]["dice"]["value"] == pytest.approx(2 * 50 / 150)
    assert made["window"]["iou"]["value"] == pytest.approx(0.5)
    assert made["window"]["covered"]["value"] == pytest.approx(0.5)
    # The right border of the lesion lies five pixels of half a millimetre from what is drawn.
    assert made["window"]["hausdorff_95"]["value"] == pytest.approx(2.5)
    assert made["image"]["dice"]["value"] == pytest.approx(2 * 50 / 166)
    assert made["false_positives_per_image"]["value"] == pytest.approx(0.5)
    assert made["sensitivity"]["value"] == 1
    assert (made["lesions"], made["images"], made["unit"]) == (1, 1, "mm")
    assert made["histogram"] == [0, 0, 0, 0, 0, 0, 1, 0, 0, 0]


def test_a_neighbour_in_the_window_is_left_out():
    both = square(10, 10, 20, 20) | square(22, 10, 30, 20)
    lesions = [("i0", (10, 10, 20, 20), True), ("i0", (22, 10, 30, 20), True)]
    made = measured([both, np.zeros(SIZE, bool)], lesions)
    assert made["window"]["dice"]["value"] == 1
    assert made["image"]["dice"]["value"] == 1
    # As is what is no target, on the whole image too.
    lesions[1] = (*lesions[1][:2], False)
    made = measured([both, np.zeros(SIZE, bool)], lesions)
    assert made["lesions"] == 1
    assert made["window"]["dice"]["value"] == made["image"]["dice"]["value"] == 1
    assert made["false_positives_per_image"]["value"] == 0


def test_a_missed_lesion_counts_with_a_dice_of_nothing_and_no_distance():
    lesions = [("i0", (10, 10, 20, 20), True), ("i1", (10, 10, 20, 20), True)]
    made = measured([square(10, 10, 20, 20), np.zeros(SIZE, bool)], lesions, spacing=None)
    assert made["window"]["dice"]["value"] == 0.5
    assert made["sensitivity"]["value"] == 0.5
    assert made["window"]["hausdorff_95"]["value"] == 0
    assert made["window"]["hausdorff_95"]["n"] == 1
    assert made["unit"] == "px"


def test_on_an_image_with_a_finding_that_has_no_mask_no_part_is_false():
    part = square(30, 30, 34, 34)
    made = masks([part, part], [("i0", (10, 10, 20, 20), True)])
    known = [("f0", 0), ("unmasked", 1)]
    told = outlined(made, scene(known), CONFIG, draw(2, 10, 0))
    assert told["false_positives_per_image"]["value"] == 1
    told = outlined(made, scene(known[:1]), CONFIG, draw(2, 10, 0))
    assert told["false_positives_per_image"]["value"] == 1
    nothing = masks([np.zeros(SIZE, bool), part], [("i0", (10, 10, 20, 20), True)])
    values = [
        outlined(nothing, scene(rows), CONFIG, draw(2, 10, 0))["false_positives_per_image"]["value"]
        for rows in (known, known[:1])
    ]
    assert values == [0, 0.5]


def test_masks_of_other_images_or_sizes_are_refused():
    one = masks([square(0, 0, 3, 3)], [("i0", (0, 0, 3, 3), True)])
    with pytest.raises(RunError, match=r"1 have no mask, 0 no prediction, such as i1"):
        outlined(one, scene([("f0", 0)]), CONFIG, draw(2, 10, 0))
    wrong = masks([square(0, 0, 3, 3)] * 2, [("i0", (0, 0, 3, 3), True)])
    wrong = Masks(wrong.images.with_columns(height=41), wrong.lesions)
    with pytest.raises(RunError, match=r"mask of image i0 cannot be read: runs of 1600 pixels"):
        outlined(wrong, scene([("f0", 0)]), CONFIG, draw(2, 10, 0))
