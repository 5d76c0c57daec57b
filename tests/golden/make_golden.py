"""Write the reference files of every transfer syntax, with the pixels that others read in them.

Run by hand, once: it needs DCMTK (Debian: dcmtk) and PyAV. Tests read what it wrote and need
neither. Encoders and decoders were chosen so that the reference pixels come from an
implementation that mammoscope does not use: DCMTK's own JPEG, JPEG-LS and RLE, FFmpeg's own
JPEG 2000, OpenJPEG for what OpenJPH encoded.

    python tests/golden/make_golden.py
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import av
import cv2
import imagecodecs
import numpy as np
from pydicom import dcmread
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DigitalMammographyXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
)

OUT = Path(__file__).parent / "pixels"
DCMTK = "DCMTK"


def picture(bits: int, *, signed: bool = False) -> np.ndarray:
    """(61, 45) stored values: smooth tissue, noise, and both ends of the range."""
    rng = np.random.default_rng(bits)
    smooth = cv2.GaussianBlur(rng.random((61, 45)), (0, 0), 6)
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    top = (1 << bits) - 1
    values = np.clip(top * (0.1 + 0.7 * smooth) + rng.normal(0, top / 200, smooth.shape), 0, top)
    values[:4, :4], values[-4:, -4:] = 0, top
    unsigned = np.rint(values).astype(np.uint16)
    if signed:
        return (unsigned.astype(np.int32) - (1 << bits - 1)).astype(np.int16)
    return unsigned.astype(np.uint8) if bits <= 8 else unsigned


def write_native(path: Path, values: np.ndarray, bits: int) -> None:
    """Write an uncompressed file that every tool accepts."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalMammographyXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = UID(f"2.25.{7000 + bits}")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = UID("2.25.7001"), UID("2.25.7002")
    dataset.PatientID, dataset.Modality = "golden", "MG"
    dataset.ImageLaterality, dataset.ViewPosition = "L", "CC"
    dataset.Rows, dataset.Columns = values.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = 8 * values.dtype.itemsize
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    dataset.PixelRepresentation = int(values.dtype.kind == "i")
    data = values.tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset.save_as(path, enforce_file_format=True)


def dcmtk(*command: str) -> None:
    """Run one of DCMTK's tools."""
    subprocess.run(command, check=True, capture_output=True)


def read_with_dcmtk(path: Path, tool: str | None) -> np.ndarray:
    """Decode with DCMTK to a native file and read that one's plain bytes."""
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.dcm"
        dcmtk(tool or "dcmconv", *([] if tool else ["+te"]), str(path), str(plain))
        dataset = dcmread(plain)
        if dataset.file_meta.TransferSyntaxUID != ExplicitVRLittleEndian:
            dcmtk("dcmconv", "+te", str(plain), str(plain))
            dataset = dcmread(plain)
        kind = "u1" if dataset.BitsAllocated == 8 else "<u2"
        count = dataset.Rows * dataset.Columns
        values = np.frombuffer(dataset.PixelData, kind, count).reshape(dataset.Rows, -1)
        return values.view("<i2") if dataset.PixelRepresentation else values


def read_with_ffmpeg(path: Path, precision: int) -> np.ndarray:
    """Decode JPEG 2000 with FFmpeg's own decoder, which fills 16 bits."""
    frame = get_frame(dcmread(path).PixelData, 0, number_of_frames=1)
    codec = av.CodecContext.create("jpeg2000", "r")
    image = (codec.decode(av.Packet(frame)) + codec.decode(None))[0].to_ndarray()
    return image >> (16 - precision) if precision > 8 else image


def encapsulated(native: Path, path: Path, syntax: UID, stream: bytes) -> None:
    """Write a native file's header with another syntax's frame."""
    dataset = dcmread(native)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([stream])
    dataset["PixelData"].VR = "OB"
    dataset.save_as(path, enforce_file_format=True)


