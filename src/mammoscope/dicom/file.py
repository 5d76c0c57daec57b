"""A data set read from its file, with bounds on what a hostile one can cost."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from mammoscope.errors import DicomError, Reason

__all__ = ["read_dataset"]

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


def read_dataset(path: Path) -> FileDataset:
    """Read a file's elements, their values unread.

    Raises:
        DicomError: If it inflates to, or holds, more than any mammogram.
        EOFError: If a deflated data set ends early.
        InvalidDicomError: If it is no DICOM file. Other errors of pydicom's follow from
            bytes that are not as they should be.
    """
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
