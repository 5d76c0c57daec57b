"""What the checks look at: tables, and measures of images, gathered once for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from mammoscope.cohort.lint.facts import ImageFacts
from mammoscope.cohort.lint.findings import Skipped

__all__ = ["Duplicates", "Evidence", "machine_names"]


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Near-duplicates among the images that were hashed.

    Attributes:
        images: How many images were hashed.
        clusters: Image ids of each group of near-duplicates, two or more.
    """

    images: int
    clusters: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a check may look at. What is not there is a :class:`Skipped` with the reason.

    Attributes:
        manifest: The cohort's manifest.
        splits: ``splits.parquet`` as it is, not checked.
        images: Measures of the sampled images that could be read.
        duplicates: Near-duplicates among the hashed images.
        unreadable: image_id and message of the sampled images that could not be read.
        label: Column of the manifest that will be trained on.
        seed: Seed of whatever a check draws.
    """

    manifest: pl.DataFrame
    splits: pl.DataFrame | Skipped
    images: Sequence[ImageFacts] | Skipped
    duplicates: Duplicates | Skipped
    unreadable: Sequence[tuple[str, str]]
    label: str
    seed: int

    def by_machine(self, images: Sequence[ImageFacts]) -> dict[str, list[ImageFacts]]:
        """Group measured images by machine, in order of its name."""
        names = machine_names(self.manifest)
        groups: dict[str, list[ImageFacts]] = {}
        for facts in images:
            groups.setdefault(names[facts.image_id], []).append(facts)
        return dict(sorted(groups.items()))


def machine_names(manifest: pl.DataFrame) -> dict[str, str]:
    """Name each image's machine: by its number, else by site, else by source."""
    name = (
        pl.when(pl.col("machine_id").is_not_null())
        .then(pl.lit("machine ") + pl.col("machine_id"))
        .when(pl.col("site_id").is_not_null())
        .then(pl.lit("unnamed machines of site ") + pl.col("site_id"))
        .otherwise(pl.lit("unnamed machines of source ") + pl.col("source").fill_null("unknown"))
    )
    return dict(manifest.select("image_id", name.alias("machine")).iter_rows())
