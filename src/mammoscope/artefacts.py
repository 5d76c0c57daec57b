"""Files that stages hand to each other: written beside and renamed, hashed, self-describing."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mammoscope.errors import MammoscopeError, OutputError

__all__ = [
    "canonical_json",
    "check_output",
    "claim_output",
    "new_folder",
    "read_json",
    "sha256_file",
    "sha256_json",
    "write_atomically",
    "write_json",
]


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder, and rename it to ``path`` on success.

    A reader therefore sees the old file or the whole new one. On any error, a full
    disk or Ctrl-C included, the temporary file is removed.

    Raises:
        OutputError: If the file cannot be written.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        # mkstemp makes private files; outputs follow the user's umask like any other.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        temporary = None
    except OSError as error:
        raise OutputError(f"cannot write {path}: {_reason(error)}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def canonical_json(value: Any) -> str:
    """Return JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def sha256_json(value: Any) -> str:
    """Return the SHA-256 of a value's canonical JSON, as 64 hex digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, as 64 hex digits."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON atomically; NaN and infinity are refused."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path, error: type[MammoscopeError]) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: The file.
        error: What to raise where it is missing or not a JSON object.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as missing:
        raise error(f"{path} is missing") from missing
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as broken:
        raise error(f"{path} cannot be read as JSON: {broken}") from broken
    if not isinstance(value, dict):
        raise error(f"{path} holds a JSON {type(value).__name__}, not an object")
    return value


def _reason(error: OSError) -> str:
    """Return the system's words: pydicom raises such errors anew, a traceback in their text."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return str(error).partition("\n")[0]


def check_output(path: Path, *, overwrite: bool, marker: str | None = None) -> None:
    """Check, before any work, that an output folder is free or may be replaced.

    Args:
        path: The folder that the stage will fill.
        overwrite: What is there may be replaced. A folder that does not hold ``marker`` is
            never removed: it is not one that mammoscope made.
        marker: Name of the file by which such a folder is known.

    Raises:
        OutputError: If it exists and may not be replaced, or its place cannot be written.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path} exists and is not a folder")
    if path.is_dir() and any(path.iterdir()):
        if not overwrite:
            raise OutputError(f"{path} exists already; choose another folder or pass --overwrite")
        if marker is not None and not (path / marker).exists():
            raise OutputError(
                f"{path} is not empty and holds no {marker}: mammoscope did not make it, "
                "so --overwrite will not remove it"
            )
    place = next(parent for parent in path.absolute().parents if parent.exists())
    if not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
        raise OutputError(f"cannot write to {path}: {place} is not a folder that can be written")


def claim_output(path: Path, *, overwrite: bool, marker: str | None = None) -> None:
    """Check an output folder, empty it, and try to write to it.

    Args:
        path: The folder that the stage will fill.
        overwrite: Remove what is there, as :func:`check_output` allows.
        marker: Name of the file by which such a folder is known; a stage writes it first,
            so that a folder of which it made a part only can be replaced too.

    Raises:
        OutputError: If it exists and may not be replaced, or cannot be written.
    """
    check_output(path, overwrite=overwrite, marker=marker)
    path = Path(path)
    try:
        _remove(path)
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise OutputError(f"cannot write to {path}: {error.strerror or error}") from error


@contextmanager
def new_folder(path: Path, *, overwrite: bool, marker: str) -> Iterator[Path]:
    """Yield a temporary folder beside ``path`` that takes its place on success.

    What was there stays until then; after any error it is as before.

    Args:
        path: The folder to make or replace.
        overwrite: It may be replaced, as :func:`check_output` allows.
        marker: Name of the file by which such a folder is known.

    Raises:
        OutputError: If it exists and may not be replaced, or cannot be written.
    """
    path = Path(path)
    check_output(path, overwrite=overwrite, marker=marker)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
        temporary.chmod(0o777 & ~_umask())
        yield temporary
        _remove(path)
        temporary.rename(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _remove(folder: Path) -> None:
    """Remove a folder in one step as seen from outside: renamed first, deleted then."""
    if not folder.exists():
        return
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    folder.rename(aside)
    shutil.rmtree(aside)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
