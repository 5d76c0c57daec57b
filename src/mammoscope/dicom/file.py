"""A DICOM file read without decoding its pixels, with bounds on what a hostile one can cost."""

from __future__ import annotations

import io
import logging
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from mammoscope.dicom.elements import BROKEN, items, read_value, tag_name, uid, whole
from mammoscope.dicom.header import ImageHeader, build_header, count_of
from mammoscope.errors import DicomError, MissingTagError, NotAMammogramError, Reason

__all__ = ["DicomFile", "is_dicom", "read_dicom"]

_ONE_AT_A_TIME = threading.Lock()
# Of a deflated data set: more than the largest image that is decoded, at 16 bits.
_MOST_BYTES = 192 << 20
# An element takes pydicom two or three reads. Mammograms have some hundreds of elements; a few
# kilobytes can inflate to millions, at seconds for each.
_MOST_READS = 500_000


class _Bounded:
    """Counts the reads of the stream that it is mixed into."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        if self.reads > _MOST_READS:
            raise DicomError("the file holds more elements than any mammogram", Reason.TOO_LARGE)
        data: bytes = super().read(size)  # type: ignore[misc]
        return data


class _BoundedFile(_Bounded, io.BufferedReader):
    pass


class _BoundedBytes(_Bounded, io.BytesIO):
    pass


@dataclass(frozen=True, slots=True)
class DicomFile:
    """A file that was read: its path, the dataset (pixel data undecoded) and the header."""

    path: Path
    dataset: FileDataset
    header: ImageHeader


def is_dicom(path: Path) -> bool:
    """Say whether a file carries the DICOM preamble (PS3.10, section 7.1)."""
    with Path(path).open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def read_dicom(path: Path) -> DicomFile:
    """Read a DICOM file without decoding its pixel data.

    Raises:
        DicomError: If it is empty, not DICOM, truncated or unreadable; ``reason`` says which.
        NotAMammogramError: If it holds no image.
        MissingTagError: If a tag that describes the pixels is absent.
    """
    path = Path(path)
    if path.stat().st_size == 0:
        raise DicomError(f"{path.name} is empty", Reason.EMPTY_FILE)
    try:
        # Python's list of warning filters is one for all threads.
        with _ONE_AT_A_TIME, _unlogged(), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            dataset = _read_dataset(path)
            # pydicom reports an unexpected end as a warning and drops the element.
            if any("end of" in str(w.message).lower() for w in caught):
                raise EOFError
            if "PixelData" not in dataset:
                raise _without_pixels(path, dataset)
            _check_pixel_length(path, dataset)
            header = build_header(path, dataset)
            _read_tables(path, dataset)
            return DicomFile(path, dataset, header)
    except InvalidDicomError as error:
        message = f"{path.name} is not a DICOM file: no 'DICM' after a 128-byte preamble"
        raise DicomError(message, Reason.NOT_AN_IMAGE) from error
    except (EOFError, struct.error) as error:
        raise DicomError(f"{path.name} ends before its data do", Reason.TRUNCATED_FILE) from error
    except RecursionError as error:
        message = f"{path.name} cannot be read as DICOM: sequences lie in sequences without end"
        raise DicomError(message) from error
    # pydicom raises as the bytes happen to lie. Its words may quote values of any element, the
    # patient's among them.
    except BROKEN as error:
        message = f"{path.name} cannot be read as DICOM: an element is not as it should be"
        raise DicomError(message) from error


@contextmanager
def _unlogged() -> Iterator[None]:
    """Keep pydicom's records, which quote values, out of logs: the patient's are among them."""
    logger = logging.getLogger("pydicom")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _without_pixels(path: Path, dataset: FileDataset) -> DicomError:
    if "Rows" in dataset and "Columns" in dataset:
        message = f"{path.name} describes an image but holds no {tag_name('PixelData')}"
        return DicomError(message, Reason.TRUNCATED_FILE)
    sop_class = UID(uid(dataset, "SOPClassUID") or "")
    name = sop_class.name or "unknown SOP class"
    if "Image Storage" in name:
        message = f"{path.name} ends before it describes its image (SOP class: {name})"
        return DicomError(message, Reason.TRUNCATED_FILE)
    return NotAMammogramError(f"{path.name} holds no image (SOP class: {name})")


def _check_pixel_length(path: Path, dataset: FileDataset) -> None:
    """Refuse native pixel data shorter than the header says; a codec checks its own."""
    syntax = uid(dataset.file_meta, "TransferSyntaxUID")
    if syntax is None:
        raise MissingTagError(f"{path.name} lacks {tag_name('TransferSyntaxUID')}")
    if not isinstance(read_value(dataset, "PixelData"), bytes):
        kind = dataset["PixelData"].VR
        message = f"{path.name}: {tag_name('PixelData')} is of VR {kind}; OB and OW are accepted"
        raise DicomError(message, Reason.INVALID_VALUE)
    if UID(syntax).is_encapsulated:
        return
    needed = (
        count_of(path, dataset, "Rows")
        * count_of(path, dataset, "Columns")
        * (whole(dataset, "SamplesPerPixel", 1) or 1)
        * count_of(path, dataset, "BitsAllocated")
        // 8
    )
    found = len(dataset.PixelData)
    if found < needed:
        message = f"{path.name}: {tag_name('PixelData')} holds {found} bytes where {needed} are due"
        raise DicomError(message, Reason.TRUNCATED_FILE)


def _read_tables(path: Path, dataset: FileDataset) -> None:
    """Have pydicom read the look-up tables now, where all that it raises is caught."""
    for keyword in ("ModalityLUTSequence", "VOILUTSequence"):
        try:
            for item in items(dataset, keyword):
                for name in ("LUTDescriptor", "LUTData"):
                    item.get(name)
        except BROKEN as error:
            message = f"{path.name}: {tag_name(keyword)} cannot be read"
            raise DicomError(message, Reason.INVALID_VALUE) from error


def _read_dataset(path: Path) -> FileDataset:
    """Read a file's elements, their values unread."""
    meta = pydicom.filereader.read_file_meta_info(path)
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        return _read_deflated(path, meta)
    with _BoundedFile(io.FileIO(str(path))) as stream:
        return pydicom.filereader.read_partial(stream)


def _read_deflated(path: Path, meta: FileMetaDataset) -> FileDataset:
    """Inflate a data set up to a bound; pydicom has none, and a small file could fill memory."""
    with path.open("rb") as stream:
        # Preamble, prefix and the group length's own element come before what that counts.
        stream.seek(128 + 4 + 12 + int(meta.FileMetaInformationGroupLength))
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        data = inflater.decompress(stream.read(), _MOST_BYTES)
    if inflater.unconsumed_tail:
        raise DicomError(
            f"{path.name} inflates to more than the {_MOST_BYTES} bytes accepted",
            Reason.TOO_LARGE,
        )
    if not inflater.eof:
        raise EOFError
    dataset = pydicom.filereader.read_dataset(
        _BoundedBytes(data), is_implicit_VR=False, is_little_endian=True
    )
    return FileDataset(path, dataset, file_meta=meta, is_implicit_VR=False, is_little_endian=True)
