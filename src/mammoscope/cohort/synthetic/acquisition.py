"""From a projection to a DICOM file: detector noise, machine, marker, header, codec.

Machines and headers are those that were read off the RSNA challenge's files: machine 29
stores 16-bit MONOCHROME1 with four windows and a SIGMOID function in JPEG 2000, machine
49 stores 12-bit MONOCHROME2 in JPEG lossless; both without SOP class, modality and view.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalXRayImageStorageForPresentation,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    generate_uid,
)

from mammoscope.artefacts import write_atomically
from mammoscope.types import FloatImage, Laterality, View

__all__ = ["MACHINES", "Machine", "Profile", "expose", "write_dicom"]

Profile = Literal["rsna", "clinical"]

# First input of the sigmoid window, and its width, as machine 29 writes them.
_CENTERS = (1802.31, 1802.31, 2020.704, 1583.916)
_WIDTHS = (1091.97,) * 4
_VIEW_CODES = {
    View.CC: ("399162004", "cranio-caudal"),
    View.MLO: ("399368009", "medio-lateral oblique"),
    View.ML: ("399260004", "medio-lateral"),
    View.LM: ("399352003", "latero-medial"),
    View.LMO: ("399099002", "latero-medial oblique"),
    # An axillary tail has no code of its own, but is a modifier of this one.
    View.AT: ("399368009", "medio-lateral oblique"),
}


@dataclass(frozen=True, slots=True)
class Machine:
    """One mammography unit.

    Attributes:
        machine_id: Its number in the table.
        site_id: Where it stands.
        size: (H, W) of its detector in pixels.
        field_mm: Height of its detector.
        inverted: Stores MONOCHROME1.
        gamma: Exponent of its processing look.
        noise: Standard deviation of its noise at full exposure.
    """

    machine_id: int
    site_id: int
    size: tuple[int, int]
    field_mm: float
    inverted: bool
    gamma: float
    noise: float


#: By machine_id.
MACHINES = {
    29: Machine(29, 2, (5355, 4915), 268.0, inverted=True, gamma=0.95, noise=0.012),
    49: Machine(49, 1, (2776, 2082), 260.0, inverted=False, gamma=1.08, noise=0.016),
}


def expose(
    pixels: FloatImage,
    machine: Machine,
    laterality: Laterality,
    view: View,
    rng: np.random.Generator,
) -> NDArray[np.uint16]:
    """Return the stored values of one exposure.

    Args:
        pixels: (H, W) presentation values, chest wall at the left.
        machine: Which unit.
        laterality: A right breast is stored with its chest wall at the right.
        view: Named on the marker.
        rng: Source of noise.
    """
    shown = np.clip(cv2.GaussianBlur(pixels, (0, 0), 0.6), 0, 1) ** machine.gamma
    noise = rng.standard_normal(shown.shape, dtype=np.float32)
    shown = np.where(pixels > 0, shown + machine.noise * np.sqrt(0.3 + shown) * noise, 0)
    shown = shown.astype(np.float32)
    if laterality is Laterality.R:
        shown = np.ascontiguousarray(shown[:, ::-1])
    _draw_marker(shown, f"{laterality} {view}", laterality)
    shown = np.clip(shown, 0, 0.995)
    if not machine.inverted:
        return np.asarray(np.rint(shown * 4095), dtype=np.uint16)
    # The inverse of the sigmoid window, so that what is shown is what was drawn.
    padding = float(rng.integers(3044, 3205))
    with np.errstate(divide="ignore"):
        stored = _CENTERS[0] + _WIDTHS[0] / 4 * np.log((1 - shown) / shown)
    return np.asarray(np.rint(np.clip(stored, 0, padding)), dtype=np.uint16)


def write_dicom(
    path: Path,
    stored: NDArray[np.uint16],
    machine: Machine,
    facts: dict[str, Any],
    profile: Profile,
) -> None:
    """Write one file, stripped as the challenge's are or with a clinical header.

    Args:
        path: The file.
        stored: (H, W) stored values.
        machine: Which unit.
        facts: patient_id, image_id, laterality, view, age, spacing_mm, uid_seed.
        profile: Which header.
    """
    syntax = JPEG2000Lossless if machine.inverted else JPEGLosslessSV1
    meta = FileMetaDataset()
    clinical = profile == "clinical"
    meta.MediaStorageSOPClassUID = (
        DigitalMammographyXRayImageStorageForPresentation
        if clinical
        else DigitalXRayImageStorageForPresentation
    )
    seed = [facts["uid_seed"], str(facts["patient_id"])]
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[*seed, str(facts["image_id"])])
    meta.TransferSyntaxUID = syntax
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.PatientID = str(facts["patient_id"])
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=[*seed, "study"])
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[*seed, "series"])
    dataset.InstanceNumber = str(facts["image_id"])
    dataset.ImageLaterality = str(facts["laterality"])
    _describe_pixels(dataset, stored, machine)
    if clinical:
        _add_clinical_header(dataset, facts)
    codestream = _compress(stored, machine)
    dataset.PixelData = encapsulate([codestream])
    dataset["PixelData"].VR = "OB"
    with write_atomically(path) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)


def _compress(stored: NDArray[np.uint16], machine: Machine) -> bytes:
    if machine.inverted:
        # Whole JP2 files with three resolutions, as the challenge's are.
        return bytes(
            imagecodecs.jpeg2k_encode(
                stored, level=0, reversible=True, codecformat="jp2", resolutions=3
            )
        )
    return bytes(imagecodecs.jpeg_encode(stored, lossless=True, predictor=1, bitspersample=12))


def _describe_pixels(dataset: Dataset, stored: NDArray[np.uint16], machine: Machine) -> None:
    dataset.SamplesPerPixel = 1
    dataset.Rows, dataset.Columns = stored.shape
    dataset.BitsAllocated = 16
    dataset.PixelRepresentation = 0
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = 1, 0, "US"
    if machine.inverted:
        # 16 by the header, although the values need 12.
        dataset.BitsStored = 16
        dataset.PhotometricInterpretation = "MONOCHROME1"
        dataset.PixelPaddingValue = int(stored.max())
        dataset.WindowCenter, dataset.WindowWidth = list(_CENTERS), list(_WIDTHS)
        dataset.VOILUTFunction = "SIGMOID"
        dataset.PixelIntensityRelationship = "LOG"
    else:
        dataset.BitsStored = 12
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.PixelPaddingValue = 0
        dataset.WindowCenter, dataset.WindowWidth = 2048, 4096
    dataset.HighBit = dataset.BitsStored - 1


def _add_clinical_header(dataset: Dataset, facts: dict[str, Any]) -> None:
    view, side = View(facts["view"]), Laterality(facts["laterality"])
    dataset.SOPClassUID = DigitalMammographyXRayImageStorageForPresentation
    dataset.Modality = "MG"
    dataset.Manufacturer = "mammoscope"
    dataset.ManufacturerModelName = "synthetic phantom"
    dataset.SeriesDescription = dataset.ImageComments = "SYNTHETIC, no patient"
    dataset.PatientName = "SYNTHETIC^EXAM"
    dataset.PatientBirthDate, dataset.PatientSex = "", "F"
    dataset.PatientAge = f"{round(facts['age']):03d}Y"
    dataset.StudyDate, dataset.StudyTime = "20000101", "000000"
    dataset.StudyID, dataset.SeriesNumber, dataset.AccessionNumber = "1", "1", ""
    dataset.ImageType = ["ORIGINAL", "PRIMARY", ""]
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.BodyPartExamined = "BREAST"
    dataset.ViewPosition = str(view)
    dataset.PatientOrientation = ["A" if side is Laterality.L else "P", "F"]
    code = Dataset()
    code.CodeValue, code.CodeMeaning = _VIEW_CODES[view]
    code.CodingSchemeDesignator = "SCT"
    dataset.ViewCodeSequence = [code]
    dataset.ImagerPixelSpacing = [f"{facts['spacing_mm']:.5f}"] * 2
    dataset.BurnedInAnnotation = "NO"
    dataset.BreastImplantPresent = "NO"
    dataset.PartialView = "NO"
    dataset.LossyImageCompression = "00"
    dataset.PresentationLUTShape = "IDENTITY"


def _draw_marker(shown: NDArray[Any], text: str, laterality: Laterality) -> None:
    """Write the view marker into the upper corner away from the chest wall."""
    height, width = shown.shape
    scale = height / 1100
    thickness = max(1, round(2 * scale))
    (across, down), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
    margin = round(0.03 * height)
    left = width - across - margin if laterality is Laterality.L else margin
    origin = (left, margin + down)
    marker = np.zeros(shown.shape, np.uint8)
    font = cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(marker, text, origin, font, scale, (250,), thickness, cv2.LINE_AA)
    np.maximum(shown, marker / np.float32(255), out=shown)
