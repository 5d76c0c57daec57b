"""A folder of DICOM images to a folder without identities that may be handed on.

``OUT/<new patient>/<new study>/<new SOP instance>.dcm`` with ``deidentify.json`` (counts and
options). What names the source, the table of rejects and the crosswalk, lies outside of OUT.
"""

from __future__ import annotations

import csv
import os
import shutil
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mammoscope import __version__
from mammoscope.artefacts import claim_output, write_json
from mammoscope.dicom.burned_in import BurnedIn, Inspector
from mammoscope.dicom.confidentiality import profile_edition
from mammoscope.dicom.deidentify import METHOD_CODES
from mammoscope.dicom.pseudonyms import PseudonymKey
from mammoscope.dicom.release_file import Job, Outcome, deidentify_file
from mammoscope.errors import MammoscopeError, OutputError, Reason
from mammoscope.processes import process_pool

__all__ = ["FORMAT_VERSION", "ReleaseSummary", "deidentify_folder"]

FORMAT_VERSION = 1
_MARKER = "deidentify.json"
_PARTS = ".parts"
_REJECT_COLUMNS = ("path", "reason", "message")
_CROSSWALK_COLUMNS = (
    "path", "patient_id", "study_uid", "sop_instance_uid",
    "new_patient_id", "new_study_uid", "new_sop_instance_uid", "day_shift",
)  # fmt: skip
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ReleaseSummary:
    """Counts of one run.

    Attributes:
        images: Files written.
        patients: Patients among them.
        cleaned: Images whose pixels outside the breast were blanked.
        refused: Files not written, by reason.
        rejects: The table that names them.
    """

    images: int
    patients: int
    cleaned: int
    refused: dict[str, int]
    rejects: Path


