"""Write the published JSON Schema of results.json from the models that produce it."""

from __future__ import annotations

from pathlib import Path

from mammoscope.artefacts import write_json
from mammoscope.results import results_schema

TARGET = Path(__file__).parents[1] / "docs" / "reference" / "results.schema.json"

if __name__ == "__main__":
    write_json(TARGET, results_schema())
