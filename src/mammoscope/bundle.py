"""What is deployed: ``bundle.json`` and ``model.onnx``, hashed, without a line of code in them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from mammoscope.artefacts import (
    read_json,
    sha256_file,
    sha256_json,
    write_atomically,
    write_json,
)
from mammoscope.config import EligibilityConfig, PreprocessConfig, validated
from mammoscope.errors import BundleError, ConfigError

__all__ = ["FORMAT_VERSION", "Bundle", "OperatingPoint", "read_bundle", "write_bundle"]

FORMAT_VERSION = 2
MODEL_FILE = "model.onnx"
BUNDLE_FILE = "bundle.json"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Estimate(_Part):
    """A measured value with its interval; ``None`` where it is undefined."""

    value: float | None
    low: float | None
    high: float | None


class Choice(_Part):
    """How far a threshold moves when patients are drawn anew, and how much it flatters itself."""

    replicates: int
    low: float | None
    high: float | None
    optimism: float | None


class OperatingPoint(_Part):
    """A threshold, the target that chose it, and what it measured on the validation images."""

    name: str
    target: str
    threshold: float
    confidence: float
    sensitivity: Estimate
    specificity: Estimate
    precision: Estimate
    f1: Estimate
    recall_rate: Estimate | None = None
    choice: Choice | None = None


class OperatingPoints(_Part):
    """Operating points by level; ``primary`` names the one that decides *suspicious*."""

    primary: str
    image: tuple[OperatingPoint, ...]
    breast: tuple[OperatingPoint, ...]

    def threshold(self, level: Literal["image", "breast"]) -> float:
        """Return the primary threshold of a level."""
        points = self.image if level == "image" else self.breast
        return next(point.threshold for point in points if point.name == self.primary)


class InputContract(_Part):
    """What the graph takes: float32 (B, 1, H, W) grey values as the preprocessor makes them."""

    name: Literal["image"] = "image"
    dtype: Literal["float32"] = "float32"
    preprocess: PreprocessConfig


class OutputContract(_Part):
    """What the graph gives, by output name."""

    logit: str = "(B,) float32, before the sigmoid"
    score: str = "(B,) float32 in [0, 1]"
    heatmap: str = "(B, h, w) float32 in [0, 1], covering the input's field of view"
    local_score: str = (
        "(B, h, w) float32 in [0, 1], the heatmap on the scale of the score; where the graph "
        "lacks it the two are one"
    )


class Bundle(_Part):
    """Everything that ``bundle.json`` says."""

    format_version: Literal[2] = 2
    kind: Literal["bundle"] = "bundle"
    name: str
    package_version: str
    synthetic: bool
    intended_use: str
    input: InputContract
    output: OutputContract = OutputContract()
    aggregation: dict[str, str] = {
        "breast": "mean of the image scores",
        "exam": "maximum of the breast scores",
    }
    calibration: dict[str, Any] = {"method": "none"}
    eligibility: EligibilityConfig
    operating_points: OperatingPoints
    reference: dict[str, Any] = {}
    training: dict[str, Any] = {}
    hashes: dict[str, str]

    @property
    def sha256(self) -> str:
        """Digest of all that is said here, the model's hash included: the bundle's identity."""
        return sha256_json(self.model_dump(mode="json"))


def write_bundle(folder: Path, model: Path, **fields: Any) -> Bundle:
    """Copy the model into a folder and write ``bundle.json`` beside it.

    Args:
        folder: An empty folder.
        model: The ONNX file.
        **fields: All of :class:`Bundle` but ``hashes``.
    """
    folder = Path(folder)
    with write_atomically(folder / MODEL_FILE) as temporary:
        shutil.copyfile(model, temporary)
    hashes = {MODEL_FILE: sha256_file(folder / MODEL_FILE)}
    bundle = validated(Bundle, {**fields, "hashes": hashes}, str(folder))
    values = bundle.model_dump(mode="json")
    write_json(folder / BUNDLE_FILE, {**values, "content_sha256": bundle.sha256})
    return bundle


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle and check every hash.

    Raises:
        BundleError: If a file is missing, edited (which file, which hash), or of another format.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise BundleError(f"{folder} is not a folder; a bundle is a folder with {BUNDLE_FILE}")
    values = read_json(folder / BUNDLE_FILE, BundleError)
    if values.get("kind") != "bundle" or values.get("format_version") != FORMAT_VERSION:
        raise BundleError(
            f"{folder}/{BUNDLE_FILE} is of kind {values.get('kind')!r}, format "
            f"{values.get('format_version')!r}; this version reads bundle format {FORMAT_VERSION}"
        )
    declared = values.pop("content_sha256", None)
    found = sha256_json(values)
    if declared != found:
        raise BundleError(
            f"{folder}/{BUNDLE_FILE} was edited: its SHA-256 is {found}, it declares {declared}"
        )
    try:
        bundle = validated(Bundle, values, f"{folder}/{BUNDLE_FILE}")
    except ConfigError as error:
        raise BundleError(str(error)) from error
    for name, expected in bundle.hashes.items():
        path = folder / name
        if not path.is_file():
            raise BundleError(f"{path} is missing")
        actual = sha256_file(path)
        if actual != expected:
            raise BundleError(f"{path} was edited: its SHA-256 is {actual}, not {expected}")
    return bundle
