"""JPEG frames by DCMTK's ``dcmdjpeg``, on machines that have it.

It reads JPEG files of 12 bits that GDCM refuses. It is a program, not a library, and so writes and
reads files; only images that every other decoder has refused pay for that.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, SecondaryCaptureImageStorage

from mammoscope.dicom.header import ImageHeader

__all__ = ["decode_by_dcmtk"]

_PROGRAM = "dcmdjpeg"
_MOST_SECONDS = 60
# A name for an object that nobody keeps (PS3.5, B.2).
_NO_INSTANCE = UID("2.25.0")


def decode_by_dcmtk(frame: bytes, header: ImageHeader) -> NDArray[Any]:
    """Decode one frame.

    Args:
        frame: The compressed frame.
        header: What is said of it.

    Returns:
        (H, W) samples as the codestream holds them.

    Raises:
        RuntimeError: If the program is not there, refuses, crashes or takes too long.
    """
    program = shutil.which(_PROGRAM)
    if program is None:
        raise RuntimeError(f"{_PROGRAM} of DCMTK is not installed")
    with tempfile.TemporaryDirectory() as folder:
        source, decoded = Path(folder, "source.dcm"), Path(folder, "decoded.dcm")
        _wrapped(frame, header).save_as(source, enforce_file_format=True)
        command = [program, "--conv-never", str(source), str(decoded)]
        try:
            done = subprocess.run(  # noqa: S603
                command, capture_output=True, timeout=_MOST_SECONDS, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(f"no answer within {_MOST_SECONDS} s") from error
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise RuntimeError(said[-1] if said else f"{_PROGRAM} ends with {done.returncode}")
        data = dcmread(decoded).PixelData
    kind = "u1" if header.bits_allocated == 8 else "<u2"
    count = header.rows * header.columns
    return np.frombuffer(data, kind, count).reshape(header.rows, header.columns)


def _wrapped(frame: bytes, header: ImageHeader) -> FileDataset:
    """Return the least object that the program takes."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(header.transfer_syntax_uid)
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = _NO_INSTANCE
    dataset = FileDataset("", {}, file_meta=meta)
    dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = _NO_INSTANCE
    dataset.Rows, dataset.Columns = header.rows, header.columns
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = header.photometric_interpretation
    dataset.BitsAllocated, dataset.BitsStored = header.bits_allocated, header.bits_stored
    dataset.HighBit = header.bits_stored - 1
    dataset.PixelRepresentation = int(header.signed)
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    return dataset
