"""Frozen configuration: defaults, then a YAML file, then ``--set key=value``.

Every model forbids unknown keys; an error names the key, what is accepted, and the
nearest valid name.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from mammoscope.errors import ConfigError

__all__ = [
    "AugmentConfig",
    "Config",
    "EvaluationConfig",
    "ModelConfig",
    "PreprocessConfig",
    "TrainConfig",
    "load_config",
    "resolved",
    "validated",
]


Model = TypeVar("Model", bound=BaseModel)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class PreprocessConfig(_Frozen):
    """From stored pixel values to network input; stored whole in every bundle."""

    height: Annotated[int, Field(ge=32, le=8192)] = Field(
        default=1024, description="Height of the network's input in pixels."
    )
    width: Annotated[int, Field(ge=32, le=8192)] = Field(
        default=512, description="Width of the network's input in pixels."
    )
    bits: Literal[8, 16] = Field(default=8, description="Depth of a grey value.")
    resolution: Literal["reduced", "full"] = Field(
        default="reduced",
        description="reduced decodes JPEG 2000 at the smallest of its resolutions whose crop still "
        "covers the network's input; full decodes everything.",
    )
    rescale: bool = Field(
        default=True, description="Apply the modality LUT or Rescale Slope and Intercept."
    )
    voi: Literal["auto", "lut", "window", "none"] = Field(
        default="auto",
        description="VOI transformation: auto is the VOI LUT, else the window, else none; none "
        "shows the whole range of values.",
    )
    voi_index: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Which of several windows or VOI LUTs, counted from 0."
    )
    photometric: bool = Field(
        default=True, description="Invert MONOCHROME1, so that tissue is bright."
    )
    inverted: Literal["correct", "refuse", "ignore"] = Field(
        default="correct",
        description="What to do with an image whose background is bright although its header "
        "says otherwise.",
    )
    orient: bool = Field(default=True, description="Mirror so that the chest wall is on the left.")
    crop: bool = Field(default=True, description="Crop to the breast; off keeps the whole image.")
    margin: Annotated[float, Field(ge=0, le=0.5)] = Field(
        default=0.02, description="Border kept around the breast, as a share of the crop's size."
    )
    mask: bool = Field(default=True, description="Blank what lies outside the breast.")
    normalise: Literal["window", "breast"] = Field(
        default="window",
        description="Which values become black and white: the ends of the VOI window, or those "
        "between which 99 % of the breast's pixels lie.",
    )
    resize: bool = Field(
        default=True,
        description="Fit to height and width; off keeps the crop's own size, for export to other "
        "tools.",
    )

    @property
    def max_value(self) -> int:
        """Largest grey value of the prepared image."""
        return (1 << self.bits) - 1


class ModelConfig(_Frozen):
    """The classifier: any timm backbone, one input channel, one heatmap, one logit."""

    backbone: str = Field(
        default="resnet18", description="A name of timm, or baseline_cnn, a small one of ours."
    )
    pretrained: bool = Field(default=True, description="ImageNet weights where they can be had.")
    weights: Path | None = Field(default=None, description="Local safetensors file of weights.")
    pool: Literal["avg", "max", "lse"] = Field(
        default="lse", description="How the map of local logits becomes the image's logit."
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.1, description="Share of feature channels dropped in training."
    )


class AugmentConfig(_Frozen):
    """Random changes of training images; 0 or false switches one off."""

    flip_vertical: bool = Field(default=True, description="Turn every other image upside down.")
    rotate_degrees: Annotated[float, Field(ge=0, le=180)] = Field(
        default=10.0, description="Angle drawn from both sides of 0 up to this."
    )
    scale: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.1, description="Zoom drawn from [1 - scale, 1 + scale]."
    )
    shift: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.05, description="Largest shift, as a share of height and width."
    )
    gamma: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.2, description="Exponent drawn from [1 - gamma, 1 + gamma]."
    )
    noise: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.0, description="Standard deviation of added Gaussian noise, in [0, 1] grey."
    )


class TrainConfig(_Frozen):
    """Optimisation."""

    epochs: Annotated[int, Field(ge=1)] = Field(
        default=30, description="Passes over the training images; the schedule ends with them."
    )
    batch_size: Annotated[int, Field(ge=1)] = Field(default=16, description="Images per step.")
    lr: Annotated[float, Field(gt=0)] = Field(default=3e-4, description="Peak learning rate.")
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        default=1e-2, description="AdamW's decay; norms and biases do not decay."
    )
    warmup: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.1, description="Share of all steps over which the rate rises to lr."
    )
    positive_weight: Literal["balanced"] | Annotated[float, Field(gt=0)] = Field(
        default="balanced",
        description="Weight of the positive term of the loss; balanced is negatives / positives.",
    )
    patience: Annotated[int, Field(ge=0)] = Field(
        default=10, description="Epochs without better validation AUROC before stopping; 0: never."
    )
    gradient_clip: Annotated[float, Field(ge=0)] = Field(
        default=1.0, description="Largest norm of the gradient; 0: not clipped."
    )
    ema: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0, description="Decay of an averaged copy of the weights; 0 keeps none."
    )
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "auto"] = Field(
        default="32-true",
        description="Number format of the step, in Lightning's words; auto is bf16-mixed where "
        "the processor computes in it, else 32-true.",
    )
    workers: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Processes that read images; 0 reads in the training process."
    )
    seed: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Of weights, order and augmentation."
    )
    label: str = Field(default="cancer", description="Column of the manifest that is learnt.")


class EvaluationConfig(_Frozen):
    """What the report measures."""

    operating_points: tuple[str, ...] = Field(
        default=("best_f1", "specificity=0.9"),
        description="Targets, chosen on validation images; the first is the primary one.",
    )
    bootstrap: Annotated[int, Field(ge=0)] = Field(
        default=1000, description="Patient-clustered bootstrap replicates for the intervals."
    )
    confidence: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.95, description="Level of all intervals."
    )
    seed: Annotated[int, Field(ge=0)] = Field(default=0, description="Of the bootstrap.")

    @field_validator("operating_points")
    @classmethod
    def _known_targets(cls, targets: tuple[str, ...]) -> tuple[str, ...]:
        if not targets:
            raise ValueError("at least one operating point is needed")
        for target in targets:
            name, separator, value = target.partition("=")
            if target == "best_f1":
                continue
            if name not in ("specificity", "sensitivity") or not separator:
                raise ValueError(
                    f"{target!r} is not one of best_f1, specificity=VALUE, sensitivity=VALUE"
                )
            if not 0 < float(value) < 1:
                raise ValueError(f"{target!r}: the value lies between 0 and 1")
        return targets


class Config(_Frozen):
    """Everything that ``train`` and ``evaluate`` obey; ``run.json`` keeps it resolved."""

    model: ModelConfig = ModelConfig()
    augment: AugmentConfig = AugmentConfig()
    train: TrainConfig = TrainConfig()
    evaluation: EvaluationConfig = EvaluationConfig()


def load_config(path: Path | None = None, overrides: Iterable[str] = ()) -> Config:
    """Resolve the configuration of ``train`` and ``evaluate``, as :func:`resolved` does."""
    return resolved(Config, path, overrides)


def resolved(model: type[Model], path: Path | None = None, overrides: Iterable[str] = ()) -> Model:
    """Resolve the configuration: defaults, then a YAML file, then overrides.

    Args:
        model: What to build: :class:`Config`, or the model of one stage.
        path: A YAML file with any of the keys of the model.
        overrides: Items such as ``train.lr=3e-4``; the value is read as YAML.

    Raises:
        ConfigError: If the file cannot be read, or a key or value is not accepted.
    """
    values = _read_yaml(path) if path is not None else {}
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key.strip():
            raise ConfigError(f"--set {override!r} is not of the form key=value")
        _assign(values, key.strip().split("."), _parse_value(text), override)
    return validated(model, values)


def validated(model: type[Model], values: Any, where: str = "") -> Model:
    """Build a configuration model, turning every fault into one :class:`ConfigError`.

    Args:
        model: The pydantic model.
        values: What was read.
        where: Where the values come from, for the message.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = [_sentence(model, dict(item)) for item in error.errors()]
        prefix = f"{where}: " if where else ""
        raise ConfigError(prefix + "; ".join(lines)) from error


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds a {type(values).__name__}, not a mapping of sections")
    return values


def _parse_value(text: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    # YAML 1.1 reads 3e-4 as a string; people who type it mean the number.
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _assign(values: dict[str, Any], keys: list[str], value: Any, override: str) -> None:
    target = values
    for key in keys[:-1]:
        target = target.setdefault(key, {})
        if not isinstance(target, dict):
            raise ConfigError(f"--set {override!r}: {key} is a value, not a section")
    target[keys[-1]] = value


def _sentence(model: type[BaseModel], error: dict[str, Any]) -> str:
    location = [str(part) for part in error["loc"]]
    key = ".".join(location) or "(root)"
    if error["type"] == "extra_forbidden":
        names = _names_at(model, location[:-1])
        near = difflib.get_close_matches(location[-1], names, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else "."
        return f"unknown key {key}{hint} Accepted here: {', '.join(names)}"
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{key}: {message} (found {error.get('input')!r})"


def _names_at(model: type[BaseModel], location: list[str]) -> list[str]:
    current: type[BaseModel] = model
    for part in location:
        field = current.model_fields.get(part)
        candidates = [field.annotation, *get_args(field.annotation)] if field else []
        nested = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        if not nested:
            return []
        current = nested[0]
    return list(current.model_fields)
