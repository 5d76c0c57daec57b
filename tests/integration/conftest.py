"""The page is tested over the service's own fixtures: a tiny bundle, a server on loopback."""

from __future__ import annotations

import runpy
from pathlib import Path

# Test folders are no packages, and pytest looks for a conftest upwards only, so that of the
# sibling is run here rather than written twice.
_service = runpy.run_path(str(Path(__file__).parents[1] / "service" / "conftest.py"))

bundle_dir = _service["bundle_dir"]
predictor = _service["predictor"]
serving = _service["serving"]