def main() -> None:
    """Write all files, ``expected.npz`` and ``index.json``."""
    OUT.mkdir(exist_ok=True)
    index: dict[str, dict[str, str | bool]] = {}
    expected: dict[str, np.ndarray] = {}

    def keep(name: str, encoder: str, decoder: str, values: np.ndarray, *, lossless: bool) -> None:
        syntax = dcmread(OUT / f"{name}.dcm", stop_before_pixels=True).file_meta.TransferSyntaxUID
        index[name] = {
            "transfer_syntax": str(syntax),
            "encoder": encoder,
            "decoder": decoder,
            "lossless": lossless,
        }
        expected[name] = values

    with tempfile.TemporaryDirectory() as folder:
        natives: dict[str, tuple[Path, np.ndarray]] = {}
        for key, bits, signed in (
            ("8", 8, False), ("12", 12, False), ("16", 16, False), ("12s", 12, True),
        ):  # fmt: skip
            values = picture(bits, signed=signed)
            natives[key] = (Path(folder) / f"{key}.dcm", values)
            write_native(natives[key][0], values, bits)
        for name, key, command, tool in (
            ("explicit_little_12", "12", ["dcmconv", "+te"], None),
            ("explicit_little_12s", "12s", ["dcmconv", "+te"], None),
            ("implicit_little_12", "12", ["dcmconv", "+ti"], None),
            ("explicit_big_12", "12", ["dcmconv", "+tb"], None),
            ("explicit_big_8", "8", ["dcmconv", "+tb"], None),
            ("deflated_12", "12", ["dcmconv", "+td"], None),
            ("rle_12", "12", ["dcmcrle"], "dcmdrle"),
            ("rle_8", "8", ["dcmcrle"], "dcmdrle"),
            ("jpeg_baseline_8", "8", ["dcmcjpeg", "+eb", "+q", "92"], "dcmdjpeg"),
            ("jpeg_extended_12", "12", ["dcmcjpeg", "+ee", "+q", "92"], "dcmdjpeg"),
            ("jpeg_lossless_12", "12", ["dcmcjpeg", "+el", "+sv", "4"], "dcmdjpeg"),
            ("jpeg_lossless_sv1_12", "12", ["dcmcjpeg", "+e1"], "dcmdjpeg"),
            ("jpeg_lossless_sv1_16", "16", ["dcmcjpeg", "+e1"], "dcmdjpeg"),
            ("jpegls_lossless_12", "12", ["dcmcjpls", "+el"], "dcmdjpls"),
            ("jpegls_near_12", "12", ["dcmcjpls", "+en", "+md", "3"], "dcmdjpls"),
        ):
            native, values = natives[key]
            dcmtk(*command, str(native), str(OUT / f"{name}.dcm"))
            read = read_with_dcmtk(OUT / f"{name}.dcm", tool)
            lossless = name not in ("jpeg_baseline_8", "jpeg_extended_12", "jpegls_near_12")
            assert not lossless or np.array_equal(read, values), name
            keep(name, DCMTK, DCMTK, read, lossless=lossless)
        for name, key, precision, syntax, options in (
            ("jpeg2000_lossless_12", "12", 12, JPEG2000Lossless, {"codecformat": "j2k"}),
            ("jpeg2000_lossless_16_jp2", "16", 16, JPEG2000Lossless, {"codecformat": "jp2"}),
            ("jpeg2000_lossy_12", "12", 12, JPEG2000, {"level": 55, "reversible": False}),
        ):
            native, values = natives[key]
            stream = imagecodecs.jpeg2k_encode(
                values,
                bitspersample=precision,
                resolutions=3,
                **{"level": 0, "reversible": True, **options},
            )
            encapsulated(native, OUT / f"{name}.dcm", syntax, bytes(stream))
            read = read_with_ffmpeg(OUT / f"{name}.dcm", precision)
            lossless = syntax == JPEG2000Lossless
            assert not lossless or np.array_equal(read, values), name
            keep(name, "OpenJPEG", "FFmpeg", read, lossless=lossless)
        for name, syntax, options in (
            ("htj2k_lossless_16", HTJ2KLossless, {"level": 0, "reversible": True}),
            ("htj2k_lossless_rpcl_16", HTJ2KLosslessRPCL, {"level": 0, "reversible": True}),
            ("htj2k_lossy_16", HTJ2K, {"level": 0.0005, "reversible": False}),
        ):
            native, values = natives["16"]
            stream = bytes(imagecodecs.htj2k_encode(values, resolutions=3, **options))
            encapsulated(native, OUT / f"{name}.dcm", syntax, stream)
            read = read_with_ffmpeg(OUT / f"{name}.dcm", 16)
            lossless = syntax != HTJ2K
            assert not lossless or np.array_equal(read, values), name
            keep(name, "OpenJPH", "FFmpeg", read, lossless=lossless)
    np.savez_compressed(OUT / "expected.npz", **expected)
    (OUT / "index.json").write_text(json.dumps(index, indent=1) + "\n")
    sys.stdout.write(f"{len(index)} files in {OUT}\n")


if __name__ == "__main__":
    main()
