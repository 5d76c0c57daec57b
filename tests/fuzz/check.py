"""One bad file through ingest, prepare and predict: what must hold of the answer."""

from __future__ import annotations

import logging
import shutil
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fuzz.cases import Case
from fuzz.seeds import IDENTITY
from mammoscope.cohort.ingest import ingest
from mammoscope.cohort.manifest import read_manifest, read_rejects
from mammoscope.cohort.prepare import prepare
from mammoscope.cohort.store import PreparedStore
from mammoscope.config import EligibilityConfig, IngestConfig, PreprocessConfig
from mammoscope.errors import CohortError, DicomError, IncompleteExamError, PixelDecodeError, Reason
from mammoscope.inference import Predictor
from mammoscope.preprocessing.reading import read_pixels

SIZE = PreprocessConfig(height=64, width=32)
# The seeds are smaller than any mammogram, so that thousands of files take minutes.
RULES = IngestConfig(eligibility=EligibilityConfig(min_side_px=16, min_long_side_mm=1))
_LONGEST = 2000


@dataclass(frozen=True)
class Outcome:
    """What became of one case.

    Attributes:
        stage: ``ingest`` or ``prepare`` where it was refused, ``accepted``, or ``FAULT``.
        reason: The code of the refusal; of a fault the class of what was raised or broken.
        message: The sentence, or the traceback.
    """

    stage: str
    reason: str
    message: str


class BrokenPromiseError(Exception):
    """An answer that ingest, prepare or predict may not give."""


def outcome_of(case: Case, folder: Path, predictor: Predictor | None = None) -> Outcome:
    """Send a case through the public functions; every fault becomes an outcome.

    Args:
        case: The file.
        folder: An empty place to work in.
        predictor: Where given, the file is predicted as an exam too.
    """
    records = _Records()
    logging.getLogger().addHandler(records)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            outcome = _through(case, folder)
            if predictor is not None and case.suffix == ".dcm":
                _predict(folder / "source" / "case.dcm", predictor, outcome)
        for said in records.said:
            _check_words(said)
    except BrokenPromiseError as error:
        return Outcome("FAULT", "promise", str(error))
    except BaseException as error:  # noqa: BLE001 - whatever comes out is what is looked for
        text = "".join(traceback.format_exception(error, limit=-6))
        return Outcome("FAULT", type(error).__name__, text[-4000:])
    finally:
        logging.getLogger().removeHandler(records)
        shutil.rmtree(folder, ignore_errors=True)
    return outcome


def _through(case: Case, folder: Path) -> Outcome:
    source, cohort = folder / "source", folder / "cohort"
    source.mkdir(parents=True)
    path = source / f"case{case.suffix}"
    path.write_bytes(case.data)
    if case.suffix != ".dcm":
        words = f"file,patient_id,laterality,view\n{path.name},p,L,CC\n"
        (source / "labels.csv").write_text(words)
    try:
        ingest(source, cohort, "folder", RULES, workers=1)
    except CohortError:
        return _only_reject(cohort, "ingest")
    notes = read_manifest(cohort)["notes"].to_list()
    _check_words("; ".join(note or "" for note in notes))
    made = prepare(cohort, SIZE)
    if made.refused:
        return _only_reject(cohort, "prepare")
    _check_pixels(path, cohort)
    return Outcome("accepted", "", "")


def _only_reject(cohort: Path, stage: str) -> Outcome:
    rejects = read_rejects(cohort)
    if len(rejects) != 1 or rejects[0].stage != stage:
        raise BrokenPromiseError(f"{len(rejects)} rejects in {stage}: {rejects}")
    (reject,) = rejects
    if reject.reason not in set(Reason):
        raise BrokenPromiseError(f"{reject.reason!r} is no reason code")
    if len(reject.message) < 10:
        raise BrokenPromiseError(f"{reject.message!r} is no sentence")
    _check_words(reject.message)
    return Outcome(stage, reject.reason, reject.message)


def _check_words(text: str) -> None:
    if any(word in text for word in IDENTITY):
        raise BrokenPromiseError(f"the patient's identity is in {text!r}")
    if not text.replace("\n", " ").isprintable() or len(text) > _LONGEST:
        raise BrokenPromiseError(f"nobody reads {len(text)} characters of {text[:300]!r}")


def _check_pixels(path: Path, cohort: Path) -> None:
    store = PreparedStore(cohort)
    (name,) = read_manifest(cohort)["image_id"]
    prepared = store.read(name)
    if prepared.shape != (SIZE.height, SIZE.width) or prepared.dtype != np.uint8:
        raise BrokenPromiseError(f"prepared to {prepared.dtype} of {prepared.shape}")
    try:
        read = read_pixels(path)
    except PixelDecodeError:
        # What is broken at full resolution only does not keep a smaller one from being whole.
        if store.facts()["reduction"][0]:
            return
        raise
    _check_words("; ".join(read.warnings))
    # A codec that hands out memory which nobody wrote to gives other pixels each time.
    if not np.array_equal(read.pixels, read_pixels(path).pixels):
        raise BrokenPromiseError(f"{read.decoder} reads other pixels the second time")
    if not np.isfinite(read.pixels).all() or read.pixels.min() < 0 or read.pixels.max() > 1:
        raise BrokenPromiseError("presentation pixels are not all in [0, 1]")


def _predict(path: Path, predictor: Predictor, before: Outcome) -> None:
    try:
        result = predictor(predictor.read(path))
    except IncompleteExamError as error:
        (refusal,) = error.refused
        _check_words(f"{error} {refusal[2]}")
        # A header without a patient is refused by a cohort only.
        if before.stage == "accepted" or (
            refusal[1] != before.reason and "(0010,0020)" not in before.message
        ):
            raise BrokenPromiseError(f"predict says {refusal}, a cohort {before}") from error
    except DicomError as error:
        raise BrokenPromiseError(f"predict raised {error!r}") from error
    else:
        if before.stage != "accepted" and "(0010,0020)" not in before.message:
            raise BrokenPromiseError(f"predict scores what a cohort refuses: {before}")
        if not 0 <= result.score <= 1:
            raise BrokenPromiseError(f"score {result.score}")
        _check_words("; ".join([*result.warnings, *result.images[0].warnings]))


class _Records(logging.Handler):
    """Everything that was logged while a case ran."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())
