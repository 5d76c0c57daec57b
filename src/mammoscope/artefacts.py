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
    "claim_output",
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
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
        temporary = None
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
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


def claim_output(path: Path, *, overwrite: bool, marker: str | None = None) -> None:
    """Check, before any work, that an output folder is free and can be written.

    Args:
        path: The folder that the stage will fill.
        overwrite: Remove what is there. A folder that does not hold ``marker`` is
            never removed: it is not one that mammoscope made.
        marker: Name of the file by which such a folder is known.

    Raises:
        OutputError: If it exists and may not be replaced, or cannot be written.
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
        shutil.rmtree(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise OutputError(f"cannot write to {path}: {error.strerror or error}") from error
