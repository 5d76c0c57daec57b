"""How far training images are changed at random."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mammoscope.config.loading import Frozen

__all__ = ["AugmentConfig"]

_Share = Annotated[float, Field(ge=0, lt=1)]


class AugmentConfig(Frozen):
    """Random changes of training images; 0 or false switches one off."""

    probability: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0,
        description="Share of images that each change is made to; flips have their own half.",
    )
    flip_vertical: bool = Field(default=True, description="Turn every other image upside down.")
    flip_horizontal: bool = Field(
        default=False,
        description="Mirror every other image; the chest wall, which prepare has put on the left, "
        "is then on the right.",
    )
    rotate_degrees: Annotated[float, Field(ge=0, le=180)] = Field(
        default=10.0, description="Angle drawn from both sides of 0 up to this."
    )
    scale: _Share = Field(default=0.1, description="Zoom drawn from [1 - scale, 1 + scale].")
    shift: _Share = Field(
        default=0.05, description="Largest shift, as a share of height and width."
    )
    resized_crop: _Share = Field(
        default=0.0,
        description="Largest share of the area that is cut away, the rest enlarged to the whole; "
        "its aspect ratio becomes from 3/4 to 4/3 of what it was.",
    )
    elastic: Annotated[float, Field(ge=0, le=0.2)] = Field(
        default=0.0, description="Spread of smooth random displacements, as a share of the width."
    )
    grid_distortion: _Share = Field(
        default=0.0, description="Rows and columns are stretched and pressed by up to this share."
    )
    one_geometry: bool = Field(
        default=False,
        description="Make at most one of three changes to an image, by one probability: rotation, "
        "scale and shift together, elastic, or grid distortion, each as often as the others that "
        "are on. Off, each is drawn by itself.",
    )
    crop: _Share = Field(
        default=0.0,
        description="Largest share of height and width that is blanked at the borders; what is "
        "left keeps its size.",
    )
    brightness: _Share = Field(
        default=0.0, description="Factor of grey values drawn from [1 - it, 1 + it]."
    )
    contrast: _Share = Field(
        default=0.0, description="Factor of distances from the mean grey value of tissue, likewise."
    )
    gamma: _Share = Field(default=0.2, description="Exponent drawn from [1 - gamma, 1 + gamma].")
    tone_curve: Annotated[float, Field(ge=0, le=0.3)] = Field(
        default=0.0, description="Spread of the two points that bend the curve of grey values."
    )
    auto_contrast: bool = Field(
        default=False, description="Stretch tissue's grey values to the whole range."
    )
    blur_px: Annotated[float, Field(ge=0, le=16)] = Field(
        default=0.0, description="Largest standard deviation of a Gaussian blur."
    )
    downscale: _Share = Field(
        default=0.0,
        description="Largest share of height and width that is lost when the image is made "
        "smaller and enlarged again.",
    )
    jpeg_quality: Annotated[int, Field(ge=0, le=100)] = Field(
        default=0, description="Lowest JPEG quality, drawn up to 100; 0 does not compress."
    )
    noise: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.0, description="Standard deviation of added Gaussian noise, in [0, 1] grey."
    )
    holes: Annotated[int, Field(ge=0, le=64)] = Field(
        default=0, description="Largest number of rectangles that are blanked."
    )
    hole_size: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.1, description="Longest side of such a rectangle, as a share of the image's."
    )
    drop_view: _Share = Field(
        default=0.1,
        description="Chance that a breast or exam model is not shown an image; each breast keeps "
        "one.",
    )
    drop_fact: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.2, description="Chance that an exam model is not told a fact."
    )
