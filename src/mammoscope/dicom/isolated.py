"""A decoder in a process of its own, for libraries that end theirs on damaged data.

GDCM throws C++ exceptions that nobody catches: the process is aborted, and with it every image
that it was to read. As a last resort it still reads files that others do not, so it is asked
from a distance, with bounds on time and memory. A process costs a third of a second, which only
images pay that every other decoder has refused.

This file is run as a script, by path: it then imports pydicom and nothing of this package.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["decode_apart"]

_MOST_SECONDS = 60
_MOST_BYTES = 2 << 30


def decode_apart(plugin: str, frame: bytes, options: dict[str, Any]) -> NDArray[Any]:
    """Decode one frame by one of pydicom's plug-ins, in another process.

    Args:
        plugin: Name of the plug-in, such as ``gdcm``.
        frame: The compressed frame.
        options: What pydicom's decoder is told of it; ``transfer_syntax_uid`` among them.

    Returns:
        (H, W) samples as the codestream holds them.

    Raises:
        RuntimeError: If the plug-in refuses, crashes or takes too long.
    """
    request = json.dumps({"plugin": plugin, "options": options}).encode() + b"\n" + frame
    # -P: this file's folder has modules whose names others may want.
    command = [sys.executable, "-P", __file__]
    try:
        done = subprocess.run(  # noqa: S603
            command, input=request, capture_output=True, timeout=_MOST_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"no answer within {_MOST_SECONDS} s") from error
    if done.returncode < 0:
        raise RuntimeError(f"the decoder crashed (signal {-done.returncode})")
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise RuntimeError(said[-1])
    return np.asarray(np.load(io.BytesIO(done.stdout), allow_pickle=False))


def _serve() -> None:
    """Read a request from standard input, write the samples to standard output."""
    from pydicom.encaps import encapsulate
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    _bound_memory()
    head, _, frame = sys.stdin.buffer.read().partition(b"\n")
    request = json.loads(head)
    options = request["options"]
    options["transfer_syntax_uid"] = UID(options["transfer_syntax_uid"])
    decoder = get_decoder(options["transfer_syntax_uid"])
    values, _ = decoder.as_array(
        encapsulate([frame]), raw=True, decoding_plugin=request["plugin"], **options
    )
    samples = io.BytesIO()
    np.save(samples, values, allow_pickle=False)
    sys.stdout.buffer.write(samples.getvalue())


def _bound_memory() -> None:
    try:
        import resource
    except ImportError:
        return  # Windows has no such bound.
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_BYTES, _MOST_BYTES))


if __name__ == "__main__":
    _serve()
