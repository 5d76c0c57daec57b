"""Write the reference pages that follow from code: the results schema and the settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mammoscope.artefacts import write_atomically, write_json
from mammoscope.config import Config, IngestConfig, PreprocessConfig, TuneConfig
from mammoscope.config.tuning import Dimension
from mammoscope.results import results_schema

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"

_HEAD = """# Settings

`mammoscope train` takes them from `--config FILE.yaml` and from `--set section.key=value`,
the latter winning; `run.json` keeps them resolved, and `mammoscope evaluate` takes `--set`
for its section. This page is written by `make reference`.
"""
_PREPROCESS_HEAD = """
## How images are prepared

Set by the options of `mammoscope prepare`, kept in `images/prepare.json`, and stored whole
in every bundle.
"""
_TUNE_HEAD = """
## How settings are searched

`mammoscope tune` takes these from `--config FILE.yaml`; `study.json` keeps them.
[How to](../how-to/tune.md).
"""
_INGEST_HEAD = """
## Which images may be scored

`mammoscope ingest` takes these from `--config FILE.yaml` and from `--set`, `faults` from `--faults`
too; `cohort.json` keeps them. `run.json` and `bundle.json` keep those of eligibility, and `predict`
and `serve` apply the bundle's. [What each rule reads](reasons.md#the-eligibility-gate).
"""


def settings_page() -> str:
    """Return the page of all settings with their defaults."""
    parts = [_HEAD]
    properties = Config.model_json_schema()["properties"]
    for name, field in Config.model_fields.items():
        section: Any = field.annotation
        if not hasattr(section, "model_fields"):
            accepted = _accepted(properties[name])
            parts.append(
                f"\n`{name}`: {accepted}. {field.description} Default: `{field.default}`.\n"
            )
            continue
        doc = (section.__doc__ or "").partition("\n")[0]
        parts.append(f"\n## {name}\n\n{doc}\n\n{_table(section, f'{name}.')}")
    parts.append(_TUNE_HEAD + "\n" + _table(TuneConfig, ""))
    parts.append("\nEach key of `space` has:\n\n" + _table(Dimension, ""))
    parts.append(_INGEST_HEAD + "\n" + _table(IngestConfig, ""))
    parts.append(_PREPROCESS_HEAD + "\n" + _table(PreprocessConfig, ""))
    return "".join(parts)


def _table(model: Any, prefix: str) -> str:
    head = ["| key | default | accepted | meaning |", "| --- | --- | --- | --- |"]
    return "\n".join([*head, *_rows(model, prefix)]) + "\n"


def _rows(model: Any, prefix: str) -> list[str]:
    """Return a row per key; a section within the section gives the rows of its own keys."""
    lines = []
    properties = model.model_json_schema()["properties"]
    for name, field in model.model_fields.items():
        if hasattr(field.annotation, "model_fields"):
            lines += _rows(field.annotation, f"{prefix}{name}.")
            continue
        default = "none" if field.default is None else _plain(field.default)
        default = "required" if field.is_required() else default
        cells = (f"`{prefix}{name}`", f"`{default}`", _accepted(properties[name]))
        lines.append(f"| {' | '.join(cells)} | {field.description} |")
    return lines


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _accepted(schema: dict[str, Any]) -> str:
    """Say in words what a JSON Schema accepts."""
    if "anyOf" in schema:
        return " or ".join(_accepted(part) for part in schema["anyOf"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    words = {
        "boolean": "true, false",
        "null": "none",
        "array": "list",
        "object": "mapping",
        "string": "path" if schema.get("format") == "path" else "text",
    }
    kind = str(schema.get("type", ""))
    if kind in words:
        return words[kind]
    bounds = {
        "minimum": "at least",
        "exclusiveMinimum": "above",
        "maximum": "at most",
        "exclusiveMaximum": "below",
    }
    limits = [f"{word} {schema[key]:g}" for key, word in bounds.items() if key in schema]
    return ", ".join([kind, *limits])


if __name__ == "__main__":
    write_json(REFERENCE / "results.schema.json", results_schema())
    with write_atomically(REFERENCE / "settings.md") as temporary:
        temporary.write_text(settings_page(), encoding="utf-8")
