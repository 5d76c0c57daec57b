"""Prepared images on disk: one safetensors file each, pixels and geometry together.

One file per image is what makes ``prepare`` resumable: it appears whole, by rename,
or not at all. Safetensors maps from disk without a copy and holds no code.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from mammoscope.artefacts import canonical_json, read_json, write_atomically
from mammoscope.cohort.manifest import read_manifest, read_rejects
from mammoscope.cohort.splits import read_splits
from mammoscope.config import PreprocessConfig, validated
from mammoscope.errors import CohortError
from mammoscope.preprocessing import Geometry, PreparedImage
from mammoscope.types import GreyImage

__all__ = ["PreparedStore", "write_prepared"]

_SUFFIX = ".safetensors"
_FACTS = "prepared"


def write_prepared(images: Path, image_id: str, prepared: PreparedImage) -> Path:
    """Write one prepared image; the file appears whole or not at all."""
    path = images / f"{image_id}{_SUFFIX}"
    facts = {
        "geometry": prepared.geometry.as_dict(),
        "breast_fraction": prepared.breast_fraction,
        "warnings": prepared.warnings,
    }
    # One key: safetensors writes several in an order of its own, and equal images are to give
    # equal bytes.
    metadata = {_FACTS: canonical_json(facts)}
    data = save({"pixels": np.ascontiguousarray(prepared.pixels)}, metadata)
    with write_atomically(path) as temporary:
        # Written by Python: safetensors' own error of a full disk is no OSError.
        temporary.write_bytes(data)
    return path


class PreparedStore:
    """The prepared images of a cohort.

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
        return (path.name.removesuffix(_SUFFIX) for path in sorted(self.images.glob(f"*{_SUFFIX}")))

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
