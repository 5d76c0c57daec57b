"""DICOM in: header, pixels, presentation, eligibility."""

from mammoscope.dicom.file import DicomFile, read_dicom
from mammoscope.dicom.header import ImageHeader
from mammoscope.dicom.pixels import DecodedPixels, decode, encoded_pixels
from mammoscope.dicom.presentation import present

__all__ = [
    "DecodedPixels",
    "DicomFile",
    "ImageHeader",
    "decode",
    "encoded_pixels",
    "present",
    "read_dicom",
]