def deidentify_folder(
    source: Path,
    out: Path,
    key: PseudonymKey,
    inspect: Inspector,
    *,
    burned_in: BurnedIn = BurnedIn.REFUSE,
    patient_characteristics: bool = True,
    crosswalk: Path | None = None,
    workers: int = 1,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ReleaseSummary:
    """De-identify every image below a folder; what is not an image is refused and listed.

    Args:
        source: The folder to read; nothing in it is changed.
        out: The folder to write.
        key: From which new identities and date shifts follow.
        inspect: Finds the breast and text-like shapes; sent to workers by name.
        burned_in: Refuse images with a sign of burned-in text, clean those, or clean all.
        patient_characteristics: Keep age, sex, size, weight and the like.
        crosswalk: Where to write which original became which new identity.
        workers: Processes; results do not depend on their number.
        overwrite: Replace what an earlier run wrote.
        progress: Called with (done, total) files.

    Raises:
        OutputError: If an output exists, cannot be written, or lies where it must not.
        MammoscopeError: If the source is no folder, or no image could be written.
    """
    source, out = Path(source).resolve(), Path(out).resolve()
    rejects = out.with_name(f"{out.name}.rejects.csv")
    _check_places(source, out, crosswalk, rejects, overwrite=overwrite)
    names = _files_below(source)
    claim_output(out, overwrite=overwrite, marker=_MARKER)
    parts = out / _PARTS
    job = Job(source, parts, key, inspect, burned_in, patient_characteristics)
    facts = _facts(job)
    write_json(out / _MARKER, {**facts, "complete": False})
    parts.mkdir()
    ledger = _Ledger(out, crosswalk is not None)
    try:
        for done, outcome in enumerate(_outcomes(job, names, workers), start=1):
            ledger.enter(outcome)
            if progress is not None:
                progress(done, len(names))
    except OSError as error:
        raise OutputError(f"cannot write to {out}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(parts, ignore_errors=True)
        _write_private(rejects, _REJECT_COLUMNS, ledger.rejects)
    if crosswalk is not None:
        _write_private(crosswalk, _CROSSWALK_COLUMNS, ledger.crosswalk)
    write_json(out / _MARKER, {**facts, "complete": True, **ledger.counts(len(names))})
    if not ledger.images:
        raise _nothing_released(ledger, len(names), rejects)
    return ReleaseSummary(
        ledger.images, len(ledger.patients), ledger.cleaned, ledger.refused, rejects
    )


def _nothing_released(ledger: _Ledger, files: int, rejects: Path) -> MammoscopeError:
    why = ", ".join(f"{n} {reason}" for reason, n in ledger.refused.items())
    return MammoscopeError(f"none of {files} files was de-identified: {why}; {rejects} says why")


def _facts(job: Job) -> dict[str, Any]:
    """Return what the report says of how it was done; a file's own codes say what was."""
    left_out = set() if job.patient_characteristics else {"113108"}
    if job.burned_in is BurnedIn.REFUSE:
        left_out.add("113101")
    codes = [f"{code} {name}" for code, name in METHOD_CODES.items() if code not in left_out]
    return {
        "format_version": FORMAT_VERSION,
        "kind": "deidentified",
        "package_version": __version__,
        "profile": f"PS3.15 Table E.1-1, {profile_edition()}",
        "key_fingerprint": job.key.fingerprint,
        "burned_in": job.burned_in.value,
        "options": codes,
    }


class _Ledger:
    """Moves finished parts to their places and counts, in the order of the files."""

    def __init__(self, out: Path, keep_crosswalk: bool) -> None:
        self._out = out
        self._keep_crosswalk = keep_crosswalk
        self._first: dict[str, str] = {}
        self.images = self.cleaned = 0
        self.patients: set[str] = set()
        self.studies: set[str] = set()
        self.rejects: list[tuple[str, ...]] = []
        self.crosswalk: list[tuple[str, ...]] = []

    def enter(self, outcome: Outcome) -> None:
        """Enter what became of a file; of two with one SOP Instance UID the first stays."""
        identity, part = outcome.identity, outcome.part
        if identity is None or part is None:
            self.rejects.append((outcome.relative, outcome.reason, outcome.message))
            return
        first = self._first.setdefault(identity.sop_instance_uid, outcome.relative)
        if first != outcome.relative:
            part.unlink()
            message = f"{outcome.relative} has the same SOP Instance UID as {first}"
            self.rejects.append((outcome.relative, Reason.DUPLICATE.value, message))
            return
        folder = self._out / identity.patient_id / identity.study_uid
        folder.mkdir(parents=True, exist_ok=True)
        part.replace(folder / f"{identity.sop_instance_uid}.dcm")
        self.images += 1
        self.cleaned += outcome.cleaned
        self.patients.add(identity.patient_id)
        self.studies.add(identity.study_uid)
        if self._keep_crosswalk:
            new = (identity.patient_id, identity.study_uid, identity.sop_instance_uid)
            row = (outcome.relative, *identity.original, *new, str(identity.day_shift))
            self.crosswalk.append(row)

    @property
    def refused(self) -> dict[str, int]:
        """Count the rejects by reason."""
        return dict(sorted(Counter(reason for _, reason, _ in self.rejects).items()))

    def counts(self, files: int) -> dict[str, Any]:
        """Return what the report says of the whole."""
        return {
            "files": files,
            "images": self.images,
            "patients": len(self.patients),
            "studies": len(self.studies),
            "cleaned": self.cleaned,
            "refused": self.refused,
        }


def _check_places(
    source: Path, out: Path, crosswalk: Path | None, rejects: Path, *, overwrite: bool
) -> None:
    """Refuse, before any work, outputs that would leak, mix or replace."""
    if not source.is_dir():
        raise MammoscopeError(f"{source} is not a folder")
    if out.is_relative_to(source) or source.is_relative_to(out):
        raise OutputError(f"{out} and the source {source} must not lie in each other")
    named = [(rejects, "table of rejects")]
    if crosswalk is not None:
        named.append((Path(crosswalk).resolve(), "crosswalk"))
    for path, name in named:
        if path.is_relative_to(out):
            raise OutputError(
                f"the {name} {path} names the originals and must not lie in {out}, which is "
                "meant to be handed on"
            )
        if path.is_relative_to(source):
            raise OutputError(f"the {name} {path} must not lie in the source {source}")
        if path.exists() and not overwrite:
            raise OutputError(f"the {name} {path} exists already; move it or pass --overwrite")
        if path.is_dir() or (path != rejects and not os.access(path.parent, os.W_OK | os.X_OK)):
            raise OutputError(f"cannot write the {name} {path}")


def _files_below(source: Path) -> list[str]:
    """List all files of a folder as paths relative to it, in a stable order.

    Raises:
        MammoscopeError: If a folder in it cannot be opened: what it holds would be left out
            without a word.
    """

    def refuse(error: OSError) -> None:
        raise MammoscopeError(f"{error.filename} cannot be opened: {error.strerror}") from error

    found = [
        (Path(folder) / name).relative_to(source).as_posix()
        for folder, folders, names in os.walk(source, onerror=refuse)
        # Linked folders are not followed, but named: they will be among the rejects.
        for name in [*names, *(f for f in folders if (Path(folder) / f).is_symlink())]
    ]
    if not found:
        raise MammoscopeError(f"{source} holds no file")
    return sorted(found)


def _outcomes(job: Job, names: list[str], workers: int) -> Iterator[Outcome]:
    """Yield what became of each file, in the order of the names."""
    if workers <= 1 or len(names) < 2:
        yield from (deidentify_file(job, name, n) for n, name in enumerate(names))
        return
    running: deque[Future[Outcome]] = deque()
    try:
        with process_pool(workers) as pool:
            for number, name in enumerate(names):
                running.append(pool.submit(deidentify_file, job, name, number))
                # A few files ahead of the workers, so that memory does not grow with the folder.
                if len(running) >= 4 * workers:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
    except BrokenProcessPool as error:
        raise MammoscopeError(
            "a worker process was ended from outside (often: too little memory); run again "
            "with --overwrite and fewer --workers"
        ) from error


def _write_private(path: Path, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Write a table that only its owner may read, beside first and then renamed."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.unlink(missing_ok=True)
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        # Names of files are bytes; those that are not UTF-8 go back as they came.
        with os.fdopen(
            handle, "w", newline="", encoding="utf-8", errors="surrogateescape"
        ) as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows(rows)
        part.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
