"""Verb that takes identities out of DICOM files: deidentify."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mammoscope.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from mammoscope.dicom.pseudonyms import PseudonymKey

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add this module's verb."""
    app.command()(deidentify)


def deidentify(
    src: Annotated[Path, typer.Argument(help="Folder of DICOM files.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="Folder to write.", show_default=False)],
    key: Annotated[
        Path,
        typer.Option(help="Secret key file. Same key, same new identities.", show_default=False),
    ],
    new_key: Annotated[bool, typer.Option("--new-key", help="Create the key file.")] = False,
    burned_in: Annotated[
        Literal["refuse", "clean", "clean-all"],
        typer.Option(
            help="Images that may carry burned-in text: refuse them, clean them (blank all "
            "outside the breast), or clean-all images."
        ),
    ] = "refuse",
    drop_patient: Annotated[
        bool,
        typer.Option("--drop-patient", help="Remove age (else 90 at most), sex, size, weight too."),
    ] = False,
    crosswalk: Annotated[
        Path | None,
        typer.Option(help="Also write which original became which, outside OUT."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 2,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
) -> None:
    """Take patient identities out of DICOM images (PS3.15 Basic Profile with options).

    Example: `mammoscope deidentify archive release --key secret.key --new-key`
    """
    from mammoscope.cli.console import errors, stage
    from mammoscope.dicom.burned_in import BurnedIn
    from mammoscope.dicom.release import deidentify_folder
    from mammoscope.preprocessing.lettering import inspect_pixels

    secret = _key(key, src, out, new=new_key)
    if key.stat().st_mode & 0o077:
        errors.print(f"note: others may read {key}; chmod 600 it", soft_wrap=True)
    with stage("deidentify") as current:
        made = deidentify_folder(
            src,
            out,
            secret,
            inspect_pixels,
            burned_in=BurnedIn(burned_in),
            patient_characteristics=not drop_patient,
            crosswalk=crosswalk,
            workers=workers,
            overwrite=overwrite,
            progress=current.advance,
        )
        refused = ", ".join(f"{n} {reason}" for reason, n in made.refused.items()) or "none"
        cleaned = f", {made.cleaned} with pixels cleaned" if made.cleaned else ""
        current.note = (
            f"{made.images} images of {made.patients} patients in {out}{cleaned}; "
            f"refused: {refused}" + (f" (see {made.rejects})" if made.refused else "")
        )


def _key(path: Path, src: Path, out: Path, *, new: bool) -> PseudonymKey:
    """Read or create the key, which must not be handed on with the images."""
    from mammoscope.dicom.pseudonyms import PseudonymKey

    for folder in (src, out):
        if path.resolve().is_relative_to(folder.resolve()):
            raise OutputError(f"the key {path} must not lie in {folder}: keep it apart")
    if new and not src.is_dir():
        raise ConfigError(f"{src} is not a folder; no key was made")
    return PseudonymKey.create(path) if new else PseudonymKey.read(path)
