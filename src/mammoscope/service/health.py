"""Health proven by traffic: a synthetic image goes the whole way from file to score."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from mammoscope.errors import MammoscopeError
from mammoscope.inference import Predictor
from mammoscope.log import get_logger
from mammoscope.types import ByteImage, Exam, Laterality, MammogramImage, View

__all__ = ["Health", "HealthCheck"]

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Health:
    """Outcome of a check.

    Attributes:
        ok: Whether the synthetic image was scored.
        message: What happened, in a sentence.
        checked_at_s: When, on the monotonic clock.
    """

    ok: bool
    message: str
    checked_at_s: float


class HealthCheck:
    """Scores a synthetic image through the predictor that scores exams.

    Args:
        predictor: What is checked.
        folder: Where the synthetic image is written.
        interval_s: How long a check that passed stands.
    """

    def __init__(self, predictor: Predictor, folder: Path, interval_s: float) -> None:
        self._predictor = predictor
        self._path = folder / "synthetic.png"
        self._interval_s = interval_s
        self._last: Health | None = None

    def __call__(self) -> Health:
        """Return the last outcome if it is good and fresh, or check now."""
        last = self._last
        if last is None or not last.ok or time.monotonic() - last.checked_at_s > self._interval_s:
            last = self._last = self._check()
        return last

    def _check(self) -> Health:
        begun = time.monotonic()
        try:
            if not self._path.exists():
                self._path.write_bytes(cv2.imencode(".png", _synthetic_breast())[1].tobytes())
            image = MammogramImage(self._path.name, self._path, Laterality.L, View.CC)
            self._predictor(Exam("health-check", (image,)))
        except (MammoscopeError, OSError) as error:
            _log.error("health check failed: %s", type(error).__name__)
            return Health(False, f"the synthetic image was not scored: {error}", begun)  # noqa: FBT003 - field ok
        took_ms = 1000 * (time.monotonic() - begun)
        return Health(True, f"a synthetic image was scored in {took_ms:.0f} ms", begun)  # noqa: FBT003 - field ok


def _synthetic_breast() -> ByteImage:
    """(H, W) uint8: a half ellipse whose brightness falls towards the skin."""
    y, x = np.mgrid[-1:1:384j, 0:1:256j]
    inside = 1.0 - (y / 0.8) ** 2 - (x / 0.7) ** 2
    return np.where(inside > 0, 60 + 120 * inside, 0).astype(np.uint8)
