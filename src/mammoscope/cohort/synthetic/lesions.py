"""Which lesions a breast has: kind, morphology, size and contrast, benign or malignant.

Morphology follows from the outcome with overlap, as in the BI-RADS atlas: a spiculated mass is
most often cancer, a circumscribed one seldom, and some of each are not told apart by any reader.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mammoscope.cohort.synthetic.anatomy import Anatomy
from mammoscope.cohort.synthetic.detector import BLACK_TO_WHITE

__all__ = ["KINDS", "Lesion", "draw_lesion"]


# At difficulty 0: the power of a kind's ease in its weight, and by how much contrast is raised, at
# most up to where a large mass would be a white hole in the picture.
_SELECTION, _EASIER, _MOST_RAISED = 4.0, 2.5, 0.4


@dataclass(frozen=True, slots=True)
class Morphology:
    """How often lesions look so, and how large and bright they are.

    Attributes:
        malignant: Weight among malignant lesions.
        benign: Weight among benign ones.
        radius_mm: Smallest and largest radius; half lie below their geometric mean.
        contrast: Presentation value added at the centre, smallest and largest; of a solid body
            by centimetre of its diameter.
        ease: How easily it is seen, up to 1, on an image of few pixels: grains are lost there.
        solid: Whether X-rays go through more of it the larger it is.
    """

    malignant: float
    benign: float
    radius_mm: tuple[float, float]
    contrast: tuple[float, float]
    ease: float
    solid: bool = False

    def draw_radius_mm(self, rng: np.random.Generator) -> float:
        """Draw a radius: its logarithm is normal, and the ends two deviations away."""
        low, high = np.log(self.radius_mm)
        return float(np.exp(np.clip(rng.normal((low + high) / 2, (high - low) / 4), low, high)))

    def draw_contrast(self, rng: np.random.Generator, radius_mm: float) -> float:
        """Draw the contrast of a lesion of this size."""
        return float(rng.uniform(*self.contrast)) * (0.2 * radius_mm if self.solid else 1.0)


def _by_cm(low_per_cm: float, high_per_cm: float) -> tuple[float, float]:
    """Turn differences of attenuation into presentation values by centimetre."""
    return low_per_cm / BLACK_TO_WHITE, high_per_cm / BLACK_TO_WHITE


# What carcinoma attenuates more than what it takes the place of, by cm at 20 keV: 0.84 against
# 0.46 of fat and 0.80 of gland (Johns and Yaffe, Phys. Med. Biol. 32, 1987). Benign is like gland.
_CARCINOMA, _BENIGN, _HIDDEN = _by_cm(0.11, 0.38), _by_cm(0.09, 0.34), _by_cm(0.06, 0.28)

#: By name, as ``findings`` spell it. Weights are rounded from the likelihoods of malignancy that
#: the BI-RADS atlas (5th edition, 2013) and its validations give for descriptors. Of cancers found
#: by screening in England in 2009/10, 42 % were invasive and smaller than 15 mm (NHS Information
#: Centre, 2011): about half of the invasive ones. Grains of calcium of 0.2 to 0.5 mm attenuate as
#: much as centimetres of tissue.
KINDS: dict[str, Morphology] = {
    "irregular_spiculated_mass": Morphology(0.32, 0.02, (3.2, 16.0), _CARCINOMA, 1.0, solid=True),
    "irregular_indistinct_mass": Morphology(0.18, 0.05, (3.2, 16.0), _CARCINOMA, 0.7, solid=True),
    "oval_obscured_mass": Morphology(0.05, 0.12, (3.5, 12.0), _HIDDEN, 0.4, solid=True),
    "oval_circumscribed_mass": Morphology(0.02, 0.24, (3.0, 12.0), _BENIGN, 0.9, solid=True),
    "round_circumscribed_mass": Morphology(0.02, 0.12, (3.0, 10.0), _BENIGN, 0.9, solid=True),
    "pleomorphic_calcifications": Morphology(0.15, 0.06, (4.0, 9.0), (0.25, 0.50), 0.3),
    "fine_linear_branching_calcifications": Morphology(0.09, 0.01, (5.0, 11.0), (0.25, 0.50), 0.3),
    "coarse_calcifications": Morphology(0.01, 0.12, (3.0, 7.0), (0.40, 0.55), 0.7),
    "rim_calcifications": Morphology(0.0, 0.06, (2.0, 5.0), (0.35, 0.50), 0.6),
    "vascular_calcifications": Morphology(0.0, 0.08, (9.0, 16.0), (0.25, 0.45), 0.5),
    "architectural_distortion": Morphology(0.10, 0.03, (7.0, 13.0), (0.06, 0.14), 0.2),
    "asymmetry": Morphology(0.06, 0.09, (7.0, 13.0), _by_cm(0.06, 0.20), 0.3, solid=True),
}


@dataclass(frozen=True, slots=True)
class Lesion:
    """One lesion of a breast, seen in every view.

    Attributes:
        kind: A name of :data:`KINDS`.
        malignant: Whether it is cancer.
        depth_mm: Distance behind the nipple, the same in CC and MLO.
        place: Where it lies across the breast, on the volume's two axes, as shares of its
            half-width there; what a view shows of it follows (:func:`~.volume.across`).
        radius_mm: Radius of its body, or of the region that holds its grains.
        contrast: Presentation value added at its centre.
        seed: Seed of its shape.
    """

    kind: str
    malignant: bool
    depth_mm: float
    place: tuple[float, float]
    radius_mm: float
    contrast: float
    seed: int


def draw_lesion(
    rng: np.random.Generator,
    anatomy: Anatomy,
    *,
    malignant: bool,
    conspicuity: float = 1.0,
    difficulty: float = 1.0,
) -> Lesion:
    """Draw a lesion.

    Args:
        rng: Source of randomness.
        anatomy: The breast that holds it.
        malignant: Cancer, or a benign finding.
        conspicuity: Factor on the contrast of malignant lesions; 0 hides them.
        difficulty: 1 draws kinds and contrasts as published; towards 0, kinds that few pixels
            show become rare, looks that both outcomes share disappear, and cancers stand out.
    """
    # Before an implant, if there is one.
    deepest = 0.68 if anatomy.implant is None else 1 - 0.9 * anatomy.implant.reach
    depth = float(rng.uniform(0.2, deepest)) * anatomy.depth_mm
    turn, radius_share = rng.uniform(0, 2 * np.pi), 0.6 * np.sqrt(rng.uniform(0, 1))
    kind = _draw_kind(rng, malignant=malignant, difficulty=difficulty)
    look = KINDS[kind]
    radius = look.draw_radius_mm(rng)
    contrast = look.draw_contrast(rng, radius)
    if malignant:
        raised = contrast * (1 + _EASIER * max(0.0, 1 - difficulty))
        contrast = conspicuity * max(contrast, min(raised, _MOST_RAISED))
    return Lesion(
        kind=kind,
        malignant=malignant,
        depth_mm=depth,
        place=(float(radius_share * np.cos(turn)), float(radius_share * np.sin(turn))),
        radius_mm=radius,
        contrast=contrast,
        seed=int(rng.integers(2**31)),
    )


def _draw_kind(rng: np.random.Generator, *, malignant: bool, difficulty: float) -> str:
    ease = _SELECTION * max(0.0, 1 - difficulty)
    weights = []
    for look in KINDS.values():
        own, other = (look.malignant, look.benign) if malignant else (look.benign, look.malignant)
        shared = min(1.0, difficulty) if own < other else 1.0
        weights.append(own * shared * look.ease**ease)
    shares = np.array(weights) / sum(weights)
    return list(KINDS)[int(rng.choice(len(KINDS), p=shares))]
