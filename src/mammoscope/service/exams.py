"""Results kept on disk for GET: documents and renderings, never the files received."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mammoscope.service.problems import RequestRefusedError
from mammoscope.service.rendering import Rendering

__all__ = ["ExamStore", "new_exam_id"]

_ID = re.compile(r"[0-9a-f]{32}")
_DOCUMENT, _DISPLAY = "results.json", "display.json"


def new_exam_id() -> str:
    """Return a name that cannot be guessed: who knows it may read the exam."""
    return secrets.token_hex(16)


class ExamStore:
    """A folder with one folder per scored exam; the oldest goes when there are too many.

    Args:
        folder: Where they lie; those found there are served on.
        kept: How many.
    """

    def __init__(self, folder: Path, kept: int) -> None:
        self._folder, self._kept = folder, kept
        folder.mkdir(parents=True, exist_ok=True)

    def keep(self, exam_id: str, document: dict[str, Any], renderings: list[Rendering]) -> None:
        """Write an exam beside the others, whole or not at all."""
        building = Path(tempfile.mkdtemp(prefix=".exam-", dir=self._folder))
        try:
            for index, rendering in enumerate(renderings):
                (building / _image(index)).write_bytes(rendering.image_png)
                if rendering.heatmap_png is not None:
                    (building / _heatmap(index)).write_bytes(rendering.heatmap_png)
            (building / _DISPLAY).write_text(json.dumps(_display(exam_id, renderings)))
            (building / _DOCUMENT).write_text(json.dumps(document, allow_nan=False))
            building.rename(self._folder / exam_id)
        finally:
            shutil.rmtree(building, ignore_errors=True)
        self._remove_oldest()

    def document(self, exam_id: str) -> bytes:
        """Return ``results.json``."""
        return self._read(exam_id, _DOCUMENT)

    def display(self, exam_id: str) -> bytes:
        """Return how the renderings hang."""
        return self._read(exam_id, _DISPLAY)

    def image(self, exam_id: str, index: int) -> bytes:
        """Return the PNG of one image."""
        return self._read(exam_id, _image(index))

    def heatmap(self, exam_id: str, index: int) -> bytes:
        """Return the PNG of one heatmap."""
        return self._read(exam_id, _heatmap(index))

    def _read(self, exam_id: str, name: str) -> bytes:
        if _ID.fullmatch(exam_id):
            try:
                return (self._folder / exam_id / name).read_bytes()
            except FileNotFoundError:
                pass
        message = f"there is no such exam or image here; the last {self._kept} exams are kept"
        raise RequestRefusedError(404, "not_found", message)

    def _remove_oldest(self) -> None:
        exams = [path for path in self._folder.iterdir() if _ID.fullmatch(path.name)]
        exams.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for path in exams[self._kept :]:
            shutil.rmtree(path, ignore_errors=True)


def _image(index: int) -> str:
    return f"{index}.png"


def _heatmap(index: int) -> str:
    return f"{index}.heatmap.png"


def _display(exam_id: str, renderings: list[Rendering]) -> dict[str, Any]:
    """Say what the page needs beyond the results to hang the images."""
    base = f"/v1/exams/{exam_id}/images"
    return {
        "exam_id": exam_id,
        "images": [
            {
                "image_url": f"{base}/{index}.png",
                "heatmap_url": f"{base}/{index}/heatmap.png" if rendering.heatmap_png else None,
                "width_px": rendering.width_px,
                "height_px": rendering.height_px,
                "flipped": rendering.flipped,
                "pixel_aspect": rendering.pixel_aspect,
                "breast": asdict(rendering.breast),
            }
            for index, rendering in enumerate(renderings)
        ],
    }
