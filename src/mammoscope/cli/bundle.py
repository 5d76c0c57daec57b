"""Verbs of a bundle: export, predict."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mammoscope.bundle import Bundle
    from mammoscope.types import Anomaly, BreastResult, ExamResult, FloatImage, ImageResult

__all__ = ["predict_studies", "register"]


def register(app: typer.Typer) -> None:
    """Add this module's verbs."""
    app.command()(export)
    app.command()(predict)


def export(
    run: Annotated[Path, typer.Argument(help="Run folder of what scores.", show_default=False)],
    bundle: Annotated[Path, typer.Argument(help="Bundle folder to write.", show_default=False)],
    companions: Annotated[
        list[Path] | None,
        typer.Option(
            "--with",
            help="Run folder of a detector, segmenter, second stage of a segmenter or anomaly "
            "model that is to stand beside.",
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the bundle.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a bundle.")] = False,
) -> None:
    """Write what was evaluated as a bundle: its graphs and bundle.json. RUN scores, of any task.

    Example: `mammoscope export run bundle --with run-detect`
    """
    from mammoscope.cli.console import stage
    from mammoscope.export import export_bundle

    with stage("export", bar=False) as current:
        made = export_bundle(
            run, bundle, companions=companions or [], name=name, overwrite=overwrite
        )
        others = [one for one in made.companions if one != made.scoring]
        beside = f", scored by task {made.task}" if made.scoring else ""
        beside += "".join(f", {one.task}: {one.name}" for one in others)
        current.note = f"bundle {made.name} in {bundle} (sha256 {made.sha256[:12]}){beside}"


def predict(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.", show_default=False)],
    studies: Annotated[
        list[Path],
        typer.Argument(help="One folder of DICOM files per exam, or a file.", show_default=False),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for results.json and overlays.")],
    table: Annotated[
        Path | None,
        typer.Option(
            help="CSV with image_id, laterality, view, and age, density where known, for headers "
            "that lack them."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results.")] = False,
) -> None:
    """Score exams: results.json and one overlay PNG per image.

    Example: `mammoscope predict bundle exam1 exam2 --out results`
    """
    predict_studies(bundle, studies, out, table=table, overwrite=overwrite)


def predict_studies(
    bundle: Path,
    studies: list[Path],
    out: Path,
    *,
    table: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Score exams one by one; one that cannot be scored is named and the rest goes on.

    Raises:
        IncompleteExamError: At the end, if an exam had nothing that can be scored.
    """
    from mammoscope import __version__
    from mammoscope.artefacts import claim_output, write_json
    from mammoscope.cli.console import console, stage
    from mammoscope.errors import DicomError, IncompleteExamError, OutputError
    from mammoscope.inference import load_bundle
    from mammoscope.inference.exam import list_files, read_words
    from mammoscope.processes import keep_memory
    from mammoscope.results import FailedExamPart, failed_exam, results_document

    if len({study.resolve().name for study in studies}) < len(studies):
        raise OutputError("two studies have the same folder name; their overlays would mix")
    for study in studies:
        list_files(study)
    words = read_words(table) if table is not None else {}
    predictor = load_bundle(bundle)
    keep_memory()
    claim_output(out, overwrite=overwrite, marker="results.json")
    results: list[ExamResult] = []
    failed: list[FailedExamPart] = []

    def write_down() -> None:
        document = results_document(results, predictor.model_info, __version__, failed)
        write_json(out / "results.json", document)

    # From the start and after each exam: what was scored before Ctrl-C is kept.
    write_down()
    with stage("predict") as current:
        for number, study in enumerate(studies, start=1):
            exam_id = study.resolve().name
            try:
                exam = predictor.read(study, table=words, exam_id=exam_id)
                results.append(predictor(exam, _overlay_writer(out / exam_id)))
            except (DicomError, IncompleteExamError) as error:
                failed.append(failed_exam(exam_id, error))
            write_down()
            current.advance(number, len(studies))
        current.note = f"{len(results)} exams scored, {len(failed)} not; {out}/results.json"
    for result in results:
        _print_result(result, predictor.bundle)
    if failed:
        reasons = "; ".join(part.message for part in failed)
        raise IncompleteExamError(f"{len(failed)} of {len(studies)} exams not scored: {reasons}")
    console.print(f"Results: {out / 'results.json'}; overlays beside it")


def _overlay_writer(folder: Path) -> Callable[[ImageResult, FloatImage], None]:
    """Return the hook that writes one overlay PNG per image, in original pixels."""
    import cv2

    from mammoscope.artefacts import write_atomically
    from mammoscope.explain import overlay

    def write(result: ImageResult, pixels: FloatImage) -> None:
        picture = overlay(pixels, result)[..., ::-1]
        encoded = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 3])[1]
        # The whole name and its folders: UIDs as names differ only behind the last point.
        with write_atomically(folder / f"{result.image_id}.png") as temporary:
            temporary.write_bytes(encoded.tobytes())

    return write


def _print_result(result: ExamResult, bundle: Bundle) -> None:
    """Print one exam's scores as a small table."""
    from rich.table import Table

    from mammoscope.cli.console import console
    from mammoscope.pages import written_score

    model = f"{'model trained on SYNTHETIC images; ' if bundle.synthetic else ''}research only"
    if bundle.task != "classify":
        model = f"of task {bundle.task}, no probability of cancer; {model}"
    table = Table(title=f"Exam {result.exam_id}: score {written_score(result.score, 3)} ({model})")
    judged = result.anomaly is not None
    names = ("level", "what", "score", "suspicious", *(["anomaly"] if judged else []), "findings")
    for name in names:
        # Names of files may be longer than the window is wide; the rest is broken into lines here.
        table.add_column(name, no_wrap=name != "what", overflow="fold")
    rows: list[tuple[str, str, ExamResult | BreastResult | ImageResult, str]] = [
        ("exam", "", result, ""),
        *(("breast", breast.laterality, breast, "") for breast in result.breasts),
        *(("image", _what(image, result.images), image, _found(image)) for image in result.images),
    ]
    for level, what, one, found in rows:
        unusual = [_unusual(getattr(one, "anomaly", None))] if judged else []
        score = written_score(one.score, 3)
        table.add_row(level, what, score, "yes" if one.suspicious else "no", *unusual, found)
    console.print(table)
    for refusal in result.refused:
        console.print(f"refused: {refusal.image_id}: {refusal.reason}: {refusal.message}")
    for warning in result.warnings:
        console.print(f"warning: {warning}")


def _what(image: ImageResult, images: tuple[ImageResult, ...]) -> str:
    """Say which view it is, and by its name which image, where another shows that view too."""
    view = f"{image.laterality} {image.view}"
    again = [one for one in images if (one.laterality, one.view) == (image.laterality, image.view)]
    return f"{view}\n{image.image_id}" if len(again) > 1 else view


def _found(image: ImageResult) -> str:
    """Count what was found by what it is taken for, a line for each: ``2 mass``."""
    from collections import Counter

    from mammoscope.explain import words_of

    counts = Counter(", ".join(words_of(finding)) for finding in image.findings)
    return "\n".join(f"{number} {words}" for words, number in counts.items()) or "0"


def _unusual(anomaly: Anomaly | None) -> str:
    """Say how unusual an image or exam is; nothing of a breast, of which nothing is said."""
    from mammoscope.pages import written_score

    if anomaly is None:
        return ""
    score = written_score(anomaly.score, 3)
    return f"{score}\nunusual" if anomaly.unusual else score
