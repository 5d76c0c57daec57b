"""What is drawn for one image."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from mammoscope.config import AugmentConfig

__all__ = ["AugmentParameters", "Box", "draw"]

#: (y_min, x_min, y_max, x_max) as shares of height and width.
Box = tuple[float, float, float, float]

_WHOLE: Box = (0.0, 0.0, 1.0, 1.0)
# Bands of rows, and of columns, that grid distortion stretches or presses.
_BANDS = 5
# Largest change of the aspect ratio by a resized crop; 4/3 is what torchvision's is used with.
_ASPECT = 4 / 3
# Places of the chances of rotation, zoom, both shifts, grid distortion and elastic.
_GEOMETRY = (0, 1, 2, 3, 7, 8)
_FIRST, _SECOND = _GEOMETRY[:2]


@dataclass(frozen=True, slots=True)
class AugmentParameters:
    """What was drawn for one image; the defaults change nothing.

    Attributes:
        flip_vertical: Mirror top to bottom.
        flip_horizontal: Mirror left to right.
        rotate_degrees: Rotation about the centre.
        zoom: Above 1 enlarges.
        shift_y: Downwards, as a share of the height.
        shift_x: To the right, as a share of the width.
        window: The part that is enlarged to the whole.
        bands_y: Heights of bands of rows in the original, as shares; none leaves them equal.
        bands_x: Widths of bands of columns likewise.
        elastic: Spread of smooth displacements, as a share of the width.
        kept: The part that is not blanked.
        brightness: Factor of grey values.
        contrast: Factor of distances from the mean grey value of tissue.
        gamma: Exponent of the grey values.
        tone: Heights of the two points that bend the curve of grey values; a third and two
            thirds leave it straight.
        auto_contrast: Stretch tissue's grey values to the whole range.
        blur_px: Standard deviation of a Gaussian blur.
        downscale: Factor by which the image is made smaller before it is enlarged again.
        jpeg_quality: Of a compression; 0 is none.
        noise: Standard deviation of added noise, in [0, 1] grey.
        noise_seed: Seed of that noise.
        detail_seed: Seed of the displacements.
        holes: Rectangles that are blanked.
    """

    flip_vertical: bool = False
    flip_horizontal: bool = False
    rotate_degrees: float = 0.0
    zoom: float = 1.0
    shift_y: float = 0.0
    shift_x: float = 0.0
    window: Box = _WHOLE
    bands_y: tuple[float, ...] = ()
    bands_x: tuple[float, ...] = ()
    elastic: float = 0.0
    kept: Box = _WHOLE
    brightness: float = 1.0
    contrast: float = 1.0
    gamma: float = 1.0
    tone: tuple[float, float] = (1 / 3, 2 / 3)
    auto_contrast: bool = False
    blur_px: float = 0.0
    downscale: float = 1.0
    jpeg_quality: int = 0
    noise: float = 0.0
    noise_seed: int = 0
    detail_seed: int = 0
    holes: tuple[Box, ...] = ()

    @property
    def enlargement(self) -> float:
        """How many times larger areas become, where nothing bends them."""
        top, left, bottom, right = self.window
        return self.zoom**2 / ((bottom - top) * (right - left))


def draw(config: AugmentConfig, generator: torch.Generator) -> AugmentParameters:
    """Draw the changes of one image.

    Args:
        config: How far each may go, and how often it is made.
        generator: Source of randomness; always the same number of draws is taken, so that
            switching one change off leaves the others as they were.
    """
    # The order of draws is part of what a seed means: new ones come last.
    u = _around_zero(6, generator)
    noise_seed = _seed(generator)
    drawn = torch.rand(18, generator=generator, dtype=torch.float64).tolist()
    v = _around_zero(12, generator)
    bands = _around_zero(2 * _BANDS, generator)
    bend = torch.randn(2, generator=generator, dtype=torch.float64).tolist()
    detail_seed = _seed(generator)

    if config.one_geometry:
        config, drawn = _one_geometry(config, drawn)
    chance = iter(drawn)

    def made(value: float, otherwise: float = 0.0) -> float:
        return value if next(chance) < config.probability else otherwise

    return AugmentParameters(
        flip_vertical=config.flip_vertical and u[0] > 0,
        flip_horizontal=config.flip_horizontal and v[0] > 0,
        rotate_degrees=made(config.rotate_degrees * u[1]),
        zoom=made(1 + config.scale * u[2], 1),
        shift_y=made(config.shift * u[3]),
        shift_x=made(config.shift * u[4]),
        gamma=made(1 + config.gamma * u[5], 1),
        noise=made(config.noise),
        noise_seed=noise_seed,
        window=_window(made(config.resized_crop), v[1:5]),
        bands_y=_bands(amount := made(config.grid_distortion), bands[:_BANDS]),
        bands_x=_bands(amount, bands[_BANDS:]),
        elastic=made(config.elastic),
        kept=_kept(made(config.crop), v[5], v[6]),
        brightness=made(1 + config.brightness * v[7], 1),
        contrast=made(1 + config.contrast * v[8], 1),
        tone=_tone(made(config.tone_curve), bend),
        auto_contrast=bool(made(config.auto_contrast)),
        blur_px=made(config.blur_px * _share(v[9])),
        downscale=1 - made(config.downscale * _share(v[10])),
        jpeg_quality=int(made(_quality(config.jpeg_quality, _share(v[11])))),
        detail_seed=detail_seed,
        holes=_holes(int(made(config.holes)), config.hole_size, detail_seed),
    )


def _one_geometry(config: AugmentConfig, chances: list[float]) -> tuple[AugmentConfig, list[float]]:
    """Leave one of affine change, elastic and grid distortion on, all by the first chance.

    Args:
        config: With any of the three.
        chances: One for each change, in the order in which :func:`draw` asks; those of single
            changes of geometry are free, so that no further number is drawn.

    Returns:
        The configuration of this image, and its chances.
    """
    affine: dict[str, float] = {"rotate_degrees": 0.0, "scale": 0.0, "shift": 0.0}
    kinds = (affine, {"elastic": 0.0}, {"grid_distortion": 0.0})
    there = [kind for kind in kinds if any(getattr(config, name) for name in kind)]
    if not there:
        return config, chances
    chosen = there[int(chances[_SECOND] * len(there))]
    off = {name: 0.0 for kind in there if kind is not chosen for name in kind}
    shared = [
        chances[_FIRST] if place in _GEOMETRY else value for place, value in enumerate(chances)
    ]
    return config.model_copy(update=off), shared


def _around_zero(count: int, generator: torch.Generator) -> list[float]:
    drawn: list[float] = (
        2 * torch.rand(count, generator=generator, dtype=torch.float64) - 1
    ).tolist()
    return drawn


def _seed(generator: torch.Generator) -> int:
    return int(torch.randint(2**31, (1,), generator=generator))


def _share(u: float) -> float:
    return (u + 1) / 2


def _window(cut: float, u: list[float]) -> Box:
    """Cut up to a share of the area away, with the rest somewhere in the image."""
    if not cut:
        return _WHOLE
    area = 1 - cut * _share(u[0])
    aspect = _ASPECT ** u[1]
    height, width = min(1.0, (area / aspect) ** 0.5), min(1.0, (area * aspect) ** 0.5)
    top, left = (1 - height) * _share(u[2]), (1 - width) * _share(u[3])
    return top, left, top + height, left + width


def _kept(cut: float, u_y: float, u_x: float) -> Box:
    """Cut up to a share of height and width away, at one side or the other of each."""
    above, below = max(0.0, u_y) * cut, max(0.0, -u_y) * cut
    left, right = max(0.0, u_x) * cut, max(0.0, -u_x) * cut
    return above, left, 1 - below, 1 - right


def _bands(amount: float, u: list[float]) -> tuple[float, ...]:
    if not amount:
        return ()
    sizes = [1 + amount * value for value in u]
    return tuple(size / sum(sizes) for size in sizes)


def _tone(spread: float, bend: list[float]) -> tuple[float, float]:
    """Move the inner points of a cubic Bézier curve, so that it still rises from 0 to 1."""
    low, high = 1 / 3 + spread * bend[0], 2 / 3 + spread * bend[1]
    return min(max(low, 0.0), 1.0), min(max(high, 0.0), 1.0)


def _quality(lowest: int, share: float) -> float:
    return lowest + (100 - lowest) * share if lowest else 0


def _holes(most: int, size: float, seed: int) -> tuple[Box, ...]:
    if not most:
        return ()
    generator = torch.Generator().manual_seed(seed)
    holes = []
    for _ in range(int(torch.randint(1, most + 1, (1,), generator=generator))):
        height, width, y, x = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
        height, width = (size * (0.5 + side / 2) for side in (height, width))
        top, left = (1 - height) * y, (1 - width) * x
        holes.append((top, left, top + height, left + width))
    return tuple(holes)
