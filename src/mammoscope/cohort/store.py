"""Prepared images on disk: one file each, for training or for the eye and other tools.

One file per image is what makes ``prepare`` resumable: it appears whole, by rename,
or not at all. The training store is safetensors, pixels and geometry together, which maps
from disk without a copy and holds no code. PNG and JPEG have their facts in a JSON file
beside them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from mammoscope.artefacts import canonical_json, read_json, write_atomically, write_json
from mammoscope.cohort.manifest import read_manifest, read_rejects
from mammoscope.cohort.splits import read_splits
from mammoscope.config import PreprocessConfig, validated
from mammoscope.errors import CohortError
from mammoscope.preprocessing import Geometry, PreparedImage
from mammoscope.types import GreyImage

__all__ = [
    "FORMATS",
    "PreparedStore",
    "prepared_names",
    "stage_of",
    "whole_names",
    "write_picture",
    "write_prepared",
]

#: Formats of prepared images: the folder in the cohort, and the files' suffix.
FORMATS: dict[str, tuple[str, str]] = {
    "store": ("images", ".safetensors"),
    "png": ("images-png", ".png"),
    "jpeg": ("images-jpeg", ".jpg"),
}
_SUFFIX = FORMATS["store"][1]
_FACTS = "prepared"
_FACT_COLUMNS = {
    "breast_fraction": pl.Float64(),
    "kept_fraction": pl.Float64(),
    "borders": pl.String(),
    "quality": pl.Float64(),
    "decoder": pl.String(),
    "reduction": pl.Int64(),
    "warnings": pl.String(),
}
_ENCODING = {
    "png": [cv2.IMWRITE_PNG_COMPRESSION, 3],
    "jpeg": [cv2.IMWRITE_JPEG_QUALITY, 95],
}


def stage_of(file_format: str) -> str:
    """Name the stage in ``rejects.csv``: what one format refuses says nothing of another."""
    return "prepare" if file_format == "store" else f"prepare-{file_format}"


def prepared_names(images: Path, file_format: str) -> set[str]:
    """Return the image_id of every image that a folder holds."""
    suffix = FORMATS[file_format][1]
    return {path.name.removesuffix(suffix) for path in images.glob(f"*{suffix}")}


def whole_names(images: Path, file_format: str) -> set[str]:
    """Return the image_id of every image that a folder holds, but for cut files of the store."""
    names = prepared_names(images, file_format)
    if file_format != "store":
        return names
    return {name for name in names if _is_whole(images / f"{name}{_SUFFIX}")}


def _is_whole(path: Path) -> bool:
    """Say whether a file is as long as its head says, without reading pixels."""
    try:
        with safe_open(path, framework="numpy"):
            return True
    except (SafetensorError, OSError):
        return False


def write_picture(images: Path, image_id: str, prepared: PreparedImage, file_format: str) -> Path:
    """Write one prepared image as PNG or (8 bits only) JPEG, and its facts as JSON before it."""
    path = images / f"{image_id}{FORMATS[file_format][1]}"
    data = cv2.imencode(path.suffix, prepared.pixels, _ENCODING[file_format])[1].tobytes()
    # The picture's appearance says that the image is done, so its facts come first.
    write_json(images / f"{image_id}.facts.json", _facts(prepared))
    with write_atomically(path) as temporary:
        temporary.write_bytes(data)
    return path


def _facts(prepared: PreparedImage) -> dict[str, Any]:
    return {
        "geometry": prepared.geometry.as_dict(),
        "breast_fraction": prepared.breast_fraction,
        "kept_fraction": prepared.kept_fraction,
        "borders": ",".join(prepared.borders),
        "quality": prepared.quality,
        "decoder": prepared.decoder,
        "reduction": prepared.reduction,
        "warnings": list(prepared.warnings),
    }


def write_prepared(images: Path, image_id: str, prepared: PreparedImage) -> Path:
    """Write one prepared image to the store; the file appears whole or not at all."""
    path = images / f"{image_id}{_SUFFIX}"
    # One key: safetensors writes several in an order of its own, and equal images are to give
    # equal bytes.
    metadata = {_FACTS: canonical_json(_facts(prepared))}
    data = save({"pixels": np.ascontiguousarray(prepared.pixels)}, metadata)
    with write_atomically(path) as temporary:
        # Written by Python: safetensors' own error of a full disk is no OSError.
        temporary.write_bytes(data)
    return path


class PreparedStore:
    """The prepared images of a cohort, as training reads them.

    Args:
        cohort: The cohort folder.

    Raises:
        CohortError: If the cohort has not been prepared.
    """

    def __init__(self, cohort: Path) -> None:
        self.cohort = Path(cohort)
        self.images = self.cohort / "images"
        marker = self.images / "prepare.json"
        if not marker.is_file():
            raise CohortError(f"{marker} is missing: run mammoscope prepare first")
        values = read_json(marker, CohortError)
        self.config = validated(PreprocessConfig, values.get("preprocess"), str(marker))

    def __contains__(self, image_id: str) -> bool:
        return (self.images / f"{image_id}{_SUFFIX}").is_file()

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(prepared_names(self.images, "store")))

    def read(self, image_id: str) -> GreyImage:
        """Return the pixels of one image, (H, W) uint8 or uint16.

        Raises:
            CohortError: If it was not prepared, or its file is damaged.
        """
        with self._open(image_id) as file:
            pixels: GreyImage = file.get_tensor("pixels")
        return pixels

    def read_geometry(self, image_id: str) -> Geometry:
        """Return the geometry of one image without reading its pixels."""
        with self._open(image_id) as file:
            return Geometry.from_dict(json.loads(file.metadata()[_FACTS])["geometry"])

    def read_breast_px(self, image_id: str) -> float:
        """Return how many pixels of the original are breast, without reading pixels."""
        with self._open(image_id) as file:
            facts = json.loads(file.metadata()[_FACTS])
        whole = facts["geometry"]["original_height"] * facts["geometry"]["original_width"]
        return float(facts["breast_fraction"] * whole)

    def facts(self) -> pl.DataFrame:
        """Return what ``prepare`` found out about each image, without reading pixels.

        Returns:
            A row per prepared image with ``image_id``, ``breast_fraction``,
            ``kept_fraction``, ``borders`` (joined by commas), ``quality``, ``decoder``,
            ``reduction`` and ``warnings`` (sentences joined by ``"; "``).
        """
        rows = []
        for image_id in self:
            with self._open(image_id) as file:
                facts = json.loads(file.metadata()[_FACTS])
            facts["warnings"] = "; ".join(facts["warnings"])
            rows.append({"image_id": image_id, **{key: facts[key] for key in _FACT_COLUMNS}})
        return pl.DataFrame(rows, schema={"image_id": pl.String(), **_FACT_COLUMNS})

    def _open(self, image_id: str) -> Any:
        path = self.images / f"{image_id}{_SUFFIX}"
        try:
            return safe_open(path, framework="numpy")
        except FileNotFoundError as error:
            raise CohortError(
                f"image {image_id} is not prepared: run mammoscope prepare"
            ) from error
        except (SafetensorError, OSError) as error:
            raise CohortError(f"{path} is damaged: {error}; delete it and prepare again") from error

    def rows(self) -> pl.DataFrame:
        """Return manifest and splits joined, for every image that was prepared.

        Images that ``prepare`` refused are left out: they stand in ``rejects.csv``.

        Raises:
            CohortError: If an image is neither prepared nor refused, or has no split.
        """
        refused = [r.image_id for r in read_rejects(self.cohort) if r.stage == "prepare"]
        manifest = read_manifest(self.cohort).filter(~pl.col("image_id").is_in(refused))
        there = set(self)
        missing = [name for name in manifest["image_id"] if name not in there]
        if missing:
            raise CohortError(
                f"{len(missing)} of {manifest.height} images are not prepared, "
                f"{missing[0]} first: run mammoscope prepare again to finish"
            )
        splits = read_splits(self.cohort).select("image_id", "split", "fold")
        joined = manifest.drop("split").join(splits, on="image_id", how="left", validate="1:1")
        unsplit = joined.filter(pl.col("split").is_null())
        if unsplit.height:
            raise CohortError(
                f"{unsplit.height} images have no split: run mammoscope split --overwrite again"
            )
        return joined
