"""The application object, its verbs, and the edge where errors become sentences."""

from __future__ import annotations

import sys
import traceback
from typing import Annotated, NoReturn

import typer

from mammoscope import __version__, log
from mammoscope.cli import (
    ablation,
    bundle,
    cohort,
    demo,
    dicom,
    info,
    lint,
    run,
    sanity,
    service,
    study,
)
from mammoscope.errors import MammoscopeError

__all__ = ["app", "main"]

_STOPPED = "stopped"
_GOES_ON = "the same command goes on, or says that it needs --resume or --overwrite"
# Verbs that write a folder, which Ctrl-C leaves unfinished.
_WRITING = frozenset(
    {"ablate", "deidentify", "demo", "evaluate", "explain", "explore", "export", "ingest", "merge",
     "predict", "prepare", "split", "synth", "train", "tune"}
)  # fmt: skip
_INTERRUPTED = 130
# What each optional part of the installation brings.
_EXTRAS = {
    **dict.fromkeys(("torch", "torchvision", "timm", "lightning", "sklearn"), "train"),
    **dict.fromkeys(("matplotlib", "onnx", "onnxscript"), "train"),
    "segmentation_models_pytorch": "train",
    **dict.fromkeys(("fastapi", "starlette", "uvicorn", "prometheus_client"), "serve"),
    **dict.fromkeys(("anyio", "python_multipart"), "serve"),
    "openpyxl": "sources",
    "optuna": "tune",
    "mlflow": "track",
}

app = typer.Typer(
    name="mammoscope",
    help="Screening mammography: DICOM in, an honest score out. Research software, not a "
    "medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

for module in (cohort, lint, dicom, run, study, ablation, bundle, service, info, sanity, demo):
    module.register(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mammoscope {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks and all log records.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show log records.")] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            is_eager=True,
            callback=_print_version,
            help="Print the version and exit.",
        ),
    ] = False,
) -> None:
    del version  # Printed by its callback before a verb is asked for.
    if debug or verbose:
        log.enable(10 if debug else 20)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 done, 1 an error, 2 wrong usage, 130 interrupted.

    Args:
        arguments: Words after the command's name; those of the process by default.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    if debug:
        # Accepted anywhere on the line, as people add it at the end of a failed command.
        words = ["--debug", *(word for word in words if word != "--debug")]
    try:
        app(words, prog_name="mammoscope")
    except MammoscopeError as error:
        if debug:
            traceback.print_exc()
        sys.stderr.write(f"error: {error}\n")
        sys.exit(1)
    except SystemExit as exiting:
        # Typer has turned Ctrl-C into its exit status and says nothing.
        if exiting.code == _INTERRUPTED:
            verb = next((word for word in words if not word.startswith("-")), "")
            sys.stderr.write(f"{_STOPPED}: {_GOES_ON}\n" if verb in _WRITING else f"{_STOPPED}\n")
        raise
    except ModuleNotFoundError as error:
        if debug:
            traceback.print_exc()
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        advice = f"pip install 'mammoscope[{extra}]'" if extra else "is the installation complete?"
        sys.stderr.write(f"error: {error.name} is not installed; {advice}\n")
        sys.exit(1)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:  # noqa: BLE001 - the command line's edge: a bug becomes a sentence
        if debug:
            traceback.print_exc()
        sys.stderr.write(
            f"error: internal error ({type(error).__name__}: {error}); "
            "run again with --debug for the traceback and report it\n"
        )
        sys.exit(1)
    sys.exit(0)
