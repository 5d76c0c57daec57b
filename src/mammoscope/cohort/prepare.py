"""Prepare every image of a cohort: resumable, in parallel, the same with any number of workers."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cv2

from mammoscope import __version__
from mammoscope.artefacts import claim_output, read_json, sha256_json, write_json
from mammoscope.cohort.manifest import (
    Reject,
    read_manifest,
    read_rejects,
    source_roots,
    write_rejects,
)
from mammoscope.cohort.store import FORMATS, stage_of, whole_names, write_picture, write_prepared
from mammoscope.config import PreprocessConfig
from mammoscope.errors import (
    CohortError,
    ConfigError,
    DicomError,
    IneligibleImageError,
    MammoscopeError,
    Reason,
)
from mammoscope.preprocessing import Preprocessor, SourceImage
from mammoscope.processes import process_pool
from mammoscope.types import Laterality

__all__ = ["PrepareSummary", "prepare", "prepare_image"]

_TASK_COLUMNS = ("image_id", "path", "laterality", "pixel_aspect", "file_bytes")

Progress = Callable[[int, int], None]
# Warnings of what was written, or why nothing was.
Outcome = tuple[str, ...] | Reject


@dataclass(frozen=True, slots=True)
class PrepareSummary:
    """Counts of one prepare: done now, of these with a warning, found done before, refused."""

    prepared: int
    found: int
    refused: int
    warned: int


def prepare(
    cohort: Path,
    config: PreprocessConfig,
    *,
    workers: int = 1,
    file_format: str = "store",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> PrepareSummary:
    """Prepare the images of a cohort that are not prepared yet.

    Args:
        cohort: The cohort folder.
        config: How; images of another configuration must not be there.
        workers: Processes; results do not depend on their number. With two or more, an image
            that ends its process is refused, and the others are prepared all the same.
        file_format: ``store`` for training, ``png`` or ``jpeg`` for the eye and other tools;
            each has a folder of its own in the cohort.
        overwrite: Prepare all images anew, whatever is there.
        progress: Called with (done, total).

    Raises:
        CohortError: If the cohort is not ready, its source is gone, or images of another
            configuration are there.
        ConfigError: If the format cannot hold what the configuration asks for.
        OutputError: If the disk is full or cannot be written; a rerun goes on from there.
        MammoscopeError: If worker processes cannot start.
    """
    _check_format(config, file_format)
    cohort = Path(cohort)
    roots = source_roots(cohort)
    for root in roots.values():
        if not root.is_dir():
            raise CohortError(f"{root}, which {cohort} was ingested from, is no longer there")
    rows = read_manifest(cohort).select(*_TASK_COLUMNS, "source")
    images = _claim_images(cohort / FORMATS[file_format][0], config, overwrite=overwrite)
    there = whole_names(images, file_format)
    shared = {"images": str(images), "preprocess": config, "format": file_format}
    todo = [
        {**row, "root": str(roots[row["source"]]), **shared}
        for row in rows.iter_rows(named=True)
        if row["image_id"] not in there
    ]
    found = rows.height - len(todo)
    if todo and found:
        _check_version(images)
    refused: list[Reject] = []
    warned = 0
    for done, outcome in enumerate(_outcomes(todo, workers), start=1):
        if isinstance(outcome, Reject):
            refused.append(outcome)
        else:
            warned += bool(outcome)
        if progress is not None:
            progress(found + done, rows.height)
    stage = stage_of(file_format)
    earlier = [reject for reject in read_rejects(cohort) if reject.stage != stage]
    write_rejects(cohort, [*earlier, *sorted(refused, key=lambda r: (r.path, r.image_id))])
    return PrepareSummary(len(todo) - len(refused), found, len(refused), warned)


def prepare_image(task: dict[str, Any]) -> Outcome:
    """Prepare one image: what is written follows from its row and the configuration alone.

    Args:
        task: ``image_id``, ``path``, ``laterality``, ``pixel_aspect`` and ``file_bytes`` of the
            manifest, with ``root`` (of the source), ``images`` (folder to write to),
            ``preprocess`` and ``format``.

    Returns:
        The warnings that go with the file, once it is written, or the reject that says why there
        is none.
    """
    # Images are the unit of work: OpenCV's own threads would only crowd the workers.
    cv2.setNumThreads(1)
    preprocessor = Preprocessor(task["preprocess"])
    path = Path(task["root"]) / task["path"]
    try:
        size = path.stat().st_size
        if size and task["file_bytes"] not in (None, size):
            message = (
                f"{task['path']} has {size} bytes and had {task['file_bytes']} at ingest: it is "
                "another file now; ingest again"
            )
            return _refused(task, Reason.CHANGED_FILE, message)
        source = SourceImage(path, preprocessor.config)
        prepared = preprocessor.prepare(
            source, Laterality(task["laterality"]), task["pixel_aspect"]
        )
    except (DicomError, IneligibleImageError) as error:
        return _refused(task, error.reason or Reason.UNREADABLE_FILE, str(error))
    except FileNotFoundError:
        message = f"{task['path']} was there at ingest and is gone"
        return _refused(task, Reason.MISSING_FILE, message)
    except OSError as error:
        message = f"{task['path']} cannot be opened: {error.strerror or error}"
        return _refused(task, Reason.UNREADABLE_FILE, message)
    if task["format"] == "store":
        write_prepared(Path(task["images"]), task["image_id"], prepared)
    else:
        write_picture(Path(task["images"]), task["image_id"], prepared, task["format"])
    return prepared.warnings


def _refused(task: dict[str, Any], reason: Reason, message: str) -> Reject:
    return Reject(stage_of(task["format"]), task["path"], task["image_id"], reason, message)


def _check_version(images: Path) -> None:
    """Refuse to finish what another version began: its images may look otherwise."""
    version = read_json(images / "prepare.json", CohortError).get("package_version")
    if version != __version__:
        raise CohortError(
            f"{images} was begun by version {version} of mammoscope, this is {__version__}: "
            "pass --overwrite to prepare all images anew"
        )


def _check_format(config: PreprocessConfig, file_format: str) -> None:
    if file_format not in FORMATS:
        raise ConfigError(f"format {file_format!r} is unknown; accepted: {', '.join(FORMATS)}")
    if file_format == "jpeg" and config.bits != 8:
        raise ConfigError("JPEG holds 8 bits a pixel: prepare with --bits 8, or to PNG")
    if file_format == "store" and not config.resize:
        raise ConfigError(
            "the training store holds images of one size: resize: false needs --format"
        )


def _claim_images(images: Path, config: PreprocessConfig, *, overwrite: bool) -> Path:
    """Open the images folder for this configuration, or refuse to mix two."""
    marker = images / "prepare.json"
    digest = sha256_json(config.model_dump(mode="json"))
    if marker.is_file() and not overwrite:
        if read_json(marker, CohortError).get("preprocess_sha256") != digest:
            raise CohortError(
                f"{images} holds images of another configuration ({marker.name} says which); "
                "pass --overwrite to prepare them anew"
            )
        for leftover in images.glob(".*.part"):
            leftover.unlink(missing_ok=True)
        return images
    claim_output(images, overwrite=overwrite, marker="prepare.json")
    values = {
        "format_version": 1,
        "kind": "prepared",
        "package_version": __version__,
        "preprocess": config.model_dump(mode="json"),
        "preprocess_sha256": digest,
    }
    write_json(marker, values)
    return images


def _outcomes(todo: list[dict[str, Any]], workers: int) -> Iterator[Outcome]:
    if workers <= 1 or not todo:
        # Not by map, to which an iterator that ends within an image would look like the end of all.
        for task in todo:
            yield prepare_image(task)
        return
    waiting = iter(todo)
    while True:
        suspects = yield from _in_parallel(waiting, workers)
        if not suspects:
            return
        # A process has died, and its neighbours' images with it: whose fault it was shows when
        # each of them is alone.
        yield from _one_by_one(suspects)


def _in_parallel(
    waiting: Iterator[dict[str, Any]], workers: int
) -> Generator[Outcome, None, list[dict[str, Any]]]:
    """Yield outcomes until all is done or a worker dies; returns what was lost with it."""
    running: dict[Future[Outcome], dict[str, Any]] = {}
    lost: list[dict[str, Any]] = []
    with process_pool(workers) as pool:
        # A few tasks ahead of the workers, so that memory does not grow with the cohort.
        running |= _submitted(pool, islice(waiting, 4 * workers), lost)
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                task = running.pop(future)
                try:
                    outcome = future.result()
                except BrokenProcessPool:
                    lost.append(task)
                    continue
                yield outcome
                if not lost:
                    running |= _submitted(pool, islice(waiting, 1), lost)
    return lost


def _submitted(
    pool: ProcessPoolExecutor, tasks: Iterable[dict[str, Any]], lost: list[dict[str, Any]]
) -> dict[Future[Outcome], dict[str, Any]]:
    futures: dict[Future[Outcome], dict[str, Any]] = {}
    for task in tasks:
        try:
            futures[pool.submit(prepare_image, task)] = task
        except BrokenProcessPool:
            lost.append(task)
    return futures


def _one_by_one(suspects: list[dict[str, Any]]) -> Iterator[Outcome]:
    """Prepare each image in a process of its own; where that dies, the image is refused."""
    for task in suspects:
        with process_pool(1) as pool:
            try:
                # Whether processes start at all is no question of the image.
                pool.submit(_ready).result()
            except BrokenProcessPool as error:
                raise MammoscopeError(
                    "worker processes end before they begin (often: too little memory, or a "
                    "script without `if __name__ == '__main__'`); run mammoscope prepare again "
                    "to finish"
                ) from error
            try:
                outcome = pool.submit(prepare_image, task).result()
            except BrokenProcessPool:
                message = (
                    f"{task['path']} ends the process that prepares it, alone as among others: a "
                    "decoder crashes on its pixel data, or memory does not suffice"
                )
                outcome = _refused(task, Reason.DECODER_CRASHED, message)
        yield outcome


def _ready() -> bool:
    return True
