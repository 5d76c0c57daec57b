"""How much damage within JPEG 2000 codes is refused, and how close whole frames come to refusal.

    python benchmarks/jpeg2000_damage.py --out results/jpeg2000-damage

Frames are of SYNTHETIC images. *Damage*: bits are flipped, or bytes overwritten by zeros or noise,
in places drawn at random behind the headers; a frame that still decodes to its own pixels is drawn
again. *Whole*: frames of other encoders, Grok, JasPer and FFmpeg, where their programs are there
(Debian's grokj2k-tools, netpbm and ffmpeg), in several styles, and the largest distance between
where a code ends and where its block does.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from mammoscope.cli import cohort
from mammoscope.dicom import jpeg2000, read_dicom
from mammoscope.dicom.pixels import decode
from mammoscope.errors import PixelDecodeError
from measure import leave

_DAMAGE = (
    *(("bit flipped", 1), ("zeros", 16), ("zeros", 1000)),
    *(("noise", 1), ("noise", 16), ("noise", 1000)),
)
_COMMANDS = {
    "grok": "grk_compress -i {src} -o {out} {style}",
    "jasper": "pamtojpeg2k {style} {src}",
    "ffmpeg": "ffmpeg -v error -y -i {src} -c:v jpeg2000 {style} -f image2 {out}",
}
_STYLES = {
    "grok": ("", "-r 10", "-I -r 10", "-r 20,10,1", "-b 32,32", "-p RPCL", "-M 1", "-M 4", "-S"),
    "jasper": (
        "-mode=integer",
        "-mode=real -compression=10",
        "-mode=integer -ilyrrates=0.05,0.2",
        "-mode=integer -termall",
    ),
    "ffmpeg": ("-pred dwt53", "-pred dwt97int -q:v 5"),
}


def pictures(home: Path, patients: int) -> list[NDArray[np.uint16]]:
    """Return the stored pixels of SYNTHETIC images, 12 bits of 16."""
    cohort.synth(home / "dicom", patients=patients, scale=0.25)
    files = sorted((home / "dicom").rglob("*.dcm"))
    return [decode(read_dicom(path)).stored.astype(np.uint16) for path in files]


def distances(frame: bytes) -> tuple[int, int]:
    """Return how many blocks end elsewhere than OpenJPEG expects, and the largest distance."""
    with mock.patch.object(jpeg2000, "_MOST_LEFT", 0):
        try:
            jpeg2000.decode_jpeg_2000(frame, 0)
        except PixelDecodeError as error:
            blocks, furthest = re.findall(r"\d+", str(error).partition("codestream")[2])
            return int(blocks), int(furthest)
    return 0, 0


def damaged(frames: dict[str, list[bytes]], draws: int) -> Iterator[dict[str, object]]:
    """Count what is refused of each kind of damage."""
    rng = np.random.default_rng(0)
    for name, whole in frames.items():
        for kind, size in _DAMAGE:
            refused = accepted = 0
            while refused + accepted < draws:
                frame = whole[(refused + accepted) % len(whole)]
                try:
                    same = np.array_equal(
                        jpeg2000.decode_jpeg_2000(spoilt(frame, kind, size, rng), 0),
                        imagecodecs.jpeg2k_decode(frame),
                    )
                    accepted += not same
                except (PixelDecodeError, imagecodecs.Jpeg2kError):
                    refused += 1
            yield {"frames": name, "damage": f"{kind}, {size}", "refused": f"{refused} of {draws}"}


def spoilt(frame: bytes, kind: str, size: int, rng: np.random.Generator) -> bytes:
    """Damage a frame behind its headers."""
    changed = bytearray(frame)
    at = int(rng.integers(frame.index(b"\xff\x93") + 2, len(frame) - size - 2))
    if kind == "bit flipped":
        changed[at] ^= 1 << int(rng.integers(8))
    else:
        changed[at : at + size] = bytes(size) if kind == "zeros" else rng.bytes(size)
    return bytes(changed)


def encoded_elsewhere(images: list[NDArray[np.uint16]], home: Path) -> Iterator[dict[str, object]]:
    """Measure the whole frames of other encoders."""
    for name, command in _COMMANDS.items():
        if shutil.which(command.partition(" ")[0]) is None:
            continue
        for style in _STYLES[name]:
            found = [distances(encode(command, style, image, home)) for image in images]
            yield {
                "encoder": name,
                "style": style or "as it is",
                "blocks that end elsewhere": sum(blocks for blocks, _ in found),
                "largest distance, bytes": max(furthest for _, furthest in found),
            }


def encode(command: str, style: str, image: NDArray[np.uint16], home: Path) -> bytes:
    """Encode one image by a program."""
    src, out = home / "image.pgm", home / "image.j2k"
    head = f"P5\n{image.shape[1]} {image.shape[0]}\n4095\n"
    src.write_bytes(head.encode() + image.astype(">u2").tobytes())
    made = subprocess.run(
        command.format(src=src, out=out, style=style).split(), check=True, capture_output=True
    )
    return out.read_bytes() if "{out}" in command else made.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--patients", type=int, default=2)
    parser.add_argument("--draws", type=int, default=200, help="damaged frames of each kind")
    parser.add_argument("--out", type=Path, default=Path("results/jpeg2000-damage"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        images = [np.minimum(image, 4095) for image in pictures(Path(folder), options.patients)]
        settings = {"codecformat": "j2k", "bitspersample": 12}
        frames = {
            "JPEG 2000 lossless": [
                bytes(imagecodecs.jpeg2k_encode(image, level=0, reversible=True, **settings))
                for image in images
            ],
            "JPEG 2000 lossy, 60 dB": [
                bytes(imagecodecs.jpeg2k_encode(image, level=60, **settings)) for image in images
            ],
            "HTJ2K lossless": [
                bytes(imagecodecs.htj2k_encode(image, reversible=True)) for image in images
            ],
        }
        rows = list(damaged(frames, options.draws))
        leave("damage", "Damaged frames of SYNTHETIC images", rows, options.out)
        whole = list(encoded_elsewhere(images, Path(folder)))
        leave("whole", "Whole frames of SYNTHETIC images", whole, options.out)


if __name__ == "__main__":
    sys.exit(main())
