"""Networks: one contract, one registry."""

from mammoscope.models import torchvision_compat

# Before the first import of timm, which imports torchvision.
torchvision_compat.install()

from mammoscope.models.backbones import BASELINES  # noqa: E402
from mammoscope.models.classifier import Classifier, ClassifierOutput  # noqa: E402
from mammoscope.models.registry import build_classifier, check_backbone  # noqa: E402

__all__ = ["BASELINES", "Classifier", "ClassifierOutput", "build_classifier", "check_backbone"]
