"""Logging that a user opts into; no record carries a patient's identity.

The library only creates loggers below ``mammoscope``; handlers are added by
:func:`enable`, which the command line calls for ``--verbose``.
"""

from __future__ import annotations

import logging
import sys

__all__ = ["enable", "get_logger"]

logging.getLogger("mammoscope").addHandler(logging.NullHandler())


def get_logger(name: str) -> logging.Logger:
    """Return the logger of one module, a child of ``mammoscope``."""
    return logging.getLogger(name if name.startswith("mammoscope") else f"mammoscope.{name}")


def enable(level: int = logging.INFO) -> None:
    """Write the package's log records to standard error.

    Args:
        level: The lowest level that is written.
    """
    logger = logging.getLogger("mammoscope")
    logger.setLevel(level)
    for handler in logger.handlers:
        if isinstance(handler, logging.StreamHandler):
            # Standard error may have become another stream since it was last enabled.
            handler.setStream(sys.stderr)
            return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger.addHandler(handler)
