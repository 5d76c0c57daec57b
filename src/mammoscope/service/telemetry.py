"""What a service counts, in Prometheus' words; no label ever carries an identity."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from mammoscope import __version__
from mammoscope.results import ModelInfo
from mammoscope.types import Refusal

__all__ = ["Metrics"]

_SECONDS = (0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120)
_METHODS = ("GET", "POST", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS")


class Metrics:
    """The metrics of one app, in a registry of its own.

    Args:
        model: Which bundle serves.
    """

    def __init__(self, model: ModelInfo) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "mammoscope_http_requests",
            "Requests answered, by route and status.",
            ["method", "route", "status"],
            registry=registry,
        )
        self._exams = Counter(
            "mammoscope_exams", "Exams received, by outcome.", ["outcome"], registry=registry
        )
        for outcome in ("scored", "refused"):
            self._exams.labels(outcome)
        self.exam_seconds = Histogram(
            "mammoscope_exam_seconds",
            "Time to read, score and render an exam, uploading and waiting left out.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._scored = Counter("mammoscope_images_scored", "Images scored.", registry=registry)
        self._refused = Counter(
            "mammoscope_images_refused", "Images refused, by reason.", ["reason"], registry=registry
        )
        self._healthy = Gauge(
            "mammoscope_healthy", "1 if the last health check passed.", registry=registry
        )
        info = Gauge(
            "mammoscope_model_info",
            "1, with the bundle that serves as labels.",
            ["name", "sha256", "synthetic", "package_version"],
            registry=registry,
        )
        synthetic = str(model.synthetic).lower()
        info.labels(model.name, model.bundle_sha256, synthetic, __version__).set(1)

    def request(self, method: str, route: str, status: int) -> None:
        """Count one answer."""
        # A sender may invent methods; each would be a series of its own.
        known = method if method in _METHODS else "other"
        self._requests.labels(known, route, str(status)).inc()

    def exam(self, *, scored: bool, images: int, refused: Iterable[Refusal]) -> None:
        """Count one exam and its images."""
        self._exams.labels("scored" if scored else "refused").inc()
        self._scored.inc(images)
        for refusal in refused:
            self._refused.labels(str(refusal.reason)).inc()

    def healthy(self, ok: bool) -> None:
        """Record the last health check."""
        self._healthy.set(int(ok))

    def render(self) -> bytes:
        """Return the text that Prometheus scrapes."""
        return generate_latest(self._registry)
