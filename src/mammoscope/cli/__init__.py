"""The ``mammoscope`` command: one module per noun, heavy imports inside the commands."""

from mammoscope.cli.app import app, main

__all__ = ["app", "main"]
