"""Every error that mammoscope raises on purpose, in one tree.

::

    MammoscopeError
    ├── DicomError                 a file breaks the DICOM standard, or our reading of it
    │   ├── NotAMammogramError     a valid object of another kind
    │   ├── PixelDecodeError       the pixel data cannot be decoded
    │   └── MissingTagError        a tag that we need is absent
    ├── IneligibleImageError       a readable image that must not be scored
    ├── CohortError                a cohort folder or its source is not as it should be
    ├── ConfigError                a configuration key or value is not accepted
    ├── BundleError                a bundle is damaged, edited or of another format
    ├── RunError                   a training run is damaged, incomplete or diverged
    ├── IncompleteExamError        an exam has nothing that can be scored
    ├── OutputError                an output exists already or cannot be written
    └── ServiceError               a request cannot be served; carries its HTTP status

Work on one item raises; work on many items turns each error into a row with a
:class:`Reason` and goes on. Messages carry no patient identity.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

__all__ = [
    "BundleError",
    "CohortError",
    "ConfigError",
    "DicomError",
    "IncompleteExamError",
    "IneligibleImageError",
    "MammoscopeError",
    "MissingTagError",
    "NotAMammogramError",
    "OutputError",
    "PixelDecodeError",
    "Reason",
    "RunError",
    "ServiceError",
]


class Reason(StrEnum):
    """Why a file or an image was refused: the codes of ``rejects.csv`` and ``results.json``."""

    EMPTY_FILE = "empty_file"
    NOT_AN_IMAGE = "not_an_image"
    TRUNCATED_FILE = "truncated_file"
    UNREADABLE_FILE = "unreadable_file"
    NOT_A_MAMMOGRAM = "not_a_mammogram"
    MISSING_TAG = "missing_tag"
    INVALID_VALUE = "invalid_value"
    INVALID_FINDING = "invalid_finding"
    # Of a finding, not of its image: see mammoscope.cohort.faults.
    OUTSIDE_IMAGE = "outside_image"
    OVER_BORDER = "over_border"
    NO_AREA = "no_area"
    WRONG_ORDER = "wrong_order"
    NO_NUMBER = "no_number"
    NOT_A_CONTOUR = "not_a_contour"
    MASK_EMPTY = "mask_empty"
    MASK_FULL = "mask_full"
    MASK_SIZE = "mask_size"
    MASK_UNREADABLE = "mask_unreadable"
    MISSING_FILE = "missing_file"
    CHANGED_FILE = "changed_file"
    NO_TABLE_ROW = "no_table_row"
    DUPLICATE = "duplicate"
    TOO_LARGE = "too_large"
    DECODE_FAILED = "decode_failed"
    DECODER_CRASHED = "decoder_crashed"
    BLANK_IMAGE = "blank_image"
    NO_BREAST = "no_breast"
    INVERTED = "inverted"
    # The eligibility gate's; those that can be configured are keys of EligibilityConfig too.
    MULTIFRAME = "multiframe"
    FOR_PROCESSING = "for_processing"
    TOMOSYNTHESIS = "tomosynthesis"
    SYNTHETIC_2D = "synthetic_2d"
    CONTRAST_ENHANCED = "contrast_enhanced"
    BIOPSY = "biopsy"
    SPECIMEN = "specimen"
    QUALITY_CONTROL = "quality_control"
    NOT_A_BREAST = "not_a_breast"
    SECONDARY_CAPTURE = "secondary_capture"
    MARKED_UP = "marked_up"
    BURNED_IN_ANNOTATION = "burned_in_annotation"
    SPOT_COMPRESSION = "spot_compression"
    MAGNIFICATION = "magnification"
    SUPPLEMENTARY_VIEW = "supplementary_view"
    IMPLANT_DISPLACED = "implant_displaced"
    IMPLANT = "implant"
    PARTIAL_VIEW = "partial_view"
    WRONG_SIZE = "wrong_size"
    IMPLAUSIBLE_SIZE = "implausible_size"
    WARPED = "warped"
    UNKNOWN_LATERALITY = "unknown_laterality"
    UNKNOWN_VIEW = "unknown_view"
    UNSUPPORTED_VIEW = "unsupported_view"
    UNKNOWN_VENDOR = "unknown_vendor"
    BURNED_IN_TEXT = "burned_in_text"


class MammoscopeError(Exception):
    """Root of the tree; the command line prints it without a traceback and exits 1."""

    reason: Reason | None = None


class DicomError(MammoscopeError):
    """A file that is not DICOM, or breaks it.

    Args:
        message: The sentence shown to the user: tag, keyword, value found, what is accepted.
        reason: The code under which a table of rejects files it.
    """

    reason = Reason.UNREADABLE_FILE

    def __init__(self, message: str, reason: Reason | None = None) -> None:
        super().__init__(message)
        if reason is not None:
            self.reason = reason


class NotAMammogramError(DicomError):
    """A valid DICOM object of another kind (modality, SOP class, or no pixels at all)."""

    reason = Reason.NOT_A_MAMMOGRAM


class PixelDecodeError(DicomError):
    """Pixel data that no decoder reads, or that contradict the header."""

    reason = Reason.DECODE_FAILED


class MissingTagError(DicomError):
    """A needed tag that neither the header nor a table supplies."""

    reason = Reason.MISSING_TAG


class IneligibleImageError(MammoscopeError):
    """A readable image that must not be scored.

    Args:
        reason: The code of the rule that refused it.
        message: The sentence that says what was found.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class CohortError(MammoscopeError):
    """A cohort folder, or the source it is made from, is not as it should be."""


class ConfigError(MammoscopeError):
    """A configuration key or value that is not accepted; the message names the key."""


class BundleError(MammoscopeError):
    """A bundle that is damaged, edited, incomplete or of another format."""


class RunError(MammoscopeError):
    """A training run that is damaged, incomplete, diverged or of another format."""


class IncompleteExamError(MammoscopeError):
    """An exam without a single image that can be scored.

    Args:
        message: The sentence that says why.
        refused: (image_id, reason, message) of each image that was refused.
    """

    def __init__(self, message: str, refused: Iterable[tuple[str, str, str]] = ()) -> None:
        super().__init__(message)
        self.refused = tuple(refused)


class OutputError(MammoscopeError):
    """An output that exists already, or a place that cannot be written."""


class ServiceError(MammoscopeError):
    """A request that cannot be served.

    Args:
        status: The HTTP status code to answer with.
        message: The sentence that says why.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
