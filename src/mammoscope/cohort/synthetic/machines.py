"""Mammography units of two sites: detector, tube, stored values, look, marker.

Numbers and sites are those of the RSNA table. 29 and 49 store what was read off the
challenge's files (16-bit MONOCHROME1 with four windows and a SIGMOID function in JPEG 2000;
12-bit MONOCHROME2 in JPEG lossless). The others are made up within what products of the field
do, so that every VOI function, transfer syntax and bit depth has a unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

__all__ = [
    "MACHINES",
    "Beam",
    "Detector",
    "Display",
    "Look",
    "Machine",
]

MarkerStyle = Literal["plain", "lead", "boxed", "stacked"]


@dataclass(frozen=True, slots=True)
class Detector:
    """What catches the X-rays.

    Attributes:
        kind: Detector Type (0018,7004).
        blur_mm: Standard deviation of its point spread.
        photons_per_mm2: Quanta that count, with nothing in their way.
        electronic: Standard deviation of its electronic noise, in quanta per pixel.
        scatter: Share of the light that reaches a pixel from within millimetres around it.
    """

    kind: Literal["DIRECT", "SCINTILLATOR", "STORAGE"]
    blur_mm: float
    photons_per_mm2: float
    electronic: float
    scatter: float


@dataclass(frozen=True, slots=True)
class Beam:
    """What is chosen up to a thickness of the compressed breast.

    Attributes:
        up_to_mm: The thickest breast.
        anode: Anode Target Material (0018,1191).
        filter: Filter Material (0018,7050).
        filter_mm: Its thickness.
        kvp: For the thinnest and the thickest of these breasts.
    """

    up_to_mm: float
    anode: str
    filter: str
    filter_mm: float
    kvp: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Display:
    """How presentation values are stored, and what the header says of it.

    Attributes:
        inverted: MONOCHROME1: low values are white.
        bits_stored: Bits Stored (0028,0101); allocated are 8 or 16.
        function: VOI LUT Function, or ``"TABLE"``: a VOI LUT Sequence in its place.
        windows: (center, width) of each window; the first is the one shown.
        stated: VOI LUT Function (0028,1056) is written, not left to its default.
        padding: Lowest and highest Pixel Padding Value (0028,0120) of its images.
    """

    inverted: bool
    bits_stored: int
    function: Literal["LINEAR", "LINEAR_EXACT", "SIGMOID", "TABLE"]
    windows: tuple[tuple[float, float], ...] = ()
    stated: bool = True
    padding: tuple[int, int] = (0, 0)

    @property
    def white(self) -> int:
        """The largest value that can be stored."""
        return (1 << self.bits_stored) - 1

    def table(self) -> NDArray[np.uint16]:
        """Return the VOI LUT: an output of as many bits for each stored value.

        Of slope 0.35 at both ends and 1.33 in the middle, as a film's curve.
        """
        t = np.arange(self.white + 1) / self.white
        return np.rint(self.white * (0.35 * t + 0.65 * t * t * (3 - 2 * t))).astype(np.uint16)

    def stored(self, shown: NDArray[np.float64], padding: int) -> NDArray[np.uint16]:
        """Return what must be stored for these values to be shown.

        The first window's inverse, so that what is shown is what was drawn (PS3.3 C.11.2.1).

        Args:
            shown: Presentation values in [0, 1], 0 black, of any shape.
            padding: Stored for black; of MONOCHROME1 the largest value of the image.
        """
        output = 1 - shown if self.inverted else shown
        if self.function == "TABLE":
            table = self.table()
            values = np.interp(output * self.white, table, np.arange(table.size))
        else:
            center, width = self.windows[0]
            if self.function == "SIGMOID":
                with np.errstate(divide="ignore"):
                    values = center - width / 4 * np.log(1 / output - 1)
            elif self.function == "LINEAR_EXACT":
                values = (output - 0.5) * width + center
            else:
                values = (output - 0.5) * (width - 1) + center - 0.5
        low, high = (0, padding) if self.inverted else (padding, self.white)
        kept = np.rint(np.clip(values, low, high)).astype(np.uint16)
        kept[shown <= 0] = padding
        return kept


@dataclass(frozen=True, slots=True)
class Look:
    """What the unit's processing makes of a picture.

    Attributes:
        gamma: Exponent of its tone curve.
        sharpening: Share of what a mean over ``reach_mm`` leaves out that is added.
        reach_mm: Side of that mean.
    """

    gamma: float = 1.0
    sharpening: float = 0.0
    reach_mm: float = 0.6


@dataclass(frozen=True, slots=True)
class Machine:
    """One mammography unit.

    Attributes:
        machine_id: Its number in the table.
        site_id: Where it stands.
        size: (H, W) of its detector in pixels.
        field_mm: Height of its detector.
        model: Its name in the header.
        syntax: Transfer syntax of its files.
        detector: What catches the X-rays.
        beams: What it exposes with, thin breasts first.
        display: Stored values.
        look: Processing.
        marker: How side and view are written.
        border_mm: Width of the edge that its collimator keeps from light; 0 where it is cut off.
    """

    machine_id: int
    site_id: int
    size: tuple[int, int]
    field_mm: float
    model: str
    syntax: UID
    detector: Detector
    beams: tuple[Beam, ...]
    display: Display
    look: Look = Look()
    marker: MarkerStyle = "plain"
    border_mm: float = 0.0


_SELENIUM = Detector("DIRECT", 0.022, 4.2e5, 4.0, 0.004)
_IODIDE = Detector("SCINTILLATOR", 0.055, 3.6e5, 9.0, 0.008)
_PLATE = Detector("STORAGE", 0.070, 1.7e5, 6.0, 0.012)
_TUNGSTEN = (
    Beam(60, "TUNGSTEN", "RHODIUM", 0.050, (26, 30)),
    Beam(200, "TUNGSTEN", "SILVER", 0.050, (30, 34)),
)
_TUNGSTEN_RHODIUM = (Beam(200, "TUNGSTEN", "RHODIUM", 0.050, (26, 32)),)
_MOLYBDENUM = (
    Beam(40, "MOLYBDENUM", "MOLYBDENUM", 0.030, (25, 27)),
    Beam(55, "MOLYBDENUM", "RHODIUM", 0.025, (27, 29)),
    Beam(200, "RHODIUM", "RHODIUM", 0.025, (29, 32)),
)
# Four windows of one width, as machine 29 writes them.
_FOUR_WINDOWS = tuple((center, 1091.97) for center in (1802.31, 1802.31, 2020.704, 1583.916))

_ALL = (
    Machine(
        29, 2, (5355, 4915), 268.0, "S29", JPEG2000Lossless, _SELENIUM, _TUNGSTEN,
        # 16 bits by the header, although the values need 12.
        Display(
            inverted=True, bits_stored=16, function="SIGMOID", windows=_FOUR_WINDOWS,
            padding=(3044, 3204),
        ),
        Look(gamma=0.95), "plain",
    ),
    Machine(
        49, 1, (2776, 2082), 260.0, "S49", JPEGLosslessSV1, _IODIDE, _MOLYBDENUM,
        Display(
            inverted=False, bits_stored=12, function="LINEAR", windows=((2048, 4096),),
            stated=False,
        ),
        Look(gamma=1.08), "plain",
    ),
    Machine(
        48, 2, (4096, 3328), 266.24, "S48", ExplicitVRLittleEndian, _SELENIUM, _TUNGSTEN,
        Display(
            inverted=False, bits_stored=14, function="LINEAR_EXACT",
            windows=((8191.5, 16383.0), (8700.0, 12000.0)),
        ),
        Look(gamma=1.0, sharpening=0.25), "lead",
    ),
    Machine(
        21, 2, (2294, 1914), 229.4, "S21", JPEGLSLossless, _IODIDE, _MOLYBDENUM,
        Display(inverted=False, bits_stored=12, function="TABLE"),
        Look(gamma=1.15, sharpening=0.45, reach_mm=1.0), "boxed",
    ),
    Machine(
        93, 1, (3518, 2800), 299.03, "S93", JPEG2000Lossless, _SELENIUM, _TUNGSTEN_RHODIUM,
        Display(
            inverted=False, bits_stored=12, function="SIGMOID", windows=((2047.5, 1500.0),),
        ),
        Look(gamma=1.03), "stacked",
    ),
    Machine(
        216, 1, (5900, 4728), 295.0, "S216", JPEGLosslessSV1, _PLATE, _MOLYBDENUM,
        Display(
            inverted=True, bits_stored=10, function="LINEAR", windows=((512, 1024),),
            padding=(1023, 1023),
        ),
        Look(gamma=0.9, sharpening=0.15, reach_mm=0.8), "lead", border_mm=1.2,
    ),
    Machine(
        170, 1, (2016, 1512), 241.92, "S170", RLELossless, _PLATE, _MOLYBDENUM,
        Display(inverted=False, bits_stored=8, function="LINEAR", windows=((128, 256),)),
        Look(gamma=1.1), "boxed",
    ),
)  # fmt: skip

#: By machine_id.
MACHINES = {machine.machine_id: machine for machine in _ALL}
