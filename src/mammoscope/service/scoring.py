"""From an upload to a kept result: one exam at a time, off the event loop."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from anyio import CapacityLimiter, to_thread

from mammoscope import __version__
from mammoscope.errors import (
    ConfigError,
    DicomError,
    IncompleteExamError,
    MammoscopeError,
)
from mammoscope.inference import Predictor
from mammoscope.inference.exam import list_files
from mammoscope.preprocessing import find_breast
from mammoscope.results import results_document
from mammoscope.service.exams import ExamStore, new_exam_id
from mammoscope.service.health import HealthCheck
from mammoscope.service.problems import RequestRefusedError
from mammoscope.service.rendering import Rendering, render
from mammoscope.service.settings import ServiceSettings
from mammoscope.service.telemetry import Metrics
from mammoscope.service.uploads import Upload
from mammoscope.types import Exam, FloatImage, ImageResult, Laterality, Refusal

__all__ = ["ScoringDesk"]


class ScoringDesk:
    """Where exams are received, scored and kept.

    Args:
        predictor: Scores them.
        settings: The bounds.
        metrics: Counts them.
        folder: For uploads and results.
    """

    def __init__(
        self, predictor: Predictor, settings: ServiceSettings, metrics: Metrics, folder: Path
    ) -> None:
        self.predictor, self.settings, self.metrics = predictor, settings, metrics
        self.store = ExamStore(folder / "exams", settings.kept_exams)
        self.health = HealthCheck(predictor, folder, settings.health_interval_s)
        self._incoming = folder / ".mammoscope-incoming"
        # What a killed process left half-received is nobody's.
        shutil.rmtree(self._incoming, ignore_errors=True)
        self._incoming.mkdir(parents=True)
        self._in_flight = 0
        # The runtime uses all cores for one image: two exams at a time would only be slower.
        self._one_at_a_time = CapacityLimiter(1)

    @asynccontextmanager
    async def admission(self) -> AsyncIterator[Path]:
        """Give a folder for one upload, which is removed afterwards.

        Raises:
            RequestRefusedError: 503 if there are too many exams in flight, 507 if the disk is full.
        """
        if self._in_flight >= self.settings.max_exams_in_flight:
            message = f"{self._in_flight} exams are being received or scored; try again soon"
            raise RequestRefusedError(503, "busy", message)
        self._in_flight += 1
        try:
            with _full_disk_refused():
                # A cleaner of temporary folders may have been here.
                self._incoming.mkdir(parents=True, exist_ok=True)
                folder = Path(tempfile.mkdtemp(dir=self._incoming))
                try:
                    yield folder
                finally:
                    shutil.rmtree(folder, ignore_errors=True)
        finally:
            self._in_flight -= 1

    async def score(self, upload: Upload) -> tuple[str, dict[str, Any]]:
        """Score an upload and keep the result.

        Returns:
            The exam's name and its document.

        Raises:
            RequestRefusedError: 422 if it is no exam of one patient with an image to score.
        """
        return await to_thread.run_sync(self._score, upload, limiter=self._one_at_a_time)

    def _score(self, upload: Upload) -> tuple[str, dict[str, Any]]:
        exam_id = new_exam_id()
        renderings: list[Rendering] = []
        with self.metrics.exam_seconds.time():
            exam = self._read(upload, exam_id)
            aspects = {image.image_id: image.pixel_aspect for image in exam.images}

            def on_image(result: ImageResult, pixels: FloatImage) -> None:
                wall = self._chest_wall(result, pixels)
                aspect = aspects[result.image_id]
                renderings.append(render(result, pixels, chest_wall=wall, pixel_aspect=aspect))

            try:
                result = self.predictor(exam, on_image)
            except IncompleteExamError as error:
                raise self._nothing_scored(error) from error
            document = results_document([result], self.predictor.model_info, __version__)
            self.store.keep(exam_id, document, renderings)
        self.metrics.exam(scored=True, images=len(result.images), refused=result.refused)
        return exam_id, document

    def _read(self, upload: Upload, exam_id: str) -> Exam:
        if not upload.paths:
            raise self._refused("no_files", "the upload holds no image files")
        try:
            list_files(upload.paths)
        except IncompleteExamError as error:
            message = "the upload holds no file that could be an image"
            raise self._refused("no_files", message) from error
        try:
            return self.predictor.read(upload.paths, table=upload.table, exam_id=exam_id)
        except ConfigError as error:
            # The table alone raises this; where it lies on our disk concerns nobody.
            message = str(error).replace(
                f"{upload.table}", upload.table.name if upload.table else ""
            )
            raise self._refused("bad_table", message) from error
        except DicomError as error:
            raise self._refused("several_patients", str(error)) from error

    def _nothing_scored(self, error: IncompleteExamError) -> RequestRefusedError:
        refused = [Refusal(*image) for image in error.refused]
        named = [f"{refusal.image_id}: {refusal.message}" for refusal in refused]
        rest = [f"and {len(named) - 3} more"] if len(named) > 3 else []
        files = "the file cannot" if len(named) == 1 else f"none of the {len(named)} files can"
        message = f"{files} be scored: " + "; ".join([*named[:3], *rest])
        return self._refused("nothing_scored", message, refused)

    def _refused(
        self, code: str, message: str, files: Sequence[Refusal] = ()
    ) -> RequestRefusedError:
        self.metrics.exam(scored=False, images=0, refused=files)
        return RequestRefusedError(422, code, message, files)

    def _chest_wall(self, result: ImageResult, pixels: FloatImage) -> Laterality:
        if self.predictor.bundle.input.preprocess.orient and result.geometry is not None:
            return Laterality.R if result.geometry["mirrored"] else Laterality.L
        return find_breast(pixels).chest_wall


@contextmanager
def _full_disk_refused() -> Iterator[None]:
    """Answer a full disk with 507 rather than as a fault of ours."""
    try:
        yield
    except (OSError, MammoscopeError) as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__cause__
        if cause is not None and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            message = f"the service cannot store the upload: {os.strerror(cause.errno)}"
            raise RequestRefusedError(507, "disk_full", message) from error
        raise
