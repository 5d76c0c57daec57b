"""A DICOM file of an exposure: header of either profile, and the unit's codec."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalXRayImageStorageForPresentation,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from mammoscope.artefacts import write_atomically
from mammoscope.cohort.synthetic.headers import (
    ImageFacts,
    add_clinical_header,
    add_identity,
    describe_pixels,
)
from mammoscope.cohort.synthetic.machines import Machine

__all__ = ["Profile", "compress", "write_dicom"]

Profile = Literal["rsna", "clinical"]

_RLE_HEADER_BYTES = 64


def write_dicom(
    path: Path,
    stored: NDArray[np.uint16],
    machine: Machine,
    facts: ImageFacts,
    profile: Profile,
) -> None:
    """Write one file, stripped as the challenge's are or with a clinical header.

    Args:
        path: The file.
        stored: (H, W) stored values.
        machine: Which unit.
        facts: Of the image.
        profile: Which header.
    """
    clinical = profile == "clinical"
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = (
        DigitalMammographyXRayImageStorageForPresentation
        if clinical
        else DigitalXRayImageStorageForPresentation
    )
    meta.TransferSyntaxUID = machine.syntax
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    add_identity(dataset, facts)
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    black = int(stored.max()) if machine.display.inverted else machine.display.padding[0]
    describe_pixels(dataset, machine, stored.shape, black)
    if clinical:
        add_clinical_header(dataset, machine, facts)
    if dataset.BitsAllocated == 8:
        stored = stored.astype(np.uint8)
    if machine.syntax.is_encapsulated:
        dataset.PixelData = encapsulate([compress(stored, machine.syntax, dataset.BitsStored)])
        dataset["PixelData"].VR = "OB"
    else:
        dataset.PixelData = stored.astype(stored.dtype.newbyteorder("<")).tobytes()
        dataset["PixelData"].VR = "OW"
    with write_atomically(path) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)


def compress(stored: NDArray[Any], syntax: UID, bits: int) -> bytes:
    """Return the codestream of (H, W) stored values, without loss.

    Args:
        stored: uint8 or uint16.
        syntax: An encapsulated transfer syntax of the units.
        bits: Bits Stored (0028,0101).
    """
    if syntax == JPEG2000Lossless:
        # Whole JP2 files with three resolutions, as the challenge's are.
        return bytes(
            imagecodecs.jpeg2k_encode(
                stored, level=0, reversible=True, codecformat="jp2", resolutions=3
            )
        )
    if syntax == JPEGLosslessSV1:
        return bytes(
            imagecodecs.jpeg_encode(stored, lossless=True, predictor=1, bitspersample=bits)
        )
    if syntax == JPEGLSLossless:
        return bytes(imagecodecs.jpegls_encode(stored))
    if syntax == RLELossless:
        return _run_lengths(stored)
    raise ValueError(f"no encoder for transfer syntax {syntax.name}")


def _run_lengths(stored: NDArray[Any]) -> bytes:
    """Encode RLE: a segment for each byte of a pixel, high bytes first (PS3.5 G.3)."""
    big_endian = np.ascontiguousarray(stored, stored.dtype.newbyteorder(">"))
    planes = big_endian.view(np.uint8).reshape(*stored.shape, stored.dtype.itemsize)
    segments = []
    for number in range(stored.dtype.itemsize):
        segment = bytes(imagecodecs.packbits_encode(np.ascontiguousarray(planes[..., number])))
        segments.append(segment + b"\0" * (len(segment) % 2))
    lengths = [_RLE_HEADER_BYTES, *(len(segment) for segment in segments[:-1])]
    header = np.zeros(_RLE_HEADER_BYTES // 4, "<u4")
    header[: len(segments) + 1] = (len(segments), *np.cumsum(lengths))
    return header.tobytes() + b"".join(segments)
