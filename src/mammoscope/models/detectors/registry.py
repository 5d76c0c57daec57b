"""From a configuration to a detector: one registry, walked by one contract test."""

from __future__ import annotations

from collections.abc import Callable

from mammoscope.config import DetectionConfig, DetectorName
from mammoscope.errors import ConfigError
from mammoscope.models.detectors.anchored import (
    FcosDetector,
    RetinaNetDetector,
    SsdDetector,
)
from mammoscope.models.detectors.centre import CentreDetector
from mammoscope.models.detectors.contract import Detector, DetectorSpec
from mammoscope.models.detectors.pyramid import pyramid
from mammoscope.models.detectors.two_stage import FasterRcnnDetector
from mammoscope.models.detectors.weights import load_detector_weights

__all__ = ["DETECTORS", "build_detector"]

#: Builds a detector; gives it with sentences that a user should read.
Builder = Callable[[DetectorSpec], tuple[Detector, list[str]]]
_OnPyramid = (
    type[CentreDetector]
    | type[FasterRcnnDetector]
    | type[RetinaNetDetector]
    | type[FcosDetector]
    | type[SsdDetector]
)


def build_detector(
    config: DetectionConfig, *, kinds: int, size: tuple[int, int], max_value: int
) -> tuple[Detector, list[str]]:
    """Build the detector that a configuration names.

    Args:
        config: Which detector, backbone and weights.
        kinds: How many kinds of lesion are told apart.
        size: (H, W) of the images or tiles that it sees.
        max_value: Largest grey value of the input.

    Returns:
        The detector, and sentences that a user should read (weights that could not be had).

    Raises:
        ConfigError: If the backbone is unknown or gives no such maps, the size cannot be halved as
            often as needed, or an extra is not installed.
        RunError: If a weights file does not fit; the keys are given.
    """
    detector, notes = DETECTORS[config.name](DetectorSpec(config, kinds, size, max_value))
    if config.weights is not None:
        notes = [*notes, *load_detector_weights(detector, config.weights)]
    return detector, notes


def _on_pyramid(made: _OnPyramid) -> Builder:
    def build(spec: DetectorSpec) -> tuple[Detector, list[str]]:
        body, notes = pyramid(spec)
        return made(body, spec), notes

    return build


def _transformer(spec: DetectorSpec) -> tuple[Detector, list[str]]:
    try:
        import transformers  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "detect.name=rt_detr_v2 needs transformers (Apache-2.0), which is not installed: "
            "pip install 'mammoscope[detr]'"
        ) from error
    from mammoscope.models.detectors.transformer import build_rt_detr

    return build_rt_detr(spec)


def _yolo(spec: DetectorSpec) -> tuple[Detector, list[str]]:
    try:
        import ultralytics  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"detect.name={spec.config.name} needs ultralytics, which is not installed. It is "
            "licensed under the AGPL-3.0, which asks of whoever serves it, or distributes it, to "
            "give the source of the whole under that licence; mammoscope itself never needs it. "
            "If that suits: pip install 'mammoscope[yolo]'"
        ) from error
    from mammoscope.models.detectors.yolo import build_yolo

    return build_yolo(spec)


#: Detectors by the name that ``detect.name`` gives.
DETECTORS: dict[DetectorName, Builder] = {
    "centre": _on_pyramid(CentreDetector),
    "faster_rcnn": _on_pyramid(FasterRcnnDetector),
    "retinanet": _on_pyramid(RetinaNetDetector),
    "fcos": _on_pyramid(FcosDetector),
    "ssd": _on_pyramid(SsdDetector),
    "rt_detr_v2": _transformer,
    "yolov8": _yolo,
    "yolov5u": _yolo,
}
