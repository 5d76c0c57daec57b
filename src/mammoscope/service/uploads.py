"""An exam as it arrives: a multipart body, counted while it streams to disk."""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import anyio
from anyio import to_thread
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from mammoscope.service.archives import ZipBounds, is_zip, unpack
from mammoscope.service.filenames import FileNames
from mammoscope.service.problems import RequestRefusedError
from mammoscope.service.settings import ServiceSettings

__all__ = ["FIELD", "Upload", "receive_upload"]

#: Name of the form field that carries files, once per file.
FIELD = "files"
_BLOCK_BYTES = 1 << 20
# A refused sender is listened to for a while, or its network stack would lose our answer.
_DRAIN_BYTES = 64 << 20
_DRAIN_SECONDS = 5.0
_DRAIN_PAUSE_SECONDS = 0.5
_TABLE_COLUMNS = frozenset({"image_id", "laterality", "view"})


@dataclass(frozen=True, slots=True)
class Upload:
    """What was received, on disk.

    Attributes:
        paths: Files as sent, and a folder for what zips held.
        table: A CSV of image_id, laterality and view, if one came along.
    """

    paths: tuple[Path, ...]
    table: Path | None


async def receive_upload(request: Request, folder: Path, settings: ServiceSettings) -> Upload:
    """Stream a request's files into a folder.

    Args:
        request: Of content type ``multipart/form-data``; its body is not read yet.
        folder: An empty folder of its own, on a disk with room.
        settings: The bounds.

    Raises:
        RequestRefusedError: If it is too large, too slow, not multipart, cut short, empty, or
            holds a zip that must not be unpacked.
        ClientDisconnect: If the sender has gone.
    """
    boundary = _boundary(request.headers.get("content-type"))
    body = _Body(request, settings)
    parts = _PartsToDisk(boundary, folder, settings)
    try:
        async for block in body.blocks():
            await to_thread.run_sync(parts.feed, block)
        files = parts.finish()
    except RequestRefusedError:
        await body.drain()
        raise
    finally:
        parts.close()
    return await to_thread.run_sync(_sort_out, files, parts.names, folder, settings)


class _Body:
    """The request's body in blocks, counted: what Content-Length says is not relied on."""

    def __init__(self, request: Request, settings: ServiceSettings) -> None:
        self._settings = settings
        self._stream = aiter(request.stream())
        declared = request.headers.get("content-length", "")
        self._declared = int(declared) if declared.isdecimal() else 0
        self._expects_go_ahead = "expect" in request.headers

    async def blocks(self) -> AsyncIterator[bytes]:
        limit = self._settings.max_upload_bytes
        if self._declared > limit:
            raise self._too_large()
        received, block = 0, bytearray()
        while chunk := await self._next():
            received += len(chunk)
            if received > limit:
                raise self._too_large()
            block += chunk
            if len(block) >= _BLOCK_BYTES:
                yield bytes(block)
                block.clear()
        yield bytes(block)

    async def drain(self) -> None:
        """Read on and forget, within bounds, so that the sender gets to read the answer."""
        if self._expects_go_ahead:
            return  # the sender waits for our word, and the answer is that word
        left = _DRAIN_BYTES
        with suppress(StopAsyncIteration, TimeoutError), anyio.fail_after(_DRAIN_SECONDS):
            while left > 0:
                with anyio.fail_after(_DRAIN_PAUSE_SECONDS):
                    left -= len(await anext(self._stream))

    async def _next(self) -> bytes:
        idle = self._settings.idle_timeout_s
        try:
            with anyio.fail_after(idle):
                while not (chunk := await anext(self._stream)):
                    pass
                return chunk
        except StopAsyncIteration:
            return b""
        except TimeoutError as error:
            message = f"nothing more of the upload arrived for {idle:g} s"
            raise RequestRefusedError(408, "upload_timed_out", message) from error

    def _too_large(self) -> RequestRefusedError:
        limit = self._settings.max_upload_bytes
        return RequestRefusedError(
            413, "upload_too_large", f"the upload is larger than the {limit} bytes accepted"
        )


