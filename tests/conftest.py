"""Small DICOM files, cohorts and bundles that tests are made of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000Lossless,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEGLosslessSV1,
    generate_uid,
)

WriteMammogram = Callable[..., Path]


def breast_pixels(
    height: int = 320,
    width: int = 256,
    *,
    laterality: str = "L",
    seed: int = 0,
    peak: int = 3000,
) -> np.ndarray:
    """(H, W) uint16 stored values: a half ellipse with texture, chest wall at its own side."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    inside = ((y - height / 2) / (0.42 * height)) ** 2 + (x / (0.7 * width)) ** 2 < 1
    texture = cv2.GaussianBlur(rng.normal(size=(height, width)), (0, 0), 5)
    values = peak * (0.55 + 1.5 * texture).clip(0.3, 1.0)
    image = np.where(inside, values, 0).astype(np.uint16)
    return image if laterality == "L" else np.ascontiguousarray(image[:, ::-1])


def encode(pixels: np.ndarray, syntax: str) -> bytes:
    if syntax == JPEG2000Lossless:
        stream = imagecodecs.jpeg2k_encode(pixels, level=0, reversible=True, codecformat="j2k")
    else:
        stream = imagecodecs.jpeg_encode(pixels, lossless=True, predictor=1, bitspersample=12)
    return encapsulate([bytes(stream)])


@pytest.fixture(scope="session")
def write_mammogram() -> WriteMammogram:
    """Write one DICOM file; keyword arguments set or, as ``None``, remove header elements."""

    def write(
        path: Path,
        pixels: np.ndarray | None = None,
        *,
        syntax: str = ExplicitVRLittleEndian,
        laterality: str = "L",
        view: str = "CC",
        patient: str = "p1",
        seed: int = 0,
        encoder: Callable[[np.ndarray, str], bytes] = encode,
        **elements: Any,
    ) -> Path:
        if pixels is None:
            pixels = breast_pixels(laterality=laterality, seed=seed)
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
        meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(path)])
        meta.TransferSyntaxUID = syntax
        dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
        dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
        dataset.StudyInstanceUID = generate_uid(entropy_srcs=[patient])
        dataset.PatientID = patient
        dataset.Modality = "MG"
        dataset.ImageLaterality = laterality
        dataset.ViewPosition = view
        dataset.Rows, dataset.Columns = pixels.shape
        dataset.SamplesPerPixel = 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.BitsAllocated = pixels.dtype.itemsize * 8
        dataset.BitsStored = 12 if pixels.dtype.itemsize == 2 else 8
        dataset.HighBit = dataset.BitsStored - 1
        dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
        dataset.WindowCenter, dataset.WindowWidth = 2048, 4096
        if syntax in (JPEG2000Lossless, JPEGLosslessSV1):
            dataset.PixelData = encoder(pixels, syntax)
            dataset["PixelData"].VR = "OB"
        else:
            dataset.PixelData = pixels.tobytes()
        for keyword, value in elements.items():
            if value is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)
        path.parent.mkdir(parents=True, exist_ok=True)
        dataset.save_as(path, enforce_file_format=True)
        return path

    return write


@pytest.fixture
def lut_item() -> Callable[..., Dataset]:
    """Build one item of a Modality or VOI LUT Sequence."""

    def build(entries: list[int], first: int, bits: int) -> Dataset:
        item = Dataset()
        item.add_new("LUTDescriptor", "US", [len(entries), first, bits])
        item.add_new("LUTData", "US", entries)
        return item

    return build


@pytest.fixture
def exam_folder(tmp_path: Path, write_mammogram: WriteMammogram) -> Path:
    """The four screening views of one patient, as a folder of DICOM files."""
    folder = tmp_path / "exam"
    for number, (side, view) in enumerate([("R", "CC"), ("L", "CC"), ("R", "MLO"), ("L", "MLO")]):
        write_mammogram(folder / f"{side}_{view}.dcm", laterality=side, view=view, seed=number)
    return folder


@pytest.fixture
def rsna_folder(tmp_path: Path, write_mammogram: WriteMammogram) -> Path:
    """Twelve patients in the RSNA challenge's layout, headers stripped as theirs are."""
    root = tmp_path / "rsna"
    lines = [
        "site_id,patient_id,image_id,laterality,view,age,cancer,biopsy,invasive,BIRADS,implant,"
        "density,machine_id,difficult_negative_case"
    ]
    for patient in range(12):
        for number, (side, view) in enumerate([("L", "CC"), ("L", "MLO"), ("R", "CC")]):
            image_id = 100 * patient + number
            write_mammogram(
                root / "train_images" / str(patient) / f"{image_id}.dcm",
                laterality=side,
                seed=image_id,
                patient=str(patient),
                Modality=None,
                ViewPosition=None,
            )
            cancer = int(patient % 3 == 0 and side == "L")
            site = 1 + patient % 2
            density = "B" if site == 1 else ""
            lines.append(
                f"{site},{patient},{image_id},{side},{view},5{patient % 10},{cancer},{cancer},0,,0,"
                f"{density},49,False"
            )
    (root / "train.csv").write_text("\n".join(lines) + "\n")
    return root
