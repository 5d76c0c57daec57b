"""Networks: one contract, one registry."""

from mammoscope.models import torchvision_compat

# Before the first import of timm, which imports torchvision.
torchvision_compat.install()

from mammoscope.models.backbones import BASELINES  # noqa: E402
from mammoscope.models.classifier import Classifier, ClassifierOutput  # noqa: E402
from mammoscope.models.cutout import CutoutClassifier, CutoutGraph  # noqa: E402
from mammoscope.models.multiview import (  # noqa: E402
    MultiViewClassifier,
    MultiViewGraph,
    MultiViewOutput,
    Views,
)
from mammoscope.models.registry import (  # noqa: E402
    build_backbone,
    build_classifier,
    build_multiview,
    check_backbone,
)
from mammoscope.models.segmenter import Segmenter, build_segmenter, check_segmenter  # noqa: E402

__all__ = [
    "BASELINES",
    "Classifier",
    "ClassifierOutput",
    "CutoutClassifier",
    "CutoutGraph",
    "MultiViewClassifier",
    "MultiViewGraph",
    "MultiViewOutput",
    "Segmenter",
    "Views",
    "build_backbone",
    "build_classifier",
    "build_multiview",
    "build_segmenter",
    "check_backbone",
    "check_segmenter",
]
