"""DICOM in: header, pixels, presentation, eligibility."""

from mammoscope.dicom.header import DicomFile, ImageHeader, read_dicom
from mammoscope.dicom.pixels import DecodedPixels, decode
from mammoscope.dicom.presentation import present

__all__ = ["DecodedPixels", "DicomFile", "ImageHeader", "decode", "present", "read_dicom"]
