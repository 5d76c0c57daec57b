"""Sound files to start from: every transfer syntax, and headers with everything in them."""

from __future__ import annotations

import functools
import io
from pathlib import Path

import imagecodecs
import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DigitalMammographyXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
)

from fixtures.images import breast_pixels
from fuzz.raw import RawFile, parse

GOLDEN = Path(__file__).parents[1] / "golden" / "pixels"
#: Patient's identity in every seed: it must come out in no message.
NAME, PATIENT, BIRTH_DATE = "XYZZYNAME^PLUGH", "XYZZYPATIENT", "19431127"
IDENTITY = ("XYZZYNAME", "PLUGH", PATIENT, BIRTH_DATE)


@functools.cache
def seeds() -> dict[str, RawFile]:
    """Seeds by name, in a stable order."""
    found = {path.stem: parse(path.read_bytes()) for path in sorted(GOLDEN.glob("*.dcm"))}
    for name, (syntax, options) in _SYNTHETIC.items():
        found[f"exam_{name}"] = parse(_exam(syntax, **options))
    for file in found.values():
        file.set("PatientName", NAME)
        file.set("PatientID", PATIENT)
        file.set("PatientBirthDate", BIRTH_DATE)
    return found


_SYNTHETIC: dict[str, tuple[str, dict[str, bool]]] = {
    "native": (ExplicitVRLittleEndian, {}),
    "luts": (ExplicitVRLittleEndian, {"luts": True}),
    "luts_implicit": (ImplicitVRLittleEndian, {"luts": True}),
    "jpeg2000": (JPEG2000Lossless, {}),
    "htj2k": (HTJ2KLossless, {}),
    "jpeg_lossless": (JPEGLosslessSV1, {}),
    "jpeg_baseline": (JPEGBaseline8Bit, {}),
    "jpeg_ls": (JPEGLSLossless, {}),
}


def _exam(syntax: str, *, luts: bool = False) -> bytes:
    pixels = breast_pixels(seed=len(syntax), peak=200 if syntax == JPEGBaseline8Bit else 3000)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalMammographyXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = UID("2.25.8001")
    meta.TransferSyntaxUID = UID(syntax)
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, UID("2.25.8001")
    dataset.StudyInstanceUID, dataset.Modality = UID("2.25.8002"), "MG"
    dataset.PresentationIntentType, dataset.Manufacturer = "FOR PRESENTATION", "synthetic"
    dataset.PatientAge, dataset.BreastImplantPresent = "063Y", "NO"
    dataset.ImageLaterality, dataset.ViewPosition = "L", "CC"
    dataset.ImagerPixelSpacing, dataset.InstanceNumber = [0.07, 0.07], 1
    if syntax == JPEGBaseline8Bit:
        pixels = pixels.astype(np.uint8)
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = 8 * pixels.dtype.itemsize
    dataset.BitsStored = min(12, dataset.BitsAllocated)
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, 0
    dataset.WindowCenter, dataset.WindowWidth = [1500, 1000], [3000, 2000]
    dataset.VOILUTFunction, dataset.PresentationLUTShape = "SIGMOID", "IDENTITY"
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
    dataset.PixelPaddingValue, dataset.PixelPaddingRangeLimit = 0, 0
    if luts:
        for keyword in ("ModalityLUTSequence", "VOILUTSequence"):
            item = Dataset()
            item.add_new("LUTDescriptor", "US", [4096, 0, 12])
            item.add_new("LUTData", "OW", np.arange(4096, dtype="<u2").tobytes())
            setattr(dataset, keyword, [item])
    dataset.PixelData = _pixel_data(pixels, syntax)
    dataset["PixelData"].VR = "OW" if UID(syntax).is_encapsulated is False else "OB"
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def _pixel_data(pixels: np.ndarray, syntax: str) -> bytes:
    if not UID(syntax).is_encapsulated:
        return pixels.tobytes()
    encoded = {
        JPEG2000Lossless: lambda: imagecodecs.jpeg2k_encode(
            pixels, level=0, reversible=True, codecformat="j2k", resolutions=4
        ),
        HTJ2KLossless: lambda: imagecodecs.htj2k_encode(pixels),
        JPEGLosslessSV1: lambda: imagecodecs.jpeg_encode(
            pixels, lossless=True, predictor=1, bitspersample=12
        ),
        JPEGBaseline8Bit: lambda: imagecodecs.jpeg_encode(pixels, level=90),
        JPEGLSLossless: lambda: imagecodecs.jpegls_encode(pixels),
    }[syntax]()
    return encapsulate([bytes(encoded)])