class _PartsToDisk:
    """Writes each file of a multipart body (RFC 7578) to disk as it is parsed."""

    def __init__(self, boundary: bytes, folder: Path, settings: ServiceSettings) -> None:
        self.names = FileNames()
        self._folder = folder
        self._most = settings.max_files
        self._files: list[Path] = []
        self._headers: dict[bytes, bytes] = {}
        self._field, self._value = bytearray(), bytearray()
        self._sink: BinaryIO | None = None
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._headers.clear,
                "on_header_field": lambda data, start, end: self._field.extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                "on_header_end": self._header_end,
                "on_headers_finished": self._open_file,
                "on_part_data": self._write,
                "on_part_end": self.close,
                "on_end": self._end,
            },
        )

    def feed(self, block: bytes) -> None:
        """Parse one block."""
        try:
            self._parser.write(block)
        except FormParserError as error:
            message = f"the body is malformed: {error}"
            raise RequestRefusedError(400, "bad_multipart", message) from error

    def finish(self) -> list[Path]:
        """Return the files, in the order sent."""
        if not self._ended:
            message = "the body ends before its closing boundary"
            raise RequestRefusedError(400, "bad_multipart", message)
        return self._files

    def close(self) -> None:
        """Close the file that is being written, if one is."""
        if self._sink is not None:
            self._sink.close()
            self._sink = None

    def _header_end(self) -> None:
        self._headers[bytes(self._field).lower()] = bytes(self._value)
        self._field.clear()
        self._value.clear()

    def _open_file(self) -> None:
        disposition = self._headers.get(b"content-disposition", b"").decode("latin-1")
        _, options = parse_options_header(disposition)
        field = options.get(b"name", b"").decode("utf-8", "replace")
        filename = options.get(b"filename")
        if field != FIELD or filename is None:
            found = f"{field[:60]!r} {'without a file' if filename is None else 'with a file'}"
            message = f"the form holds the field {found}; it takes files as {FIELD}"
            raise RequestRefusedError(422, "unknown_field", message)
        if not filename:
            return  # what a browser sends for a file input that was left empty
        if len(self._files) >= self._most:
            message = f"the upload holds more than the {self._most} files accepted"
            raise RequestRefusedError(413, "too_many_files", message)
        path = self._folder / self.names.free(filename.decode("utf-8", "replace"))
        self._files.append(path)
        self._sink = path.open("xb")

    def _write(self, data: bytes, start: int, end: int) -> None:
        if self._sink is not None:
            self._sink.write(memoryview(data)[start:end])

    def _end(self) -> None:
        self._ended = True


def _boundary(content_type: str | None) -> bytes:
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        found = kind.decode("latin-1") or "missing"
        raise RequestRefusedError(
            415,
            "not_multipart",
            f"Content-Type is {found}; send multipart/form-data with the files as {FIELD}",
        )
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 70:
        message = "Content-Type needs a boundary of 1 to 70 characters (RFC 2046)"
        raise RequestRefusedError(400, "bad_multipart", message)
    return boundary


def _sort_out(
    files: list[Path], names: FileNames, folder: Path, settings: ServiceSettings
) -> Upload:
    """Unpack zips and set the table apart."""
    unzipped = folder / names.free("unzipped")
    unzipped.mkdir()
    tables, images = [], []
    archives = [file for file in files if is_zip(file)]
    bounds = ZipBounds(settings.max_files - len(files) + len(archives), settings.max_unzipped_bytes)
    for file in files:
        if file in archives:
            unpack(file, unzipped, names, bounds)
            file.unlink()
        elif file.suffix.lower() == ".csv":
            tables.append(file)
        else:
            images.append(file)
    tables += [file for file in sorted(unzipped.glob("*.[cC][sS][vV]")) if _is_table(file)]
    if len(tables) > 1:
        listed = ", ".join(table.name for table in tables)
        message = f"there is more than one table: {listed}"
        raise RequestRefusedError(422, "several_tables", message)
    for table in tables:
        if table.stat().st_size > settings.max_table_bytes:
            message = f"{table.name} is larger than the {settings.max_table_bytes} bytes accepted"
            raise RequestRefusedError(413, "table_too_large", message)
    paths = [*images, unzipped] if any(unzipped.iterdir()) else images
    return Upload(tuple(paths), tables[0] if tables else None)


def _is_table(file: Path) -> bool:
    """Say whether a CSV found in a zip is ours; a table that was sent by itself is meant so."""
    with file.open(newline="", encoding="utf-8-sig", errors="replace") as stream:
        first = next(csv.reader([stream.readline(4096)]), [])
    return set(first) >= _TABLE_COLUMNS
