"""What ``train`` and ``evaluate`` obey."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from mammoscope.config.anomaly import AnomalyConfig
from mammoscope.config.augmentation import AugmentConfig
from mammoscope.config.detection import DetectionConfig
from mammoscope.config.evaluation import EvaluationConfig
from mammoscope.config.exporting import ExportConfig
from mammoscope.config.lesions import LesionsConfig
from mammoscope.config.loading import Frozen, load_settings
from mammoscope.config.segmentation import SegmentConfig
from mammoscope.config.stages import StagesConfig
from mammoscope.config.tracking import TrackingConfig
from mammoscope.errors import ConfigError

__all__ = [
    "AuxiliaryName",
    "Config",
    "ModelConfig",
    "Task",
    "TrainConfig",
    "check_many",
    "load_config",
]


#: What a network can be asked beside its label: columns of the manifest.
AuxiliaryName = Literal[
    "site_id", "laterality", "view", "implant", "biopsy", "invasive", "birads", "density",
    "difficult_negative_case", "machine_id", "age",
]  # fmt: skip


#: What a network can be trained for.
Task = Literal["classify", "segment", "segment-then-classify", "detect", "anomaly"]


class ModelConfig(Frozen):
    """The classifier: any timm backbone, one input channel, one heatmap, one logit."""

    level: Literal["image", "breast", "exam"] = Field(
        default="image",
        description="What is scored: each image by itself, a breast from all its views, or an "
        "exam from both breasts.",
    )
    facts: tuple[Literal["age", "density", "implant"], ...] = Field(
        default=(), description="What an exam model is told beside the images, where it is known."
    )
    backbone: str = Field(
        default="resnet18",
        description="A name of timm, or baseline_cnn or residual_cnn, small ones of ours.",
    )
    pretrained: bool = Field(default=True, description="ImageNet weights where they can be had.")
    weights: Path | None = Field(
        default=None,
        description="Local safetensors file of weights, or the folder of a run of all folds, each "
        "of which then starts from its own.",
    )
    weights_prepared: Literal["alike", "any"] = Field(
        default="alike",
        description="Whether weights of a run must have learnt from images prepared like these, "
        "their size aside.",
    )
    weights_held_out: Literal["unseen", "any"] = Field(
        default="unseen",
        description="Whether weights of a run must not have learnt from images that are held out "
        "here: those of the fold that validates, or of the test split.",
    )
    shrink: Annotated[int, Field(ge=1)] = Field(
        default=1,
        description="How many times smaller the backbone sees the image, each way; above 1 a small "
        "network of ours looks at all pixels beside it.",
    )
    pool: Literal["avg", "max", "lse", "attention"] = Field(
        default="lse",
        description="How the map of local logits becomes the image's logit; attention pools where "
        "a second map says that a lesion is (train.lesion_weight).",
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.1, description="Share of feature channels dropped in training."
    )
    drop_path: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0,
        description="Largest share of residual paths skipped in training, of the deepest block; "
        "not every backbone has it.",
    )
    head: tuple[Literal["conv", "residual"], ...] = Field(
        default=(),
        description="Layers of 3 x 3 convolutions between the backbone and the map of local "
        "logits, in order.",
    )
    test_flips: tuple[Literal["vertical", "horizontal"], ...] = Field(
        default=(),
        description="Ways in which an image is turned and scored again, outside training; its "
        "score is of the mean logit, and each way costs as much as the image itself.",
    )
    auxiliary: tuple[AuxiliaryName, ...] = Field(
        default=(),
        description="Columns that further heads learn to tell, in training only; an image whose "
        "value is unknown teaches them nothing.",
    )

    @model_validator(mode="after")
    def _told_to_exams(self) -> ModelConfig:
        if self.facts and self.level != "exam":
            raise ValueError(
                f"facts={list(self.facts)} are told to exam models only: level is {self.level}"
            )
        return self

    @model_validator(mode="after")
    def _turns_images(self) -> ModelConfig:
        if self.test_flips and self.level != "image":
            raise ValueError(
                f"test_flips={list(self.test_flips)} are of image models: level is {self.level}"
            )
        return self

    @field_validator("auxiliary", "test_flips")
    @classmethod
    def _each_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} more than once")
        return names


class TrainConfig(Frozen):
    """Optimisation."""

    epochs: Annotated[int, Field(ge=1)] = Field(
        default=30, description="Passes over the training images; the schedule ends with them."
    )
    batch_size: Annotated[int, Field(ge=1)] = Field(
        default=16, description="Images per step; breasts or exams for a model of that level."
    )
    most_views: Annotated[int, Field(ge=1)] = Field(
        default=8,
        description="Images of a breast or exam that a step shows at most; of more, others in "
        "each epoch.",
    )
    image_weight: Annotated[float, Field(ge=0)] = Field(
        default=0.5,
        description="Weight of the images' own loss beside that of the breast or exam.",
    )
    lr: Annotated[float, Field(gt=0)] = Field(default=3e-4, description="Peak learning rate.")
    optimizer: Literal["adamw", "adam", "sgd"] = Field(
        default="adamw", description="How gradients become steps."
    )
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.9, description="Of sgd; the others have their own."
    )
    nesterov: bool = Field(default=False, description="Nesterov's form of sgd's momentum.")
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        default=1e-2, description="Decay of weights; norms and biases do not decay."
    )
    layer_decay: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0,
        description="Learning rate of each layer as a share of that of the layer after it; 1 is "
        "one rate for all.",
    )
    frozen_epochs: Literal["all"] | Annotated[int, Field(ge=0)] = Field(
        default=0, description="First epochs in which frozen_part stays as it is, or all."
    )
    frozen_part: Literal["backbone", "image_model"] = Field(
        default="backbone",
        description="What stays as it is in frozen epochs: the backbone, or, of a breast or exam "
        "model that starts from an image model, all that looks at single images.",
    )
    accumulate: Annotated[int, Field(ge=1)] = Field(
        default=1, description="Batches whose gradients make one step."
    )
    gradient_checkpointing: bool = Field(
        default=False,
        description="Compute the backbone's activations twice instead of keeping them.",
    )
    warmup: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.1, description="Share of all steps over which the rate rises to lr."
    )
    positive_weight: Literal["balanced"] | Annotated[float, Field(gt=0)] = Field(
        default="balanced",
        description="Weight of the positive term of the loss; balanced is negatives over "
        "positives, as they are drawn.",
    )
    loss: Literal["bce", "focal"] = Field(
        default="bce", description="Binary cross-entropy, or its focal form."
    )
    focal_gamma: Annotated[float, Field(ge=0)] = Field(
        default=2.0, description="How much the focal loss forgets what is already right."
    )
    soft_positive: Annotated[float, Field(gt=0.5, le=1)] = Field(
        default=1.0, description="What the loss asks of positive images; below 1 doubts labels."
    )
    sampling: Literal["all", "undersample", "oversample"] = Field(
        default="all",
        description="Show every image once an epoch, or draw fewer negatives or more positives, "
        "anew each epoch.",
    )
    negatives_per_positive: Annotated[float, Field(gt=0)] = Field(
        default=3.0, description="What under- and oversampling bring the classes to."
    )
    keep_negatives: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None,
        description="Share of the negatives that undersampling shows, in place of "
        "negatives_per_positive.",
    )
    positives_per_batch: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Positive images that each batch has at least."
    )
    patience: Annotated[int, Field(ge=0)] = Field(
        default=10,
        description="Epochs without a better validation measure (AUROC of classifiers) before "
        "stopping; 0: never.",
    )
    gradient_clip: Annotated[float, Field(ge=0)] = Field(
        default=1.0, description="Largest norm of the gradient; 0: not clipped."
    )
    ema: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0, description="Decay of an averaged copy of the weights; 0 keeps none."
    )
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "auto"] = Field(
        default="auto",
        description="Number format of the step, in Lightning's words; auto is bf16-mixed where "
        "the processor computes in it, else 32-true, and a run records which.",
    )
    workers: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Processes that read images; 0 reads in the training process."
    )
    devices: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        default=1,
        description="Processors of each machine that train, in Lightning's words; batch_size is "
        "that of each.",
    )
    nodes: Annotated[int, Field(ge=1)] = Field(default=1, description="Machines that train.")
    strategy: str = Field(
        default="auto", description="How they share the work: ddp, fsdp or another of Lightning's."
    )
    seed: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Of weights, order and augmentation."
    )
    label: str = Field(default="cancer", description="Column of the manifest that is learnt.")
    auxiliary_weight: Annotated[float, Field(ge=0)] = Field(
        default=0.1, description="Weight of each auxiliary loss beside that of the label."
    )
    lesion_weight: Annotated[float, Field(ge=0)] = Field(
        default=0.0,
        description="Weight of a loss that teaches model.pool=attention where known lesions are; "
        "images of which nobody says it teach nothing.",
    )

    @property
    def is_shared(self) -> bool:
        """Whether several processes train one network together."""
        return self.devices != 1 or self.nodes != 1

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.nesterov and (self.optimizer != "sgd" or self.momentum == 0):
            raise ValueError("nesterov=true needs optimizer=sgd and a momentum above 0")
        if self.keep_negatives is not None and self.sampling != "undersample":
            raise ValueError("keep_negatives needs sampling=undersample")
        if self.frozen_part != "backbone" and self.frozen_epochs == 0:
            raise ValueError(f"frozen_part={self.frozen_part} needs frozen_epochs")
        if self.positives_per_batch > self.batch_size:
            raise ValueError(
                f"positives_per_batch={self.positives_per_batch} of a batch_size of "
                f"{self.batch_size}: a batch cannot hold them"
            )
        return self


class Config(Frozen):
    """Everything that ``train`` and ``evaluate`` obey; ``run.json`` keeps it resolved."""

    task: Task = Field(default="classify", description="What the network is trained for.")
    model: ModelConfig = ModelConfig()
    augment: AugmentConfig = AugmentConfig()
    train: TrainConfig = TrainConfig()
    lesions: LesionsConfig = LesionsConfig()
    segment: SegmentConfig = SegmentConfig()
    stages: StagesConfig = StagesConfig()
    detect: DetectionConfig = DetectionConfig()
    anomaly: AnomalyConfig = AnomalyConfig()
    export: ExportConfig = ExportConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    tracking: TrackingConfig = TrackingConfig()

    @property
    def weights_key(self) -> str:
        """The setting that names the weights from which the task's network starts."""
        own = {"segment": "segment", "detect": "detect", "anomaly": "anomaly"}
        return f"{own.get(self.task, 'model')}.weights"

    @property
    def weights(self) -> Path | None:
        """The file that it names, or the folder of a run of all folds."""
        section = getattr(self, self.weights_key.partition(".")[0])
        named: Path | None = section.weights
        return named

    @model_validator(mode="after")
    def _attends_to_lesions(self) -> Self:
        if self.train.lesion_weight and self.model.pool != "attention":
            raise ValueError(
                f"train.lesion_weight={self.train.lesion_weight:g} teaches model.pool=attention; "
                f"the pool is {self.model.pool}"
            )
        return self

    @model_validator(mode="after")
    def _asks_no_label_twice(self) -> Self:
        if self.train.label in self.model.auxiliary:
            raise ValueError(f"model.auxiliary names {self.train.label}, which is train.label")
        return self

    @model_validator(mode="after")
    def _measures_distances(self) -> Self:
        if self.task == "anomaly" and self.export.precision != "float32":
            raise ValueError(
                f"export.precision={self.export.precision}: an anomaly score is a sum of small "
                "differences, which it has too few digits for"
            )
        return self

    @model_validator(mode="after")
    def _judges_breasts_once(self) -> Self:
        level = self.model.level
        if self.evaluation.breast_score != "mean" and level != "image":
            raise ValueError(
                f"evaluation.breast_score={self.evaluation.breast_score} is of image models: a "
                f"model of level {level} scores breasts itself"
            )
        return self


def check_many(config: Config, verb: str, *, tracks: bool = False) -> None:
    """Check that what trains many networks is not asked for what single runs alone can do.

    Args:
        config: Of one of the networks.
        verb: What trains them.
        tracks: Whether it can write them down together.

    Raises:
        ConfigError: If it is no classifier, is to be tracked, or to train on several devices.
    """
    if config.task != "classify":
        raise ConfigError(
            f"{verb} is of classifiers: task={config.task} is trained by a plain mammoscope train"
        )
    if config.tracking.enabled and not tracks:
        raise ConfigError(f"tracking is of single runs: {verb} without it (tracking.enabled=false)")
    if config.train.is_shared:
        raise ConfigError(
            f"{verb} uses one device: set train.devices=1 and train.nodes=1, or train a single "
            "network with mammoscope train"
        )


def load_config(path: Path | None = None, overrides: Iterable[str] = ()) -> Config:
    """Resolve the configuration of a run; see :func:`load_settings`."""
    return load_settings(Config, path, overrides)
