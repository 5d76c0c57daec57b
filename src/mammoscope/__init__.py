"""mammoscope: screening mammography from DICOM files to an honest score.

::

    import mammoscope

    predictor = mammoscope.load_bundle("demo/bundle")
    result = predictor(predictor.read("demo/exam"))

Research software: not a medical device, no clinical accuracy is claimed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mammoscope.inference import Predictor, load_bundle, read_exam
    from mammoscope.types import Exam, ExamResult

__version__ = "0.1.0"

__all__ = ["Exam", "ExamResult", "Predictor", "__version__", "load_bundle", "read_exam"]

# Loaded when first asked for, so that `import mammoscope` and `--help` stay quick.
_HOMES = {
    "Exam": "mammoscope.types",
    "ExamResult": "mammoscope.types",
    "Predictor": "mammoscope.inference",
    "load_bundle": "mammoscope.inference",
    "read_exam": "mammoscope.inference",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
