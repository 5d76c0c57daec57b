"""Cohorts of known counts, written by hand."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures.hand_made import image
from mammoscope.artefacts import sha256_file, write_json
from mammoscope.cohort.manifest import Reject, write_manifest, write_rejects
from mammoscope.cohort.prepare import prepare
from mammoscope.config import PreprocessConfig

WriteCohort = Callable[..., Path]


@pytest.fixture
def write_hand_made(tmp_path) -> WriteCohort:
    """Write a cohort folder from rows of :func:`image`."""

    return partial(_written, tmp_path / "hand-made")


def _written(
    cohort: Path,
    rows: list[dict[str, Any]],
    rejects: tuple[Reject, ...] = (),
    *,
    synthetic: bool = False,
    root: str = "/data/of/someone",
) -> Path:
    manifest = write_manifest(cohort, rows)
    write_rejects(cohort, rejects)
    facts = {
        "format_version": 1,
        "kind": "cohort",
        "synthetic": synthetic,
        "source": "rsna",
        "source_roots": {"rsna": root},
        "hashes": {"manifest.parquet": sha256_file(manifest)},
    }
    write_json(cohort / "cohort.json", facts)
    return cohort


@pytest.fixture(scope="session")
def two_sites() -> list[dict[str, Any]]:
    """Forty patients of four images: site 1 on machine 49, site 2 on 29, without density.

    At site 1 ten of twenty have cancer of the left breast, at site 2 one of twenty.
    """
    rows = []
    for patient in range(40):
        site = 1 + patient // 20
        sick = patient < 10 or patient == 20
        for number, (side, view) in enumerate(
            [("L", "CC"), ("L", "MLO"), ("R", "CC"), ("R", "MLO")]
        ):
            rows.append(
                image(
                    4 * patient + number,
                    f"secret-{patient:02}",
                    laterality=side,
                    view=view,
                    cancer=int(sick and side == "L"),
                    difficult_negative_case=int(not sick and patient % 5 == 0 and side == "L"),
                    site_id=str(site),
                    machine_id={1: "49", 2: "29"}[site],
                    density="B" if site == 1 else None,
                    age=45.0 + patient % 20,
                    implant=0,
                    photometric_interpretation=f"MONOCHROME{3 - site}",
                    bits_stored=12,
                    transfer_syntax_uid="1.2.840.10008.1.2.4.90",
                )
            )
    return rows


@pytest.fixture(scope="session")
def _prepared_once(tmp_path_factory, write_mammogram, two_sites) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    cohort = _written(folder / "cohort", two_sites, root=str(folder / "src"))
    for number, row in enumerate(two_sites):
        write_mammogram(folder / "src" / row["path"], _breast(number, row))
    prepare(cohort, PreprocessConfig(height=64, width=32))
    return cohort


@pytest.fixture
def prepared(_prepared_once, tmp_path) -> Path:
    """The same cohort with prepared pixels; those of site 2 are darker."""
    return Path(shutil.copytree(_prepared_once, tmp_path / "prepared"))


def _breast(number: int, row: dict[str, Any]) -> np.ndarray:
    rng = np.random.default_rng(number)
    y, x = np.mgrid[0:80, 0:64]
    inside = ((y - 40) / 34) ** 2 + (x / 44) ** 2 < 1
    grey = (3000 if row["site_id"] == "1" else 1800) + rng.normal(0, 120)
    values = np.where(inside, grey + rng.normal(0, 60, inside.shape), 0).clip(0, 4095)
    values = values if row["laterality"] == "L" else values[:, ::-1]
    return np.ascontiguousarray(values.astype(np.uint16))
