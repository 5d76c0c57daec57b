"""What a unit's automatic exposure control chooses for a breast: the numbers of the header.

Plausible, not of any product: 25 to 34 kV, 25 to 300 mAs, and a mean glandular dose near 1.4 mGy
at 53 mm that rises with thickness, below the limits of the European guidelines for quality
assurance in breast cancer screening (4th edition, chapter 2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mammoscope.cohort.synthetic.machines import Beam, Machine

__all__ = ["Exposure", "choose_exposure"]

_TUBE_CURRENT_MA = 100
_THIN_MM, _USUAL_MM, _THICK_MM = 20.0, 53.0, 95.0


@dataclass(frozen=True, slots=True)
class Exposure:
    """One exposure.

    Attributes:
        thickness_mm: Of the compressed breast.
        force_n: Of compression.
        beam: Anode and filter.
        kvp: Peak kilovoltage.
        current_ma: Tube current.
        exposure_mas: Tube current times time.
        dose_mgy: Mean glandular dose.
        entrance_mgy: Entrance dose.
        relative: Quanta at the detector as a share of the usual breast's.
    """

    thickness_mm: int
    force_n: int
    beam: Beam
    kvp: int
    current_ma: int
    exposure_mas: int
    dose_mgy: float
    entrance_mgy: float
    relative: float

    @property
    def time_ms(self) -> int:
        """Exposure time."""
        return round(1000 * self.exposure_mas / self.current_ma)


def choose_exposure(machine: Machine, thickness_mm: float, rng: np.random.Generator) -> Exposure:
    """Draw the exposure of one image.

    Args:
        machine: Which unit.
        thickness_mm: Of the compressed breast.
        rng: Source of randomness.
    """
    thickness = float(np.clip(thickness_mm, _THIN_MM, _THICK_MM))
    number = next(i for i, beam in enumerate(machine.beams) if thickness <= beam.up_to_mm)
    beam = machine.beams[number]
    thinnest = machine.beams[number - 1].up_to_mm if number else _THIN_MM
    share = (thickness - thinnest) / (min(beam.up_to_mm, _THICK_MM) - thinnest)
    kvp = round(beam.kvp[0] + share * (beam.kvp[1] - beam.kvp[0]))
    # The control holds the detector's dose, not quite for thick breasts.
    relative = float(np.exp(-0.008 * (thickness - _USUAL_MM) + rng.normal(0, 0.05)))
    usual_mas = 100 if beam.anode == "TUNGSTEN" else 80
    mas = usual_mas * relative * np.exp(0.022 * (thickness - _USUAL_MM))
    dose = 1.35 * relative * np.exp(0.019 * (thickness - _USUAL_MM))
    return Exposure(
        thickness_mm=round(thickness),
        force_n=round(float(np.clip(rng.normal(95, 22), 40, 180))),
        beam=beam,
        kvp=kvp,
        current_ma=_TUBE_CURRENT_MA,
        exposure_mas=round(float(np.clip(mas, 25, 300))),
        dose_mgy=round(float(dose), 2),
        entrance_mgy=round(float(dose * (2.6 + 0.035 * thickness)), 2),
        relative=relative,
    )
