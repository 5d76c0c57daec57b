"""A zip of an exam, unpacked without trusting a word of it."""

from __future__ import annotations

import io
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from mammoscope.dicom.file import is_dicom
from mammoscope.service.filenames import FileNames
from mammoscope.service.problems import RequestRefusedError

__all__ = ["ZipBounds", "is_zip", "unpack"]

_SIGNATURES = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_BLOCK_BYTES = 1 << 20
# The only methods whose decoders zipfile bounds by what is asked for; bz2 and lzma may
# return gigabytes from one block.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1


class ZipBounds:
    """What is left of the budget that the zips of one upload share.

    Args:
        members: Files that they may hold together.
        size_bytes: Bytes that they may hold together, unpacked.
    """

    def __init__(self, members: int, size_bytes: int) -> None:
        self._members, self._size = members, size_bytes
        self._members_left, self._size_left = members, size_bytes

    def take_member(self, zip_name: str) -> None:
        """Count one file."""
        self._members_left -= 1
        if self._members_left < 0:
            raise RequestRefusedError(
                413, "too_many_files", f"{zip_name} brings the exam over {self._members} files"
            )

    def take_bytes(self, count: int, zip_name: str) -> None:
        """Count unpacked bytes."""
        self._size_left -= count
        if self._size_left < 0:
            raise RequestRefusedError(
                413, "zip_too_large", f"{zip_name} unpacks to more than {self._size} bytes"
            )


class _BoundedFile(io.FileIO):
    """A file that gives at most one block a read: a forged directory cannot fill the memory."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            size = max(0, os.fstat(self.fileno()).st_size - self.tell())
        if size > _BLOCK_BYTES:
            raise zipfile.BadZipFile(f"a directory of {size} bytes is larger than an exam needs")
        return super().read(size) or b""


def is_zip(path: Path) -> bool:
    """Say whether a file is meant as a zip: by its content, and by its name if it has none."""
    with path.open("rb") as stream:
        start = stream.read(4)
    if start in _SIGNATURES:
        # PS3.10 leaves the first 128 bytes of a DICOM file to anyone, a zip included.
        return not is_dicom(path)
    return path.suffix.lower() == ".zip"


def unpack(path: Path, folder: Path, names: FileNames, bounds: ZipBounds) -> None:
    """Write the files of a zip into a folder, flat, under names that are free.

    Args:
        path: The zip.
        folder: Where its files go.
        names: Names that are taken.
        bounds: What may still be unpacked.

    Raises:
        RequestRefusedError: If it is damaged, encrypted, nested, too large, or names a place
            outside itself; the message says which.
    """
    try:
        with _BoundedFile(path) as stream, zipfile.ZipFile(stream) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            for member in members:
                _check(member, path.name)
                bounds.take_member(path.name)
            for member in members:
                if not _is_companion(member.filename):
                    target = folder / names.free(member.filename)
                    _write(archive, member, target, path.name, bounds)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise RequestRefusedError(
            422, "bad_zip", f"{path.name} is not a sound zip file: {error}"
        ) from error


def _check(member: zipfile.ZipInfo, zip_name: str) -> None:
    name = member.filename
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or ".." in parts or parts[0].startswith("/") or ":" in parts[0]:
        raise RequestRefusedError(
            422, "unsafe_zip", f"{zip_name} names a place outside itself: {name[:120]!r}"
        )
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise RequestRefusedError(
            422, "unsafe_zip", f"{zip_name} holds a link or device: {name[:120]!r}"
        )
    if member.flag_bits & _ENCRYPTED:
        raise RequestRefusedError(
            422, "encrypted_zip", f"{zip_name} is encrypted; send it without a password"
        )
    if member.compress_type not in _METHODS:
        raise RequestRefusedError(
            422,
            "bad_zip",
            f"{zip_name} uses compression method {member.compress_type}; stored and deflate "
            "are accepted",
        )


def _write(
    archive: zipfile.ZipFile,
    member: zipfile.ZipInfo,
    target: Path,
    zip_name: str,
    bounds: ZipBounds,
) -> None:
    with archive.open(member) as source, target.open("xb") as sink:
        for block in _blocks(source):
            # Counted as it comes out: the size that the directory declares may be a lie.
            bounds.take_bytes(len(block), zip_name)
            sink.write(block)
    if is_zip(target):
        raise RequestRefusedError(
            422, "nested_zip", f"{zip_name} holds another zip; unpack that one first"
        )


def _blocks(source: IO[bytes]) -> Iterator[bytes]:
    while block := source.read(_BLOCK_BYTES):
        yield block


def _is_companion(name: str) -> bool:
    """Say whether a member is what file managers leave in a zip beside the user's files."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return parts[0] == "__MACOSX" or parts[-1].startswith(".")
