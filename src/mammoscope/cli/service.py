"""Verb of the service: serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add this module's verb."""
    app.command()(serve)


def serve(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.", show_default=False)],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    host: Annotated[str, typer.Option(help="Address; loopback unless told.")] = "127.0.0.1",
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="Another name accepted in the Host header, such as a proxy's."),
    ] = None,
) -> None:
    """Open the REST API and the web page on this machine.

    Example: `mammoscope serve bundle --port 8000`
    """
    from mammoscope.service import serve as run

    run(bundle, host=host, port=port, allowed_hosts=allow_host or ())
